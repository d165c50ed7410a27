"""Variants of NTR in which a personal effect is most likely.

They are uncorrected candidates, and a model with creators and clusters. Each variant is compared
with positives only in the same model, and with the β-front of that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from negflax.config import ModelConfig
from negflax.study import personal, quality, tables
from negflax.study.quality import Judge, Tuned
from negflax.study.runs import Runs
from negflax.study.settings import ARMS, BASELINE, UNCORRECTED

NTR = "ntr"


def with_related(runs: Runs) -> Runs:
    """Returns the study with creators and clusters as features and in every item's vector."""
    model: ModelConfig = runs.config.model
    features = tuple(dict.fromkeys((*model.features, "creator", "cluster")))
    model = dataclasses.replace(model, features=features, composed=("creator", "cluster"))
    config = dataclasses.replace(runs.config, model=model)
    varied = Runs(config, runs.workdir / "related", runs.sequences, runs.mesh)
    varied.progress = runs.progress
    return varied


def rows(
    runs: Runs, valid: Judge, judge: Judge, tuned: Tuned, trials: int, seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """Returns a row for each variant.

    Args:
      runs: runs of the study.
      valid: judge of the validation period.
      judge: judge of the test period.
      tuned: NTR as tuned by the study; the variant with creators and clusters uses its ω.
      trials: number of settings for the uncorrected variant, whose weight is tuned separately.
      seeds: training seeds of every variant.
    """
    uncorrected = quality.tune(runs, valid, "ntr_uncorrected", trials, UNCORRECTED)
    related = with_related(runs)
    variants = {
        "as in the study": (runs, NTR, tuned),
        "uncorrected candidates": (runs, "ntr_uncorrected", uncorrected),
        "creator and cluster features, composed vectors": (related, NTR, tuned),
    }
    return [_row(title, *variant, judge=judge, seeds=seeds) for title, variant in variants.items()]


def _row(
    title: str, runs: Runs, name: str, tuned: Tuned, judge: Judge, seeds: Sequence[int]
) -> dict[str, Any]:
    usual = Tuned(ARMS[BASELINE], [], 0.0)
    base = quality.test(runs, BASELINE, usual, seeds)
    columns = {BASELINE: [judge.columns(one.ranks[""]) for one in base]}
    columns |= {
        personal.on_beta(BASELINE, scorer): [judge.columns(one.ranks[scorer]) for one in base]
        for scorer in base[0].ranks
        if scorer.startswith(quality.beta_name())
    }
    own = quality.test(runs, name, tuned, seeds)
    columns[NTR] = [judge.columns(one.ranks[""]) for one in own]
    found = judge.estimates(columns)
    beyond = personal.beyond_rate_adjusted(found, NTR)
    return {
        "NTR with": title,
        "setting": f"{tuned.arm.parameter} {tuned.setting:.3g}",
        "HR_p of ssm": tables.plain(found[BASELINE, "hr_p"]),
        "HR_p": tables.percent(found[NTR, "hr_p"].relative(found[BASELINE, "hr_p"])),
        "HR_n": tables.percent(found[NTR, "hr_n"].relative(found[BASELINE, "hr_n"])),
        "less than the baseline": personal.shown(beyond["hr_n"]),
    } | {
        m: tables.signed(beyond[m])
        for m in ("hr_n", "cluster=rejected/hr_n", "cluster=other/hr_n", "auc")
        if m in beyond
    }
