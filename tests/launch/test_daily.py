"""Daily retraining: the next day's run starts from yesterday's rows, on a changed catalogue."""

import dataclasses
import json

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from programs import run

from negflax.config import ConfigError, MeshConfig
from negflax.data import Catalogue, open_sequences
from negflax.mesh import make_mesh
from negflax.model import Recommender
from negflax.serve import TrainedRecommender
from negflax.train.checkpoint import abstract_state, read_config
from negflax.train.loop import open_checkpoints
from negflax.train.plan import abstract_batch
from negflax.train.restore import CATALOGUE, load_trained
from negflax.train.step import Trainer
from negflax.train.warm_start import _by_shared_items, warm_start
from negflax.train.writers import read_metrics

# ml_collections loads config files in a way that Python 3.12 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

SMALL = {
    "batch.rows": 4,
    "batch.length": 10,
    "model.hidden": 8,
    "model.embedding": 8,
    "model.features": "('dislike','creator')",
    "loss.num_candidates": 16,
    "loss.positives_only_steps": 1,
    "loss.ramp_steps": 1,
    "optimizer.warmup_steps": 1,
    "train.steps": 4,
    "train.eval_every": 0,
    "train.checkpoint_every": 4,
    "eval.ks": "(5,)",
    "labels.positive": "('like',)",
    "labels.negative": "('dislike',)",
}
RESERVED = {"data.reserved_items": 4, "data.hash_buckets": 3, "data.min_item_events": 2}
CREATOR = np.array([3, 3, 3, 1, 1, 2, 2, 2, 2, 9, 3, 3])  # of items 0..11; item 9's has no other


def log(path, items, seed, liked):
    rng = np.random.default_rng(seed)
    item = rng.choice(items, 400)
    table = {
        "user_id": np.repeat(np.arange(20), 20),
        "item_id": item,
        "timestamp_ms": rng.integers(0, 10**9, 400),
        "creator_id": CREATOR[item],
        "like": item == liked if liked else rng.random(400) < 0.5,
        "dislike": rng.random(400) < 0.1,
    }
    pq.write_table(pa.table(table), path)


def day(folder, number, items, *arguments, liked=None, **changes):
    workdir, events = folder / f"day{number}", folder / f"day{number}.parquet"
    log(events, items, number, liked)
    settings = SMALL | {"data.path": events} | changes
    run(
        "train",
        "--config=configs/event_log.py",
        f"--workdir={workdir}",
        "--notest",
        *arguments,
        *[f"--config.{k}={v}" for k, v in settings.items()],
    )
    return workdir


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    """Two days: items 0 to 8, reserved rows and buckets, then items 2 to 11 and neither."""
    folder = tmp_path_factory.mktemp("days")
    first = day(folder, 1, np.arange(0, 9), **RESERVED)
    second = day(folder, 2, np.arange(2, 12), f"--init_from={first}")
    return first, second


def trainer_of(workdir, devices=1):
    config, catalogue = read_config(workdir), Catalogue.load(workdir / CATALOGUE)
    mesh = make_mesh(MeshConfig(), jax.devices()[:devices])
    model = Recommender(config.model, catalogue)
    return Trainer(config, model, catalogue.train_count_V, 4, mesh), catalogue


def checkpoint(trainer, workdir):
    target = abstract_state(jax.eval_shape(trainer.init), trainer.shardings)
    checkpoints = open_checkpoints(trainer.config, workdir, trainer.model, read_only=True)
    return checkpoints.restore_first("latest", target)[1]


def test_the_next_day_trains_and_says_what_it_kept(days):
    first, second = days
    report = json.loads((second / "init_report.json").read_text())
    assert report == {
        "kept": 7,
        "new": 3,
        "dropped": 2,
        "new_at_creator_mean": 2,
        "new_at_cluster_mean": 0,
        "rows_left": 0,
    }
    assert not (first / "init_report.json").exists()
    assert load_trained(second, "latest", make_mesh(MeshConfig(), jax.devices()[:1])).step == 4
    assert all(np.isfinite(x["loss"]) for x in read_metrics(second) if x["kind"] == "train")


@pytest.mark.parametrize("devices", [1, 8])
def test_rows_and_slots_go_by_item_id(days, devices):
    first, second = days
    trainer, catalogue = trainer_of(second, devices)
    state, _ = warm_start(trainer, catalogue, first)
    old_trainer, old_catalogue = trainer_of(first)
    old = checkpoint(old_trainer, first)
    fresh = trainer.init()
    ids = np.arange(2, 9)
    rows, old_rows = catalogue.rows(ids), old_catalogue.rows(ids)
    for new, before in zip(
        jax.tree.leaves(state["tables"]["item"]),
        jax.tree.leaves(old["tables"]["item"]),
        strict=True,
    ):
        np.testing.assert_array_equal(new[rows], before[old_rows])
        np.testing.assert_array_equal(new[0], before[0])
    item = np.asarray(state["tables"]["item"]["rows"])
    # Items 10 and 11 are new and of creator 3, as item 2 is, the only one of 0, 1, 2 still there.
    for cold in (10, 11):
        np.testing.assert_allclose(
            item[catalogue.rows([cold])[0]], item[catalogue.rows([2])[0]], rtol=1e-6
        )
    alone = catalogue.rows([9])[0]
    np.testing.assert_array_equal(item[alone], fresh["tables"]["item"]["rows"][alone])
    # Creator 2 is another number today: its row is found by the items that it made.
    today, before = catalogue.creator_V[rows], old_catalogue.creator_V[old_rows]
    np.testing.assert_array_equal(
        np.asarray(state["tables"]["creator"]["rows"])[today],
        np.asarray(old["tables"]["creator"]["rows"])[before],
    )
    jax.tree.map(np.testing.assert_array_equal, state["dense"], old["dense"])
    assert int(state["step"]) == 0
    assert state["tables"]["item"]["rows"].sharding == trainer.shardings["tables"]["item"]["rows"]


