"""Scales, the rule that chooses, the front."""

import math

import numpy as np
import pytest

from negflax import study
from negflax.study.settings import STEP, TRIALS


def test_the_rule():
    hr_p, hr_n = {"a": 0.19, "b": 0.185, "c": 0.1}, {"a": 0.12, "b": 0.1, "c": 0.01}
    assert study.chosen(hr_p, hr_n, 0.2) == "b"
    assert study.chosen(hr_p, hr_n, 0.9) == "a"  # none keeps enough: the most HR_p
    assert study.chosen(hr_p | {"b": np.nan}, hr_n, 0.2) == "a"
    with pytest.raises(ValueError, match="finite scores"):
        study.chosen({"a": np.nan}, {"a": np.nan}, 0.2)


def test_the_search_halves_towards_the_share_that_must_be_kept():
    assert study.next_setting({1.0: 0.99, 100.0: 0.5}) == pytest.approx(10)
    assert study.next_setting({1.0: 0.99, 10.0: 0.95, 100.0: 0.5}) == pytest.approx(1000**0.5)
    assert study.next_setting({1.0: 0.99, 10.0: 0.95}) == pytest.approx(10 * STEP)
    assert study.next_setting({1.0: 0.5, 10.0: 0.1}) == pytest.approx(1 / STEP)
    assert study.next_setting({1.0: 0.99, 10.0: math.nan}) == pytest.approx(STEP)


def test_every_objective_has_the_same_budget_and_no_two_the_same_setting():
    for name, arm in study.ARMS.items():
        assert name == study.BASELINE or len(arm.first) <= TRIALS
    settings = [
        tuple(sorted(arm.loss(x, 0.01).items())) for arm in study.ARMS.values() for x in arm.first
    ]
    assert len(set(settings)) == len(settings)


def test_omega_is_over_p_bar():
    assert study.ARMS["ntr"].loss(0.3, 0.001)["w"] == pytest.approx(300)
    assert study.ARMS["negative_weight"].loss(0.3, 0.001)["w"] == 0.3
    capped = study.ARMS["negative_weight_limited"].loss(0.3, 0.001)
    assert (capped["w"], capped["w_max"]) == (pytest.approx(1000), 0.3)


def test_the_front():
    points = {"a": (0.2, 0.1), "b": (0.2, 0.12), "c": (0.1, 0.05), "d": (0.05, 0.05)}
    assert study.on_front(points) == {"a": True, "b": False, "c": True, "d": False}
