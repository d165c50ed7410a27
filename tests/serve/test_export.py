"""Exported models give the lists of the run, in a process that imports jax and faiss alone."""

import dataclasses
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jsonschema import Draft202012Validator

from negflax.calibration import Calibration
from negflax.calibration.kind_terms import SCALARS, Scales
from negflax.config import ConfigError
from negflax.serve import TrainedRecommender, export, export_format
from negflax.serve.index import build_index
from negflax.serve.one_event import encode_event

EXAMPLE = Path(__file__).parents[2] / "examples/serve/from_export.py"


def module():
    spec = importlib.util.spec_from_file_location("from_export", EXAMPLE)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


from_export = module()


@pytest.fixture(scope="module")
def named(trained):
    catalogue = dataclasses.replace(
        trained.catalogue,
        titles=np.array(["", *(f"film {i}" for i in range(10, 22))]),
        creator_ids=np.array([101, 102, 103]),
        cluster_ids=np.array(["Action", "Comedy", "Drama"]),
    )
    return TrainedRecommender(dataclasses.replace(trained, catalogue=catalogue), history=8)


@pytest.fixture(scope="module")
def folder(named, tmp_path_factory):
    out = tmp_path_factory.mktemp("export")
    export.write_export(named, out)
    return out


def random_events(count, seed):
    rng = np.random.default_rng(seed)
    return [
        {
            "item_id": int(rng.integers(8, 22)),  # two of them unknown
            "timestamp_ms": int(time),
            "dislike": [None, False, True][rng.integers(3)],
            "dismissal": [None, True][rng.integers(2)],
            "dwell_ms": [None, 0, 400, 2500][rng.integers(4)],
            "duration_ms": [None, 0, 700][rng.integers(3)],
            "surface": [None, 0, 29, 30, -1][rng.integers(5)],
        }
        for time in np.cumsum(rng.integers(1, 10**7, count))
    ]


def log(events):
    return pa.Table.from_pylist([{"user_id": 1} | event for event in events])


@pytest.mark.parametrize("count", [1, 7, 8, 30])
def test_the_same_lists_as_the_run(folder, named, count):
    model = from_export.ExportedModel(folder)
    events = random_events(count, seed=count)
    state, carry, before = model.state(events)
    known = [event["item_id"] for event in events if event["item_id"] >= 10]
    for exclude in ((), known):
        expected, _ = named.recommend(log(events), 5, exclude_seen=bool(exclude))
        found = model.recommend(state, 5, exclude)
        assert [item for item, _ in found] == expected["item_id"].to_pylist()
        np.testing.assert_allclose([x for _, x in found], expected["score"], rtol=1e-4, atol=1e-5)
    every = model.recommend(state, 12)
    model.index = None  # every item is scored
    assert [i for i, _ in model.recommend(state, 12)] == [i for i, _ in every]
    if count < 8:  # goes on by steps
        session = named.session(events=log(events))
        for event in random_events(4, seed=99):
            stepped = model.step(event, carry, before)
            session.add(event)
            if stepped is not None:
                (state, carry), before = stepped, event["timestamp_ms"]
            np.testing.assert_allclose(state, session.state, atol=1e-5)


def test_a_calibration_is_exported(trained, tmp_path):
    rng = np.random.default_rng(0)
    values = {
        kind: dict(zip(SCALARS, rng.normal(size=len(SCALARS)).tolist(), strict=True))
        for kind in ("cluster", "creator")
    }
    calibration = Calibration("", Scales(3, 5.0, 0.9), values)
    calibrated = TrainedRecommender(dataclasses.replace(trained, calibration=calibration))
    export.write_export(calibrated, tmp_path, platforms=("cpu",), index=False)
    model = from_export.ExportedModel(tmp_path)
    for count in (0, 1, 30):
        events = random_events(count, seed=count)
        state, _, _ = model.state(events)
        found = model.recommend(state, 12, added=model.correction(events))
        session = calibrated.session()
        for event in events:
            session.add(event)
        expected = session.recommend(12, exclude_seen=False)
        np.testing.assert_allclose([x for _, x in found], expected["score"], rtol=1e-4, atol=1e-5)
        assert [item for item, _ in found] == expected["item_id"].to_pylist()
    assert from_export.main(str(tmp_path)) == 0


def test_any_number_of_users_at_once(folder, named):
    model = from_export.ExportedModel(folder)
    rng = np.random.default_rng(0)
    codes_BTF = np.zeros((3, 8, 9), np.int32)
    codes_BTF[:, :, 0] = rng.integers(1, 13, (3, 8))
    count_B = np.array([8, 3, 0], np.int32)
    states_BD, carry = model.call("history_batch", codes_BTF, count_B)
    for user in range(3):
        alone, _ = model.call("history", codes_BTF[user : user + 1], count_B[user : user + 1])
        np.testing.assert_allclose(states_BD[user], alone[0], atol=1e-6)
    newcomer = named.session().state
    np.testing.assert_allclose(states_BD[2], newcomer, atol=1e-6)
    states_BD, _ = model.call("step_batch", codes_BTF[:, 0], carry)
    assert states_BD.shape == (3, 6)


def test_codes_are_those_of_the_library(folder, named):
    model, before = from_export.ExportedModel(folder, index=False), -1
    for event in random_events(60, seed=5):
        expected, _, time_ms = encode_event(event, named.trained.catalogue, before)
        found = model.codes(event, None if before < 0 else before)
        if expected is None:
            assert found is None
        else:
            np.testing.assert_array_equal(found, expected)
            before = time_ms


