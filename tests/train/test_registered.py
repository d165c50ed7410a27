"""An objective and an encoder of the user's own, from training to lists."""

import dataclasses
import json
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
import tiny
from flax import nnx

import negflax
from negflax.config import ENCODERS, OBJECTIVES, LabelConfig, event_log_defaults
from negflax.loss import objectives
from negflax.model import encoders
from negflax.train.checkpoint import CheckpointError, read_config, write_config


def hinge(labels, scalars):
    del scalars
    m = labels.margins_NL
    return labels.r_NL * jax.nn.relu(1 - m) + labels.w_NL * jax.nn.relu(1 + m)


class Average(nnx.Module):
    """The mean of the items so far, mixed by one matrix."""

    def __init__(self, config, feature_sizes, *, rngs):
        del feature_sizes
        width = config.embedding
        self.layers = nnx.List([nnx.Param(jnp.eye(width, dtype=config.dtype))])

    def __call__(
        self,
        items_BTD,
        feature_ids,
        feature_vectors,
        reset_BT,
        *,
        start=None,
        dropout_seed=None,
        first_row=0,
    ):
        del feature_ids, feature_vectors, dropout_seed, first_row
        rows, _, width = items_BTD.shape
        start = (jnp.zeros((rows, width)), jnp.zeros((rows, 1))) if start is None else start

        def step(carry, event):
            (total_BD, count_B1), (item_BD, reset_B) = carry, event
            keep_B1 = 1 - reset_B[:, None].astype(item_BD.dtype)
            total_BD, count_B1 = keep_B1 * total_BD + item_BD, keep_B1 * count_B1 + 1
            return (total_BD, count_B1), total_BD / count_B1

        events = (items_BTD.swapaxes(0, 1), reset_BT.swapaxes(0, 1))
        last, mean_TBD = jax.lax.scan(step, start, events)
        return mean_TBD.swapaxes(0, 1) @ self.layers[0][...], last


@pytest.fixture
def registered():
    """Both registered; forgotten after the test."""
    with (
        mock.patch.dict(OBJECTIVES.traits),
        mock.patch.dict(OBJECTIVES.modules),
        mock.patch.dict(ENCODERS.traits),
        mock.patch.dict(ENCODERS.modules),
        mock.patch.dict(objectives._REGISTERED),
        mock.patch.dict(encoders._ENCODERS),
    ):
        negflax.register_objective("hinge", hinge)
        negflax.register_encoder("average", Average)
        yield


def events(users=30, items=20, length=12):
    rng = np.random.default_rng(0)
    like = rng.random(users * length) < 0.5
    return pa.table(
        {
            "user_id": np.repeat(np.arange(users), length),
            "item_id": rng.integers(0, items, users * length),
            "timestamp_ms": 1_700_000_000_000 + 60_000 * rng.permutation(users * length),
            "like": like,
            "dislike": ~like & (rng.random(users * length) < 0.5),
        }
    )


def own(config):
    """The config with the user's own objective and encoder."""
    return tiny.changed(config, loss={"objective": "hinge"}, model={"encoder": "average"})


def test_trained_saved_loaded_and_served(registered, tmp_path):
    config = tiny.changed(
        own(event_log_defaults()),
        batch={"rows": 8, "length": 12},
        model={"embedding": 8, "feature_dim": 2},
        train={"steps": 4, "eval_every": 2, "checkpoint_every": 2, "metric": "ndcg_p@5"},
        eval={"ks": (5,), "bootstrap": 10},
    )
    config = dataclasses.replace(config, labels=LabelConfig(("like",), ("dislike",)))
    run = negflax.fit(events(), config, tmp_path / "run", test=False)
    assert run.config.model.encoder == "average"
    lists = negflax.load(tmp_path / "run").recommend(events(), k=5)
    assert lists.num_rows == 30 * 5
    assert lists == run.recommend(events(), k=5)
    assert json.loads((tmp_path / "run/config.json").read_text())["registered_by"] == {
        "loss.objective": __name__,
        "model.encoder": __name__,
    }


@pytest.mark.parametrize("registry", [OBJECTIVES, ENCODERS], ids=["objective", "encoder"])
def test_what_is_not_registered_at_load_is_named(registered, registry, tmp_path):
    write_config(tmp_path, own(tiny.CONFIG))
    assert read_config(tmp_path) == own(tiny.CONFIG)
    name = {"loss.objective": "hinge", "model.encoder": "average"}[registry.key]
    del registry.traits[name]
    message = rf"config.{registry.key} = '{name}' is not registered .*: import {__name__}, which"
    with pytest.raises(CheckpointError, match=message):
        negflax.load(tmp_path)


@pytest.mark.parametrize("registry", [OBJECTIVES, ENCODERS], ids=["objective", "encoder"])
def test_another_module_that_registered_the_name_is_told(registered, registry, tmp_path, caplog):
    write_config(tmp_path, own(tiny.CONFIG))
    name = {"loss.objective": "hinge", "model.encoder": "average"}[registry.key]
    registry.modules[name] = "other.place"
    message = f"was registered by {__name__} when .* by other.place here: import {__name__} instead"
    with pytest.raises(CheckpointError, match=message):
        read_config(tmp_path)
    registry.modules[name] = "__main__"  # may well be the same function
    assert read_config(tmp_path) == own(tiny.CONFIG)
    assert f"by {__name__} when the run was trained, and by __main__ here" in caplog.text


@pytest.mark.parametrize(
    ("extra", "columns"), [("recent_negatives", 3), ("sampled", 5)], ids=["recent", "sampled"]
)
def test_an_objective_gets_the_extra_columns_that_it_asks_for(registered, extra, columns):
    shapes = []

    def with_extra(labels, scalars):
        shapes.append(labels.extra_NLE.shape)
        there = jnp.isfinite(labels.extra_NLE)
        return hinge(labels, scalars) + jnp.sum(jnp.where(there, labels.extra_NLE, 0), -1)

    negflax.register_objective("with_extra", with_extra, extra=extra)
    loss = {"objective": "with_extra", "recent_negatives": 3, "gbce_negatives": 5}
    trainer, batches = tiny.make_trainer(tiny.changed(loss=loss), tiny.make_sequences())
    _, (metrics,) = tiny.run_steps(trainer, batches, 1)
    assert np.isfinite(metrics["loss"])
    assert {shape[-1] for shape in shapes} == {columns}


def test_the_former_name_of_loggers_is_read(tmp_path):
    config = tiny.changed(train={"loggers": ("wandb",)})
    write_config(tmp_path, config)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"loggers"', '"hubs"'))
    assert read_config(tmp_path) == config
