"""The cache of sequences: what it holds, that it is shared, that nothing half written is read."""

import dataclasses
import gc
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import build_cache
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from negflax.data import (
    Catalogue,
    DataError,
    RawData,
    Sequences,
    build_sequences,
    cache,
    event_files,
    inputs,
    open_sequences,
    parts,
)

ARRAYS = [f.name for f in dataclasses.fields(Sequences) if f.name not in ("catalogue", "report")]


def config_of(make_config, path, **data):
    return make_config(source="event_log", path=str(path), **data)


def write_log(folder, table, num_files=3):
    folder.mkdir(parents=True, exist_ok=True)
    bounds = np.linspace(0, table.num_rows, num_files + 1).astype(int)
    for i, (low, high) in enumerate(zip(bounds, bounds[1:], strict=False)):
        pq.write_table(table.slice(low, high - low), folder / f"{i}.parquet")
    return folder


def users_of(sequences):
    """Each user's columns, by id: what does not depend on the order of users."""
    found = {}
    for i, user in enumerate(sequences.user_ids.tolist()):
        rows = slice(*sequences.offsets_U1[i : i + 2])
        columns = [getattr(sequences, n) for n in ARRAYS if n.endswith("_E")]
        found[user] = [None if x is None else x[rows].tolist() for x in columns]
    return found


def assert_same(one, other, same_order=True):
    assert one.report == other.report
    for name in ("item_ids", "creator_V", "clusters_VC", "train_count_V"):
        assert np.array_equal(getattr(one.catalogue, name), getattr(other.catalogue, name)), name
    assert users_of(one) == users_of(other)
    for name in ARRAYS if same_order else ():
        left, right = getattr(one, name), getattr(other, name)
        assert np.array_equal(left, right), name
        assert left is None or left.dtype == right.dtype, name


@pytest.fixture
def small_parts(monkeypatch):
    """Logs of a few hundred events are then spread over several files and read in chunks."""
    monkeypatch.setattr(parts, "PART_EVENTS", 40)
    monkeypatch.setattr(inputs, "CHUNK_EVENTS", 17)


