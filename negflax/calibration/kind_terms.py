"""How counts of feedback move a score: the terms of the calibration, each a few scalars.

    b = Σ coefficient · feature  −  strength · (σ(log-odds of an aversion) − σ(prior))

The log-odds are linear in what the user did with the kind, as in Bayes' rule with one likelihood
ratio for each kind of event: evidence saturates, and a dislike of what the user often enjoyed says
less than that of something new. b is 0 for a kind without history, so that only the kinds of a
user's history have one.

The functions take arrays of NumPy and of JAX, of any shape.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from negflax.calibration.kind_counts import STATISTICS
from negflax.config.calibration import CalibrationConfig

LINEAR = ("seen", "recent", "enjoyed", "skipped", "dislike", "recent_dislike", "rate")
EVIDENCE = ("dislike", "dismissal", "skip", "long_view", "other")
# Scalar → mean of its prior. The fit starts there as well, but for the strength, from 1.
PRIOR_MEANS = {
    **dict.fromkeys(LINEAR, 0.0),
    "belief/strength": 0.0,
    "belief/prior": -2.0,
    "belief/dislike": 2.0,
    "belief/dismissal": 1.0,
    "belief/skip": 0.3,
    "belief/long_view": -0.5,
    "belief/other": 0.0,
}
SCALARS = tuple(PRIOR_MEANS)
STARTS = PRIOR_MEANS | {"belief/strength": 1.0}
FORMS = {
    "linear": LINEAR,
    "belief": ("seen", "recent", "enjoyed", "skipped", "dislike", "recent_dislike", "belief"),
}
SEEN_TERMS = ("seen", "recent")  # of what was merely shown: no response to feedback


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


def term_of(scalar: str) -> str:
    """The term that a scalar belongs to."""
    return scalar.split("/")[0]


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
    if "belief/strength" in values:
        prior = values["belief/prior"]
        odds = prior + sum(values[f"belief/{name}"] * found[name] for name in EVIDENCE)
        total = total - values["belief/strength"] * (_sigmoid(odds, xp) - _sigmoid(prior, xp))
    return xp.where(found["seen"] > 0, total, 0.0)


def shift_gradients(values: Mapping[str, Any], found: Mapping[str, Any], xp: Any) -> Any:
    """∂ shift / ∂ scalar, (…, P) in the order of SCALARS; `values` has all of them."""
    strength, prior = values["belief/strength"], values["belief/prior"]
    odds = prior + sum(values[f"belief/{name}"] * found[name] for name in EVIDENCE)
    here, before = _sigmoid(odds, xp), _sigmoid(prior, xp)
    steep = -strength * here * (1 - here)
    parts = [found[name] for name in LINEAR]
    parts += [before - here, steep + strength * before * (1 - before)]
    parts += [steep * found[name] for name in EVIDENCE]
    return xp.where((found["seen"] > 0)[..., None], xp.stack(parts, axis=-1), 0.0)


def _sigmoid(x: Any, xp: Any) -> Any:
    return 0.5 * (1 + xp.tanh(0.5 * x))  # no overflow for any x
