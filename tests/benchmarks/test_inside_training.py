"""What benchmarks/inside_training.py trains together with the encoder, against plain loops."""

import dataclasses
import importlib
import json
import math
import subprocess
import sys
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import programs
import pyarrow as pa
import pytest
from flax import nnx

from benchmarks import _inside_counts as counts
from benchmarks import _inside_held_out as held_out
from benchmarks import _inside_rivals as rivals
from benchmarks._inside_runs import VARIANTS
from negflax.calibration.kind_counts import LONG_DWELL, SHORT_DWELL, YES
from negflax.calibration.kind_terms import Scales
from negflax.config import (
    Config,
    LabelConfig,
    LossConfig,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    check,
)
from negflax.data import StreamBatches, build_sequences
from negflax.data.batch import Batch
from negflax.data.sources import RawData
from negflax.mesh import make_mesh
from negflax.model import Recommender
from negflax.train import step
from negflax.train.step import Trainer

pytestmark = pytest.mark.system  # half a minute of compilation, for a benchmark

ROOT = Path(__file__).parents[2]
SCALED = ("after", "inside", "refits")  # variants with scalars
FEATURES = ("dislike", "dismissal", "dwell")
SCALES = Scales(3, 5.0, 0.9)
CONFIG = Config(
    labels=LabelConfig(positive=("like",), negative=("dislike",)),
    model=ModelConfig(hidden=6, embedding=6, feature_dim=3, features=FEATURES),
    loss=LossConfig(weight_policy="constant", w=5.0, positives_only_steps=0, ramp_steps=1),
    optimizer=OptimizerConfig(warmup_steps=1),
)
CONFIG = dataclasses.replace(CONFIG, batch=dataclasses.replace(CONFIG.batch, rows=4, length=12))


@pytest.fixture(scope="module")
def sequences():
    rng, items, events = np.random.default_rng(0), 30, 240
    place = np.arange(events)
    columns = {
        "user_id": place % 16,
        "item_id": rng.integers(0, items, events),
        "timestamp_ms": 1_700_000_000_000 + 60_000 * place,
        "dwell_ms": rng.choice([500.0, 6_000.0, 30_000.0], events),
        "dislike": rng.random(events) < 0.3,
    }
    columns |= {name: ~columns["dislike"] & (rng.random(events) < 0.4) for name in ("like",)}
    columns["dismissal"] = ~columns["dislike"] & ~columns["like"] & (rng.random(events) < 0.5)
    table = {"item_id": np.arange(items), "cluster_ids": [[x] for x in np.arange(items) % 4]}
    return build_sequences(RawData(pa.table(columns), pa.table(table), "made up"), CONFIG)


@pytest.fixture(scope="module")
def batches(sequences):
    return StreamBatches.of(CONFIG, sequences)


@pytest.fixture(scope="module")
def counted(batches, sequences):
    return counts.CountedBatches(batches, sequences)


def first_step(sequences, batch, model, kind=Trainer, scalars=None):
    """(loss, the state after the first step)."""
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    more = () if kind is Trainer else (0.01,)
    kinds = getattr(model, "kinds", 0)
    wide = dataclasses.replace(CONFIG.model, embedding=CONFIG.model.embedding + kinds)
    config = dataclasses.replace(CONFIG, model=wide)
    trainer = kind(*more, config, model, sequences.catalogue.train_count_V, 10, mesh)
    state = trainer.init()
    if scalars is not None:
        state["dense"] |= {counts.SCALARS: counts.parameters_of(scalars)}
    state, metrics = trainer.step(state, batch)
    return float(metrics["loss"]), jax.device_get(state)


@pytest.fixture(scope="module")
def alone(sequences, batches):
    return first_step(sequences, batches.batch(0), Recommender(CONFIG.model, sequences.catalogue))


def test_without_scalars_the_step_is_that_of_the_arm_alone(sequences, counted, alone):
    loss, state = alone
    wide = counts.CountingModel(CONFIG.model, sequences.catalogue, SCALES)
    found, other = first_step(sequences, counted.batch(0), wide, counts.ScalarTrainer, {})
    assert found == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(
        other["tables"]["item"]["rows"], state["tables"]["item"]["rows"], atol=1e-5
    )
    moved = np.array(list(counts.scalars_of(other["dense"]).values()))
    assert moved == pytest.approx(0, abs=0.0101) and moved.any()


