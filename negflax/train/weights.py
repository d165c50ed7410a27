"""The weight of the negative term over training: w, or ω / p̄ with p̄ frozen (SPEC section 3).

A negative's p is about its share of the catalogue, so a plain w of order 1 does nothing there.
p̄ is the mean p of the negative labels in the second half of a positives-only warm-up; it lives in
the state, so it is in every checkpoint and needs no host.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from negflax.config import LossConfig

PBar = dict[str, jax.Array]  # {"sum", "count"} of p over negative labels


def init_p_bar(dtype: str) -> PBar:
    """Nothing measured yet."""
    return {"sum": jnp.zeros((), dtype), "count": jnp.zeros((), dtype)}


def update_p_bar(p_bar: PBar, step: jax.Array, p_sum, count, config: LossConfig) -> PBar:
    """Adds a step's negative labels while the second half of the warm-up lasts."""
    measuring = (step >= config.positives_only_steps // 2) & (step < config.positives_only_steps)
    return {
        "sum": p_bar["sum"] + jnp.where(measuring, p_sum, 0),
        "count": p_bar["count"] + jnp.where(measuring, count, 0),
    }


def negative_weight(p_bar: PBar, step: jax.Array, config: LossConfig) -> jax.Array:
    """The w of this step: 0 in the warm-up, then a linear ramp to ω / p̄ (or to the plain w)."""
    if config.objective == "ssm":
        return jnp.zeros((), p_bar["sum"].dtype)
    ramp = jnp.clip((step - config.positives_only_steps + 1) / max(1, config.ramp_steps), 0, 1)
    w = jnp.asarray(config.w, p_bar["sum"].dtype)
    if config.omega:
        # No negative label seen: there is nothing to weigh, and no p̄ to divide by.
        seen = (p_bar["count"] > 0) & (p_bar["sum"] > 0)
        w = jnp.where(seen, config.omega * p_bar["count"] / jnp.where(seen, p_bar["sum"], 1), 0)
    return w * ramp.astype(w.dtype)
