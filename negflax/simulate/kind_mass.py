"""Probability of an item's cluster and creator under a model, over the whole catalogue.

Lists show the best few items; this is the softmax of the scores over all items that may be listed.
It is summed chunk by chunk, without an array users × catalogue.

Shapes: S users, V catalogue rows, C rows of a chunk, N excluded items, D width.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax

from negflax.model import Recommender
from negflax.serve.topk import CHUNK, shifted
from negflax.simulate.arm import Arm, UserState, queries_of


def kind_mass(
    model: Recommender, arm: Arm, user: UserState, taken_SN: jax.Array, item_S: jax.Array
) -> jax.Array:
    """Returns the probability of all items of an item's cluster, and of all by its creator.

    Args:
      model: the model.
      arm: its arrays.
      user: what the users' scores depend on.
      taken_SN: items that are excluded from lists and have no probability; 0 is none.
      item_S: the item whose kinds are asked for.

    Returns:
      (S, 2) float32, by cluster and by creator; of no meaning where the item's kind is unknown.
    """
    num_rows = model.num_rows
    chunk = min(CHUNK, num_rows)
    user_S1 = jnp.arange(len(item_S))[:, None]
    rows, queries = arm.rows[model.output_table], queries_of(model, arm, user)
    kinds = [(kind_V, kind_V[item_S]) for kind_V in (arm.cluster_V, arm.creator_V)]

    def add(sums: tuple[jax.Array, jax.Array], number: jax.Array) -> tuple:
        top_S, total_3S = sums
        # The last chunk is read from further up, so that it is whole; its first rows do not count.
        start = jnp.minimum(number * chunk, num_rows - chunk)
        row_C = start + jnp.arange(chunk)
        allowed_SC = jnp.broadcast_to((row_C > 0) & (row_C >= number * chunk), (len(item_S), chunk))
        place_SN = jnp.where(taken_SN >= start, taken_SN - start, chunk)  # out of range: dropped
        allowed_SC = allowed_SC.at[user_S1, place_SN].set(False, mode="drop")
        part = functools.partial(lax.dynamic_slice_in_dim, start_index=start, slice_size=chunk)
        score_CS = part(rows) @ queries.states_RD.T
        if queries.shifts:
            score_CS += shifted(queries.shifts, part)
        score_CS = jnp.where(allowed_SC.T, score_CS, -jnp.inf)
        new_top_S = jnp.maximum(top_S, score_CS.max(axis=0))
        weight_CS = jnp.exp(score_CS - new_top_S)
        parts = [weight_CS.sum(axis=0)]
        for kind_V, wanted_S in kinds:
            same_CS = part(kind_V)[:, None] == wanted_S
            parts.append(jnp.where(same_CS, weight_CS, 0).sum(axis=0))
        return (new_top_S, total_3S * jnp.exp(top_S - new_top_S) + jnp.stack(parts)), None

    lowest_S = jnp.full(len(item_S), jnp.finfo(jnp.float32).min)  # not −inf: −inf − −inf is NaN
    nothing = lowest_S, jnp.zeros((1 + len(kinds), len(item_S)))
    _, total_3S = lax.scan(add, nothing, jnp.arange(-(-num_rows // chunk)))[0]
    return (total_3S[1:] / total_3S[0]).T