def reference_shift(values, events, cluster):
    """b of one cluster, given what the user did before: (kind, dislike, dismissal, dwell)."""
    mine = [
        (place, *event[1:]) for place, event in enumerate(events, start=1) if event[0] == cluster
    ]
    if not mine:
        return 0.0
    dislikes = sum(dislike == YES for _, dislike, _, _ in mine)
    number = {
        "dislike": min(dislikes, SCALES.cap),
        "dismissal": min(sum(x == YES for _, _, x, _ in mine), SCALES.cap),
        "skip": sum(0 < dwell < SHORT_DWELL for *_, dwell in mine),
        "long_view": sum(dwell >= LONG_DWELL for *_, dwell in mine),
    }
    number["other"] = len(mine) - number["skip"] - number["long_view"]

    def fall(odds, strength):
        return np.logaddexp(0, odds + strength) - np.logaddexp(0, odds)

    total = values["dislike"] * number["dislike"]
    for belief in ("disinterest", "aversion"):
        of = {k.split("/")[1]: v for k, v in values.items() if k.startswith(belief)}
        odds = of["prior"] + sum(of[k] * n for k, n in number.items() if k in of)
        total -= fall(odds, of["strength"]) - fall(of["prior"], of["strength"])
    return total


def test_the_score_is_that_of_the_arm_and_the_reference_shift(sequences, batches, counted):
    plain = Recommender(CONFIG.model, sequences.catalogue)
    wide = counts.CountingModel(CONFIG.model, sequences.catalogue, SCALES)
    rng, batch, items = np.random.default_rng(1), counted.batch(1), np.arange(1, plain.num_rows)
    values = dict(zip(counts.TERMS, rng.normal(size=len(counts.TERMS)), strict=True))
    dense = plain.init_dense(jax.random.key(0))
    rows = rng.normal(size=(plain.num_rows, plain.tables["item"].width)).astype(np.float32)

    def scores(model, dense, batch):
        lookups = model.lookups(batch, items)
        found = {"item": {use: jnp.asarray(rows)[ids] for use, ids in lookups["item"].items()}}
        vectors = model.vectors(found, lookups)
        states = np.asarray(model.states(dense, vectors, batch)[0], np.float64)
        out, bias = (np.asarray(x, np.float64) for x in model.output_vectors(vectors["candidate"]))
        return np.einsum("btd,sd->bts", states, out) + bias

    alone_BTS = scores(plain, dense, Batch(*batch[: len(Batch._fields)]))
    found_BTS = scores(wide, dense | {counts.SCALARS: counts.parameters_of(values)}, batch)
    cluster_S = sequences.catalogue.clusters_VC[items, 0]
    cases = np.argwhere(batches.targets(1) >= 0)
    assert len(cases) > 20
    for b, t in cases:
        event = batches.targets(1)[b, t]
        first = max(x for x in sequences.offsets_U1 if x <= event)
        events = [
            (
                sequences.catalogue.clusters_VC[sequences.item_E[e], 0],
                sequences.dislike_E[e],
                sequences.dismissal_E[e],
                sequences.dwell_E[e],
            )
            for e in range(first, event)
        ]
        shift_K = [reference_shift(values, events, k) for k in range(wide.kinds)]
        expected_S = alone_BTS[b, t] + np.array(shift_K)[cluster_S]
        np.testing.assert_allclose(found_BTS[b, t], expected_S, atol=2e-4)


def test_scalars_and_their_parameters():
    values = dict(zip(counts.TERMS, np.linspace(-2, 2, len(counts.TERMS)), strict=True))
    again = counts.scalars_of({counts.SCALARS: counts.parameters_of(values)})
    assert {k: float(x) for k, x in again.items()} == pytest.approx(values, abs=1e-6)


