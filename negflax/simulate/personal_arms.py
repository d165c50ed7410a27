"""Arms of the simulation beside a trained one: baselines that react to dislikes and train nothing.

The formulas and their settings are those of negflax/evaluate/baselines/personal_scores.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from negflax.config import positives_only
from negflax.data import Sequences
from negflax.evaluate.baselines.personal_scores import (
    ALONE,
    CALIBRATED,
    Adjustment,
    personal_adjustments,
)
from negflax.train.restore import Trained

ALONE_NAME = "alone"  # a calibrated arm without its calibration


def personal_arms(
    runs: Mapping[str, Sequence[Trained]], sequences: Sequences
) -> dict[str, tuple[list[Trained], list[Adjustment]]]:
    """Returns the baselines of every arm, `<arm>/<baseline>`.

    A calibrated arm is the baseline `counts` itself, if it is trained on positives only; without
    its calibration it is `<arm>/alone`. β is chosen for each run on the validation period.

    Args:
      runs: arm → its runs, one per training seed.
      sequences: their log.

    Returns:
      Name → the runs, and what is added to the scores of each.
    """
    found: dict[str, tuple[list[Trained], list[Adjustment]]] = {}
    for arm, seeds in runs.items():
        of_runs = [personal_adjustments(one, sequences) for one in seeds]
        for name in of_runs[0]:
            added = [of_run[name] for of_run in of_runs]
            if added[0] == CALIBRATED or (added[0] == ALONE and seeds[0].calibration is None):
                continue  # the arm itself
            found[f"{arm}/{ALONE_NAME if added[0] == ALONE else name}"] = list(seeds), added
    return found


def verdict(
    named: Mapping[str, float],
    runs: Mapping[str, Sequence[Trained]],
    added: Collection[str],
    k: int,
) -> tuple[dict[str, bool], str]:
    """Returns whether labels beat the baselines on positives only, and a sentence that says so.

    An arm with dislikes as labels, without its calibration, beats a baseline if it responds more
    strongly by cluster, with intervals apart, and has no lower HR_p.

    Args:
      named: figures by name, on shared trajectories.
      runs: trained arms.
      added: names of `personal_arms`.
      k: list length of HR_p.

    Returns:
      `beats/<arm>/<baseline>`, and the sentence; both empty without such arms.
    """
    alone = {arm: f"{arm}/{ALONE_NAME}" if f"{arm}/{ALONE_NAME}" in added else arm for arm in runs}
    positive = {arm: positives_only(one[0].config.loss.objective) for arm, one in runs.items()}
    baselines = [x for x in added if positive[x.split("/")[0]] and not x.endswith(ALONE_NAME)]
    baselines += [arm for arm in runs if positive[arm] and alone[arm] != arm]  # counts
    found = {
        f"beats/{alone[arm]}/{baseline}": bool(
            named[f"responsiveness/{alone[arm]}/cluster_high"]
            < named[f"responsiveness/{baseline}/cluster_low"]
            and named[f"hr_p@{k}/{alone[arm]}"] >= named[f"hr_p@{k}/{baseline}"]
        )
        for arm in runs
        if not positive[arm]
        for baseline in baselines
    }
    answers = (
        f"{name.removeprefix('beats/').replace(f'/{baseline}', '')} against {baseline}: "
        + ("yes" if yes else "no")
        for name, yes in found.items()
        for baseline in baselines
        if name.endswith(f"/{baseline}")
    )
    return found, (
        "Do dislikes as labels beat baselines that train nothing (a stronger response by cluster, "
        f"intervals apart, at no lower HR_p@{k})? " + "; ".join(answers) + "."
    ) * bool(found)
