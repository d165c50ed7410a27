"""Archives of strangers: what is wanted comes out, what attacks is refused."""

import io
import stat
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.data import DataError
from negflax.data.builders import archives
from negflax.data.builders.archives import extract

GOOD = {"set/data/a.csv": b"a,b\n1,2\n", "set/data/b.csv": b"x" * 5000, "set/README": b"hello"}
WANTED = ("set/data/a.csv", "set/data/b.csv")


def tar(path, members, mode="w:gz"):
    """Members are (name or TarInfo, bytes)."""
    with tarfile.open(path, mode) as file:
        for member, content in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = len(content) if info.isreg() else info.size
            file.addfile(info, io.BytesIO(content))
    return path


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for member, content in members:
            file.writestr(member, content)
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.fixture
def target(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.mark.parametrize("name", ["set.zip", "set.tar.gz", "set.tgz", "set.tar"])
def test_only_the_wanted_files_are_unpacked(tmp_path, target, name):
    make = zipped if name.endswith("zip") else tar
    mode = () if name.endswith("zip") else ("w" if name.endswith("tar") else "w:gz",)
    found = extract(make(tmp_path / name, GOOD.items(), *mode), WANTED, target)
    assert {n: path.read_bytes() for n, path in found.items()} == {n: GOOD[n] for n in WANTED}
    assert sorted(path.name for path in target.iterdir()) == ["a.csv", "b.csv"]


def test_files_are_found_in_any_folder_of_the_archive(tmp_path, target):
    path = tar(tmp_path / "a.tar.gz", [("./other/set/data/a.csv", b"1")])
    assert extract(path, ["data/a.csv"], target)["data/a.csv"].read_bytes() == b"1"


@pytest.mark.parametrize(
    "name",
    ["../a.csv", "/etc/a.csv", "set/../../a.csv", "C:/a.csv", "..\\a.csv", "\\\\host\\a.csv"],
)
@pytest.mark.parametrize("make", [tar, zipped])
def test_a_path_outside_of_the_folder(tmp_path, target, name, make):
    path = make(tmp_path / f"x.{'zip' if make is zipped else 'tar.gz'}", [(name, b"evil")])
    with pytest.raises(DataError, match=r"x\.(zip|tar\.gz) is refused: .* leads out of its folder"):
        extract(path, ["a.csv"], target)
    assert not any(target.iterdir()) and not (tmp_path / "a.csv").exists()


@pytest.mark.parametrize(
    "member",
    [
        special("a.csv", tarfile.SYMTYPE, "/etc/passwd"),
        special("a.csv", tarfile.LNKTYPE, "set/README"),
        special("a.csv", tarfile.FIFOTYPE),
        special("a.csv", tarfile.CHRTYPE),
        special("folder", tarfile.SYMTYPE, ".."),
    ],
    ids=["symbolic", "hard", "fifo", "device", "folder"],
)
def test_links_and_devices_of_a_tar(tmp_path, target, member):
    path = tar(tmp_path / "x.tar.gz", [("set/README", b"."), (member, b"")])
    with pytest.raises(DataError, match="is refused: .* is a link or device"):
        extract(path, ["a.csv"], target)
    assert not any(target.iterdir())


def test_links_of_a_zip(tmp_path, target):
    info = zipfile.ZipInfo("a.csv")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    path = zipped(tmp_path / "x.zip", [(info, b"/etc/passwd")])
    with pytest.raises(DataError, match="is a link or device"):
        extract(path, ["a.csv"], target)
    assert not any(target.iterdir())


@pytest.mark.parametrize("make", [tar, zipped])
def test_a_bomb(tmp_path, target, make, monkeypatch):
    monkeypatch.setattr(archives, "SLACK_BYTES", 0)
    path = make(
        tmp_path / f"x.{'zip' if make is zipped else 'tar.gz'}", [("a.csv", bytes(2 * 2**20))]
    )
    with pytest.raises(DataError, match="is refused: it unpacks to more than"):
        extract(path, ["a.csv"], target)
    assert not any(target.iterdir())


def test_a_bomb_that_lies_about_its_size(tmp_path, target, monkeypatch):
    path = zipped(tmp_path / "x.zip", [("a.csv", bytes(4096))])
    small = (16).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace((4096).to_bytes(4, "little"), small))
    with pytest.raises(DataError, match=r"x.zip"):
        extract(path, ["a.csv"], target)
    assert not any(target.iterdir())


def test_too_many_files(tmp_path, target, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    with pytest.raises(DataError, match="it has more than 2 files"):
        extract(zipped(tmp_path / "x.zip", GOOD.items()), WANTED, target)


@pytest.mark.parametrize("make", [tar, zipped])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_cut_short(tmp_path, target, make, share):
    content = [("a.csv", bytes(range(256)) * 400), ("b.csv", b"1")]
    path = make(tmp_path / f"x.{'zip' if make is zipped else 'tar.gz'}", content)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match=r"x\.(zip|tar\.gz)"):
        extract(path, ["a.csv", "b.csv"], target)
    assert not (target / "b.csv").exists()


def test_another_kind_of_file(tmp_path, target):
    for name in ("x.zip", "x.tar.gz"):
        (tmp_path / name).write_bytes(b"<html>404</html>" * 100)
        with pytest.raises(DataError, match=f"{name} cannot be read, it may be cut short"):
            extract(tmp_path / name, ["a.csv"], target)
    (tmp_path / "x.rar").write_bytes(b"Rar!")
    with pytest.raises(DataError, match="a .zip, .tar or .tar.gz is expected"):
        extract(tmp_path / "x.rar", ["a.csv"], target)


def test_missing_and_double_files(tmp_path, target):
    with pytest.raises(DataError, match=r"c.csv is not in it: is this the right archive"):
        extract(zipped(tmp_path / "x.zip", GOOD.items()), ["set/data/c.csv"], target)
    twice = tar(tmp_path / "y.tar.gz", [("one/a.csv", b"1"), ("two/a.csv", b"2")])
    with pytest.raises(DataError, match="`a.csv` is in it twice"):
        extract(twice, ["a.csv"], target)


def test_a_method_of_compression_that_python_lacks_is_named(tmp_path, target):
    path = zipped(tmp_path / "set.zip", GOOD.items())
    data = bytearray(path.read_bytes())
    for start, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):  # local and central headers
        place = -1
        while (place := data.find(start, place + 1)) >= 0:
            data[place + at : place + at + 2] = (97).to_bytes(2, "little")
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"set\.zip is packed in a way .* pack it again as a \.zip"):
        extract(path, WANTED, target)
    assert not list(target.iterdir())


@settings(deadline=None, max_examples=80)
@given(
    kind=st.sampled_from(["zip", "tar.gz", "tar"]),
    cut=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=3),
)
def test_damage_is_an_error_that_names_the_archive(kind, cut, flips):
    with tempfile.TemporaryDirectory() as name:
        path, target = Path(name, f"set.{kind}"), Path(name, "out")
        target.mkdir()
        if kind == "zip":
            zipped(path, GOOD.items())
        else:
            tar(path, GOOD.items(), "w" if kind == "tar" else "w:gz")
        data = bytearray(path.read_bytes())
        for place, bits in flips:
            data[int(place * len(data))] ^= bits
        path.write_bytes(data[: max(1, round((1 - cut / 2) * len(data)))])
        try:
            found = extract(path, WANTED, target)
        except DataError as error:
            assert str(path) in str(error)
        else:
            assert set(found) == set(WANTED)
        assert not [one for one in target.iterdir() if one.name.startswith(".")]
