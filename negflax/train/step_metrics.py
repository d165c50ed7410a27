"""Scalars of a training step, from sums over the labels of all devices."""

from __future__ import annotations

import jax
import jax.numpy as jnp

Metrics = dict[str, jax.Array]


def label_sums(
    margins_NL: jax.Array, present_BTL: jax.Array, r_BTL: jax.Array, w_BTL: jax.Array
) -> Metrics:
    """Sums over this device's labels; r and w are the labels' own, without the global factors.

    Labels with a margin of +inf had no item to be compared with (loss/total.py): p = 1 says nothing
    of them, and they must not enter p̄, on which the weight of negatives rests (weights.py).
    """
    present = present_BTL.reshape(margins_NL.shape) & (margins_NL != jnp.inf)
    margins_NL = jnp.where(present, margins_NL, 0)
    r = jnp.where(present, r_BTL.reshape(present.shape), 0)
    w = jnp.where(present, w_BTL.reshape(present.shape), 0)
    p = jax.nn.sigmoid(margins_NL)
    return {
        "labels": jnp.sum(present),
        "negatives": jnp.sum(w > 0),
        "p_negative": jnp.sum(jnp.where(w > 0, p, 0)),
        "r": jnp.sum(r),
        "w": jnp.sum(w),
        "loss_positive": jnp.sum(r * jax.nn.softplus(-margins_NL)),
        "loss_negative": jnp.sum(w * jax.nn.softplus(margins_NL)),
        "push_positive": jnp.sum(r * (1 - p)),
        "push_negative": jnp.sum(w * p),
    }


def metrics_of(
    sums: Metrics, r: jax.Array, negative_scale: jax.Array, **more: jax.Array
) -> Metrics:
    """Scalars of a step, and `more` of them: `w` is the global factor of the negative term.

    `push` is Σ w·p / Σ r·(1 − p): how hard the negatives pull (docs/method.md §3).
    `negative_share` is the share of the negative term in the loss of eq. 1,
    `negative_gradient_share` that in its gradient, by the L1 norm over the logits (2·w·p and
    2·r·(1 − p) a label). These describe eq. 1 whatever the objective, so that runs compare.
    """
    negative = negative_scale * sums["loss_negative"]
    pull, hold = negative_scale * sums["push_negative"], r * sums["push_positive"]

    def ratio(a, b):
        return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)

    return {
        "loss_positive": ratio(sums["loss_positive"], sums["r"]),
        "loss_negative": ratio(sums["loss_negative"], sums["w"]),
        "p_negative": ratio(sums["p_negative"], sums["negatives"]),
        "push": ratio(pull, hold),
        "negative_gradient_share": ratio(pull, pull + hold),
        "negative_share": ratio(negative, negative + r * sums["loss_positive"]),
        "w": negative_scale,
        "labels": sums["labels"],
    } | more
