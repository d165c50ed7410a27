"""How counts of feedback move a score: the terms of the calibration, each a few scalars.

    b = Σ coefficient · feature − Σ over beliefs (g(odds) − g(prior))
    g(o) = softplus(o + strength) − softplus(o)

A belief is the probability of one trait of the user. Its log-odds are linear in what the user did
with the kind, as in Bayes' rule with one likelihood ratio for each sort of event: evidence
saturates, and a dislike of what the user often enjoyed says less than that of something new. There
are two traits, as one cannot stand for both: `disinterest`, by what was watched, and `aversion`, by
rejections and by what was watched. With q = σ(o), g is log(1 + (e^strength − 1)·q). This is how
much less is watched on average if a trait divides watching by a constant, and how far the
stationary point of the objective with negative labels falls, p = a / (μ + w·b), if dislikes come
with aversions (docs/method.md §3). b is 0 for a kind without history.

The functions take arrays of NumPy and of JAX, of any shape.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from negflax.calibration.kind_counts import STATISTICS
from negflax.config.feedback_calibration import CalibrationConfig

# What the log-odds of a belief are linear in.
EVIDENCE = {
    "disinterest": ("skip", "long_view", "other"),
    "aversion": ("dislike", "dismissal", "skip", "long_view", "other"),
}
_SCALARS = {
    belief: tuple(f"{belief}/{name}" for name in ("strength", "prior", *evidence))
    for belief, evidence in EVIDENCE.items()
}
_REJECTIONS = ("aversion/dislike", "aversion/dismissal")
# 0 for a user who rejected nothing.
REJECTION_FEATURES = ("dislike", "recent_dislike", "rate", "dismissal")
# Blocks stay or go together, the last one first: which scalar of a block has the better likelihood
# is decided by noise, while a dislike after a long history means different things by each.
BLOCKS = {
    "seen": ("seen", "recent"),  # what was merely shown: no response to feedback
    "watched": (
        "enjoyed",
        "skipped",
        *_SCALARS["disinterest"],
        *(name for name in _SCALARS["aversion"] if name not in _REJECTIONS),
    ),
    "rejected": ("dislike", "recent_dislike", "rate", *_REJECTIONS),
}
SCALARS = tuple(name for block in BLOCKS.values() for name in block)
LINEAR = tuple(name for name in SCALARS if "/" not in name)
# Means of the priors where they are not 0.
_MEANS = {
    "disinterest/prior": -2.0,
    "disinterest/skip": 0.3,
    "disinterest/long_view": -0.5,
    "aversion/prior": -2.0,
    "aversion/dislike": 2.0,
    "aversion/dismissal": 1.0,
    "aversion/skip": 0.3,
    "aversion/long_view": -0.5,
}
PRIOR_MEANS = {name: _MEANS.get(name, 0.0) for name in SCALARS}
# The objective has several minima. From here, the first belief becomes one that long views refute
# and the second is free for what rejections say; from the means of the priors they share both.
START = PRIOR_MEANS | {
    "disinterest/strength": 1.5,
    "disinterest/prior": -1.0,
    "disinterest/skip": -0.5,
    "disinterest/long_view": -2.5,
    "disinterest/other": -1.0,
    "aversion/strength": 1.0,
}
# What was merely shown, and how recently, is left to the encoder: with it lists for a whole period
# get worse, though the likelihood of the very next item gets better (docs/calibration.md).
_BELIEFS = ("dislike", *_SCALARS["disinterest"], *_SCALARS["aversion"])
# Few users have feedback on the same creator twice: a belief is not identified by creator.
FORMS = {
    "belief": {"cluster": _BELIEFS, "creator": ("seen", "recent", "dislike")},
    "linear": {"cluster": LINEAR, "creator": LINEAR},
}
# Fitted, so that a dislike is compared with other events on the creator, and then left out.
ONLY_FITTED = {"cluster": (), "creator": BLOCKS["seen"]}


@dataclasses.dataclass(frozen=True)
class Scales:
    """The constants of the features, from the config."""

    cap: int
    prior_seen: float
    decay: float

    @classmethod
    def of(cls, config: CalibrationConfig) -> Scales:
        """Those of a config."""
        return cls(config.cap, config.prior_seen, config.decay)


def features(stats: Any, age: Any, scales: Scales, xp: Any) -> dict[str, Any]:
    """What the terms are functions of, by name.

    Args:
      stats: floats (…, F), see STATISTICS.
      age: events of the user so far, (…).
      scales: constants.
      xp: numpy or jax.numpy.
    """
    of = {name: stats[..., column] for column, name in enumerate(STATISTICS)}

    def recency(last: Any) -> Any:
        return xp.where(last > 0, scales.decay ** xp.maximum(age - last, 0.0), 0.0)

    return {
        "seen": xp.log1p(of["seen"]),
        "recent": recency(of["last_seen"]),
        "enjoyed": xp.log1p(of["enjoyed"]),
        "skipped": xp.log1p(of["skip"]),
        "dislike": xp.minimum(of["dislike"], scales.cap),
        "recent_dislike": recency(of["last_dislike"]),
        "rate": of["dislike"] / (of["seen"] + scales.prior_seen),
        "dismissal": xp.minimum(of["dismissal"], scales.cap),
        "skip": of["skip"],
        "long_view": of["long_view"],
        "other": of["seen"] - of["skip"] - of["long_view"],
    }


def shift(values: Mapping[str, Any], found: Mapping[str, Any], xp: Any) -> Any:
    """The correction of the scores of a kind (…), 0 where it was never seen.

    Args:
      values: scalars by name; a term whose scalars are missing is left out.
      found: `features`.
      xp: numpy or jax.numpy.
    """
    total = xp.zeros_like(found["seen"])
    for name in LINEAR:
        if name in values:
            total = total + values[name] * found[name]
    for belief in EVIDENCE:
        if f"{belief}/strength" in values:
            strength, prior = values[f"{belief}/strength"], values[f"{belief}/prior"]
            fall = _fall(_log_odds(values, found, belief), strength, xp)
            total = total - fall + _fall(prior, strength, xp)
    return xp.where(found["seen"] > 0, total, 0.0)


def shift_gradients(values: Mapping[str, Any], found: Mapping[str, Any], xp: Any) -> Any:
    """∂ shift / ∂ scalar, (P, …) in the order of SCALARS; `values` has all of them."""
    parts = {name: found[name] for name in LINEAR}
    for belief, evidence in EVIDENCE.items():
        strength, prior = values[f"{belief}/strength"], values[f"{belief}/prior"]
        odds = _log_odds(values, found, belief)
        here, before = _sigmoid(odds + strength, xp), _sigmoid(prior + strength, xp)
        steep = _sigmoid(odds, xp) - here
        parts[f"{belief}/strength"] = before - here
        parts[f"{belief}/prior"] = steep + before - _sigmoid(prior, xp)
        parts |= {f"{belief}/{name}": steep * found[name] for name in evidence}
    return xp.stack([xp.where(found["seen"] > 0, parts[name], 0.0) for name in SCALARS])


def _log_odds(values: Mapping[str, Any], found: Mapping[str, Any], belief: str) -> Any:
    """Log-odds of a trait; what has no value says nothing."""
    known = [name for name in EVIDENCE[belief] if f"{belief}/{name}" in values]
    evidence = sum(values[f"{belief}/{name}"] * found[name] for name in known)
    return values[f"{belief}/prior"] + evidence


def _fall(odds: Any, strength: Any, xp: Any) -> Any:
    """g: by how much a score falls at these log-odds; `strength` is the most."""
    return xp.logaddexp(0.0, odds + strength) - xp.logaddexp(0.0, odds)


def _sigmoid(x: Any, xp: Any) -> Any:
    return 0.5 * (1 + xp.tanh(0.5 * x))  # no overflow for any x
