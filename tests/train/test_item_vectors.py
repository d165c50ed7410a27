"""Given vectors of items: projected in training, in the tables that are scored, on any mesh."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny

from negflax.config import ConfigError
from negflax.mesh import make_mesh
from negflax.model import Recommender
from negflax.train import plan as planning
from negflax.train.restore import scored_tables

CONFIG = tiny.changed(model={"composed": ("vector",)}, loss={"num_candidates": 24})
W = 5


def sequences_with_vectors(width=W, **options):
    sequences = tiny.make_sequences(**options)
    vector_VW = np.random.default_rng(1).normal(size=(31, width)).astype(np.float32)
    vector_VW[[0, 7]] = 0  # the padding, and an item without one
    catalogue = dataclasses.replace(sequences.catalogue, vector_VW=vector_VW)
    return dataclasses.replace(sequences, catalogue=catalogue)


def with_projection(state, width=W):
    """The state with another projection than the zeros it begins with."""
    shape = width, CONFIG.model.embedding
    projection_WD = np.random.default_rng(2).normal(size=shape).astype(np.float32) / 4
    return state | {"dense": state["dense"] | {"item_vector": jax.numpy.asarray(projection_WD)}}


@pytest.mark.parametrize(("candidates", "tied"), [("uniform", False), ("full", True)])
def test_the_loss_is_that_of_tables_with_the_projections_added(candidates, tied):
    config = tiny.changed(CONFIG, loss={"candidates": candidates}, model={"tied": tied})
    sequences = sequences_with_vectors(reserved=3)
    trainer, batches = tiny.make_trainer(config, sequences)
    state = with_projection(trainer.init())
    assert "item_vector" not in state["tables"]
    whole = scored_tables(trainer.model, state)
    for name in ("item", trainer.model.output_table):
        rows_VD = np.array(state["tables"][name]["rows"])
        given = sequences.catalogue.vector_VW @ np.asarray(state["dense"]["item_vector"])
        rows_VD[:31, : given.shape[1]] += given
        np.testing.assert_allclose(whole[name]["rows"], rows_VD, atol=1e-5)

    plain, _ = tiny.make_trainer(tiny.changed(config, model={"composed": ()}), sequences)
    same = plain.init()
    copies = jax.tree.map(jax.numpy.copy, state["tables"])  # a step takes its arguments' memory
    tables = {n: t | {"rows": whole[n]["rows"].copy()} for n, t in copies.items()}
    expected = tiny.run_steps(plain, batches, 1, same | {"tables": tables})[1][0]
    found_state, found = tiny.run_steps(trainer, batches, 1, state)
    np.testing.assert_allclose(found[0]["loss"], expected["loss"], rtol=1e-5)
    assert np.isfinite(found_state["dense"]["item_vector"]).all()


@pytest.mark.parametrize(
    ("mesh", "loss"),
    [
        ({"lookup": "all_to_all"}, {}),
        ({}, {"candidates": "full"}),
        pytest.param({"lookup": "psum"}, {}, marks=pytest.mark.system),
        pytest.param({"rows": ("table",), "table": 4}, {}, marks=pytest.mark.system),
    ],
)
def test_eight_devices_learn_the_same_projection(mesh, loss):
    config = tiny.changed(CONFIG, loss=loss, model={"dropout_input": 0.0, "dropout_output": 0.0})
    sequences = sequences_with_vectors()
    (one, a), (eight, b) = (
        tiny.run_steps(*tiny.make_trainer(tiny.changed(config, mesh=m), sequences, n), 4)
        for m, n in (({}, 1), (mesh, 8))
    )
    np.testing.assert_allclose([x["loss"] for x in a], [x["loss"] for x in b], rtol=1e-4)
    assert np.abs(one["dense"]["item_vector"]).max() > 0
    np.testing.assert_allclose(
        one["dense"]["item_vector"], eight["dense"]["item_vector"], atol=1e-4
    )


def test_devices_hold_their_own_vectors_only():
    trainer, _ = tiny.make_trainer(CONFIG, sequences_with_vectors(), 8)
    (given,) = trainer.constants.values()
    assert given.shape == (32, W)
    assert {shard.data.shape for shard in given.addressable_shards} == {(4, W)}
    whole = scored_tables(trainer.model, trainer.init())["item"]["rows"]
    assert len({shard.device for shard in whole.addressable_shards}) == 8


def test_a_model_without_vectors_is_refused():
    with pytest.raises(ConfigError, match="item_vector=text_embedding"):
        Recommender(CONFIG.model, tiny.make_sequences().catalogue)


def test_a_plan_counts_them():
    mesh = make_mesh(CONFIG.mesh, jax.devices()[:8])
    sizes = planning.Sizes.of(sequences_with_vectors().catalogue)
    plan = planning.make_plan(CONFIG, sizes, mesh, planning.Machine(1, 1, 1, 0))
    assert plan.memory["item vectors"] == 4 * W * 32 // 8
    assert any(name == "item_vector" and sent for (name, _), sent in plan.collectives.items())
