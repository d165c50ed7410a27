"""Label smoothing: a share ε of every positive label is spread evenly over the catalogue.

    (1 − ε)·(−log p_y) + ε·mean_j(−log p_j) = −log p_y + ε·(z_y − mean_j z_j)

for any normaliser of p, so it is a term beside the objective, and needs no N × S logits: the mean
of the logits is the state times the mean vector. Of sampled candidates the mean is weighted by 1/q,
which estimates that of the catalogue (docs/method.md §2).

Shapes: N states, L labels a state, S candidates, D width.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


def mean_item(
    vectors_SD: jax.Array, bias_S: jax.Array, log_q_S: jax.Array, split_over: tuple[str, ...] = ()
) -> tuple[jax.Array, jax.Array]:
    """(D,) mean vector and mean bias of the catalogue, as far as these candidates tell.

    Args:
      vectors_SD: their vectors.
      bias_S: item biases, without log q.
      log_q_S: log of the expected draws, +inf for a masked candidate.
      split_over: mesh axes over which the candidates are split, inside shard_map.
    """
    valid_S = jnp.isfinite(log_q_S)
    top = jnp.max(jnp.where(valid_S, -log_q_S, -jnp.inf), initial=-jnp.inf)
    if split_over:
        top = lax.pmax(lax.stop_gradient(top), split_over)
    weight_S = jnp.where(valid_S, jnp.exp(-log_q_S - top), 0).astype(vectors_SD.dtype)
    sums = (
        weight_S @ vectors_SD,
        jnp.sum(jnp.where(valid_S, weight_S * bias_S, 0)),
        jnp.sum(weight_S),
    )
    vector_D, bias, total = lax.psum(sums, split_over) if split_over else sums
    total = jnp.maximum(total, jnp.finfo(vectors_SD.dtype).tiny)
    return vector_D / total, bias / total


def smoothing_sum(
    states_ND: jax.Array,
    logits_NL: jax.Array,
    r_NL: jax.Array,
    vector_D: jax.Array,
    bias: jax.Array,
) -> jax.Array:
    """Σ r·(z_y − mean_j z_j) over the positive labels; times ε it is added to the objective.

    Args:
      states_ND: user states.
      logits_NL: z of their labels.
      r_NL: weights of positive labels, 0 where none.
      vector_D: of `mean_item`.
      bias: of `mean_item`.
    """
    mean_N1 = (states_ND @ vector_D + bias)[:, None]
    return jnp.sum(jnp.where(r_NL > 0, r_NL * (logits_NL - mean_N1), 0))
