"""Files appear whole or not at all, whatever fails and whenever."""

import os

import numpy as np
import pytest

from negflax import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_an_error_leaves_the_old_file_and_no_partial_file(tmp_path, monkeypatch, fault, step):
    path = tmp_path / "results.json"
    files.write_text(path, "old")

    def fails(*_):
        raise fault

    with pytest.raises(type(fault)), files.replacing(path) as temporary:
        temporary.write_text("new, and only ha")
        if step == "write":
            raise fault
        monkeypatch.setattr(os, step, fails)
    monkeypatch.undo()
    assert (names(tmp_path), path.read_text()) == (["results.json"], "old")


def test_the_bytes_reach_the_disk_before_the_name(tmp_path, monkeypatch):
    path, order = tmp_path / "a.npz", []
    for step in ("fsync", "replace"):
        kept = getattr(os, step)
        monkeypatch.setattr(
            os, step, lambda *a, step=step, kept=kept: (order.append(step), kept(*a))
        )
    files.write_arrays(path, {"x": np.arange(3)})
    assert order == ["fsync", "replace", "fsync"]  # the last one is the folder
    assert np.load(path)["x"].tolist() == [0, 1, 2]


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with files.replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_link_is_replaced_and_not_followed(tmp_path):
    secret, path = tmp_path / "secret", tmp_path / "a.txt"
    secret.write_text("keep")
    path.symlink_to(secret)
    files.write_text(path, "new")
    assert (secret.read_text(), path.read_text(), path.is_symlink()) == ("keep", "new", False)


def test_temporary_names_differ(tmp_path):
    with files.replacing(tmp_path / "a") as one, files.replacing(tmp_path / "a") as other:
        assert one != other


def test_names_of_any_alphabet_and_length(tmp_path):
    for name in ("x" * 250, "\u6f22" * 80):
        files.write_text(tmp_path / name, "new")
        assert (tmp_path / name).read_text() == "new"


def test_a_link_is_replaced_whole(tmp_path):
    for target in ("one", "two"):
        files.replace_link(tmp_path / "best", target)
        assert os.readlink(tmp_path / "best") == target
    assert names(tmp_path) == ["best"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device", "a.json"), "a.json cannot be written (No space"),
        (OSError(30, "Read-only file system", "a"), "a cannot be written (Read-only file system)"),
        (OSError("8000 requested and 512 written"), "a file cannot be written (No space left"),
        (OSError(2, "No such file or directory", "a"), ""),
        (ValueError("x"), ""),
    ],
)
def test_a_write_error_is_one_line(error, told):
    found = files.cannot_write(error)
    assert found.startswith(told) and bool(found) == bool(told) and "\n" not in found


def test_an_error_without_a_file_name_gets_one(tmp_path):
    with pytest.raises(OSError) as caught, files.replacing(tmp_path / "a.npz"):
        raise OSError(28, "No space left on device")
    assert files.cannot_write(caught.value).startswith(f"{tmp_path / 'a.npz'} cannot be written")
