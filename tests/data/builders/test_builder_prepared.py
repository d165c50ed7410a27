"""From original files to training: prepared once, whole or not at all, origin on record."""

import functools
import http.server
import shutil
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest

from negflax.config import Config, ConfigError, DataConfig, LabelConfig, from_config_dict
from negflax.data import DataError, build_sequences, open_sequences, open_source

tfds = pytest.importorskip("tensorflow_datasets", reason="needs the extra `tfds`")
from negflax.data.builders import BUILDERS, base, prepared, text  # noqa: E402
from negflax.data.builders.originals import Archive  # noqa: E402

RATINGS = "userId,movieId,rating,timestamp\n" + "".join(
    f"{user},{10 * item},{rating},{100 * user + item}\n"
    for user in range(1, 9)
    for item, rating in enumerate([4.5, 2.0, 0.5, 5.0, 3.0, 1.0], 1)
)
FILES = {"ratings.csv": RATINGS, "movies.csv": "movieId,title,genres\n10,A (1),Drama\n"}
NAME = "movie_lens/latest-small"


def test_tensorflow_is_not_needed():
    assert "tensorflow" not in sys.modules
    code = "import sys, negflax.data, negflax.loss; sys.exit('tensorflow_datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("cls", BUILDERS.values(), ids=lambda cls: cls.name)
def test_each_builder_says_where_it_comes_from(cls, tmp_path):
    for config in cls.BUILDER_CONFIGS[:1]:
        info = cls(config=config, data_dir=tmp_path).info
        assert info.citation and info.redistribution_info.license and info.homepage
    assert len(cls.CITATION) > 60 and cls.LICENSE and cls.DESCRIPTION
    assert cls.HOMEPAGE.startswith("https://") or cls.name == "event_logs"
    assert str(cls.VERSION) in cls.RELEASE_NOTES
    assert "manual_dir" in cls.MANUAL_DOWNLOAD_INSTRUCTIONS


def test_the_builder_works_like_any_tfds_builder(write, tmp_path):
    manual = tfds.download.DownloadConfig(manual_dir=write(FILES))
    builder = tfds.builder(NAME, data_dir=tmp_path / "data")
    builder.download_and_prepare(download_config=manual)
    again = tfds.builder(NAME, data_dir=tmp_path / "data")
    (block,) = again.as_data_source("ratings")
    assert block["rating"].tolist()[:3] == [4.5, 2.0, 0.5]
    assert again.info.splits["ratings"].num_examples == 1
    assert again.info.metadata["rows"] == {"ratings": 48}
    assert again.info.metadata["tested"].startswith("fixtures")
    (original,) = again.info.metadata["originals"]
    assert original["checksum"] == "recorded" and original["bytes"] == len(RATINGS)


def test_parquet_is_refused_as_it_loses_examples(write, tmp_path):
    builder = tfds.builder(NAME, data_dir=tmp_path / "data")
    manual = tfds.download.DownloadConfig(manual_dir=write(FILES))
    with pytest.raises(DataError, match="parquet: builders write only array_record"):
        builder.download_and_prepare(download_config=manual, file_format="parquet")


def test_many_blocks_and_files_keep_the_order(write, tmp_path, monkeypatch):
    monkeypatch.setattr(text, "BLOCK_BYTES", 200)
    monkeypatch.setattr(base, "ROWS", 5)
    monkeypatch.setattr(base, "SHARD_BYTES", 500)
    prepared.prepare(NAME, tmp_path / "data", str(write(FILES)))
    info = tfds.builder(NAME, data_dir=tmp_path / "data").info
    assert info.splits["ratings"].num_shards > 1 and info.splits["ratings"].num_examples > 9
    events, _ = prepared.open_prepared(NAME, tmp_path / "data")
    assert events["timestamp_ms"].to_pylist() == [
        1000 * (100 * user + item) for user in range(1, 9) for item in range(1, 7)
    ]


def config(**data):
    values = {"data": {"source": NAME, "valid_fraction": 0.2, "test_fraction": 0.2, **data}}
    values["labels"] = {"positive": ("rating >= 4",), "negative": ("rating <= 2",)}
    return from_config_dict(values)


def test_a_config_opens_it(write, tmp_path, monkeypatch):
    monkeypatch.delenv("NEGFLAX_DATA_DIR", raising=False)
    manual = str(write(FILES))
    with pytest.raises(DataError, match=r"is not prepared: run `python -m launch.prepare --data_"):
        open_source(config(), tmp_path)
    raw = open_source(config(manual_dir=manual), tmp_path)  # prepares into the working folder
    assert prepared.is_prepared(NAME, tmp_path / "data")
    shutil.rmtree(manual)
    for again in (
        open_source(config(), tmp_path),
        open_source(config(root=str(tmp_path / "data")), "unused"),
    ):
        assert again.events == raw.events and again.items == raw.items
    monkeypatch.setenv("NEGFLAX_DATA_DIR", str(tmp_path / "data"))
    sequences = build_sequences(open_source(config(), "unused"), config())
    assert sequences.report["splits"]["train"]["positives"] > 0
    assert sequences.report["splits"]["train"]["negatives"] > 0


