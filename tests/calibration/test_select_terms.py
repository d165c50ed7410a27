"""Which terms stay: shifts that depend on what was seen, what few labels say, and no coin."""

import dataclasses

import numpy as np
import pytest

from negflax.calibration import kind_terms, newton, select_terms
from negflax.calibration.fit_data import Weights, data_of
from negflax.calibration.kind_terms import FORMS, SCALARS, Scales, features, shift
from negflax.calibration.label_facts import LabelFacts
from negflax.calibration.select_terms import START_P, LabelSplit
from negflax.config import CalibrationConfig, LossConfig
from negflax.train.weights import loss_weights

KINDS, STATES = 6, 6_000
SCALES, SETTINGS = Scales(3, 5.0, 0.9), CalibrationConfig(min_users=1)
WEIGHTS = Weights("ssm", 1.0, 0.0, loss_weights(LossConfig(), "float32").objective)


def drawn(true_shift, seed, states=STATES, users=STATES // 3):
    """Labels of states with six kinds each, drawn from p ∝ exp(lse + true shift)."""
    rng = np.random.default_rng(seed)
    seen_NM = rng.integers(1, 12, (states, KINDS))
    dislike_NM = rng.binomial(np.minimum(seen_NM, 3), 0.15)
    stats_NMF = np.zeros((states, KINDS, 8), np.int16)
    stats_NMF[..., 0], stats_NMF[..., 1] = seen_NM, dislike_NM
    lse_NM = rng.normal(size=(states, KINDS)).astype(np.float32)
    logit_NM = lse_NM + true_shift(seen_NM, dislike_NM)
    place_N = (logit_NM + rng.gumbel(size=logit_NM.shape)).argmax(axis=1)
    # The label is one of many items of its kind: of the mass e^lse it has a hundredth.
    logit_N = np.take_along_axis(lse_NM, place_N[:, None], axis=1) - np.log(100)
    facts = LabelFacts(
        user_N=np.arange(states) % users,
        ids_NL=np.ones((states, 1), np.int32),
        logits_NL=logit_N.astype(np.float32),
        r_NL=np.ones((states, 1), np.float32),
        w_NL=np.zeros((states, 1), np.float32),
        place_NL=place_N[:, None].astype(np.int32),
        lse_NM=lse_NM,
        rest_N=np.full(states, -3, np.float32),
        stats_NMF=stats_NMF,
        age_N=np.full(states, 60),
    )
    return data_of([facts], SCALES, WEIGHTS)


def of_evidence(seen_NM, dislike_NM):
    """−.9 after one event of a kind, near 0 after ten: a dislike says less of what is enjoyed."""
    odds = 1.0 + 1.5 * dislike_NM - 0.5 * seen_NM
    return -1.5 * (1 / (1 + np.exp(-odds)) - 1 / (1 + np.exp(-1.0)))


def kept(terms, fit, held, settings=SETTINGS):
    labels = LabelSplit(fit, held, WEIGHTS, settings)
    return select_terms._chosen(select_terms._whole(terms, labels, START_P), labels)


def fitted_shift(kept, seen, dislikes):
    stats = np.zeros(8)
    stats[:2] = seen, dislikes
    found = features(stats, np.float64(60), SCALES, np)
    return float(shift(dict(zip(SCALARS, kept.fit.theta_P, strict=True)), found, np))


def test_a_shift_that_depends_on_what_was_seen():
    fit, held = drawn(of_evidence, 0), drawn(of_evidence, 1)
    found = kept(FORMS["belief"]["cluster"], fit, held)
    constant = kept(("dislike",), fit, held)
    assert "aversion/dislike" in found.terms
    assert (constant.losses_N - found.losses_N).mean() > 0.003  # d·n cannot say it

    def worst(one):
        return max(
            abs(
                fitted_shift(one, seen, 1)
                - fitted_shift(one, seen, 0)
                - of_evidence(seen, 1)
                + of_evidence(seen, 0)
            )
            for seen in (1, 3, 9)
        )

    assert worst(found) < 0.2 < worst(constant)


def test_nothing_is_learned_from_a_coin():
    fit, held = drawn(lambda *_: 0.0, 2), drawn(lambda *_: 0.0, 3)
    for form in FORMS.values():
        found = kept(form["cluster"], fit, held)
        assert abs(fitted_shift(found, 3, 1) - fitted_shift(found, 3, 0)) < 0.03


@pytest.mark.parametrize("form", FORMS)
def test_a_rejection_never_raises_scores(form):
    def watched_where_disliked(seen_NM, dislike_NM):
        return 0.4 * dislike_NM - 0.03 * seen_NM

    fit, held = (drawn(watched_where_disliked, seed) for seed in (5, 6))
    found = kept(FORMS[form]["cluster"], fit, held)
    by_status = {row["status"]: row for row in found.rows if row["block"] == "rejected"}
    assert set(by_status) == {"raises scores"}
    assert by_status["raises scores"]["held_out_gain"] > 0
    assert fitted_shift(found, 3, 1) == fitted_shift(found, 3, 0)


def test_the_gradient_of_the_shift():
    rng = np.random.default_rng(4)
    found = features(rng.integers(0, 5, (7, 8)).astype(float), np.full(7, 9.0), SCALES, np)
    theta_P = rng.normal(size=len(SCALARS))
    values = dict(zip(SCALARS, theta_P, strict=True))
    gradient = kind_terms.shift_gradients(values, found, np)
    for p, name in enumerate(SCALARS):
        up, down = (shift(values | {name: theta_P[p] + d}, found, np) for d in (1e-5, -1e-5))
        assert np.allclose((up - down) / 2e-5, gradient[p], atol=1e-6), name


def test_a_fit_without_each_user():
    """What stands for it, to first order, is what fits without one user of sixty give."""
    data = drawn(of_evidence, 7, states=360, users=60)
    names = ("dislike", "rate", "seen")
    free = [SCALARS.index(name) for name in names]
    labels = LabelSplit(data, data, WEIGHTS, SETTINGS)
    whole, losses_N = labels.fitted(names, START_P)
    expected_N = np.zeros(data.labels)
    for user in range(60):
        inside_N = np.asarray(data.user_N) == user
        (part,) = data.parts
        filled_N = np.append(inside_N, np.zeros(len(part.r_N) - data.labels, bool))
        without = part._replace(r_N=np.where(filled_N, 0, part.r_N))
        rest = dataclasses.replace(data, parts=(without,))
        one = newton.fit(rest, WEIGHTS, free, 1.0, whole.theta_P)
        expected_N[inside_N] = newton.losses(one.theta_P, data, WEIGHTS)[inside_N]
    apparent_N = newton.losses(whole.theta_P, data, WEIGHTS)
    optimism = (expected_N - apparent_N).sum()
    assert optimism > 0
    assert (losses_N[: data.labels] - apparent_N).sum() == pytest.approx(optimism, rel=0.15)


def test_what_few_validation_labels_cannot_tell():
    def weak(_, dislike_NM):
        return -0.25 * (dislike_NM > 0)

    fit, held = drawn(weak, 8), drawn(weak, 11, states=60, users=20)
    found = kept(("dislike",), fit, held)
    assert found.terms == ("dislike",)
    (row,) = found.rows
    assert row["held_out_gain"] > 2 * row["gain_error"]
    # By these alone it would be dropped.
    with_it, without = (
        newton.losses(theta_P, held, WEIGHTS).sum()
        for theta_P in (found.fit.theta_P, np.zeros(len(SCALARS)))
    )
    assert without < with_it
