"""Fits the calibration of a checkpoint: one kind of item after the other, on labelled states."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging

from negflax.calibration import select_terms
from negflax.calibration.fit_data import data_of
from negflax.calibration.kind_counts import counts_of, kind_of_items
from negflax.calibration.kind_shift import Calibration, num_kinds
from negflax.calibration.kind_terms import ONLY_FITTED, SCALARS, Scales
from negflax.calibration.label_facts import Correction, label_facts
from negflax.calibration.label_weights import weights_at_omega, weights_of
from negflax.calibration.labelled_states import Model, labelled_states
from negflax.calibration.select_terms import Kept, LabelSplit
from negflax.calibration.stored_calibration import parameters_fingerprint
from negflax.config import CalibrationConfig
from negflax.data import DataError, Sequences
from negflax.train.restore import Trained
from negflax.train.weights import Sums


def calibrate(
    trained: Trained,
    sequences: Sequences,
    sums: dict[str, Sums],
    settings: CalibrationConfig | None = None,
) -> Calibration:
    """Fits the calibration of a checkpoint; the checkpoint stays as it is.

    Args:
      trained: the checkpoint.
      sequences: data of the run.
      sums: `weight_sums` of the checkpoint, for the run's own weight of negative labels; with
        an ω of the calibration they are not read.
      settings: by default those of the run.

    Raises:
      ConfigError: the objective cannot be calibrated, the fit does not converge, or no event has a
        label (with an ω, a negative one).
      DataError: items do not differ by cluster or creator.
    """
    settings = settings or trained.config.calibration
    trained = dataclasses.replace(trained, calibration=None)
    weights = None if settings.omega else weights_of(trained, sums)
    kinds = _that_differ(trained, settings)
    if "valid" in trained.config.train.splits:
        logging.warning(
            "the model was trained on the validation period too, so that the labels on which the "
            "terms are chosen look better than new ones would: config.train.refit = False"
        )
    model, scales = Model(trained), Scales.of(settings)
    fit_states, held_states = labelled_states(model, sequences, settings)
    calibration = Calibration(parameters_fingerprint(trained), scales, {})
    found: dict[str, Kept] = {}
    for kind, final in _turns(kinds):
        kind_V = kind_of_items(trained.catalogue, kind)
        candidates = model.candidates(kind_V, settings.candidates)
        beside = [_correction(calibration, sequences, k) for k in calibration.kinds if k != kind]
        facts = [
            label_facts(model, sequences, states, kind_V, candidates, tuple(beside))
            for states in (fit_states, held_states)
        ]
        weights = weights or weights_at_omega(trained, facts[0], scales, settings.omega)
        fit, held = (data_of(one, scales, weights) for one in facts)
        labels = LabelSplit(fit, held, weights, settings)
        start_P = found[kind].start_P() if kind in found else select_terms.START_P
        fitted = select_terms.of_chosen_blocks if final else select_terms.of_all_blocks
        found[kind] = fitted(kind, labels, start_P)
        values = {k: v for k, one in found.items() if (v := _values(k, one))}
        calibration = dataclasses.replace(calibration, values=values)
    counts = [int((x.ids_NL >= 0).sum()) for x in (fit_states, held_states)]
    report = {
        "rows": [{"kind": k} | _of_use(row, k) for k, one in found.items() for row in one.rows],
        "omega": settings.omega,
        "step": trained.step,
        "labels": counts[0],
        "held_out_labels": counts[1],
        "w": weights.w,
    }
    return dataclasses.replace(calibration, report=report)


def _turns(kinds: list[str]) -> list[tuple[str, bool]]:
    """(kind, whether its terms are chosen then), in the order of the fits.

    A dislike of a creator lowers its cluster, too. So the first kind is fitted for the others to be
    fitted beside it, and then again beside them.
    """
    if len(kinds) == 1:
        return [(kinds[0], True)]
    first, *others = kinds
    return [(first, False), *((kind, True) for kind in others), (first, True)]


def _that_differ(trained: Trained, settings: CalibrationConfig) -> list[str]:
    """Kinds that tell items apart; where all items share one, its correction changes no order.

    Raises:
      DataError: there is none.
    """
    found = []
    for kind in settings.kinds:
        kinds = np.unique(kind_of_items(trained.catalogue, kind)[1:])
        if len(kinds) > 1:
            found.append(kind)
        else:
            said = "all items have one" if kinds.any() else "no item has a"
            logging.warning("%s %s: nothing is counted by it", said, kind)
    if not found:
        raise DataError(
            f"items do not differ by {' or '.join(settings.kinds)}: give an item table with "
            "cluster_ids or creator_id (data.items_path), so that feedback can be counted by them"
        )
    return found


def _values(kind: str, kept: Kept) -> Mapping[str, float]:
    """Scalars of the terms that are used."""
    values = zip(SCALARS, kept.fit.theta_P.tolist(), strict=True)
    return {k: x for k, x in values if k in kept.terms and k not in ONLY_FITTED[kind]}


def _correction(
    calibration: Calibration, sequences: Sequences, kind: str
) -> tuple[np.ndarray, Correction]:
    kind_V = kind_of_items(sequences.catalogue, kind)

    def of_states(user_N: np.ndarray, end_N: np.ndarray) -> np.ndarray:
        counts = counts_of(sequences, user_N, end_N, kind_V)
        return calibration.dense(kind, counts, num_kinds(sequences.catalogue, kind))

    return kind_V, of_states


def _of_use(row: dict[str, Any], kind: str) -> dict[str, Any]:
    """The row, with what becomes of a term that is fitted and not used."""
    unused = row["status"] == "kept" and row["term"] in ONLY_FITTED[kind]
    return row | {"status": "fitted, not used"} if unused else row