def test_the_memory_is_a_decayed_sum_that_can_go_on():
    rng = np.random.default_rng(0)
    x, left = rng.normal(size=(2, 7, 3)), rng.random((2, 7, 1)) * (rng.random((2, 7, 1)) > 0.2)
    expected, memory = [], np.zeros((2, 3))
    for t in range(7):
        memory = left[:, t] * memory + x[:, t]
        expected.append(memory)
    expected = np.stack(expected, axis=1)
    found = rivals.decayed_sum(jnp.asarray(x), jnp.asarray(left), None)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    rest = rivals.decayed_sum(jnp.asarray(x[:, 3:]), jnp.asarray(left[:, 3:]), found[:, 2])
    np.testing.assert_allclose(rest, expected[:, 3:], atol=1e-5)


def test_a_state_with_a_memory_moves_by_the_rejected_items_alone():
    config = dataclasses.replace(CONFIG.model, features=("dislike", "dismissal"))
    sizes = {"dislike": 3, "dismissal": 3}
    encoder = rivals.DislikedMemory(config, sizes, rngs=nnx.Rngs(params=jax.random.key(0)))
    items = jnp.asarray(np.random.default_rng(0).normal(size=(1, 5, 6)), jnp.float32)
    reset = jnp.zeros((1, 5), bool).at[:, 0].set(True)
    code = {"dislike": jnp.array([[1, YES, 1, 1, 1]]), "dismissal": jnp.array([[1, 1, 1, YES, 1]])}
    before, _ = encoder(items, code, {}, reset)
    encoder.memory_gate[...] = jnp.array([-1.0, -0.5])
    after, (_, last) = encoder(items, code, {}, reset)
    decay = 1 / (1 + np.exp(-3.0))
    memory = -(decay**3) * items[0, 1] - 0.5 * decay * items[0, 3]
    np.testing.assert_allclose(last[0], memory, atol=1e-5)
    np.testing.assert_allclose(after[0, 0], before[0, 0], atol=1e-6)
    np.testing.assert_allclose(after[0, 4], before[0, 4] + 0.3 * memory, atol=1e-5)


def test_a_head_that_says_nothing_adds_log_2_for_each_label(sequences, batches, alone):
    model, batch = rivals.SignModel(CONFIG.model, sequences.catalogue), batches.batch(0)
    with mock.patch.object(step, "labels_loss", rivals.with_sign_loss(step.labels_loss, 0.5)):
        found, state = first_step(sequences, batch, model)
    assert found == pytest.approx(alone[0] + 0.5 * math.log(2), rel=1e-5)
    assert np.abs(state["dense"][rivals.SIGN]["kernel"]).max() > 0


def test_the_gain_is_a_mean_over_labels_with_an_error_over_users_and_seeds():
    rng = np.random.default_rng(0)
    user_N = np.repeat(np.arange(50), 4)
    base = [held_out.Run(None, 0.0, rng.normal(size=200), user_N) for _ in range(3)]
    better = [dataclasses.replace(x, losses_N=x.losses_N - 1 - user_N / 50) for x in base]
    mean, error = held_out.gain(better, base)
    assert mean == pytest.approx(1 + np.mean(user_N) / 50)
    assert error == pytest.approx(np.std(np.arange(50) / 50) / math.sqrt(50))
    assert held_out.gain(base, base) == (0, 0)


def test_every_arm_is_a_config_that_is_accepted(tmp_path):
    with programs.fresh_flags():
        program = importlib.import_module("benchmarks.inside_training")
        for arm in program.TRAINED:
            check(program.config_of("heedless", arm, 600, tmp_path))


# Trains six variants: minutes.
def test_the_program_fills_the_table_and_reads_what_it_has_trained(tmp_path):
    def rows():
        command = [sys.executable, "-m", "benchmarks.inside_training", "--worlds=heedless"]
        command += ["--arms=input_only", "--seeds=0", "--users=600", "--pairs=40"]
        command += [f"--workdir={tmp_path / 'work'}", f"--json={tmp_path / 'out.json'}"]
        subprocess.run(command, check=True, cwd=ROOT)
        return json.loads((tmp_path / "out.json").read_text())["rows"]

    found = rows()
    assert [row["variant"] for row in found] == list(VARIANTS)
    assert found[0]["gain"] == 0 and all(row["hr_p@10"] > 0 for row in found)
    assert all(bool(row["scalars"][0]) == (row["variant"] in SCALED) for row in found)
    (tmp_path / "work" / "heedless" / "inside.json").unlink()
    assert rows() == found
