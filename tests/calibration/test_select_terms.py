"""What is learned from a log: shifts that depend on what was seen, and nothing from a coin."""

import dataclasses

import numpy as np
import pytest
from small_run import CONFIG, items, log, untrained

from negflax.calibration import kind_terms, newton
from negflax.calibration.kind_terms import FORMS, SCALARS, Scales, features, shift
from negflax.calibration.label_facts import LabelFacts
from negflax.calibration.newton import Weights
from negflax.calibration.select_terms import _kept, calibrate
from negflax.config import CalibrationConfig, ConfigError, LossConfig
from negflax.data import DataError
from negflax.data.sequences import build_sequences
from negflax.data.sources import RawData
from negflax.train.weights import init_sums, loss_weights

KINDS, STATES = 6, 6_000
SCALES, SETTINGS = Scales(3, 5.0, 0.9), CalibrationConfig(min_users=1)
WEIGHTS = Weights("ssm", 1.0, 0.0, loss_weights(LossConfig(), "float32").objective)


def drawn(true_shift, seed):
    """Labels of states with six kinds each, drawn from p ∝ exp(lse + true shift)."""
    rng = np.random.default_rng(seed)
    seen_NM = rng.integers(1, 12, (STATES, KINDS))
    dislike_NM = rng.binomial(np.minimum(seen_NM, 3), 0.15)
    stats_NMF = np.zeros((STATES, KINDS, 8), np.int16)
    stats_NMF[..., 0], stats_NMF[..., 1] = seen_NM, dislike_NM
    lse_NM = rng.normal(size=(STATES, KINDS)).astype(np.float32)
    logit_NM = lse_NM + true_shift(seen_NM, dislike_NM)
    place_N = (logit_NM + rng.gumbel(size=logit_NM.shape)).argmax(axis=1)
    # The label is one of many items of its kind: of the mass e^lse it has a hundredth.
    logit_N = np.take_along_axis(lse_NM, place_N[:, None], axis=1) - np.log(100)
    facts = LabelFacts(
        user_N=np.arange(STATES) // 3,
        ids_NL=np.ones((STATES, 1), np.int32),
        logits_NL=logit_N.astype(np.float32),
        r_NL=np.ones((STATES, 1), np.float32),
        w_NL=np.zeros((STATES, 1), np.float32),
        place_NL=place_N[:, None].astype(np.int32),
        lse_NM=lse_NM,
        rest_N=np.full(STATES, -3, np.float32),
        stats_NMF=stats_NMF,
        age_N=np.full(STATES, 60),
    )
    return newton.data_of(facts, SCALES, WEIGHTS)


def of_evidence(seen_NM, dislike_NM):
    """−.9 after one event of a kind, near 0 after ten: a dislike says less of what is enjoyed."""
    odds = 1.0 + 1.5 * dislike_NM - 0.5 * seen_NM
    return -1.5 * (1 / (1 + np.exp(-odds)) - 1 / (1 + np.exp(-1.0)))


def fitted_shift(kept, seen, dislikes):
    stats = np.zeros(8)
    stats[:2] = seen, dislikes
    found = features(stats, np.float64(60), SCALES, np)
    return float(shift(dict(zip(SCALARS, kept.fit.theta_P, strict=True)), found, np))


def test_a_shift_that_depends_on_what_was_seen():
    fit, held = drawn(of_evidence, 0), drawn(of_evidence, 1)
    found = _kept(FORMS["belief"]["cluster"], fit, held, WEIGHTS, SETTINGS)
    constant = _kept(("dislike",), fit, held, WEIGHTS, SETTINGS)
    assert "aversion/dislike" in found.terms
    assert (constant.losses_N - found.losses_N).mean() > 0.003  # d·n cannot say it

    def worst(kept):
        return max(
            abs(
                fitted_shift(kept, seen, 1)
                - fitted_shift(kept, seen, 0)
                - of_evidence(seen, 1)
                + of_evidence(seen, 0)
            )
            for seen in (1, 3, 9)
        )

    assert worst(found) < 0.2 < worst(constant)


def test_nothing_is_learned_from_a_coin():
    fit, held = drawn(lambda *_: 0.0, 2), drawn(lambda *_: 0.0, 3)
    for form in FORMS.values():
        found = _kept(form["cluster"], fit, held, WEIGHTS, SETTINGS)
        assert abs(fitted_shift(found, 3, 1) - fitted_shift(found, 3, 0)) < 0.03


