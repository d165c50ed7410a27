"""Which terms of one kind stay: blocks that improve the objective of held-out labels.

These are the labels of the validation period, and each user's training labels under a fit without
that user: alone, the former are too few to tell what a dislike says about a creator.

Shapes: N labels, those that are fitted on first; P scalars, M components of a denominator, U users.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import logging

from negflax.calibration import newton
from negflax.calibration.fit_data import Data, Weights
from negflax.calibration.kind_terms import (
    BLOCKS,
    FORMS,
    ONLY_FITTED,
    REJECTION_FEATURES,
    SCALARS,
    START,
    shift,
)
from negflax.calibration.newton import Fit
from negflax.config import CalibrationConfig, ConfigError

# From the prior, in log-odds or logits; below 5 in all fits of docs/responsiveness.md.
IMPLAUSIBLE = 25.0
START_P = np.array([START[name] for name in SCALARS])


@dataclasses.dataclass(frozen=True)
class Kept:
    """The terms of one kind and form.

    Attributes:
      fit: the scalars of what stays.
      terms: their names.
      rows: a table of all terms.
      losses_N: held-out objective of each label.
    """

    fit: Fit
    terms: tuple[str, ...]
    rows: list[dict[str, Any]]
    losses_N: np.ndarray

    def start_P(self) -> np.ndarray:
        """Where a fit of the same terms to slightly different scores may start."""
        return np.where(self.fit.theta_P != 0, self.fit.theta_P, START_P)


@dataclasses.dataclass(frozen=True)
class LabelSplit:
    """The labels of one kind, and what their objective is.

    Attributes:
      fit: labels of the training period, which are fitted on.
      held: labels of the validation period.
      weights: of the objective.
      settings: of the calibration.
    """

    fit: Data
    held: Data
    weights: Weights
    settings: CalibrationConfig

    def fitted(self, names: tuple[str, ...], start_P: np.ndarray) -> tuple[Fit, np.ndarray]:
        """(a fit of these scalars, the held-out objective (N,)).

        Raises:
          ConfigError: the fit does not converge.
        """
        free = [i for i, scalar in enumerate(SCALARS) if scalar in names]
        if free:
            one = newton.fit(self.fit, self.weights, free, self.settings.prior_deviation, start_P)
            _require_plausible(one, free, self.weights, self.settings)
        else:
            zero_P = np.zeros(len(SCALARS))
            one = Fit(zero_P, zero_P, np.zeros(len(self.fit.user_N)))
        training_N = newton.losses(one.theta_P, self.fit, self.weights) + one.optimism_N
        return one, np.append(training_N, newton.losses(one.theta_P, self.held, self.weights))

    def gain(self, change_N: np.ndarray) -> tuple[float, float]:
        """(mean over labels, its standard error over users) of a change in the objective."""
        user_N = np.append(self.fit.user_N, self.held.user_N)
        total_U = np.bincount(np.unique(user_N, return_inverse=True)[1], change_N)
        labels = self.fit.labels + self.held.labels
        return float(total_U.sum() / labels), float(np.sqrt((total_U**2).sum()) / labels)


def of_all_blocks(kind: str, labels: LabelSplit, start_P: np.ndarray) -> Kept:
    """All terms of a kind, and of `auto` the form that `of_chosen_blocks` would take of these."""
    return _better_form(
        [_whole(FORMS[form][kind], labels, start_P) for form in _forms(labels)], labels
    )


def of_chosen_blocks(kind: str, labels: LabelSplit, start_P: np.ndarray) -> Kept:
    """The terms that help; of `auto`, the belief unless the other form is clearly better."""
    forms = [_chosen(_whole(FORMS[form][kind], labels, start_P), labels) for form in _forms(labels)]
    best = _better_form(forms, labels)
    used = set(best.terms) - set(ONLY_FITTED[kind])
    if kept := [block for block, names in BLOCKS.items() if set(names) & used]:
        logging.info("calibration by %s: what was %s", kind, ", ".join(kept))
    else:
        logging.info("calibration by %s: nothing improves the held-out objective", kind)
    return best


def _forms(labels: LabelSplit) -> tuple[str, ...]:
    form = labels.settings.form
    return ("belief", "linear") if form == "auto" else (form,)


def _better_form(forms: list[Kept], labels: LabelSplit) -> Kept:
    best, *others = forms
    for other in others:
        gain, error = labels.gain(best.losses_N - other.losses_N)
        best = other if gain > 2 * error else best
    return best


def _whole(terms: tuple[str, ...], labels: LabelSplit, start_P: np.ndarray) -> Kept:
    """Fits all scalars of a form, but what rejections add where too few users reject."""
    names, rows = terms, []
    if _users_with_rejections(labels.fit) < labels.settings.min_users:
        names = tuple(name for name in terms if name not in BLOCKS["rejected"])
        rows = [_row(name, "no data", "rejected") for name in terms if name not in names]
    fit, losses_N = labels.fitted(names, start_P)
    return Kept(fit, names, rows, losses_N)


def _chosen(whole: Kept, labels: LabelSplit) -> Kept:
    """Leaves out the last block as long as it does not help."""
    now, gains = whole, {}
    for block in reversed(BLOCKS):
        rest = tuple(name for name in now.terms if name not in BLOCKS[block])
        if rest == now.terms:
            continue
        without, without_N = labels.fitted(rest, now.start_P())
        gain, error = gains[block] = labels.gain(without_N - now.losses_N)
        raises = block == "rejected" and _raises(now.fit.theta_P, labels.fit)
        # What feedback is compared with stays where feedback does.
        later = list(BLOCKS)[list(BLOCKS).index(block) + 1 :]
        needed = any(name in BLOCKS[other] for other in later for name in now.terms)
        if raises or not (needed or gain > labels.settings.keep * error):
            status = "raises scores" if raises else "dropped"
            out = [_row(x, status, block, *gains[block]) for x in now.terms if x not in rest]
            now = Kept(without, rest, now.rows + out, without_N)
    rows = list(now.rows)
    for block, scalars in BLOCKS.items():
        for scalar in (name for name in scalars if name in now.terms):
            i, row = SCALARS.index(scalar), _row(scalar, "kept", block, *gains[block])
            rows.append(row | {"value": now.fit.theta_P[i], "standard_error": now.fit.error_P[i]})
    return dataclasses.replace(now, rows=rows)


def _require_plausible(
    fit: Fit, free: list[int], weights: Weights, settings: CalibrationConfig
) -> None:
    """Refuses scalars that only the prior has stopped, as of an objective that falls without end.

    Raises:
      ConfigError: one is further from its prior than any evidence could move it.
    """
    away_P = np.abs(fit.theta_P - newton.MEAN_P)[free]
    if away_P.max() > IMPLAUSIBLE * max(1.0, settings.prior_deviation):
        place = free[int(away_P.argmax())]
        said = f"the calibration does not converge (`{SCALARS[place]}` = {fit.theta_P[place]:.4g}) "
        if settings.omega:
            raise ConfigError(
                f"{said}with config.calibration.omega = {settings.omega:g}, a weight of "
                f"{weights.w:.4g} on negatives: set a smaller one, such as 3"
            )
        raise ConfigError(
            f"{said}with config.loss.objective = {weights.objective!r} and a weight of "
            f"{weights.w:.4g} on negatives: give the calibration an objective of its own, "
            "config.calibration.omega = 3, or train with a smaller weight"
        )


def _raises(theta_P: np.ndarray, data: Data) -> bool:
    """Whether rejections raise the scores of their kinds, on average over the data.

    Users reject most where they watch most, so a taste that the model has missed can look like an
    effect of rejections.
    """
    values, total = dict(zip(SCALARS, theta_P, strict=True)), 0.0
    for features in (part.features for part in data.parts):
        given = {name: features[name] for name in REJECTION_FEATURES}
        none = features | {name: jnp.zeros_like(x) for name, x in given.items()}
        change_NM = shift(values, features, jnp) - shift(values, none, jnp)
        total += float(jnp.sum(change_NM, where=sum(given.values()) > 0))
    return total > 0


def _row(
    name: str,
    status: str,
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
        "status": status,
    }


def _users_with_rejections(data: Data) -> int:
    counts = [part.features["dislike"] + part.features["dismissal"] for part in data.parts]
    some_N = data.joined([(x_NM != 0).any(axis=1) for x_NM in counts]) > 0
    return len(np.unique(data.user_N[some_N]))