@pytest.mark.parametrize("split", ["column", "temporal", "leave_one_out"])
@pytest.mark.parametrize("kind", ["integers", "text", "shuffled"])
def test_parts_give_what_one_table_gives(
    tmp_path, random_log, make_config, small_parts, split, kind
):
    table = random_log(3, users=40, items=15)
    creators = pa.array(table["item_id"].to_numpy() // 2, mask=np.arange(table.num_rows) % 3 > 0)
    table = table.append_column("creator_id", creators)
    if kind == "text":
        words = pa.array([f"user {u}" for u in table["user_id"].to_pylist()])
        table = table.set_column(0, "user_id", words)
    if kind == "shuffled":
        table = table.take(np.random.default_rng(0).permutation(table.num_rows))
        table = pa.concat_tables([table, table.slice(3, 20)])  # exact duplicates
    log = write_log(tmp_path / "log", table)
    config = config_of(make_config, log, split=split, min_item_events=3)
    raw = RawData(event_files.read_events(str(log))[0], None, "event_log")
    expected = build_sequences(raw, config)
    found = open_sequences(config, tmp_path)
    assert_same(found, expected, same_order=False)
    assert not found.item_E.flags.writeable


def test_the_memory_of_a_part_is_freed_after_it(tmp_path, random_log, make_config, small_parts):
    table = random_log(3, users=400, items=15)
    config = config_of(make_config, write_log(tmp_path / "log", table))
    del table
    gc.collect()
    gc.disable()  # no circle of references may hold events of a large log
    try:
        before = pa.total_allocated_bytes()
        open_sequences(config, tmp_path)
        assert pa.total_allocated_bytes() - before < 4096
    finally:
        gc.enable()


def test_a_small_log_keeps_the_order_of_its_users(tmp_path, random_log, make_config):
    log = write_log(tmp_path / "log", random_log(1))
    config = config_of(make_config, log)
    raw = RawData(event_files.read_events(str(log))[0], None, "event_log")
    assert_same(open_sequences(config, tmp_path), build_sequences(raw, config))


def test_files_of_different_columns_and_kinds_of_ids(
    tmp_path, random_log, make_config, small_parts
):
    table = random_log(2, users=30)
    num = table.num_rows // 2
    log = tmp_path / "log"
    log.mkdir()
    pq.write_table(table.slice(0, num), log / "a.parquet")
    rest = table.slice(num).drop_columns(["surface", "skip"])
    event_files.write_table(rest, log / "b.csv")  # read as text, and 17 and "17" are one user
    config = config_of(make_config, log)
    raw = RawData(event_files.read_events(str(log))[0], None, "event_log")
    assert_same(open_sequences(config, tmp_path), build_sequences(raw, config), same_order=False)


def test_users_of_very_different_lengths(tmp_path, make_config, small_parts):
    user = np.repeat([5, 6, 7], [1, 500, 2])
    split = np.where(np.arange(503) % 5 == 4, "test", "train")
    table = pa.table(
        {
            "user_id": user,
            "item_id": np.arange(503) % 3,
            "pos": np.arange(503),
            "split": np.sort(split)[::-1],
            "like": np.ones(503, bool),
        }
    )
    log = write_log(tmp_path / "log", table)
    config = config_of(make_config, log, valid_fraction=0.0)
    config = dataclasses.replace(
        config, labels=dataclasses.replace(config.labels, positive=("like",), negative=())
    )
    found = open_sequences(config, tmp_path)
    length = dict(zip(found.user_ids.tolist(), np.diff(found.offsets_U1).tolist(), strict=True))
    assert length == {5: 1, 6: 500, 7: 2}


def test_a_cache_of_an_earlier_version_is_not_read(tmp_path, random_log, make_config, monkeypatch):
    config = config_of(make_config, write_log(tmp_path / "log", random_log(1)))
    monkeypatch.setattr(cache, "VERSION", cache.VERSION - 1)
    open_sequences(config, tmp_path)
    monkeypatch.undo()
    open_sequences(config, tmp_path)
    assert len(list((tmp_path / "data").glob("sequences-*"))) == 2


def test_one_event_has_no_test_period(tmp_path, log, make_config):
    table = log(user_id=[1], item_id=[2], timestamp_ms=[3], long_view=[1], dislike=[0], skip=[0])
    config = config_of(make_config, write_log(tmp_path / "log", table, 1), split="temporal")
    with pytest.raises(DataError, match="no event .* is in the split"):
        open_sequences(config, tmp_path)
    assert not list((tmp_path / "data").glob("sequences-*"))


def test_an_empty_log_names_its_file(tmp_path, log, make_config):
    path = write_log(tmp_path / "log", log().slice(0, 0), 1)
    with pytest.raises(DataError, match=r"0\.parquet.*no rows"):
        open_sequences(config_of(make_config, path), tmp_path)


def test_a_bad_row_is_counted_in_its_file(tmp_path, random_log, make_config, small_parts):
    table = random_log(0)
    dwell = table["dwell_ms"].to_pylist()
    dwell[50] = -1
    table = table.set_column(table.column_names.index("dwell_ms"), "dwell_ms", pa.array(dwell))
    path = write_log(tmp_path / "log", table, 1)
    with pytest.raises(DataError, match=r"0\.parquet.*`dwell_ms`, row 50"):
        open_sequences(config_of(make_config, path), tmp_path)


def test_a_truncated_parquet_file_names_itself(tmp_path, random_log, make_config):
    log = write_log(tmp_path / "log", random_log(0))
    whole = (log / "1.parquet").read_bytes()
    (log / "1.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"1\.parquet cannot be read, it may be cut short"):
        open_sequences(config_of(make_config, log), tmp_path)


def test_an_id_beyond_int64_names_its_file(tmp_path, log, make_config):
    path = write_log(tmp_path / "log", log(), 1)
    config = config_of(make_config, path)
    table = log(user_id=pa.array([1, 2, 2**63], pa.uint64()))
    pq.write_table(table, path / "1.parquet")
    with pytest.raises(DataError, match=r"1\.parquet.*`user_id`.*beyond int64.*as text"):
        open_sequences(config, tmp_path)
    assert folders(tmp_path) == []  # what was begun is gone


# One build, then many looks at it.


@pytest.fixture
def built(tmp_path, random_log, make_config):
    """(config, working folder, folder of the cache)."""
    config = config_of(make_config, write_log(tmp_path / "log", random_log(0)))
    open_sequences(config, tmp_path)
    (folder,) = (tmp_path / "data").glob("sequences-*")
    return config, tmp_path, folder


def test_the_second_run_builds_nothing(built, monkeypatch):
    config, workdir, _ = built
    first = open_sequences(config, workdir)
    monkeypatch.setattr(cache, "_build", None)
    assert_same(open_sequences(config, workdir), first)
    moved = dataclasses.replace(config, batch=dataclasses.replace(config.batch, seed=9))
    assert_same(open_sequences(moved, workdir), first)  # batches change nothing of the data
    assert_same(open_sequences(config, workdir, first.catalogue), first)  # its own vocabulary


def test_what_changes_the_data_has_a_cache_of_its_own(built):
    config, workdir, folder = built

    def caches():
        return set((workdir / "data").glob("sequences-*"))

    labels = dataclasses.replace(config.labels, negative=("skip",))
    open_sequences(dataclasses.replace(config, labels=labels), workdir)
    assert len(caches()) == 2
    data = dataclasses.replace(config.data, min_item_events=2)
    open_sequences(dataclasses.replace(config, data=data), workdir)
    assert len(caches()) == 3
    file = workdir / "log" / "0.parquet"
    os.utime(file, ns=(1, 1))
    open_sequences(config, workdir)
    assert len(caches()) == 4
    other = Catalogue(np.array([0, 3]), *np.zeros((2, 3, 1), np.int32), np.zeros(3, np.int64))
    other = dataclasses.replace(other, creator_V=np.zeros(3, np.int32))
    found = open_sequences(config, workdir, other)
    assert len(caches()) == 5 and found.catalogue.item_ids.tolist() == [0, 3]


@pytest.mark.parametrize("damage", ["short", "gone", "manifest", "catalogue"])
def test_a_damaged_cache_is_built_again(built, damage):
    config, workdir, folder = built
    expected = users_of(open_sequences(config, workdir))
    name = {"manifest": "manifest.json", "catalogue": "catalogue.npz"}.get(damage, "item_E.npy")
    whole = (folder / name).read_bytes()
    if damage == "gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(whole[: len(whole) // 2])
    assert users_of(open_sequences(config, workdir)) == expected
    assert (folder / name).stat().st_size == len(whole)


def test_files_in_memory_are_known_by_their_content(tmp_path, random_log, make_config, monkeypatch):
    config = make_config(source="movielens_100k")
    table = random_log(0)
    monkeypatch.setattr(inputs, "open_source", lambda *_: RawData(table, None, "it"))
    first = open_sequences(config, tmp_path)
    assert_same(open_sequences(config, tmp_path), first)
    table = random_log(1)
    assert open_sequences(config, tmp_path).report != first.report


# Processes: killed, at once, without room.


def start(config, workdir, mode="plain"):
    """Another process that opens the sequences; see build_cache.py."""
    command = [sys.executable, build_cache.__file__]
    return subprocess.Popen(
        [*command, mode, config.data.path, str(workdir)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process):
    """(exit status, what it printed, its last line of errors)."""
    out, err = process.communicate(timeout=600)  # far more than a slow machine needs
    return process.returncode, out.strip(), err.strip().split("\n")[-1]


def folders(workdir):
    return sorted(path.name for path in (workdir / "data").iterdir() if path.is_dir())


def wait_for(condition):
    end = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < end, "it never came so far"
        time.sleep(0.02)


@pytest.fixture
def config(tmp_path, random_log):
    return build_cache.config_of(write_log(tmp_path / "log", random_log(0)))


def test_a_killed_build_leaves_nothing_that_is_read(config, tmp_path):
    process = start(config, tmp_path, "stop")
    wait_for((tmp_path / "reached").exists)
    process.kill()
    assert ended(process)[0] == -signal.SIGKILL
    (left,) = folders(tmp_path)
    assert left.startswith(".")  # half a cache, under a name that nobody opens
    found = open_sequences(config, tmp_path)
    (only,) = folders(tmp_path)  # what the killed one left is gone
    assert only.startswith("sequences-")
    raw = RawData(event_files.read_events(config.data.path)[0], None, "event_log")
    assert_same(found, build_sequences(raw, config))


def test_two_processes_that_build_at_once_share_one_cache(config, tmp_path):
    first = start(config, tmp_path, "pause")
    wait_for((tmp_path / "reached").exists)
    second = start(config, tmp_path)
    wait_for(lambda: "waiting" in (second.stderr.readline() or "waiting"))
    (tmp_path / "go").touch()
    one, other = ended(first), ended(second)
    assert one[0] == other[0] == 0 and one[1] == other[1]  # the same columns
    assert one[2:] != () and len(folders(tmp_path)) == 1


def test_a_full_disk_is_a_clear_error_and_leaves_no_files(config, tmp_path):
    status, out, error = ended(start(config, tmp_path, "limit"))
    assert status == 1 and not out
    assert "cannot be written" in error and "config.data.cache_dir" in error
    assert folders(tmp_path) == []
    assert ended(start(config, tmp_path))[0] == 0


def test_missing_write_permission_is_a_clear_error(config, tmp_path):
    (tmp_path / "data").write_text("a file where the folder should be")  # root may write anywhere
    with pytest.raises(DataError, match=r"cannot be written .*config\.data\.cache_dir"):
        open_sequences(config, tmp_path)


@pytest.mark.system
def test_builds_that_are_killed_at_any_time(config, tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(20):
        process = start(config, tmp_path, "slow")
        time.sleep(0.3 + 1.5 * rng.random())
        process.kill()
        ended(process)
    found = open_sequences(config, tmp_path)
    raw = RawData(event_files.read_events(config.data.path)[0], None, "event_log")
    assert_same(found, build_sequences(raw, config))
    assert len(folders(tmp_path)) == 1


@pytest.mark.system
def test_a_disk_that_runs_full(config, tmp_path):
    disk = tmp_path / "data"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk takes root")
    try:
        status, _, error = ended(start(config, tmp_path))
        assert status == 1 and "No space left on device" in error
        assert "config.data.cache_dir" in error and folders(tmp_path) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert open_sequences(config, tmp_path).report["events"]


@pytest.mark.system
def test_a_folder_of_another_user_is_a_clear_error(random_log):
    if os.getuid() != 0:
        pytest.skip("becoming another user takes root")
    with tempfile.TemporaryDirectory() as name:  # tmp_path is for its owner's eyes only
        folder = Path(name)
        folder.chmod(0o755)
        config = build_cache.config_of(write_log(folder / "log", random_log(0)))
        status, _, error = ended(start(config, folder, "nobody"))
    assert status == 1 and "Permission denied" in error and "config.data.cache_dir" in error
