"""The fit: the log-sum-exp by kinds is that of all items, and the derivatives are right."""

import dataclasses

import numpy as np
import pytest

from negflax.calibration import label_facts as label_facts_module
from negflax.calibration import newton
from negflax.calibration.fit_data import Weights, data_of
from negflax.calibration.kind_counts import counts_of, kind_of_items
from negflax.calibration.kind_shift import num_kinds
from negflax.calibration.kind_terms import SCALARS, Scales, shift
from negflax.calibration.label_facts import label_facts
from negflax.calibration.labelled_states import Model, labelled_states
from negflax.config import CalibrationConfig, ConfigError, LabelConfig, LossConfig
from negflax.data import history_batch
from negflax.train.weights import loss_weights

SCALES = Scales(3, 5.0, 0.9)
SETTINGS = CalibrationConfig(labels=0)
WEIGHTS = Weights("ntr", 1.0, 20.0, loss_weights(LossConfig(), "float32").objective)


def softplus(x):
    return np.logaddexp(0, x)


def direct_losses(trained, sequences, states, theta_P, kind):
    """The objective of every label from the scores of all items, in float64."""
    calibration = dataclasses.replace(
        trained.calibration, values={kind: dict(zip(SCALARS, theta_P, strict=True))}
    )
    rows = np.asarray(trained.state["tables"]["item"]["rows"], np.float64)
    rows = rows[: trained.model.num_rows]
    kind_V = kind_of_items(trained.catalogue, kind)
    found = []
    for n, event in enumerate(states.event_N):
        user = np.searchsorted(sequences.offsets_U1, event, side="right") - 1
        counts = counts_of(sequences, np.array([user]), np.array([event]), kind_V)
        bias_K = calibration.dense(kind, counts, num_kinds(trained.catalogue, kind))[0]
        z_V = states.states_ND[n].astype(np.float64) @ rows[:, :6].T
        z_V += (rows[:, 6] if trained.config.model.item_bias else 0) + bias_K[kind_V]
        ids = states.ids_NL[n]
        total = 0.0
        for label, row in enumerate(ids):
            if row < 0:
                continue
            others = np.arange(1, len(z_V)) != row
            if trained.config.loss.exclude_seen:
                seen = set(sequences.item_E[sequences.offsets_U1[user] : event]) - set(ids)
                others &= ~np.isin(np.arange(1, len(z_V)), list(seen))
            m = z_V[row] - np.logaddexp.reduce(z_V[1:][others])
            total += states.r_NL[n, label] * softplus(-m)
            total += WEIGHTS.w * states.w_NL[n, label] * softplus(m)
        found.append(total)
    return np.array(found)


def with_config(trained, **sections):
    return dataclasses.replace(trained, config=dataclasses.replace(trained.config, **sections))


@pytest.mark.parametrize(
    "kind, horizon, exclude_seen",
    [("cluster", 1, False), ("creator", 3, False), ("cluster", 1, True)],
)
def test_losses_are_those_of_all_items(sequences, calibrated, kind, horizon, exclude_seen):
    trained = with_config(
        calibrated,
        loss=LossConfig(objective="ntr", exclude_seen=exclude_seen),
        labels=LabelConfig(("like",), ("dislike",), horizon=horizon),
    )
    model = Model(trained)
    states, _ = labelled_states(model, sequences, SETTINGS)
    states = states.part(0, 40)
    kind_V = kind_of_items(trained.catalogue, kind)
    facts = label_facts(model, sequences, states, kind_V, model.candidates(kind_V, 0))
    data = data_of(facts, SCALES, WEIGHTS)
    theta_P = np.random.default_rng(0).normal(size=len(SCALARS))
    found_N = newton.losses(theta_P, data, WEIGHTS)
    assert found_N.sum() == pytest.approx(
        direct_losses(trained, sequences, states, theta_P, kind).sum(), rel=1e-4
    )

    def of_features(features):
        return shift(dict(zip(SCALARS, theta_P, strict=True)), features, np)

    found = newton.losses_of_shift(of_features, data, WEIGHTS)
    np.testing.assert_allclose(found, found_N, rtol=1e-4)


