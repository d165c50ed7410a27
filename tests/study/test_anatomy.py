"""The study's small worlds, rule and front."""

import numpy as np
import pytest

from negflax import study


def test_ntr_sinks_what_is_disliked_and_leaves_the_cold_item_alone():
    case = study.CASE._replace(steps=400)
    before, after = study.case_outcomes("ntr", (0.0, 3.0), case)
    assert after["disliked_popular"] < 0.6 * before["disliked_popular"]
    assert after["liked_popular"] > 0.8 * before["liked_popular"]
    assert after["disliked_rare"] < after["cold"]
    assert after["not_finite"] == 0


def test_a_negative_weight_drifts_and_ntr_does_not():
    case = study.CASE._replace(steps=400)
    drift = {
        name: study.case_outcomes(name, (3.0,), case)[0]["drift"]
        for name in ("ntr", "negative_weight")
    }
    assert drift["negative_weight"] > 5 * abs(drift["ntr"])


def test_the_rule():
    hr_p, hr_n = {"a": 0.19, "b": 0.185, "c": 0.1}, {"a": 0.12, "b": 0.1, "c": 0.01}
    assert study.chosen(hr_p, hr_n, 0.2) == "b"
    assert study.chosen(hr_p, hr_n, 0.9) == "a"  # none keeps enough: the most HR_p
    assert study.chosen(hr_p | {"b": np.nan}, hr_n, 0.2) == "a"
    with pytest.raises(ValueError, match="finite scores"):
        study.chosen({"a": np.nan}, {"a": np.nan}, 0.2)


def test_the_front():
    points = {"a": (0.2, 0.1), "b": (0.2, 0.12), "c": (0.1, 0.05), "d": (0.05, 0.05)}
    assert study.on_front(points) == {"a": True, "b": False, "c": True, "d": False}


def test_intervals_over_seeds():
    mean, low, high = study.seed_interval([1.0, 2.0, 3.0])
    np.testing.assert_allclose((mean, low, high), (2, 2 - 2.484, 2 + 2.484), atol=1e-3)
    assert study.seed_interval([4.0]) == (4.0, 4.0, 4.0)
