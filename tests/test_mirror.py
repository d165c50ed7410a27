"""A remote folder and its local copy, on fsspec's file system in memory."""

import secrets

import fsspec
import pytest

from negflax.config import ConfigError
from negflax.mirror import COMPLETE, MANIFEST, Mirror

STORE = fsspec.filesystem("memory")


@pytest.fixture
def url():
    place = f"memory://bucket-{secrets.token_hex(4)}/run"
    yield place
    if STORE.exists(place):
        STORE.rm(place, recursive=True)


def write(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_json", ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def checkpoint(folder, step, text="x", complete=True):
    place = folder / "checkpoints" / str(step)
    (place / "state").mkdir(parents=True)
    (place / "state" / "d").write_text(text)
    if complete:
        (place / COMPLETE).write_text("done")


def names(folder):
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name for name in files if not name.startswith(".")}


def remote(url):
    return {path.partition("/run/")[2] for path in STORE.find(url)} - {MANIFEST}


def test_what_one_machine_uploads_another_downloads(url, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    write(one, config_json="{}", compilation_cache__a="a", data__sequences__1="kept")
    write(one, **{"data__sequences-1f__item": "not uploaded", "trainer.lock": "", ".x.tmp": ""})
    checkpoint(one, 40)
    Mirror(url, one).upload()
    there = {
        "config.json",
        "data/sequences/1",
        "checkpoints/40/state/d",
        f"checkpoints/40/{COMPLETE}",
    }
    assert remote(url) == there
    assert Mirror(url, two).download()
    assert names(two) == there
    assert not Mirror(url, two).download()


def test_only_what_changed_is_moved(url, tmp_path, monkeypatch):
    one, two = tmp_path / "one", tmp_path / "two"
    write(one, a="1", b="1")
    checkpoint(one, 40)
    Mirror(url, one).upload()
    Mirror(url, two).download()
    write(one, b="changed")
    (one / "a").unlink()
    checkpoint(one, 80)
    moved = []
    put, get = type(STORE).put_file, type(STORE).get_file
    monkeypatch.setattr(
        type(STORE), "put_file", lambda s, a, b, **k: moved.append(b) or put(s, a, b, **k)
    )
    monkeypatch.setattr(
        type(STORE), "get_file", lambda s, a, b, **k: moved.append(a) or get(s, a, b, **k)
    )
    Mirror(url, one).upload()
    assert len(moved) == 3
    moved.clear()
    Mirror(url, two).download()
    assert len(moved) == 3
    assert names(two) == names(one)
    assert (two / "b").read_text() == "changed"


def test_an_interrupted_upload_leaves_no_half_checkpoint(url, tmp_path, monkeypatch):
    """Only the last object makes a checkpoint valid, and replacing one makes it invalid first."""
    one, two = tmp_path / "one", tmp_path / "two"
    checkpoint(one, 40)
    Mirror(url, one).upload()
    write(one, checkpoints__40__state__d="another state of step 40")
    put = type(STORE).put_file

    def fails(store, local, there, **options):
        if there.endswith("/d"):
            raise OSError("the network is gone")
        put(store, local, there, **options)

    with monkeypatch.context() as broken:
        broken.setattr(type(STORE), "put_file", fails)
        with pytest.raises(OSError, match="network"):
            Mirror(url, one).upload()
    assert f"checkpoints/40/{COMPLETE}" not in remote(url)
    Mirror(url, two).download()
    assert not (two / "checkpoints" / "40").exists()
    Mirror(url, one).upload()
    Mirror(url, two).download()
    assert (two / "checkpoints/40/state/d").read_text() == "another state of step 40"


def test_an_incomplete_checkpoint_is_not_taken(url, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    write(one, config_json="{}")
    checkpoint(one, 40, complete=False)
    Mirror(url, one).upload()
    Mirror(url, two).download()
    assert names(two) == {"config.json"}


def test_a_copy_that_is_ahead_is_kept_and_one_that_is_behind_replaced(url, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    write(one, a="1")
    Mirror(url, one).upload()
    Mirror(url, two).download()
    write(one, a="killed before this was uploaded")
    assert not Mirror(url, one).download()
    assert (one / "a").read_text() == "killed before this was uploaded"
    write(two, a="two", b="two")
    checkpoint(two, 40)
    Mirror(url, two).upload()
    checkpoint(one, 20)
    assert Mirror(url, one).download()
    assert (one / "a").read_text() == "two"
    assert names(one) == names(two)


def test_a_new_run_that_was_killed_before_its_first_upload_is_kept(url, tmp_path):
    write(tmp_path, a="1")
    assert not Mirror(url, tmp_path).download()
    assert names(tmp_path) == {"a"}


def test_a_folder_that_was_copied_by_other_means(url, tmp_path):
    checkpoint(tmp_path / "one", 40)
    for path in (tmp_path / "one").rglob("*"):
        if path.is_file():
            STORE.pipe_file(f"{url}/{path.relative_to(tmp_path / 'one')}", path.read_bytes())
    assert Mirror(url, tmp_path / "two").download()
    assert names(tmp_path / "two") == names(tmp_path / "one")


def test_a_damaged_note_of_the_local_copy_costs_a_download(url, tmp_path):
    write(tmp_path, a="1")
    Mirror(url, tmp_path).upload()
    (tmp_path / ".mirror.json").write_text('{"files": ')
    assert Mirror(url, tmp_path).download()
    assert names(tmp_path) == {"a"}


@pytest.mark.parametrize(("url", "told"), [("gs://b/r", "pip install gcsfs"), ("no://b", "fsspec")])
def test_a_protocol_that_cannot_be_used(url, told, tmp_path):
    with pytest.raises(ConfigError, match=told):
        Mirror(url, tmp_path)
