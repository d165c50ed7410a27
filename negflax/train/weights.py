"""The weight of the negative term over training: policies on what was measured (docs/method.md §3).

A negative's p is about its share of the catalogue, so a plain w of order 1 does nothing there::

    constant    w
    frozen_p    ω / p̄, p̄ their mean p in the second half of a positives-only warm-up, then frozen
    running_p   ω / p̄, p̄ a running mean
    density     w · r Σ r_i / Σ w_i: the negative labels weigh w times the positive ones together
    balance     w · r Σ r_i l_i / Σ w_i l_i: the negative loss is w times the positive one

`frozen_p` and `constant` have the fixed point of docs/method.md §3. With `running_p` and `balance`
the push w·p does not fall with p: once ω ≥ Λ/B only the cap w_max ends it, so they demand one.
The sums live in the state, so they are in every checkpoint; loss weights are run-time values, so
that a sweep can vmap over them and other weights need no new compilation.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from negflax.config import LossConfig, positives_only
from negflax.loss.objectives import Scalars

Sums = dict[str, jax.Array]

_WARM_UP = ("p_negative", "negatives")  # summed while p̄ is measured
_TOTAL = ("r", "w")  # summed over all steps: the data's, they do not change with training
_RUNNING = ("p_negative", "negatives", "loss_positive", "loss_negative")


class LossWeights(NamedTuple):
    """Run-time scalars, described in LossConfig; no cap is an infinite w_max."""

    r: jax.Array
    w: jax.Array
    omega: jax.Array
    w_max: jax.Array
    positives_only_steps: jax.Array
    ramp_steps: jax.Array
    averaging_steps: jax.Array
    objective: Scalars


def loss_weights(config: LossConfig, dtype: str, num_rows: int = 0) -> LossWeights:
    """The loss weights of a config as run-time scalars; `num_rows` (V) is for `gbce` alone."""
    kind, values = np.dtype(dtype).type, dataclasses.asdict(config)
    values["w_max"] = config.w_max or np.inf
    values["inverse_temperature"] = 1 / config.temperature
    values["sampling_rate"] = min(1.0, config.gbce_negatives / max(1, num_rows - 2))
    values["objective"] = Scalars(*(kind(values[name]) for name in Scalars._fields))
    own = [name for name in LossWeights._fields if name != "objective"]
    return LossWeights(*(kind(values[name]) for name in own), objective=values["objective"])


def init_sums(dtype: str) -> dict[str, Sums]:
    """Nothing measured yet."""
    return {
        part: {name: jnp.zeros((), dtype) for name in names}
        for part, names in (("warm_up", _WARM_UP), ("total", _TOTAL), ("running", _RUNNING))
    }


def update_sums(
    measured: dict[str, Sums], step: jax.Array, new: Sums, loss_weights: LossWeights
) -> dict[str, Sums]:
    """Adds a step's sums over the labels of all devices (metrics.label_sums)."""
    begin = jnp.floor(loss_weights.positives_only_steps / 2)
    measuring = (step >= begin) & (step < loss_weights.positives_only_steps)
    kept = {"warm_up": 1.0, "total": 1.0, "running": 1 - 1 / loss_weights.averaging_steps}
    added = {"warm_up": measuring, "total": True, "running": True}
    return {
        part: {
            name: kept[part] * value + jnp.where(added[part], new[name], 0)
            for name, value in sums.items()
        }
        for part, sums in measured.items()
    }


def negative_scale(
    measured: dict[str, Sums], step: jax.Array, loss_weights: LossWeights, config: LossConfig
) -> jax.Array:
    """The global factor of the negative term: 0 in the warm-up, then a linear ramp to the policy's.

    It multiplies the labels' own weights w. It is 0 as long as the policy has seen no negative
    label: there is nothing to weigh by.

    Args:
      measured: sums over the steps before.
      step: of training.
      loss_weights: run-time scalars.
      config: objective and policy, which are compiled in.
    """
    if positives_only(config.objective):
        return jnp.zeros_like(loss_weights.w)
    total, running = measured["total"], measured["running"]
    if config.weight_policy == "constant":
        scale = loss_weights.w
    elif config.weight_policy == "frozen_p":
        warm_up = measured["warm_up"]
        scale = loss_weights.omega * _ratio(warm_up["negatives"], warm_up["p_negative"])
    elif config.weight_policy == "running_p":
        scale = loss_weights.omega * _ratio(running["negatives"], running["p_negative"])
    elif config.weight_policy == "density":
        scale = loss_weights.w * loss_weights.r * _ratio(total["r"], total["w"])
    else:
        positive, negative = running["loss_positive"], running["loss_negative"]
        scale = loss_weights.w * loss_weights.r * _ratio(positive, negative)
    ramp = (step - loss_weights.positives_only_steps + 1) / jnp.maximum(1, loss_weights.ramp_steps)
    return jnp.minimum(scale, loss_weights.w_max) * jnp.clip(ramp, 0, 1)


def _ratio(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)
