"""Personal baselines on the device, against plain loops in float64 and the formulas on the host."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from branching import ITEMS, SETTINGS, K

from negflax.evaluate.baselines.personal_scores import (
    ALONE,
    RECENT,
    adjusted_scorer,
    unit_rows,
)
from negflax.evaluate.protocol import Queries
from negflax.simulate import arm as trained_arm
from negflax.simulate import pairs
from negflax.simulate.measures import Lists, figures, summarise
from negflax.simulate.personal_terms import add_dislikes, nothing_disliked, personal_terms
from negflax.simulate.responsiveness import simulate

BOTH = ALONE._replace(rate_beta=0.5, example_beta=2.0)


def test_the_last_dislikes_are_kept_whatever_the_parts():
    rng = np.random.default_rng(0)
    item_ST, dislike_ST = rng.integers(0, 9, (6, 40)), rng.integers(0, 3, (6, 40))
    kept = nothing_disliked(6)
    for part in np.split(np.arange(40), [1, 3, 20, 21]):
        kept = add_dislikes(kept, jnp.asarray(item_ST[:, part]), jnp.asarray(dislike_ST[:, part]))
    for user in range(6):
        said_no = [i for i, d in zip(item_ST[user], dislike_ST[user], strict=True) if d == 2 and i]
        expected = [0] * max(0, RECENT - len(said_no)) + said_no[-RECENT:]
        assert list(np.asarray(kept[user])) == expected


@pytest.mark.parametrize(
    "adjustment", [BOTH, BOTH._replace(rate_beta=0.0), BOTH._replace(example_beta=0.0)]
)
def test_scores_are_those_of_the_host(arm, log, adjustment):
    """Of users whose whole history is read, and of plain loops."""
    trained = arm()
    log = dataclasses.replace(log, negative_weight_E=(log.dislike_E == 2).astype(np.float32))
    terms = personal_terms(trained, log, adjustment)
    given = trained_arm.arm_of(trained, has_dwell=True, terms=terms)
    event_ST = pairs.history_events(log, 32, K, 0)
    prefix_ST, _ = pairs.draw_pairs(log, 32, K, 3, 0)
    user, _ = trained_arm.read(trained.model, given, prefix_ST, None)
    queries = jax.jit(trained_arm.queries_of, static_argnums=0)(trained.model, given, user)
    (row_V, shift), rows = queries.shifts[0], np.asarray(given.rows["item"], np.float64)
    added_SV = np.asarray(shift.bias_GR)[np.asarray(shift.slot_K)[np.asarray(row_V)]].T

    positive_V, negative_V = (
        np.bincount(log.item_E, x > 0, ITEMS + 1)
        for x in (log.positive_weight_E, log.negative_weight_E)
    )
    overall = (positive_V.sum() + 1) / (positive_V.sum() + negative_V.sum() + 1)
    rate_V = (positive_V + 10 * overall) / (positive_V + negative_V + 10)
    for number in range(32):
        said_no = prefix_ST.item[number][prefix_ST.dislike[number] == 2]
        for item in range(1, ITEMS + 1):
            expected = adjustment.rate_beta * np.log(rate_V[item])
            cosines = [
                rows[x] @ rows[item] / np.sqrt(rows[x] @ rows[x] * (rows[item] @ rows[item]))
                for x in said_no[-RECENT:]
            ]
            expected -= adjustment.example_beta * max(cosines, default=0.0)
            assert added_SV[number, item] == pytest.approx(expected, abs=1e-5)

    # The host counts the whole history: compare where that is the newest K events.
    user_S = np.searchsorted(log.offsets_U1, event_ST[:, 0], side="right") - 1
    whole_S = log.offsets_U1[user_S] == event_ST[:, 0]
    asked = Queries.of_users(user_S[whole_S], event_ST[whole_S, -1] + 1)
    host = [np.asarray(adjusted_scorer(trained, log, x)(asked)) for x in (adjustment, ALONE)]
    assert whole_S.sum() > 3
    np.testing.assert_allclose(
        added_SV[whole_S, 1:], (host[0] - host[1])[:, 1:], atol=2e-5, rtol=1e-4
    )


def test_a_model_without_the_input_responds_by_negative_examples(arm, log):
    trained = arm(features=("dwell", "gap"))
    # Items of a cluster have nearly one vector, so that a dislike lowers the cluster.
    rng = np.random.default_rng(0)
    towards = rng.normal(size=(log.catalogue.clusters_VC.max() + 1, 8))
    rows = np.asarray(trained.state["tables"]["item"]["rows"]).copy()
    rows[: ITEMS + 1, :8] = towards[log.catalogue.clusters_VC[:, 0]]
    rows[: ITEMS + 1, :8] += 0.1 * rng.normal(size=(ITEMS + 1, 8))
    trained = dataclasses.replace(
        trained, state=trained.state | {"tables": {"item": {"rows": rows}}}
    )
    lists = simulate(trained, log, SETTINGS, ALONE._replace(example_beta=20.0)).found
    found = figures("example", summarise([Lists([lists], log.catalogue)], 100, 0))
    assert found["responsiveness/example/cluster_high"] < -0.1
    assert found["mass/example/cluster_high"] < -0.1
    assert unit_rows(trained).shape == (ITEMS + 1, 8)
