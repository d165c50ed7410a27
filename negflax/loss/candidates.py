"""Candidate samplers: which items stand for the catalogue, and log q, the expected draws of each.

The sum over candidates of exp(z_j − log q_j) is an unbiased estimate of the sum over the catalogue
(docs/method.md §2; Jean et al. 2015; Yi et al. 2019). Draws are with replacement, so the q of an
item is its expected number of draws in the step. Items are the rows 1..V−1 of a table that may have
more, reserved ones; only items are drawn. V may be a run-time value.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from negflax.config import LossConfig
from negflax.mesh import AXES
from negflax.tables import padded_rows


class Candidates(NamedTuple):
    """ids_S int32 rows; log_q_S log of the expected draws; a masked candidate has log q = +inf."""

    ids_S: jax.Array
    log_q_S: jax.Array


class Unigram(NamedTuple):
    """An alias table over the rows, each (V,): O(1) a draw, exact to float32 for any V.

    Row v is kept with chance keep_V[v] once drawn uniformly, else alias_V[v] takes its place. Rows
    from num_rows on are never drawn.
    """

    keep_V: jax.Array
    alias_V: jax.Array
    log_p_V: jax.Array
    num_rows: jax.Array


def unigram(count_V: np.ndarray, alpha: float, table_rows: int = 0) -> Unigram:
    """Sampling table for P(v) ∝ count_v^alpha; items of count 0 are sampled as if seen once.

    Built without a loop by the sweep of Hübschle-Schneider and Sanders (2019): light rows are
    filled up from heavy ones in order, and prefix sums tell which heavy row is at work.

    Args:
      count_V: events of each row; row 0 does not count.
      alpha: exponent of the frequency.
      table_rows: length of the arrays, where the table has reserved rows.

    Raises:
      ValueError: no rows besides row 0.
    """
    if len(count_V) < 2:
        raise ValueError("the catalogue is empty: there is nothing to sample")
    weight = np.maximum(np.asarray(count_V[1:], np.float64), 1.0) ** alpha
    share = weight / weight.sum() * len(weight)  # mean 1: what a row holds beyond 1 it gives away
    light, heavy = np.flatnonzero(share < 1), np.flatnonzero(share >= 1)
    taken, given = np.cumsum(1 - share[light]), np.cumsum(share[heavy] - 1)
    keep, alias = share.copy(), np.arange(len(share))
    at_work = np.searchsorted(
        given, np.concatenate([[0.0], taken[:-1]])[: len(light)], side="right"
    )
    alias[light] = heavy[np.minimum(at_work, len(heavy) - 1)]
    # The light row that exhausts a heavy one overdraws it: the next heavy row makes that good.
    overdrawn = (
        np.concatenate([taken, [np.inf]])[np.searchsorted(taken, given, side="left")] - given
    )
    keep[heavy] = np.where(np.isfinite(overdrawn), np.maximum(1 - overdrawn, 0), 1)
    alias[heavy] = np.append(heavy[1:], heavy[-1:])
    reserved = max(0, table_rows - len(count_V))

    def pad(x: np.ndarray, value: float, dtype: Any) -> jax.Array:
        return jnp.asarray(np.pad(x, (1, reserved), constant_values=value), dtype)

    return Unigram(
        pad(keep, 0, jnp.float32),
        pad(alias + 1, 0, jnp.int32),
        pad(np.log(share / len(share)), -np.inf, jnp.float32),
        jnp.int32(len(count_V)),
    )


def draw_uniform(key: jax.Array, num_rows: int | jax.Array, size: int) -> Candidates:
    """`size` draws from rows 1..num_rows−1, uniformly."""
    ids = jax.random.randint(key, (size,), 1, num_rows, jnp.int32)
    return Candidates(ids, jnp.full(size, jnp.log(size / (num_rows - 1)), jnp.float32))


def draw_unigram(key: jax.Array, table: Unigram, size: int) -> Candidates:
    """`size` draws from the alias table."""
    row_key, keep_key = jax.random.split(key)
    row = jax.random.randint(row_key, (size,), 1, table.num_rows, jnp.int32)
    keep = jax.random.uniform(keep_key, (size,), jnp.float32) < table.keep_V[row]
    ids = jnp.where(keep, row, table.alias_V[row])
    return Candidates(ids, table.log_p_V[ids] + np.log(size).astype(np.float32))


def in_batch(
    key: jax.Array, label_ids_K: jax.Array, table: Unigram, num_rows: int | jax.Array, size: int
) -> Candidates:
    """The batch's labels plus `size` uniform draws; q adds up both ways to be drawn.

    Args:
      key: random key of the uniform draws.
      label_ids_K: labels of the whole batch; 0 marks an absent one, which is masked.
      table: item frequencies with alpha = 1: the chance that a label slot holds an item.
      num_rows: V.
      size: uniform draws.
    """
    uniform = draw_uniform(key, num_rows, size)
    ids = jnp.concatenate([label_ids_K.astype(jnp.int32), uniform.ids_S])
    labels = jnp.sum(label_ids_K > 0)
    by_label = jnp.log(jnp.maximum(labels, 1)) + table.log_p_V[ids]
    log_q = jnp.where(labels > 0, jnp.logaddexp(by_label, uniform.log_q_S[0]), uniform.log_q_S[0])
    return Candidates(ids, jnp.where(ids > 0, log_q, jnp.inf))


def full(num_rows: int | jax.Array, length: int) -> Candidates:
    """Every row of the catalogue once, log q = 0; row 0 and rows ≥ num_rows are masked."""
    ids = jnp.arange(length, dtype=jnp.int32)
    return Candidates(ids, jnp.where((ids > 0) & (ids < num_rows), 0.0, jnp.inf))


def draw(
    config: LossConfig,
    num_rows: jax.Array,
    table_rows: int,
    key: jax.Array,
    label_ids_K: jax.Array,
    unigram: Unigram | None,
    rows: tuple[str, ...],
) -> Candidates:
    """Candidates of the step, the same on every device; of a full softmax, this device's rows.

    Items are the rows 1..num_rows−1 of the table's table_rows: a run-time value, so that new items
    change neither shapes nor the program.
    """
    if config.candidates == "full":
        padded = padded_rows(table_rows, lax.axis_size(AXES))
        size = padded // lax.axis_size(rows)
        first = lax.axis_index(rows) * size
        return jax.tree.map(
            lambda x: lax.dynamic_slice_in_dim(x, first, size), full(num_rows, padded)
        )
    if config.candidates == "uniform":
        return draw_uniform(key, num_rows, config.num_candidates)
    if config.candidates == "unigram":
        return draw_unigram(key, unigram, config.num_candidates)
    labels = lax.all_gather(label_ids_K, AXES, tiled=True)
    return in_batch(key, labels, unigram, num_rows, config.num_candidates)