def test_a_folder_that_cannot_be_written(write, tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(DataError, match="latest-small cannot be prepared in .*data: .*free space"):
        prepared.prepare(NAME, tmp_path / "data", str(write(FILES)))


def test_two_processes_prepare_it_once(write, tmp_path):
    manual, folder = write(FILES), tmp_path / "data"
    code = (
        "import sys; from negflax.data.builders import prepared; "
        "print(prepared.prepare(*sys.argv[1:])[0].data_dir)"
    )
    command = [sys.executable, "-c", code, NAME, str(folder), str(manual)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert sum("Downloading and preparing" in text for text in told) == 1
    assert prepared.open_prepared(NAME, folder)[0].num_rows == 48


def test_unknown_names(tmp_path):
    with pytest.raises(
        ConfigError, match="data.source = 'movie_lens': did you mean .* choose from synthetic"
    ):
        config(source="movie_lens")
    for source, message in (
        ("movielens/100k", "movielens/100k is not a data set; choose from kuairand/…, .*movie_l"),
        ("movie_lens/2m", r"movie_lens/2m is not prepared"),
    ):
        with pytest.raises(DataError, match=message):
            open_source(config(source=source, root=str(tmp_path)), tmp_path)
    with pytest.raises(DataError, match="2m is not a data set; choose from 100k, 1m, 20m"):
        prepared.prepare("movie_lens/2m", tmp_path)
    with pytest.raises(DataError, match="is not a folder. ml-100k.zip"):
        prepared.prepare(NAME, tmp_path, str(tmp_path / "none"))


def test_without_the_extra_it_says_what_to_install(monkeypatch, tmp_path):
    for name in [m for m in sys.modules if m.startswith("negflax.data.builders")]:
        monkeypatch.delitem(sys.modules, name)
    import negflax.data

    monkeypatch.delattr(negflax.data, "builders", raising=False)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(DataError, match=r"pip install 'negflax\[tfds\]'"):
        open_source(Config(data=DataConfig(source=NAME)), tmp_path)


def test_an_unknown_split(write, tmp_path):
    prepared.prepare(NAME, tmp_path / "data", str(write(FILES)))
    with pytest.raises(DataError, match="no split `random`; it has ratings"):
        prepared.open_prepared(NAME, tmp_path / "data", ["random"])


def test_a_registered_checksum_is_enforced(write, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "CHECKSUMS", tmp_path / "checksums.tsv")
    monkeypatch.setattr(base.LogBuilder, "_checksums_path", tmp_path / "checksums.tsv")
    folder = write(FILES)
    prepared.prepare(NAME, tmp_path / "one", str(folder), register_checksums=True)
    prepared.prepare(NAME, tmp_path / "two", str(folder))
    info = tfds.builder(NAME, data_dir=tmp_path / "two").info
    assert [file["checksum"] for file in info.metadata["originals"]] == ["enforced"]
    write({"ratings.csv": RATINGS.replace("4.5", "4.0")})
    with pytest.raises(DataError, match=r"ratings.csv: its sha256 is .*, not .*: the file is not"):
        prepared.prepare(NAME, tmp_path / "three", str(folder))


@pytest.fixture
def server(tmp_path):
    """The address of a server of this machine that serves a folder."""
    (tmp_path / "served").mkdir()
    handler = functools.partial(QuietHandler, directory=tmp_path / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def test_downloads_with_checksum(server, tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "served" / "ml-latest-small.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, content in FILES.items():
            file.writestr(f"ml-latest-small/{name}", content)
    archive = Archive(path.name, f"{server}/{path.name}")
    for one in BUILDERS["movie_lens"].configs_for("latest-small", "", tmp_path):
        monkeypatch.setattr(one, "archive", archive)
    prepared.prepare(NAME, tmp_path / "data")
    events, items = prepared.open_prepared(NAME, tmp_path / "data")
    assert events.num_rows == 48 and items.num_rows == 1

    for one in BUILDERS["movie_lens"].configs_for("latest-small", "", tmp_path):
        monkeypatch.setattr(one, "archive", Archive(archive.name, archive.url, "0" * 32))
    with pytest.raises(DataError, match=f"its md5 is .*, not {'0' * 32}"):
        prepared.prepare(NAME, tmp_path / "other")
    for one in BUILDERS["movie_lens"].configs_for("latest-small", "", tmp_path):
        monkeypatch.setattr(one, "archive", Archive(archive.name, f"{server}/gone.zip"))
    with pytest.raises(DataError, match="gone.zip cannot be downloaded: .*404.* as manual_dir"):
        prepared.prepare(NAME, tmp_path / "other")


def test_a_prepared_file_that_was_cut_short(write, tmp_path):
    prepared.prepare(NAME, tmp_path / "data", str(write(FILES)))
    (path,) = (tmp_path / "data" / NAME).rglob("*.array_record*")
    whole = path.read_bytes()
    for size in (0, 1000, len(whole) - 1000):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match="cannot be read, it may be cut short: .* prepare it"):
            prepared.open_prepared(NAME, tmp_path / "data")
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        prepared.open_prepared(NAME, tmp_path / "data")


def test_the_cache_reads_it_block_by_block(write, tmp_path):
    data = DataConfig(source=NAME, manual_dir=str(write(FILES)), min_item_events=1)
    labels = LabelConfig(positive=("rating >= 4",), negative=("rating < 2",))
    config = Config(data=data, labels=labels)
    found = open_sequences(config, tmp_path)
    expected = build_sequences(open_source(config, tmp_path), config)
    assert found.report == expected.report and found.report["events"]
    for name in ("user_ids", "offsets_U1", "item_E", "positive_weight_E", "split_E", "time_E"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    assert np.array_equal(found.catalogue.clusters_VC, expected.catalogue.clusters_VC)
