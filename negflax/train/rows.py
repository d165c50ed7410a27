"""The rows of a step: candidates drawn, distinct ids found, their rows fetched once for all uses.

Runs inside shard_map. Shapes: K ids of this device, U distinct ids, S candidates, V rows, D width.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from negflax import tables
from negflax.config import LossConfig
from negflax.data import Batch
from negflax.loss import candidates as sampling
from negflax.mesh import AXES


def draw(
    config: LossConfig, num_rows: int, key: jax.Array, batch: Batch, unigram: Any
) -> sampling.Candidates:
    """Candidates of the step, the same on every device."""
    if config.candidates == "full":
        return sampling.full(num_rows, tables.padded_rows(num_rows, lax.axis_size(AXES)))
    if config.candidates == "uniform":
        return sampling.draw_uniform(key, num_rows, config.num_candidates)
    if config.candidates == "unigram":
        return sampling.draw_unigram(key, unigram, config.num_candidates)
    labels = lax.all_gather(batch.label_ids_BTL.reshape(-1), AXES, tiled=True)
    return sampling.in_batch(key, labels, unigram, num_rows, config.num_candidates)


def fetch(
    shard_VD: jax.Array, num_rows: int, uses: dict[str, jax.Array], whole: bool
) -> tuple[jax.Array, dict[str, jax.Array | None], jax.Array]:
    """(ids_U, use → index into them, rows_UD) of one table, equal on every device.

    Args:
      shard_VD: this device's rows.
      num_rows: V of the whole table.
      uses: use → ids. `candidate` is the same on every device, the others are this device's.
      whole: every row is touched anyway (full softmax): take them all, in their order; the index
        of `candidate` is then None, as its rows are the table itself.
    """
    if whole:
        rows_VD = lax.all_gather(shard_VD, AXES, tiled=True)
        return jnp.arange(len(rows_VD), dtype=jnp.int32), uses | {"candidate": None}, rows_VD
    own = {use: ids for use, ids in uses.items() if use != "candidate"}
    own_K = jnp.concatenate([ids.reshape(-1) for ids in own.values()])
    everyones = lax.all_gather(own_K, AXES, tiled=True)
    shared = [uses["candidate"]] if "candidate" in uses else []
    ids_U, place = tables.distinct(jnp.concatenate([everyones, *shared]), num_rows)
    index: dict[str, jax.Array | None] = {}
    own_place = lax.dynamic_slice_in_dim(place, lax.axis_index(AXES) * len(own_K), len(own_K))
    for use, ids in own.items():
        index[use], own_place = own_place[: ids.size].reshape(ids.shape), own_place[ids.size :]
    if shared:
        index["candidate"] = place[len(everyones) :]
    return ids_U, index, tables.gather(shard_VD, ids_U)
