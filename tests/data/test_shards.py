"""The contract of shards: what the guide's recipe writes keeps it, and every breach is named."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from programs import figures, run

from negflax.config import ConfigError
from negflax.data import DataError
from negflax.data.shards import check_shards

PAGE = (Path(__file__).parents[2] / "docs/data_past_one_machine.md").read_text()


def write(folder, shards):
    """Shards of (user, time) pairs."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, events in enumerate(shards):
        user, time = zip(*events, strict=True) if events else ((), ())
        table = pa.table(
            {
                "user_id": pa.array(user, pa.string()),
                "item_id": pa.array([1] * len(user), pa.int64()),
                "timestamp_ms": pa.array(time, pa.int64()),
            }
        )
        pq.write_table(table, folder / f"events-{i:05d}-of-{len(shards):05d}.parquet")
    (folder / "manifest.json").write_text(json.dumps({"rows": [len(x) for x in shards]}))


GOOD = [[("a", 1), ("a", 1), ("b", 0)], [], [("c", 5)]]


def test_what_is_counted(tmp_path):
    write(tmp_path, GOOD)
    assert check_shards(tmp_path) == {
        "events": 4,
        "users": 3,
        "shards": 3,
        "largest_shard": 3 * 3 / 4,
    }


@pytest.mark.parametrize(
    "shards, says",
    [
        ([[("a", 2), ("a", 1)]], "column timestamp_ms, row 1: earlier"),
        ([[("a", 1), ("b", 1), ("a", 2)]], "events of user 'a' are not contiguous"),
        ([[("a", 1)], [("a", 2)]], "user 'a' is in events-00000-of-00002.parquet and events-00001"),
        ([[("a", 1), (None, 2)]], "column user_id, row 1: null"),
        ([[("a", 1), ("a", None)]], "column timestamp_ms, row 1: null"),
    ],
)
def test_a_broken_rule_of_the_contract_is_named(shards, says, tmp_path):
    write(tmp_path, shards)
    with pytest.raises(DataError, match=re.escape(says)):
        check_shards(tmp_path)


def test_a_folder_with_missing_shards(tmp_path):
    with pytest.raises(DataError, match="no events-00000"):
        check_shards(tmp_path)
    write(tmp_path, GOOD)
    manifest = tmp_path / "manifest.json"
    manifest.write_text('{"rows": [3, 0, 2]}')
    with pytest.raises(DataError, match="1 events, where manifest.json has 2"):
        check_shards(tmp_path)
    for text in ("{", "[]", '{"rows": 3}', '{"rows": [-1]}'):
        manifest.write_text(text)
        with pytest.raises(DataError, match="expected"):
            check_shards(tmp_path)
    manifest.write_text('{"rows": [3, 0]}')
    with pytest.raises(DataError, match="rows of 2 shards, but 3 files"):
        check_shards(tmp_path)
    manifest.unlink()
    with pytest.raises(DataError, match="it is written last"):
        check_shards(tmp_path)
    other = pa.table({"user_id": [1], "item_id": [1], "timestamp_ms": [1]})
    write(tmp_path, GOOD)
    pq.write_table(other, tmp_path / "events-00002-of-00003.parquet")
    with pytest.raises(DataError, match="not the columns and types of events-00000"):
        check_shards(tmp_path)
    (tmp_path / "events-00001-of-00003.parquet").unlink()
    with pytest.raises(DataError, match="a shard is missing"):
        check_shards(tmp_path)


def test_the_recipe_of_the_guide(tmp_path, monkeypatch, capsys):
    pytest.importorskip("duckdb", reason="runs after `make setup-test` (duckdb)")
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    (tmp_path / "my_logs").mkdir()
    for part in range(3):
        pq.write_table(
            pa.table(
                {
                    "user_id": [f"u{x}" for x in draw.integers(0, 50, 400)],
                    "item_id": draw.integers(0, 30, 400),
                    "timestamp_ms": draw.integers(0, 100, 400),
                    "like": draw.random(400) < 0.5,
                }
            ),
            tmp_path / f"my_logs/{part}.parquet",
        )
    (recipe,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    exec(compile(recipe, "<guide>", "exec"), {})
    run("prepare", "--check=data/shards", f"--json={tmp_path / 'check.json'}")
    assert "1,200 events of 50 users in 4 shards" in capsys.readouterr().out
    found = figures(tmp_path / "check.json")
    assert found["events"] == 1200 and found["largest_shard"] < 2
    with pytest.raises(ConfigError, match="--check=FOLDER"):
        run("prepare")