@pytest.mark.parametrize("form", FORMS)
def test_a_rejection_never_raises_scores(form):
    def watched_where_disliked(seen_NM, dislike_NM):
        return 0.4 * dislike_NM - 0.03 * seen_NM

    fit, held = (drawn(watched_where_disliked, seed) for seed in (5, 6))
    found = _kept(FORMS[form]["cluster"], fit, held, WEIGHTS, SETTINGS)
    said = {row[""]: row for row in found.rows if row["block"] == "rejected"}
    assert set(said) == {"raises scores"}
    assert said["raises scores"]["held_out_gain"] > 0
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


def test_a_log_in_which_everyone_leaves_what_they_dislike():
    def feedback(user_E, item_E, rng):
        """A dislike ends a cluster for its user."""
        cluster_I = np.array([x[0] for x in items()["cluster_ids"].to_pylist()])
        dislike_E, gone = np.zeros(len(user_E), bool), set()
        for event, user in enumerate(user_E):
            left = [c for c in range(5) if (user, c) not in gone]
            cluster = rng.choice(left)
            item_E[event] = 100 + rng.choice(np.flatnonzero(cluster_I == cluster))
            dislike_E[event] = len(left) > 2 and rng.random() < 0.15
            if dislike_E[event]:
                gone.add((user, cluster))
        return {"item_id": item_E, "dislike": dislike_E, "like": ~dislike_E}

    table = log(120, feedback=feedback)
    sequences = build_sequences(RawData(table, items(), "made up"), CONFIG)
    loss = dataclasses.replace(CONFIG.loss, objective="ssm")
    trained = untrained(sequences.catalogue, dataclasses.replace(CONFIG, loss=loss))
    settings = CalibrationConfig(kinds=("cluster",), min_users=5)
    found = calibrate(trained, sequences, init_sums("float32"), settings)
    stats = np.zeros((2, 8))
    stats[:, 0], stats[1, 1] = 2, 1
    values = found.values["cluster"]
    calm, disliked = shift(values, features(stats, np.full(2, 9.0), SCALES, np), np)
    assert disliked - calm < -2
    assert {row[""] for row in found.report["rows"]} <= {"kept", "dropped", "no data"}
    without = dataclasses.replace(
        trained.catalogue,
        creator_V=0 * trained.catalogue.creator_V,
        clusters_VC=0 * trained.catalogue.clusters_VC,
    )
    with pytest.raises(DataError, match="cluster_ids or creator_id"):
        calibrate(
            dataclasses.replace(trained, catalogue=without),
            sequences,
            init_sums("float32"),
            SETTINGS,
        )


def test_items_that_share_one_kind_are_not_told_apart_by_it(caplog):
    sequences = build_sequences(RawData(log(120), items(), "made up"), CONFIG)
    trained = untrained(sequences.catalogue)
    one = np.minimum(trained.catalogue.clusters_VC, 1)
    one[1:, 0] = 1
    trained = dataclasses.replace(
        trained, catalogue=dataclasses.replace(trained.catalogue, clusters_VC=one)
    )
    sums = init_sums("float32")
    found = calibrate(trained, sequences, sums, CalibrationConfig(min_users=5, omega=1.0))
    assert "cluster" not in found.values and "all items have one cluster" in caplog.text
    with pytest.raises(DataError, match="items do not differ by cluster"):
        calibrate(trained, sequences, sums, CalibrationConfig(kinds=("cluster",)))


@pytest.mark.parametrize("objective", ["negative_weight", "focal"])
def test_a_fit_that_only_the_prior_ends_is_refused(objective):
    sequences = build_sequences(RawData(log(120), items(), "made up"), CONFIG)
    loss = LossConfig(objective=objective, weight_policy="constant", w=1000.0)
    trained = untrained(sequences.catalogue, dataclasses.replace(CONFIG, loss=loss))
    trained = dataclasses.replace(trained, step=10_000)
    with pytest.raises(ConfigError, match=rf"'{objective}' .*config\.calibration\.omega"):
        calibrate(trained, sequences, init_sums("float32"), SETTINGS)
