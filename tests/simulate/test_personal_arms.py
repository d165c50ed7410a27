"""Baselines that train nothing as arms beside trained ones, and whether labels beat them."""

from __future__ import annotations

import dataclasses

import pytest
from test_kind_mass import CALIBRATION

from launch.arm_runs import World
from launch.respond import measure, with_baselines
from negflax.config import EvalConfig
from negflax.evaluate.baselines.personal_scores import ALONE, BETAS, CALIBRATED
from negflax.simulate.personal_arms import personal_arms, verdict
from negflax.simulate.responsiveness import Settings
from negflax.simulate.walk import Plan


@pytest.fixture(scope="module")
def judged(log):
    """The log with a validation and a test period, and labels of both kinds in them."""
    split_E = log.split_E.copy()
    split_E[log.offsets_U1[1:] - 2] = 1
    split_E[log.offsets_U1[1:] - 1] = 2
    disliked_E = log.dislike_E == 2
    return dataclasses.replace(
        log,
        split_E=split_E,
        positive_weight_E=(~disliked_E).astype("float32"),
        negative_weight_E=disliked_E.astype("float32"),
    )


@pytest.fixture(scope="module")
def runs(arm):
    """A model of positives only and one with labels, both calibrated, and one without the input."""

    def run(objective, **of):
        trained = arm(**of)
        config = dataclasses.replace(
            trained.config,
            loss=dataclasses.replace(trained.config.loss, objective=objective),
            eval=EvalConfig(ks=(5,), bootstrap=20, rate_betas=(0.5, 1.0)),
        )
        return dataclasses.replace(trained, config=config)

    calibrated = {
        name: dataclasses.replace(run(objective), calibration=CALIBRATION)
        for name, objective in (("input_only", "ssm"), ("input_and_label", "ntr"))
    }
    return {"no_signal": [run("ssm", features=("dwell",))]} | {
        name: [one] for name, one in calibrated.items()
    }


def test_every_arm_has_its_baselines(runs, judged):
    found = personal_arms(runs, judged)
    baselines = ("alone", "rate_adjusted", "negative_example", "counts_rate_adjusted")
    assert (
        list(found)
        == [  # without a calibration there are no counts, and nothing to leave off
            *(f"no_signal/{name}" for name in baselines[1:3]),
            *(f"{arm}/{name}" for arm in ("input_only", "input_and_label") for name in baselines),
        ]
    )
    added = {name: one for name, (_, (one,)) in found.items()}
    assert added["input_only/alone"] == ALONE
    assert added["input_only/rate_adjusted"].rate_beta in (0.5, 1.0)
    assert added["input_only/negative_example"].example_beta in BETAS
    assert added["input_only/counts_rate_adjusted"].counts
    bare = {"input_only": [dataclasses.replace(runs["input_only"][0], calibration=None)]}
    assert list(personal_arms(bare, judged)) == [
        "input_only/rate_adjusted",
        "input_only/negative_example",
    ]


def test_baselines_are_measured_as_arms_with_what_they_add(runs, judged):
    bare = dataclasses.replace(runs["input_only"][0], calibration=None)
    no_weight = {"input_only": None}
    world = with_baselines(World(judged, {"input_only": [bare]}, no_weight, no_weight))
    settings = Settings(pairs=32, plan=Plan(k=10, later=2, length=10, block=32), resamples=100)
    found = measure([world], {"shared": settings})
    named = found["named"]
    assert {row["arm"] for row in found["quality"]} == set(world.runs)
    for arm in world.runs:
        assert f"responsiveness/{arm}/cluster_low" in named and f"hr_p@5/{arm}" in named
    assert world.adjusted("input_only") == [(bare, CALIBRATED)]
    of = [named[f"mass/{arm}/cluster"] for arm in ("input_only", "input_only/negative_example")]
    assert of[0] != of[1]


def test_without_its_calibration_an_arm_has_the_weight_of_its_own_objective(runs, judged):
    run, labels = runs["input_only"], {"input_only": 373.0}  # of the calibration alone
    world = with_baselines(World(judged, {"input_only": run}, labels, {"input_only": 0.0}))
    of_labels = {"input_only", "input_only/counts_rate_adjusted"}
    assert world.weights == {name: 373.0 * (name in of_labels) for name in world.runs}


def test_a_sentence_says_whether_labels_beat_them(runs):
    label, example = "input_and_label/alone", "input_only/negative_example"
    added = ["input_only/alone", example, label]
    named = {f"hr_p@5/{label}": 0.5, f"responsiveness/{label}/cluster_high": -0.5}
    for name in ("input_only", example):  # `input_only` itself is calibrated: counts
        named |= {f"hr_p@5/{name}": 0.5, f"responsiveness/{name}/cluster_low": -0.6}
    beats, sentence = verdict(named, runs, added, 5)
    assert beats == {f"beats/{label}/{name}": False for name in ("input_only", example)}
    assert sentence.count(": no") == 2 and f"{label} against {example}: no" in sentence
    named[f"responsiveness/{example}/cluster_low"] = -0.4  # weaker, intervals apart
    beats, sentence = verdict(named, runs, added, 5)
    assert beats[f"beats/{label}/{example}"] and f"{label} against {example}: yes" in sentence
    named[f"hr_p@5/{example}"] = 0.51
    assert not verdict(named, runs, added, 5)[0][f"beats/{label}/{example}"]
    assert verdict(named, {"no_signal": runs["no_signal"]}, [], 5) == ({}, "")
