"""Writes data sets in their original formats and prepares them."""

import pytest


@pytest.fixture
def write(tmp_path):
    """Writes {path: text or bytes} below a folder and returns the folder."""

    def write(files, folder="originals"):
        for name, content in files.items():
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / folder

    return write


@pytest.fixture
def prepared(tmp_path, write):
    """Prepares a data set from {path: content} and returns (events, items)."""
    pytest.importorskip("tensorflow_datasets", reason="needs the extra `tfds`")
    from negflax.data.builders import prepared

    def prepare(name, files, splits=()):
        folder = write(files)
        prepared.prepare(name, tmp_path / "data", str(folder))
        return prepared.open_prepared(name, tmp_path / "data", splits)

    return prepare
