"""What rejections add to scores is multiplied, and nothing else is."""

import importlib

import numpy as np
import programs
import pytest

from negflax.calibration import Calibration, newton
from negflax.calibration.fit_data import Weights, data_of
from negflax.calibration.kind_terms import START, Scales
from negflax.calibration.label_facts import LabelFacts
from negflax.config import LossConfig
from negflax.train.weights import loss_weights

SCALES = Scales(3, 5.0, 0.9)
WEIGHTS = Weights("ntr", 1.0, 30.0, loss_weights(LossConfig(), "float32").objective)


@pytest.fixture
def facts():
    rng, states, kinds = np.random.default_rng(0), 50, 4
    stats_NMF = rng.integers(0, 3, (states, kinds, 8)).astype(np.int16)
    stats_NMF[..., 0] += 6  # seen
    return LabelFacts(
        user_N=np.arange(states) // 5,
        ids_NL=np.ones((states, 1), np.int32),
        logits_NL=rng.normal(size=(states, 1)).astype(np.float32),
        r_NL=np.ones((states, 1), np.float32),
        w_NL=np.ones((states, 1), np.float32),
        place_NL=rng.integers(-1, kinds, (states, 1)).astype(np.int32),
        lse_NM=rng.normal(size=(states, kinds)).astype(np.float32),
        rest_N=np.zeros(states, np.float32),
        stats_NMF=stats_NMF,
        age_N=np.full(states, 60),
    )


def test_factors_are_of_what_rejections_add(facts):
    values = START | {"dislike": -0.7}
    data = data_of([facts], SCALES, WEIGHTS)
    facts.stats_NMF[..., [1, 2, 7]] = 0  # dislikes, dismissals, the last dislike
    unrejected = data_of([facts], SCALES, WEIGHTS)
    with programs.fresh_flags():
        program = importlib.import_module("benchmarks.response_strength")
    calibration = Calibration("", SCALES, {"cluster": values})
    found_FN = program.losses_of(calibration, data, WEIGHTS, [0, 1, 2])
    theta_P = np.array([values[name] for name in newton.SCALARS])
    expected = [newton.losses(theta_P, one, WEIGHTS) for one in (unrejected, data)]
    np.testing.assert_allclose(found_FN[:2], expected, rtol=1e-5)
    assert np.abs(found_FN[2] - found_FN[1]).max() > 0.1
