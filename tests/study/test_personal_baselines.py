"""Baselines of the study that train nothing: which are tried, which is tested, what is said."""

import types

import numpy as np

from negflax.evaluate.baselines.personal_scores import BETAS
from negflax.study import personal_baselines, study_page
from negflax.study.runs import Found
from negflax.study.statistics import Estimate


def runs_with(kinds=1):
    """Runs that record what is ranked; metrics are in place of ranks."""
    asked = []

    def built(name, split, seed, build):
        asked.append((name, split, seed))
        scorers = {"": 0.50}
        scorers |= {f"negative_example={beta:g}": 0.49 for beta in BETAS}
        scorers |= {"counts": 0.51, "counts_rate_adjusted=0.5": 0.5, "counts_rate_adjusted=1": 0.4}
        return Found({}, {x: (hr_p, 0.2 - 0.01 * i) for i, (x, hr_p) in enumerate(scorers.items())})

    catalogue = types.SimpleNamespace(clusters_VC=np.array([[kinds]]), creator_V=np.array([0]))
    return types.SimpleNamespace(
        config=types.SimpleNamespace(eval=types.SimpleNamespace(rate_betas=(0.5, 1.0))),
        sequences=types.SimpleNamespace(catalogue=catalogue),
        built=built,
        asked=asked,
    )


JUDGE = types.SimpleNamespace(means=lambda ranks: {"hr_p": ranks[0], "hr_n": ranks[1]})


def test_the_rule_of_the_objectives_chooses_and_only_that_is_tested():
    runs = runs_with()
    tuned = personal_baselines.tune(runs, JUDGE)
    assert {name: one.setting for name, one in tuned.items()} == {
        "negative_example": 4.0,  # the last one has the lowest HR_n
        "counts": 0.0,
        "counts_rate_adjusted": 0.5,  # with 1 too little of HR_p is kept
    }
    assert [trial.setting for trial in tuned["negative_example"].trials] == list(BETAS)
    found = personal_baselines.test(runs, tuned, [0, 1])
    assert len(found) == 2
    names = {name for name, split, _ in runs.asked if split == "test"}
    assert names == {"test-personal-4-0-0.5-0", "test-personal-4-0-0.5-1"}


def test_without_clusters_and_creators_nothing_is_counted():
    assert list(personal_baselines.tune(runs_with(kinds=0), JUDGE)) == ["negative_example"]


def test_the_answer_names_who_beats_whom():
    def estimate(value):
        return Estimate(value, value + np.linspace(-0.001, 0.001, 50))

    values = {"ntr": (0.5, 0.1), "counts": (0.55, 0.1), "rate_adjusted": (0.45, 0.1)}
    values["negative_example"] = (0.45, 0.05)
    found = {
        (name, metric): estimate(value)
        for name, pair in values.items()
        for metric, value in zip(("hr_p", "hr_n"), pair, strict=True)
    }
    said = study_page.against_personal(found, ["counts", "rate_adjusted", "negative_example"])
    assert said.endswith(
        "It beats rate_adjusted; it is beaten by counts; neither for negative_example."
    )