def test_histories_of_many_kinds_lie_apart_and_give_the_same(sequences, calibrated, monkeypatch):
    model, kind_V = Model(calibrated), kind_of_items(calibrated.catalogue, "creator")
    states = labelled_states(model, sequences, SETTINGS)[0].part(0, 300)
    candidates, found = model.candidates(kind_V, 0), {}
    theta_P = np.random.default_rng(0).normal(size=len(SCALARS))
    for narrow in (1_000, 2):
        monkeypatch.setattr(label_facts_module, "NARROW", narrow)
        facts = label_facts(model, sequences, states, kind_V, candidates)
        data = data_of(facts, SCALES, WEIGHTS)
        gradient_NP, hessian = newton.derivatives(theta_P, data, WEIGHTS)
        order_N = np.lexsort((*gradient_NP.T, data.user_N))
        losses_N = newton.losses(theta_P, data, WEIGHTS)
        found[len(facts)] = data.user_N[order_N], losses_N[order_N], gradient_NP[order_N], hessian
    (_, one), (parts, several) = found.items()
    assert parts > 1
    for a, b in zip(one, several, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(a).max())


def test_labels_without_any_other_item_are_left_out(sequences, calibrated):
    model, kind_V = Model(calibrated), kind_of_items(calibrated.catalogue, "cluster")
    states = labelled_states(model, sequences, SETTINGS)[0].part(0, 40)
    facts = label_facts(model, sequences, states, kind_V, model.candidates(kind_V, 0))
    whole = data_of(facts, SCALES, WEIGHTS)
    alone_N1 = np.arange(40)[:, None] < 7
    (facts,) = facts
    some = facts._replace(
        lse_NM=np.where(alone_N1, -np.inf, facts.lse_NM),
        rest_N=np.where(alone_N1[:, 0], -np.inf, facts.rest_N),
    )
    part = data_of([some], SCALES, WEIGHTS)
    assert part.labels == whole.labels - int((facts.ids_NL[:7] >= 0).sum())
    assert np.isfinite(newton.losses(np.zeros(len(SCALARS)), part, WEIGHTS)).all()
    none = facts._replace(
        lse_NM=np.full_like(facts.lse_NM, -np.inf), rest_N=np.full_like(facts.rest_N, -np.inf)
    )
    with pytest.raises(ConfigError, match="nothing to calibrate on"):
        data_of([none], SCALES, WEIGHTS)


def test_states_are_those_of_the_histories(sequences, trained):
    model = Model(trained)
    states, held = labelled_states(model, sequences, SETTINGS)
    assert set(sequences.split_E[states.event_N]) == {0}
    assert set(sequences.split_E[held.event_N]) == {1}
    user_N = np.searchsorted(sequences.offsets_U1, states.event_N, side="right") - 1
    batch = history_batch(sequences, states.event_N[:4], user_N[:4], 40)
    whole = model.states(batch)[:, -1]
    rows_cut = 2e-5 + np.abs(whole - states.states_ND[:4]).max(axis=1)
    assert np.median(rows_cut) < 1e-3  # a row of a batch may begin within a history


def test_derivatives_are_those_of_differences(sequences, trained):
    model = Model(trained)
    states, _ = labelled_states(model, sequences, SETTINGS)
    kind_V = kind_of_items(trained.catalogue, "cluster")
    facts = label_facts(model, sequences, states, kind_V, model.candidates(kind_V, 0))
    data = data_of(facts, SCALES, WEIGHTS)
    theta_P = 0.3 * np.random.default_rng(1).normal(size=len(SCALARS))
    gradient_NP, hessian = newton.derivatives(theta_P, data, WEIGHTS)
    step, gradient_P = 1e-2, gradient_NP.sum(axis=0)
    for p in range(len(SCALARS)):
        ahead, back = theta_P.copy(), theta_P.copy()
        ahead[p] += step
        back[p] -= step
        slope = newton.losses(ahead, data, WEIGHTS).sum() - newton.losses(back, data, WEIGHTS).sum()
        assert slope / (2 * step) == pytest.approx(gradient_P[p], rel=2e-2, abs=0.3), SCALARS[p]
    linear = [p for p, name in enumerate(SCALARS) if "/" not in name]
    for p in linear:  # there the Hessian is the exact one
        ahead, back = theta_P.copy(), theta_P.copy()
        ahead[p] += step
        back[p] -= step
        change = newton.derivatives(ahead, data, WEIGHTS)[0].sum(axis=0)
        change -= newton.derivatives(back, data, WEIGHTS)[0].sum(axis=0)
        assert np.allclose(change[linear] / (2 * step), hessian[p, linear], rtol=2e-2, atol=0.3)