def test_new_items_take_reserved_rows_and_are_recommended(days, tmp_path):
    first, _ = days
    learning = {"train.seed": 1, "train.steps": 80, "optimizer.table_learning_rate": 0.1}
    second = day(
        tmp_path, 2, np.arange(2, 12), f"--init_from={first}", liked=9, **RESERVED, **learning
    )
    report = json.loads((second / "init_report.json").read_text())
    assert report == {
        "kept": 9,
        "new": 3,
        "dropped": 0,
        "new_at_creator_mean": 2,
        "new_at_cluster_mean": 0,
        "rows_left": 1,
    }
    trainer, catalogue = trainer_of(second)
    old_trainer, old_catalogue = trainer_of(first)
    assert catalogue.item_ids.tolist() == [*range(9), 9, 10, 11]  # 0 and 1 keep their rows too
    old, state = checkpoint(old_trainer, first), warm_start(trainer, catalogue, first)[0]
    for new, before in zip(
        jax.tree.leaves(state["tables"]["item"]),
        jax.tree.leaves(old["tables"]["item"]),
        strict=True,
    ):
        assert new.shape == before.shape and len(new) == 1 + 9 + 4 + 3
        np.testing.assert_array_equal(new[:10], before[:10])
        np.testing.assert_array_equal(new[-3:], before[-3:])  # buckets
    creators = np.asarray(old["tables"]["creator"]["rows"])
    np.testing.assert_array_equal(state["tables"]["creator"]["rows"][: len(creators)], creators)

    config, programs = read_config(second), set()
    model = dataclasses.replace(config.model, features=("dislike",))  # no table of creators
    config = dataclasses.replace(config, model=model)
    for items in (old_catalogue, catalogue):
        one = Trainer(config, Recommender(model, items), items.train_count_V, 4, trainer.mesh)
        batch = abstract_batch(config, trainer.mesh)
        programs.add(one.lower(jax.eval_shape(one.init), batch).as_text())
    assert len(programs) == 1

    recommender = TrainedRecommender.load(second, mesh=trainer.mesh)
    events = pq.read_table(tmp_path / "day2.parquet")
    lists, _ = recommender.recommend(events, k=12, exclude_seen=False)
    ranks = np.asarray(lists["rank"])[np.asarray(lists["item_id"]) == 9]
    assert len(lists) == 20 * 12 and np.mean(ranks) < 2
    unknown = events.set_column(1, "item_id", pa.array(np.arange(900, 900 + len(events))))
    lists, report = recommender.recommend(unknown, k=12)
    assert (report["events_on_unknown_items"], report["users_without_history"]) == (400, 0)
    assert set(lists["item_id"].to_pylist()) == set(range(12))

    trained_on, evaluated = (
        open_sequences(read_config(second), second, **vocabulary)
        for vocabulary in ({"known": old_catalogue}, {"catalogue": catalogue})
    )
    np.testing.assert_array_equal(trained_on.item_E, evaluated.item_E)
    np.testing.assert_array_equal(trained_on.catalogue.train_count_V, catalogue.train_count_V)
    assert catalogue.train_count_V[:3].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "changes",
    [
        {"model.hidden": 4, "model.tied": False},
        {"model.layers": 2, "model.heads": 1, "model.request": "('gap',)"},
        {"model.latent_cross": True},
    ],
)
def test_another_shape_is_refused_before_anything_is_written(changes, days, tmp_path):
    first, _ = days
    with pytest.raises(ConfigError) as error:
        day(tmp_path, 3, np.arange(3, 9), f"--init_from={first}", **changes)
    assert all(f"config.{key}" in str(error.value) for key in changes)
    assert not list(tmp_path.glob("**/config.json"))


def test_groups_are_matched_by_the_items_they_share():
    source_V = np.array([0, 1, 2, 3, -1])  # new rows 1, 2, 3 were rows 1, 2, 3; row 4 is new
    new_VC = np.array([[0], [1], [2], [2], [3]])
    old_VC = np.array([[0], [7], [5], [5]])
    np.testing.assert_array_equal(_by_shared_items(source_V, new_VC, old_VC), [0, 7, 5, -1])
