"""One attention-like pass on Hopper's tensor cores (Pallas Mosaic GPU): softmax-weighted sums.

Rows meet blocks of columns; p = exp(row·column + biases) lives in registers only, Σ p·column is
summed in float32. Of a program's warpgroups one moves blocks of columns into shared memory ahead
of their use, the others hold a block of rows each and compute.

Shapes: R rows, C columns, D width, K parts of the columns.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

LOG2E = math.log2(math.e)  # a power of two is one instruction, a power of e two
FLOOR = float(jnp.finfo(jnp.float32).min)  # a maximum before any logit; finite, so no inf − inf
PROCESSORS = 132  # of an H100 or H200; decides how finely columns are split
MOVER_REGISTERS = 40  # of each thread that only moves memory; the others share the rest


class Tiles(NamedTuple):
    """Block sizes; which are fast depends on the width D."""

    rows: int = 64  # of a warpgroup; a multiple of 64
    columns: int = 128  # a multiple of 64
    stages: int = 3  # blocks of columns in flight
    groups: int = 2  # warpgroups that compute; one more moves memory
    take_turns: bool = True  # of two groups, one exponentiates while the other multiplies


def default_tiles(width: int) -> Tiles:
    """Blocks whose accumulators fit the registers at this width, a multiple of 64."""
    return Tiles(columns=128 if width <= 192 else 64, stages=4 if width <= 64 else 3)


class Side(NamedTuple):
    """The rows or the columns: vectors, and what is added to their logits or masks them."""

    vectors: jax.Array  # (R, D) bfloat16 or float16
    bias: jax.Array | None  # (R,) float32
    keys: tuple[jax.Array, ...]  # (R,) int32 each; a row and a column with one in common: masked


def attend(
    rows: Side,
    columns: Side,
    weight_C: jax.Array | None = None,
    *,
    products: bool = True,
    tiles: Tiles | None = None,
) -> tuple[jax.Array | None, jax.Array, jax.Array | None]:
    """Sums over the columns of p_rc = exp(row_r·column_c + bias_r + bias_c), 0 where masked.

    Args:
      rows: R of them.
      columns: C of them, same type and width; with a bias.
      weight_C: factors of p. None: p is taken relative to the largest of its row and part.
      products: whether to sum p·column too.
      tiles: block sizes; None chooses by width.

    Returns:
      For each of K parts of the columns, in float32: Σ_c p_rc·column_c (K, R, D), None without
      `products`; Σ_c p_rc (K, R); log2 of what p is relative to (K, R), None with weights.
    """
    (r, d), c = rows.vectors.shape, len(columns.vectors)
    width = _round_up(d, 64)
    tiles = tiles or default_tiles(width)
    tile_r = tiles.groups * tiles.rows
    blocks_r = pl.cdiv(r, tile_r)
    parts, steps = _split(blocks_r, pl.cdiv(c, tiles.columns))
    padded_r, padded_c = blocks_r * tile_r, parts * steps * tiles.columns
    rows, columns = _pad(rows, padded_r, width), _pad(columns, padded_c, width)
    if weight_C is not None:
        weight_C = jnp.pad(weight_C, (0, padded_c - c))

    def scratch(buffers, length, arrays):
        return jax.tree.map(lambda x: plgpu.SMEM((buffers, length, *x.shape[1:]), x.dtype), arrays)

    def barriers(number, arrivals):
        return plgpu.Barrier(num_arrivals=arrivals, num_barriers=number)

    moved = columns, weight_C
    per_row = jax.ShapeDtypeStruct((parts, padded_r), jnp.float32)
    per_element = jax.ShapeDtypeStruct((parts, padded_r, width), jnp.float32)
    sums, total, maximum = plgpu.kernel(
        functools.partial(_kernel, tiles, steps),
        out_type=(
            per_element if products else None,
            per_row,
            per_row if weight_C is None else None,
        ),
        scratch_types=(
            scratch(tiles.groups, tiles.rows, rows),
            scratch(tiles.stages, tiles.columns, moved),
            barriers(tiles.groups, len(jax.tree.leaves(rows))),  # rows are loaded
            barriers(tiles.stages, len(jax.tree.leaves(moved))),  # a block is ready
            barriers(tiles.stages, tiles.groups),  # and used, by all groups
            barriers(1, tiles.groups),  # change of turns
        ),
        grid=(parts, blocks_r),
        grid_names=("part", "block"),
        num_threads=tiles.groups + 1,
        thread_name="group",
        kernel_name="logsumexp_forward" if weight_C is None else "logsumexp_backward",
        compiler_params=plgpu.CompilerParams(
            approx_math=True, lowering_semantics=plgpu.LoweringSemantics.Warpgroup
        ),
    )(rows, moved)
    if products:
        sums = sums[:, :r, :d]
    return sums, total[:, :r], None if maximum is None else maximum[:, :r]


def _kernel(
    tiles,
    steps,
    rows,
    columns,
    sums_out,
    total_out,
    maximum_out,
    row_smem,
    column_smem,
    loaded,
    ready,
    used,
    turn,
):
    """Some blocks of rows, one for each computing warpgroup, against one part of the columns."""
    group, part = lax.axis_index("group"), lax.axis_index("part")

    def load(source, block, target, slot, barrier):
        for x, y in zip(jax.tree.leaves(source), jax.tree.leaves(target), strict=True):
            plgpu.copy_gmem_to_smem(x.at[block], y.at[slot], barrier.at[slot])

    @pl.when(group == tiles.groups)
    def _move():
        plgpu.set_max_registers(MOVER_REGISTERS, action="decrease")

        def load_columns(step, slot):
            block = pl.ds((part * steps + step) * tiles.columns, tiles.columns)
            load(columns, block, column_smem, slot, ready)

        for slot in range(min(tiles.stages, steps)):
            load_columns(slot, slot)

        @pl.loop(0, steps)
        def _refill(step):
            slot, later = lax.rem(step, tiles.stages), step + tiles.stages
            plgpu.barrier_wait(used.at[slot])
            pl.when(later < steps)(lambda: load_columns(later, slot))

    @pl.when(group < tiles.groups)
    def _compute():
        registers = min(240, (512 - MOVER_REGISTERS) // tiles.groups // 8 * 8)
        plgpu.set_max_registers(registers, action="increase")
        own = pl.ds((lax.axis_index("block") * tiles.groups + group) * tiles.rows, tiles.rows)
        load(rows, own, row_smem, group, loaded)
        plgpu.barrier_wait(loaded.at[group])
        vectors, *values = jax.tree.map(lambda ref: ref.at[group], row_smem)
        bias, keys = jax.tree.map(lambda ref: _vector(ref, 1), values)
        over = functools.partial(lax.broadcast_in_dim, shape=(tiles.rows, tiles.columns))
        down = functools.partial(over, broadcast_dimensions=(0,))  # a value for each row
        along = functools.partial(over, broadcast_dimensions=(1,))  # a value for each column

        def change_turns():
            if tiles.take_turns and tiles.groups == 2:
                plgpu.barrier_arrive(turn)
                plgpu.barrier_wait(turn)

        def one_block(step, carry):
            sums, total, maximum = carry
            slot = lax.rem(step, tiles.stages)
            (block, block_bias, block_keys), weight = jax.tree.map(
                lambda ref: ref.at[slot], column_smem
            )
            plgpu.barrier_wait(ready.at[slot])
            start = along(_vector(block_bias, 0))
            start = start if bias is None else start + down(bias)
            logits = _multiply_onto(start, vectors, block.transpose((1, 0)), change_turns)
            for row_key, key in itertools.product(keys, block_keys):
                logits = jnp.where(down(row_key) == along(_vector(key, 0)), -jnp.inf, logits)
            if weight is None:
                new = jnp.maximum(maximum, jnp.max(logits, axis=1) * LOG2E)
                rescale, maximum = jnp.exp2(maximum - new), new
                p = jnp.exp2(logits * LOG2E - down(maximum))
                total = total * rescale
                if sums is not None:
                    sums = sums * lax.broadcast_in_dim(rescale, sums.shape, (0,))
            else:
                p = jnp.exp2(logits * LOG2E) * along(_vector(weight, 0))
            total = total + jnp.sum(p, axis=1)
            plgpu.commit_smem()  # what was read here may be overwritten once `used` says so
            change_turns()
            if sums is not None:
                sums = _multiply_onto(sums, p.astype(block.dtype), block)
            plgpu.barrier_arrive(used.at[slot])
            return sums, total, maximum

        starts = (0, (tiles.rows, vectors.shape[1])), (0, (tiles.rows,)), (FLOOR, (tiles.rows,))
        outs = sums_out, total_out, maximum_out
        carry = tuple(
            None if out is None else _filled(*start)
            for out, start in zip(outs, starts, strict=True)
        )
        pl.when(group == 1)(change_turns)  # half a step behind the other group
        carry = lax.fori_loop(0, steps, one_block, carry)
        pl.when(group == 0)(change_turns)
        for out, result in zip(outs, carry, strict=True):
            if out is not None:
                out.at[part, own][...] = result


def _multiply_onto(start, a, b, meanwhile=lambda: None):
    """start + a·b on the tensor cores; `meanwhile` is done before the result is awaited."""

    def multiply(accumulator):
        plgpu.wgmma(accumulator, a, b)
        meanwhile()

    return pl.run_state(multiply)(plgpu.ACC.init(start))


def _vector(ref, axis: int) -> jax.Array:
    """A value for each row (axis 1) or column (axis 0), in the logits' registers less that axis."""
    return plgpu.layout_cast(ref[...], plgpu.Layout.WGMMA.reduce(axis))


