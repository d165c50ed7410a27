"""Fits the terms of a calibration and keeps those that improve the held-out objective.

Shapes: N labelled states, P scalars, U users.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import logging

from negflax.calibration import newton
from negflax.calibration.kind_counts import counts_of, kind_of_items
from negflax.calibration.kind_shift import Calibration, num_kinds
from negflax.calibration.kind_terms import (
    BLOCKS,
    FORMS,
    ONLY_FITTED,
    REJECTION_FEATURES,
    SCALARS,
    START,
    Scales,
    shift,
)
from negflax.calibration.label_facts import label_facts
from negflax.calibration.label_weights import weights_at_omega, weights_of
from negflax.calibration.labelled_states import Model, labelled_states
from negflax.calibration.newton import Data, Fit, Weights
from negflax.calibration.stored_calibration import parameters_fingerprint
from negflax.config import CalibrationConfig, ConfigError
from negflax.data import DataError, Sequences
from negflax.train.restore import Trained
from negflax.train.weights import Sums

# From the prior, in log-odds or logits; 6 at the most in the 90 fits of docs/responsiveness.md.
IMPLAUSIBLE = 25.0


@dataclasses.dataclass(frozen=True)
class Kept:
    """The terms of one kind and form.

    Attributes:
      fit: the scalars of all that was tried at first, and of what stays.
      terms: scalars that stay.
      rows: a table of the terms.
      losses_N: held-out objective of each state.
    """

    fit: Fit
    terms: tuple[str, ...]
    rows: list[dict[str, Any]]
    losses_N: np.ndarray


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
    report: dict[str, Any] = {"rows": [], "omega": settings.omega, "step": trained.step}
    for kind in kinds:
        kind_V = kind_of_items(trained.catalogue, kind)
        candidates = model.candidates(kind_V, settings.candidates)
        earlier = tuple(_correction(calibration, sequences, done) for done in calibration.kinds)
        facts = [
            label_facts(model, sequences, states, kind_V, candidates, earlier)
            for states in (fit_states, held_states)
        ]
        weights = weights or weights_at_omega(trained, facts[0], scales, settings.omega)
        fit, held = (newton.data_of(one, scales, weights) for one in facts)
        chosen = _choose_form(kind, fit, held, weights, settings)
        report["rows"] += [{"kind": kind} | _of_use(row, kind) for row in chosen.rows]
        values = {
            name: float(value)
            for name, value in zip(SCALARS, chosen.fit.theta_P, strict=True)
            if name in chosen.terms and name not in ONLY_FITTED[kind]
        }
        if values:
            calibration = dataclasses.replace(
                calibration, values={**calibration.values, kind: values}
            )
    labels = [int((x.ids_NL >= 0).sum()) for x in (fit_states, held_states)]
    report |= {"labels": labels[0], "held_out_labels": labels[1], "w": weights.w}
    return dataclasses.replace(calibration, report=report)


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


def _correction(calibration: Calibration, sequences: Sequences, kind: str) -> Any:
    kind_V = kind_of_items(sequences.catalogue, kind)

    def of_states(user_N: np.ndarray, end_N: np.ndarray) -> np.ndarray:
        counts = counts_of(sequences, user_N, end_N, kind_V)
        return calibration.dense(kind, counts, num_kinds(sequences.catalogue, kind))

    return kind_V, of_states


def _choose_form(
    kind: str, fit: Data, held: Data, weights: Weights, settings: CalibrationConfig
) -> Kept:
    """The form of the config; of `auto`, the belief unless the other is clearly better held out."""
    forms = ("belief", "linear") if settings.form == "auto" else (settings.form,)
    best, *others = [_kept(FORMS[form][kind], fit, held, weights, settings) for form in forms]
    for other in others:
        gain, error = _gain(best.losses_N - other.losses_N, held)
        best = other if gain > 2 * error else best
    used = set(best.terms) - set(ONLY_FITTED[kind])
    if kept := [block for block, names in BLOCKS.items() if set(names) & used]:
        logging.info("calibration by %s: what was %s", kind, ", ".join(kept))
    else:
        logging.info("calibration by %s: nothing improves the held-out objective", kind)
    return best


def _kept(
    terms: tuple[str, ...], fit: Data, held: Data, weights: Weights, settings: CalibrationConfig
) -> Kept:
    """Fits all scalars, then leaves out the last block as long as it does not help held out."""

    def fitted(names: tuple[str, ...], start_P: np.ndarray) -> tuple[Fit, np.ndarray]:
        free = [i for i, scalar in enumerate(SCALARS) if scalar in names]
        if not free:
            zero = np.zeros(len(SCALARS))
            return Fit(zero, zero), newton.losses(zero, held, weights)
        one = newton.fit(fit, weights, free, settings.prior_deviation, start_P)
        _require_plausible(one, free, weights, settings.prior_deviation)
        return one, newton.losses(one.theta_P, held, weights)

    start_P = np.array([START[name] for name in SCALARS])
    names, rows = terms, []
    if _users_with_rejections(fit) < settings.min_users:
        names = tuple(name for name in terms if name not in BLOCKS["rejected"])
        rows = [_row(name, "no data", "rejected") for name in terms if name not in names]
    now, losses_N = fitted(names, start_P)
    gains: dict[str, tuple[float, float]] = {}
    for block in reversed(BLOCKS):
        rest = tuple(name for name in names if name not in BLOCKS[block])
        if rest == names:
            continue
        without, without_N = fitted(rest, np.where(now.theta_P != 0, now.theta_P, start_P))
        gain, error = gains[block] = _gain(without_N - losses_N, held)
        raises = block == "rejected" and _raises(now.theta_P, fit)
        # What feedback is compared with stays where feedback does.
        later = list(BLOCKS)[list(BLOCKS).index(block) + 1 :]
        needed = any(name in BLOCKS[other] for other in later for name in names)
        if raises or not (needed or gain > settings.keep * error):
            said = "raises scores" if raises else "dropped"
            rows += [_row(x, said, block, *gains[block]) for x in names if x not in rest]
            names, now, losses_N = rest, without, without_N
    for block, scalars in BLOCKS.items():
        for scalar in (name for name in scalars if name in names):
            i, row = SCALARS.index(scalar), _row(scalar, "kept", block, *gains[block])
            rows.append(row | {"value": now.theta_P[i], "standard_error": now.error_P[i]})
    return Kept(now, names, rows, losses_N)


def _require_plausible(fit: Fit, free: list[int], weights: Weights, deviation: float) -> None:
    """Refuses scalars that only the prior has stopped, as of an objective that falls without end.

    Raises:
      ConfigError: one is further from its prior than any evidence could move it.
    """
    away_P = np.abs(fit.theta_P - newton.MEAN_P)[free]
    if away_P.max() > IMPLAUSIBLE * max(1.0, deviation):
        place = free[int(away_P.argmax())]
        raise ConfigError(
            f"the calibration does not converge (`{SCALARS[place]}` = {fit.theta_P[place]:.4g}) "
            f"with config.loss.objective = {weights.objective!r} and a weight of {weights.w:.4g} "
            "on negatives: give the calibration an objective of its own, "
            "config.calibration.omega = 3, or train with a smaller weight"
        )


def _raises(theta_P: np.ndarray, data: Data) -> bool:
    """Whether rejections raise the scores of their kinds, on average over the data.

    Users reject most where they watch most, so a taste that the model has missed can look like an
    effect of rejections.
    """
    values = dict(zip(SCALARS, theta_P, strict=True))
    given = {name: data.features[name] for name in REJECTION_FEATURES}
    none = data.features | {name: jnp.zeros_like(x) for name, x in given.items()}
    change_NM = shift(values, data.features, jnp) - shift(values, none, jnp)
    rejected_NM = sum(given.values()) > 0
    return float(jnp.sum(change_NM, where=rejected_NM)) > 0


def _of_use(row: dict[str, Any], kind: str) -> dict[str, Any]:
    """The row, with what becomes of a term that is fitted and not used."""
    unused = row[""] == "kept" and row["term"] in ONLY_FITTED[kind]
    return row | {"": "fitted, not used"} if unused else row


def _row(
    name: str,
    said: str,
    block: str = "",
    gain: float = float("nan"),
    error: float = float("nan"),
) -> dict[str, Any]:
    nothing = float("nan")
    return {
        "term": name,
        "value": nothing,
        "standard_error": nothing,
        "block": block,
        "held_out_gain": gain,
        "gain_error": error,
        "": said,
    }


def _users_with_rejections(data: Data) -> int:
    some_NM = np.asarray(data.features["dislike"]) + np.asarray(data.features["dismissal"])
    some_N = (some_NM != 0).any(axis=1) & (data.user_N >= 0)
    return len(np.unique(data.user_N[some_N]))


def _gain(change_N: np.ndarray, data: Data) -> tuple[float, float]:
    """(mean over labels, its standard error over users) of a change in the objective."""
    labels, (_, place_N) = data.labels, np.unique(data.user_N, return_inverse=True)
    total_U = np.bincount(place_N, change_N)
    return float(total_U.sum() / labels), float(np.sqrt((total_U**2).sum()) / labels)
