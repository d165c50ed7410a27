"""The study's small worlds."""

from negflax import study


def test_ntr_lowers_disliked_items_and_not_the_cold_item():
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
