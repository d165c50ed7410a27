"""Objectives that ask the training step for more than margins."""

import jax
import numpy as np
import tiny
from test_step import largest_difference


def run_of(name, devices=1, sections=None, **loss):
    """A trainer with this objective, and its batches."""
    loss = {"objective": name, "weight_policy": "constant", "w": 0.3, "gbce_negatives": 8} | loss
    model = {"behaviour_head": name == "reinforce", "features": ()}
    config = tiny.changed(tiny.changed(model=model, loss=loss), **sections or {})
    return tiny.make_trainer(config, tiny.make_sequences(), devices, 60)


def test_extra_columns_on_one_device_equal_eight():
    runs = [run_of("gbce", devices) for devices in (1, 8)]
    (one, history), (eight, _) = (tiny.run_steps(*run, 60) for run in runs)
    assert largest_difference(one, eight, runs[0][0].model) < 1e-5
    first, last = (np.mean([m["loss"] for m in part]) for part in (history[:5], history[-5:]))
    assert last < first - 0.1


def test_the_behaviour_head_learns_and_moves_nothing_else():
    trainer, batches = run_of(
        "reinforce", 8, {"optimizer": {"learning_rate": 0.05}}, candidates="full"
    )
    zero, loss_weights = np.float32(0), trainer.loss_weights
    trainer.loss_weights = loss_weights._replace(r=zero, w=zero)
    before = jax.device_get(trainer.init())
    after, history = tiny.run_steps(trainer, batches, 40)
    first, last = (np.mean([m["loss"] for m in part]) for part in (history[:8], history[-8:]))
    assert last < first - 0.02
    before["dense"].pop("behaviour_head"), after["dense"].pop("behaviour_head")
    for part in ("dense", "tables"):
        for a, b in zip(jax.tree.leaves(before[part]), jax.tree.leaves(after[part]), strict=True):
            if np.issubdtype(a.dtype, np.floating) and a.ndim > 1:
                np.testing.assert_array_equal(a, b)
    trainer.loss_weights = loss_weights  # a run-time value: the same program now trains the policy
    _, history = tiny.run_steps(trainer, batches, 60)
    first, last = (np.mean([m["loss_positive"] for m in h]) for h in (history[:5], history[-5:]))
    assert last < first - 0.05


def test_the_negative_term_over_uncorrected_candidates_sees_p_within_the_sample():
    trainer, batches = run_of("ntr", negative_candidates="uncorrected")
    _, history = tiny.run_steps(trainer, batches, 1)
    # Untrained, all items are alike: p is 1/30 in the catalogue, 1/17 beside 16 draws.
    np.testing.assert_allclose(history[0]["p_negative"], 1 / 17, rtol=0.2)
    np.testing.assert_allclose(history[0]["loss_positive"], np.log(30), rtol=0.1)
