"""Baselines of the study that react to dislikes and train nothing, on positives only.

The formulas are those of negflax/evaluate/baselines/personal_scores.py: negative examples, the
calibration by feedback counts, and calibration and item rates. β is tuned by the rule of the
objectives (`settings.chosen`); like them, they are scored on the test period once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from negflax.calibration.fit_calibration import calibrate
from negflax.evaluate.baselines.personal_scores import (
    ALONE,
    BETAS,
    CALIBRATED,
    Adjustment,
    adjusted,
)
from negflax.evaluate.baselines.popularity import cached
from negflax.evaluate.protocol import Scorer
from negflax.evaluate.scorer import trained_scorer
from negflax.study.quality import Judge, Trial, Tuned, choose
from negflax.study.runs import Found, Runs
from negflax.study.settings import ARMS, BASELINE
from negflax.train.restore import Trained

COUNTS = "counts"
SETTING = ARMS[BASELINE]._replace(parameter="β")


def _candidates(runs: Runs) -> dict[str, dict[str, Adjustment]]:
    """Returns for each baseline what may be added to the scores, by the name of its scorer."""
    rates = runs.config.eval.rate_betas
    found = {
        "negative_example": {
            f"negative_example={beta:g}": ALONE._replace(example_beta=beta) for beta in BETAS
        }
    }
    catalogue = runs.sequences.catalogue
    if catalogue.clusters_VC.any() or catalogue.creator_V.any():
        found[COUNTS] = {COUNTS: CALIBRATED}
        found["counts_rate_adjusted"] = {
            f"counts_rate_adjusted={beta:g}": CALIBRATED._replace(rate_beta=beta) for beta in rates
        }
    return found


def tune(runs: Runs, judge: Judge) -> dict[str, Tuned]:
    """Returns the trials of each baseline on validation, and the β that the rule chose."""
    candidates = _candidates(runs)
    wanted = {name: one for group in candidates.values() for name, one in group.items()}
    found = _ranked(runs, "valid", 0, wanted)
    usual = judge.means(found.ranks[""])["hr_p"]
    tuned = {}
    for name, group in candidates.items():
        trials = [
            Trial(one.rate_beta or one.example_beta, judge.means(found.ranks[x]), found.figures)
            for x, one in group.items()
        ]
        tuned[name] = Tuned(SETTING, trials, choose(trials, usual))
    return tuned


def test(runs: Runs, tuned: Mapping[str, Tuned], seeds: Iterable[int]) -> list[Found]:
    """Ranks the chosen ones on the test period, one result per seed, with ranks by baseline."""
    candidates = _candidates(runs)
    wanted = {
        name: one
        for name, chosen in tuned.items()
        for one in candidates[name].values()
        if (one.rate_beta or one.example_beta) == chosen.setting
    }
    return [_ranked(runs, "test", seed, wanted) for seed in seeds]


def _ranked(runs: Runs, split: str, seed: int, wanted: Mapping[str, Adjustment]) -> Found:
    """Ranks positives only (""), trained as by `Runs.run`, and the wanted scorers on it."""

    def build(trained: Trained) -> dict[str, Scorer]:
        if any(one.counts for one in wanted.values()):
            calibration = calibrate(trained, runs.sequences, trained.state["weight_sums"])
            trained = dataclasses.replace(trained, calibration=calibration)
        bases = {
            counts: cached(trained_scorer(trained, runs.sequences, calibrated=counts))
            for counts in (False, True)
        }
        return {"": bases[False]} | {
            name: adjusted(bases[one.counts], trained, runs.sequences, one)
            for name, one in wanted.items()
        }

    betas = "-".join(f"{one.rate_beta or one.example_beta:g}" for one in wanted.values())
    return runs.built(f"{split}-personal-{betas}-{seed}", split, seed, build)
