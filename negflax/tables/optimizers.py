"""Row optimizers: what becomes of a touched row's gradient and slots.

Each is exact on merged duplicate rows, as `table.distinct` makes them, and knows only the rows it
is given. The learning rate, weight decay and the scatter are `updates.apply`'s.

Lazy momentum and lazy Adam are other optimizers than the dense ones: a row's moments decay in the
steps that touch it, not in those between, and the bias correction counts the row's own updates
(torch.optim.SparseAdam counts the steps of all rows, which makes the first moves of a late row too
small). Where every row is touched in every step they are the dense optimizers.

Shapes: V rows of a shard, U distinct rows, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from negflax.config import ConfigError, OptimizerConfig

Slots = dict[str, jax.Array]

EPSILON = 1e-10  # beside Adagrad's accumulator, so that a row of zero gradients stays put
ADAM_EPSILON = 1e-8  # beside the root, as in Kingma and Ba (2015)
MOST_DENSE_ROWS = 200_000  # of a table that an optimizer of every row is allowed for


class RowOptimizer(NamedTuple):
    """An optimizer for the rows of a table.

    Attributes:
      init: rows_VD (values, not packed) → slots of their dtype; the leading axis is V, sharded as
        the rows'.
      update: (slots_U, gradient_UD, step) → (new slots_U, direction_UD); rows then move by
        −rate · direction.
      every_row: it updates all V rows each step, with a gradient of the table's size.
    """

    init: Callable[[jax.Array], Slots]
    update: Callable[[Slots, jax.Array, jax.Array], tuple[Slots, jax.Array]]
    every_row: bool = False


def get(config: OptimizerConfig, num_rows: int) -> RowOptimizer:
    """The row optimizer of config.optimizer.tables.

    Args:
      config: the optimizer section.
      num_rows: of the largest table.

    Raises:
      ConfigError: it updates every row, and the table is too large or in bfloat16.
    """
    known = {
        "sgd": _sgd,
        "momentum": _momentum,
        "adagrad": _adagrad,
        "rowwise_adagrad": _rowwise_adagrad,
        "lazy_adam": _lazy_adam,
        "rowwise_adam": _rowwise_adam,
        "dense_adagrad": _dense_adagrad,
        "dense_adam": _dense_adam,
    }
    optimizer = known[config.tables](config)
    if optimizer.every_row and num_rows > MOST_DENSE_ROWS:
        raise ConfigError(
            f"config.optimizer.tables = {config.tables!r} updates every row in every step, so "
            f"tables may have at most {MOST_DENSE_ROWS:,} rows; the largest has {num_rows:,}: "
            "choose rowwise_adagrad or lazy_adam"
        )
    if optimizer.every_row and config.table_dtype == "bfloat16":
        raise ConfigError(
            f"config.optimizer.tables = {config.tables!r} keeps rows in model.dtype: choose "
            "rowwise_adagrad or lazy_adam, or config.optimizer.table_dtype = 'model'"
        )
    return optimizer


def _sgd(config: OptimizerConfig) -> RowOptimizer:
    """Plain gradient descent, no slots."""
    return RowOptimizer(lambda rows: {}, lambda slots, g, step: ({}, g))


def _momentum(config: OptimizerConfig) -> RowOptimizer:
    """Lazy heavy ball: m ← μ·m + g on the touched rows."""

    def update(slots, g, step):
        momentum = config.momentum * slots["momentum"] + g
        return {"momentum": momentum}, momentum

    return RowOptimizer(lambda rows: {"momentum": jnp.full_like(rows, 0)}, update)


def _adagrad(config: OptimizerConfig) -> RowOptimizer:
    """Adagrad (Duchi et al. 2011): one accumulator an element, from config.adagrad_init."""

    def update(slots, g, step):
        total = slots["sum_of_squares"] + g * g
        return {"sum_of_squares": total}, g * jax.lax.rsqrt(total + EPSILON)

    return RowOptimizer(
        lambda rows: {"sum_of_squares": jnp.full_like(rows, config.adagrad_init)}, update
    )


def _rowwise_adagrad(config: OptimizerConfig) -> RowOptimizer:
    """Adagrad with one accumulator a row, the mean of the squares: V floats instead of V·D."""

    def update(slots, g, step):
        total = slots["sum_of_squares"] + jnp.mean(g * g, axis=1)
        return {"sum_of_squares": total}, g * jax.lax.rsqrt(total + EPSILON)[:, None]

    return RowOptimizer(
        lambda rows: {"sum_of_squares": jnp.full_like(rows[:, 0], config.adagrad_init)}, update
    )


def _lazy_adam(config: OptimizerConfig) -> RowOptimizer:
    """Adam (Kingma and Ba 2015) of the touched rows: two moments an element, one count a row."""

    def init(rows):
        return {
            "m": jnp.full_like(rows, 0),
            "v": jnp.full_like(rows, 0),
            "count": jnp.zeros(len(rows), jnp.int32),
        }

    return RowOptimizer(init, _adam_update(config, lambda g: g * g))


def _rowwise_adam(config: OptimizerConfig) -> RowOptimizer:
    """Lazy Adam with one second moment a row, of the mean of the squares: half the slots."""

    def init(rows):
        count = jnp.zeros(len(rows), jnp.int32)
        return {"m": jnp.full_like(rows, 0), "v": jnp.full_like(rows[:, 0], 0), "count": count}

    return RowOptimizer(init, _adam_update(config, lambda g: jnp.mean(g * g, axis=1)))


def _adam_update(config: OptimizerConfig, square: Callable[[jax.Array], jax.Array]) -> Callable:
    b1, b2 = config.momentum, config.adam_b2

    def update(slots, g, step):
        count = slots["count"] + 1
        m = b1 * slots["m"] + (1 - b1) * g
        v = b2 * slots["v"] + (1 - b2) * square(g)
        times_U1 = count[:, None].astype(g.dtype)
        unbiased_v = v.reshape(len(g), -1) / (1 - b2**times_U1)
        direction = m / (1 - b1**times_U1) / (jnp.sqrt(unbiased_v) + ADAM_EPSILON)
        return {"m": m, "v": v, "count": count}, direction

    return update


def _dense_adagrad(config: OptimizerConfig) -> RowOptimizer:
    """optax.scale_by_rss on every row."""
    scale = optax.scale_by_rss(config.adagrad_init)

    def update(slots, g, step):
        direction, state = scale.update(g, optax.ScaleByRssState(slots["sum_of_squares"]))
        return {"sum_of_squares": state.sum_of_squares}, direction

    return RowOptimizer(
        lambda rows: {"sum_of_squares": jnp.full_like(rows, config.adagrad_init)},
        update,
        every_row=True,
    )


def _dense_adam(config: OptimizerConfig) -> RowOptimizer:
    """optax.scale_by_adam on every row: the moments of untouched rows decay, and move them."""
    scale = optax.scale_by_adam(config.momentum, config.adam_b2, ADAM_EPSILON)

    def update(slots, g, step):
        direction, state = scale.update(g, optax.ScaleByAdamState(step, slots["m"], slots["v"]))
        return {"m": state.mu, "v": state.nu}, direction

    return RowOptimizer(
        lambda rows: {"m": jnp.full_like(rows, 0), "v": jnp.full_like(rows, 0)},
        update,
        every_row=True,
    )