def _filled(value: float, shape: tuple[int, ...]) -> jax.Array:
    layout = plgpu.Layout.WGMMA if len(shape) == 2 else plgpu.Layout.WGMMA.reduce(1)
    return plgpu.layout_cast(jnp.full(shape, value, jnp.float32), layout)


# --- sizes --------------------------------------------------------------------------------------


def _round_up(size: int, multiple: int) -> int:
    return pl.cdiv(size, multiple) * multiple


def _split(blocks_r: int, blocks_c: int) -> tuple[int, int]:
    """(K parts, steps a part): parts keep every processor busy where blocks of rows are few."""

    def time(parts):  # in steps; to start and end a part costs about two
        return pl.cdiv(parts * blocks_r, PROCESSORS) * (pl.cdiv(blocks_c, parts) + 2)

    most = max(1, min(blocks_c, 4 * PROCESSORS // blocks_r))  # bounds the memory of K·R·D sums
    steps = pl.cdiv(blocks_c, min(range(1, most + 1), key=time))
    return pl.cdiv(blocks_c, steps), steps


def _pad(side: Side, size: int, width: int) -> Side:
    """Zero vectors and keys; a bias of −inf masks them, where there is a bias."""
    more = size - len(side.vectors)
    return Side(
        jnp.pad(side.vectors, ((0, more), (0, width - side.vectors.shape[1]))),
        None if side.bias is None else jnp.pad(side.bias, (0, more), constant_values=-jnp.inf),
        tuple(jnp.pad(key, (0, more)) for key in side.keys),
    )