def test_a_fresh_process_without_negflax(folder, tmp_path):
    shutil.copy(EXAMPLE, tmp_path / "mine.py")
    code = (
        "import sys; sys.modules['negflax'] = sys.modules['pyarrow'] = None;"
        f"sys.path.insert(0, {str(tmp_path)!r}); import mine;"
        f"sys.exit(mine.main({str(folder)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith("the list of the report\n")


def test_the_files_hold_what_the_manifest_says(folder, named):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["platforms"] == ["cpu", "cuda", "tpu"]
    assert manifest["model"] == named.fingerprint
    written = {path.name for path in folder.iterdir()}
    assert written == {*manifest["files"], "manifest.json"} | {
        name.replace(".json", ".schema.json") for name in export_format.SCHEMAS
    }
    for name in export_format.SCHEMAS:
        schema = json.loads((folder / name.replace(".json", ".schema.json")).read_text())
        Draft202012Validator.check_schema(schema)
        Draft202012Validator(schema).validate(json.loads((folder / name).read_text()))
    items = pq.read_table(folder / "items.parquet")
    assert items.column_names == ["item_id", "vector", "title", "creator", "clusters"]
    row = items.slice(4, 1).to_pylist()[0]
    creator = int(named.trained.catalogue.creator_V[5])
    assert (row["item_id"], row["title"]) == (14, "film 14")
    assert row["creator"] == str(100 + creator)
    assert row["clusters"] == [("Action", "Comedy", "Drama")[creator - 1]]
    assert len(row["vector"]) == 7  # the bias last
    report = json.loads((folder / "report.json").read_text())
    assert report["index"]["recall@12"] == 1.0


def test_a_folder_without_an_export(folder, tmp_path):
    with pytest.raises(from_export.ExportError, match="holds no export"):
        from_export.ExportedModel(tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    manifest = json.loads((broken / "manifest.json").read_text())
    (broken / "manifest.json").write_text(json.dumps(manifest | {"version": 9}))
    with pytest.raises(from_export.ExportError, match="export of version 9, this file reads"):
        from_export.ExportedModel(broken)
    for text, words in (("[1]", "is damaged"), ("{", "holds no export")):
        (broken / "manifest.json").write_text(text)
        with pytest.raises(from_export.ExportError, match=words):
            from_export.ExportedModel(broken)
    with pytest.raises(from_export.ExportError, match="holds no export"):
        from_export.ExportedModel(broken / "manifest.json")
    (broken / "manifest.json").write_text(json.dumps(manifest))
    data = bytearray((broken / "weights.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (broken / "weights.npz").write_bytes(data)
    with pytest.raises(from_export.ExportError, match="weights.npz is damaged"):
        from_export.ExportedModel(broken)
    (broken / "weights.npz").unlink()
    with pytest.raises(from_export.ExportError, match="weights.npz is missing"):
        from_export.ExportedModel(broken)
    model = from_export.ExportedModel(folder)
    for k in (0, 13):
        with pytest.raises(from_export.ExportError, match="the catalogue has 12 items"):
            model.recommend(np.zeros(6), k)
    for k in (2.5, "5", None):
        with pytest.raises(from_export.ExportError, match="ask for 1 to 12"):
            model.recommend(np.zeros(6), k)
    with pytest.raises(from_export.ExportError, match="not finite"):
        model.recommend(np.full(6, np.nan), 3)
    with pytest.raises(from_export.ExportError, match=r"this model has \(6,\)"):
        model.recommend(np.zeros(7), 3)
    for event, words in (
        ({}, "give an object with an item_id"),
        (5, "give an object with an item_id"),
        ({"item_id": 14, "dwell_ms": float("nan")}, "dwell_ms = nan"),
        ({"item_id": 14, "timestamp_ms": "now"}, "timestamp_ms = 'now'"),
        ({"item_id": 14, "timestamp_ms": -3}, "timestamp_ms = -3: give a number of at least 0"),
        ({"item_id": 14, "dislike": "false"}, "dislike = 'false': give true, false or null"),
        ({"item_id": 14, "dislike": [0]}, "dislike = \\[0\\]: give true"),
        ({"item_id": 14, "dislke": True}, "no such field: dislke"),
        ({"item_id": ["v1"]}, "item_id = \\['v1'\\]: give an integer or a text"),
    ):
        with pytest.raises(from_export.ExportError, match=words):
            model.state([event])
    for text in ("{", "5"):
        with pytest.raises(from_export.ExportError, match="the events are no"):
            from_export.main(str(folder), text)


def test_an_index_finds_what_exact_search_finds():
    rng = np.random.default_rng(0)
    centre_CD = rng.normal(size=(300, 8))
    items_ID = centre_CD[rng.integers(0, 300, 21_000)] + rng.normal(size=(21_000, 8)) / 4
    items_ID = np.hstack([items_ID, rng.normal(size=(21_000, 1))]).astype(np.float32)
    states_RD = np.hstack([2 * centre_CD[:40], np.ones((40, 1))]).astype(np.float32)
    built = build_index(items_ID, states_RD, 50)
    assert built.kind == "IVF579,Flat" and 0.97 <= built.recall <= 1
    score_RI = states_RD.astype(np.float64) @ items_ID.T.astype(np.float64)
    expected_RK = np.argsort(-score_RI, axis=1)[:, :50]
    score_RK, found_RK = built.index.search(states_RD, 50)
    share = np.mean(
        [len(np.intersect1d(a, b)) / 50 for a, b in zip(expected_RK, found_RK, strict=True)]
    )
    assert share == pytest.approx(built.recall)
    np.testing.assert_allclose(
        score_RK, np.take_along_axis(score_RI, found_RK, axis=1), rtol=1e-4, atol=1e-4
    )
    items_ID[7, 2] = np.nan
    with pytest.raises(ConfigError, match="items has NaN"):
        build_index(items_ID, states_RD)
