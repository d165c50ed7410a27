"""Files appear whole or not at all, whatever fails and whenever."""

import os

import numpy as np
import pytest

from negflax import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_fault_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, fault, step):
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
