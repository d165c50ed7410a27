"""Tests on real data whether earlier rejections say anything personal (docs/calibration.md).

  python -m launch.within_user --workdir=runs/ml100k/seed0,runs/ml100k/seed1

Within the test period, it compares what each user rejected with what the same user accepted: the
share of pairs in the right order (AUC) by the item's own rate of rejections (the floor), and with
what a regression on the user's feedback before that period adds, or the calibration of a run
(`launch.calibrate`), or its score. The folders are training seeds of one config. Clusters and
creators dealt to the items at random show what chance adds.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from negflax.calibration import Calibration, added, history_shifts, load_calibrated
from negflax.calibration.labelled_states import Model
from negflax.config import ConfigError, MeshConfig
from negflax.data import Catalogue, Sequences, history_batch, open_sequences
from negflax.evaluate import format_table
from negflax.files import plain, write_json
from negflax.mesh import make_mesh
from negflax.study import within_user
from negflax.study.within_user import Judged, log_odds, predicted, user_aucs
from negflax.train.restore import Trained

from . import flags as shared

WORKDIR = flags.DEFINE_list("workdir", [], "Folders of runs that differ in their training seed.")
CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "best", "Which checkpoint: latest, best or a step number."
)
# Where the data lies does not matter, nor how the same items are written there.
PLACES = dict.fromkeys(("root", "manual_dir", "path", "items_path", "cache_dir"), "")
TOLD_BY = ("creator_V", "clusters_VC", "train_count_V")
BLOCK = 512  # events whose states are computed at a time


def of_run(trained: Trained, sequences: Sequences, judged: Judged) -> dict[str, np.ndarray]:
    """(J,) score of each validation and test event's item, and corrections by kind; 0 in training.

    States are those before the period (negflax/study/within_user.py: earlier_residuals).
    """
    begins_J = within_user.period_begins(judged, sequences)
    held = np.flatnonzero(~judged.of("train"))
    kinds = trained.calibration.kinds if trained.calibration else ()
    found = {name: np.zeros(len(judged.event_J)) for name in ("score", *kinds)}
    model, history = Model(trained), trained.config.eval.history
    for start in range(0, len(held), BLOCK):
        part = held[np.minimum(np.arange(start, start + BLOCK), len(held) - 1)]
        user_R, end_R = judged.user_J[part], begins_J[part]
        states_RD = model.states(history_batch(sequences, end_R, user_R, history))[:, -1]
        vectors_RD, bias_R = model.vectors(judged.item_J[part])
        found["score"][part] = (states_RD * vectors_RD).sum(axis=1) + bias_R
        for kind in kinds:
            one = Calibration(
                "", trained.calibration.scales, {kind: trained.calibration.values[kind]}
            )
            bias_RR = added(history_shifts(one, sequences, user_R, end_R), judged.item_J[part])
            found[kind][part] = np.diagonal(bias_RR)
    return found


def raw_features(
    judged: Judged, sequences: Sequences, floor_J: np.ndarray, permuted: bool
) -> dict[str, np.ndarray]:
    """Earlier residuals of the same cluster and creator.

    With `permuted`, clusters and creators are dealt to the items at random.
    """
    rng, found = np.random.default_rng(0), {}
    for kind, kind_V in {
        "cluster": rarest_cluster(sequences.catalogue),
        "creator": sequences.catalogue.creator_V.copy(),
    }.items():
        if kind_V.max() == 0:
            continue
        if permuted:
            kind_V[1:] = rng.permutation(kind_V[1:])
        found[kind] = within_user.earlier_residuals(judged, floor_J, kind_V[judged.item_J])
    return found


def rarest_cluster(catalogue: Catalogue) -> np.ndarray:
    """(V,) of each item's clusters the one with the fewest items, 0 unknown: the most telling."""
    clusters_VC = catalogue.clusters_VC
    size_K = np.bincount(clusters_VC.reshape(-1)).astype(float)
    size_K[0] = np.inf
    place_V1 = size_K[clusters_VC].argmin(axis=1)[:, None]
    return np.take_along_axis(clusters_VC, place_V1, axis=1)[:, 0].copy()


def same_data(run: Trained, other: Trained) -> bool:
    """Whether two runs have the same items, kinds, training events, periods and label rules."""
    here, there = run.catalogue, other.catalogue
    return (
        run.config.labels == other.config.labels
        and dataclasses.replace(run.config.data, **PLACES)
        == dataclasses.replace(other.config.data, **PLACES)
        and np.array_equal(here.item_ids, there.item_ids)
        and all(np.array_equal(getattr(here, x), getattr(there, x)) for x in TOLD_BY)
    )


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    if not WORKDIR.value:
        raise ConfigError("within_user needs --workdir: folders of trained runs")
    folders = [Path(folder) for folder in WORKDIR.value]
    shared.start(folders[0])
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    runs = [load_calibrated(folder, CHECKPOINT.value, mesh) for folder in folders]
    first = runs[0]
    for folder, run in zip(folders[1:], runs[1:], strict=True):
        if not same_data(run, first):
            raise ConfigError(
                f"{folder} and {folders[0]} have other data or label rules: give runs that differ "
                "in their training seed alone"
            )
    sequences = open_sequences(first.config, folders[0], first.catalogue)
    judged, config = within_user.judged_events(sequences), first.config.eval
    within_user.require_both_signs(judged)
    rate_J = within_user.item_floor(judged, sequences.catalogue.num_rows)
    floor_J, y_J, test_J = log_odds(rate_J), judged.rejected_J, judged.of("test")
    floor_U = user_aucs(floor_J, judged, test_J)
    rows: list[dict[str, Any]] = []

    def row(name: str, scores: list[np.ndarray]) -> None:
        auc_XU = np.stack([user_aucs(score_J, judged, test_J) for score_J in scores])
        gain, low, high = within_user.difference(auc_XU, floor_U, config.bootstrap, config.seed)
        auc = float(np.nanmean(auc_XU))
        rows.append({"what": name, "auc": auc, "gain": gain, "low": low, "high": high})

    row("item floor", [floor_J])
    own_J = within_user.earlier_residuals(judged, rate_J)
    valid_J = judged.of("valid")

    def of_regression(*raw: np.ndarray) -> np.ndarray:
        """That the user rejects much is fitted too, but it orders no pair of the same user."""
        return predicted(np.column_stack([floor_J, *raw, own_J]), y_J, valid_J, left_out=1)

    for name, permuted in (("regression", False), ("regression, permuted", True)):
        raw = raw_features(judged, sequences, rate_J, permuted)
        for kind in raw:
            row(f"{name}, by {kind}", [of_regression(raw[kind])])
        if len(raw) > 1:
            row(f"{name}, by both", [of_regression(*raw.values())])
    found = [of_run(run, sequences, judged) for run in runs]
    for name in sorted(set.intersection(*(set(one) for one in found))):
        scores = [predicted(np.column_stack([floor_J, one[name]]), y_J, valid_J) for one in found]
        row("run's score" if name == "score" else f"calibration, by {name}", scores)
    print(format_table(rows))
    users = int((~np.isnan(floor_U)).sum())
    pairs = f"{int((y_J & test_J).sum()):,} rejected, {int((~y_J & test_J).sum()):,} accepted"
    print(f"{users:,} users with both kinds in the test period ({pairs}); {len(runs)} run(s)")
    if shared.JSON.value:
        figures = {"users": users, "runs": len(runs), "rows": rows}
        write_json(shared.JSON.value, plain(figures))


if __name__ == "__main__":
    shared.run(main)
