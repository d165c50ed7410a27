"""What the calibration's objective weighs labels by: as the run, or with dislikes as its labels."""

import dataclasses

import numpy as np
import pytest
from small_run import CONFIG, items, log, untrained

from negflax.calibration.fit_calibration import calibrate
from negflax.calibration.kind_terms import features, shift
from negflax.calibration.label_weights import weights_of, weights_of_fit
from negflax.calibration.labelled_states import Model, labelled_states
from negflax.config import CalibrationConfig, ConfigError, LabelConfig
from negflax.data.sequences import build_sequences
from negflax.data.sources import RawData
from negflax.simulate.ceiling import frozen_weight, own_omega
from negflax.train.weights import init_sums

OMEGA, SUMS = 3.0, init_sums("float32")
SETTINGS = CalibrationConfig(kinds=("cluster",), min_users=5)
AT_OMEGA = dataclasses.replace(SETTINGS, omega=OMEGA)


def leaving(user_E, item_E, rng):
    """Users dislike one cluster each, whenever they meet it."""
    cluster_I = np.array([x[0] for x in items()["cluster_ids"].to_pylist()])
    dislike_E = (cluster_I[item_E - 100] == user_E % 5) & (rng.random(len(user_E)) < 0.5)
    return {"dislike": dislike_E, "like": ~dislike_E & (rng.random(len(user_E)) < 0.5)}


def run_of(objective):
    sequences = build_sequences(RawData(log(120, feedback=leaving), items(), "made up"), CONFIG)
    loss = dataclasses.replace(CONFIG.loss, objective=objective)
    return sequences, untrained(sequences.catalogue, dataclasses.replace(CONFIG, loss=loss))


@pytest.fixture(scope="module")
def positives_only():
    return run_of("ssm")


def reference(trained, sequences):
    """p of every negative label to fit, without the state's other labels, in float64."""
    model = Model(trained)
    states, _ = labelled_states(model, sequences, SETTINGS)
    vectors_VD, bias_V = (
        np.asarray(x, np.float64) for x in model.vectors(np.arange(trained.model.num_rows))
    )
    p = []
    for state_D, ids_L, w_L in zip(states.states_ND, states.ids_NL, states.w_NL, strict=True):
        logits_V = vectors_VD @ state_D.astype(np.float64) + bias_V
        others = np.delete(logits_V, [0, *ids_L[ids_L >= 0]])
        for row in ids_L[(ids_L >= 0) & (w_L > 0)]:
            p.append(1 / (1 + np.exp(others - logits_V[row]).sum()))
    return p


def test_w_is_omega_over_the_mean_p_of_the_negative_labels(positives_only):
    sequences, trained = positives_only
    found = calibrate(trained, sequences, SUMS, AT_OMEGA)
    p = reference(trained, sequences)
    assert len(p) > 100
    assert found.report["w"] == pytest.approx(OMEGA / np.mean(p), rel=1e-4)
    calibrated = dataclasses.replace(trained, calibration=found)
    weights = weights_of_fit(calibrated, SUMS)
    assert (weights.objective, weights.w) == ("ntr", found.report["w"])
    assert (own_omega(calibrated), frozen_weight(calibrated, SUMS)) == (OMEGA, weights.w)
    assert weights_of_fit(trained, SUMS) == weights_of(trained, SUMS)
    assert (own_omega(trained), frozen_weight(trained, SUMS)) == (0.0, 0.0)


def test_a_run_of_positives_answers_dislikes_more_with_them_as_labels(positives_only):
    sequences, trained = positives_only
    stats = np.zeros((2, 8))
    stats[:, 0], stats[1, 1] = 2, 1
    moved = []
    for settings in (SETTINGS, AT_OMEGA):
        found = calibrate(trained, sequences, SUMS, settings)
        given = features(stats, np.full(2, 9.0), found.scales, np)
        calm, disliked = shift(found.values.get("cluster", {}), given, np)
        moved.append(disliked - calm)
    assert moved[1] < min(moved[0], 0) - 0.5


@pytest.mark.parametrize("objective", ["gbce", "reinforce"])
def test_objectives_that_are_no_function_of_margins_need_an_omega(objective):
    sequences, trained = run_of(objective)
    with pytest.raises(ConfigError, match=r"cannot be calibrated by it.*calibration\.omega"):
        calibrate(trained, sequences, SUMS, SETTINGS)
    assert calibrate(trained, sequences, SUMS, AT_OMEGA).report["w"] > 0


def test_without_a_negative_label_there_is_no_weight(positives_only):
    config = dataclasses.replace(CONFIG, labels=LabelConfig(positive=("like",), negative=()))
    sequences = build_sequences(RawData(log(120, feedback=leaving), items(), "made up"), config)
    trained = dataclasses.replace(positives_only[1], config=config)
    with pytest.raises(ConfigError, match="no training event has a negative label"):
        calibrate(trained, sequences, SUMS, AT_OMEGA)
