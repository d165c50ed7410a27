"""Probability of an item's kind over the catalogue, against a plain softmax in float64."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from branching import ITEMS, SETTINGS

from negflax.calibration import Calibration
from negflax.calibration.kind_terms import Scales
from negflax.simulate import arm as trained_arm
from negflax.simulate import kind_mass as module
from negflax.simulate import pairs
from negflax.simulate.arm import BRANCHES
from negflax.simulate.measures import MASS, Lists, figures, summarise
from negflax.simulate.responsiveness import simulate

CALIBRATION = Calibration(
    "any",
    Scales(3, 5.0, 0.9),
    {"cluster": {"seen": 0.4, "dislike": -2.0}, "creator": {"dislike": -1.0}},
)


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("chunk", [13, 2048])  # the last of several chunks overlaps; one chunk
def test_the_mass_by_plain_summation(arm, log, calibrated, chunk, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", chunk)
    trained = arm()
    if calibrated:
        trained = dataclasses.replace(trained, calibration=CALIBRATION)
    given = trained_arm.arm_of(trained, has_dwell=True)
    given = given._replace(rows=jax.tree.map(lambda x: 5 * x, given.rows))
    prefix_ST, _ = pairs.draw_pairs(log, 32, 12, 3, 0)
    user, _ = trained_arm.read(trained.model, given, prefix_ST, None)
    taken_SN = np.concatenate([prefix_ST.item, np.zeros((32, 2), np.int32)], axis=1)
    item_S = prefix_ST.item[:, -1]
    program = jax.jit(module.kind_mass, static_argnums=0)
    found_S2 = program(trained.model, given, user, taken_SN, item_S)

    queries = trained_arm.queries_of(trained.model, given, user)
    assert bool(queries.shifts) == calibrated
    rows_VD = np.asarray(given.rows["item"], np.float64)[: ITEMS + 1]
    score_SV = np.asarray(queries.states_RD, np.float64) @ rows_VD.T
    for kind_V, shift in queries.shifts:
        score_SV += np.asarray(shift.bias_GR)[np.asarray(shift.slot_K)[np.asarray(kind_V)]].T
    for user_number, item in enumerate(item_S):
        weights = {
            v: np.exp(score_SV[user_number, v])
            for v in range(1, ITEMS + 1)
            if v not in taken_SN[user_number]
        }
        for number, kind_V in enumerate((log.catalogue.clusters_VC[:, 0], log.catalogue.creator_V)):
            same = sum(x for v, x in weights.items() if kind_V[v] == kind_V[item])
            expected = same / sum(weights.values())
            assert found_S2[user_number, number] == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_a_calibration_by_cluster_moves_the_mass_as_its_formula_says(arm, log):
    """−1 on a cluster divides its odds by e."""
    by_cluster = dataclasses.replace(CALIBRATION, values={"cluster": {"dislike": -1.0}})
    trained = dataclasses.replace(arm(features=("gap",)), calibration=by_cluster)
    tables = {"item": {"rows": 0 * trained.state["tables"]["item"]["rows"]}}
    trained = dataclasses.replace(trained, state=trained.state | {"tables": tables})
    found = simulate(trained, log, SETTINGS).found
    none_S2, disliked_S2 = found.mass_BS2[[0, BRANCHES.index("dislike")]]
    cluster_V = log.catalogue.clusters_VC[:, 0]
    checked = 0
    for user in range(len(found.item_S)):
        before, after = none_S2[user, 0], disliked_S2[user, 0]
        past = [v for v in found.before_SN[user] if cluster_V[v] == cluster_V[found.item_S[user]]]
        if not past:  # the first event of the cluster, and no other feedback on it
            odds = (before / (1 - before)) / (after / (1 - after))
            assert odds == pytest.approx(np.e, rel=1e-3)
            checked += 1
        assert after <= before
    assert checked > 3


def test_a_model_without_the_input_moves_no_mass_and_each_kind_is_named(walks, log):
    for name in ("blind", "sees"):
        found = walks[name, "shared"].found
        assert found.mass_BS2.shape == (len(BRANCHES), 60, 2) and (found.mass_BS2 > 0).all()
        rows = summarise([Lists([found], log.catalogue)], 200, 0)
        named = figures(name, rows)
        for number, kind in enumerate(("cluster", "creator")):
            without_S, with_S = found.mass_BS2[:2, :, number].astype(np.float64)
            expected = with_S.mean() / without_S.mean() - 1
            assert named[f"mass/{name}/{kind}"] == pytest.approx(expected, abs=1e-6)
            ends = named[f"mass/{name}/{kind}_low"], named[f"mass/{name}/{kind}_high"]
            assert (ends == (0, 0)) if name == "blind" else (ends[0] < expected < ends[1])
        assert [row["K"] for row in rows if row["what"] == MASS] == [0, 0]


def test_an_item_of_unknown_kind_is_left_out(walks, log):
    found = walks["sees", "shared"].found
    creator_V = log.catalogue.creator_V.copy()
    creator_V[found.item_S[0]] = 0
    catalogue = dataclasses.replace(log.catalogue, creator_V=creator_V)
    rows = summarise([Lists([found], catalogue)], 100, 0)
    counted = {row["kind"]: row["n"] for row in rows if row["what"] == MASS}
    assert counted["cluster"] == 60 > counted["creator"]
