"""The log-sum-exp as two attention-like passes on Hopper's tensor cores (Pallas Mosaic GPU).

One kernel, `attend`, serves both passes: rows meet blocks of columns, p = exp(row·column + biases)
lives in registers only, and Σ p·column is summed in float32. Nothing of size N × S exists.

* Forward: rows = states, columns = candidates, online maximum. It gives lse and the softmax mean
  of the candidates, o_n = Σ_j π_nj c_j; since ∂lse/∂state = o, the states' gradient is free.
* Backward: rows = candidates, columns = states with bias −lse and weight g. The exponents are ≤ 0,
  so there is no maximum and no normalisation; each row is summed in a fixed order, so there are no
  atomics and the result is bitwise reproducible.

Together 8·N·S·D operations. Operands are bfloat16 or float16 with D ≤ 256; logits, sums and lse
are float32, p is cast to the operands' type for the second product. Other operands take the XLA
path: the tensor cores have no float32, and TensorFloat32 would miss the 1e-5 that `xla` keeps.

Shapes: R rows, C columns, D width, K parts of the columns; the rest as in `logsumexp.py`.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from negflax.loss import xla

LOG2E = math.log2(math.e)  # the kernel works with powers of two, which are one instruction
FLOOR = float(jnp.finfo(jnp.float32).min)  # a maximum before any logit; finite, so no inf − inf
SHIFT = 9.0  # backward holds p·e^9: 1 / (a million candidates) would underflow in float16
PROCESSORS = 132  # of an H100 or H200; decides how finely columns are split
MOVER_REGISTERS = 40  # of each thread that only moves memory; the others share the rest


class Tiles(NamedTuple):
    """Block sizes; which are fast depends on the width D."""

    rows: int = 64  # of a warpgroup, a multiple of 64
    columns: int = 128  # a multiple of 64
    stages: int = 3  # blocks of columns in flight
    groups: int = 2  # warpgroups that compute; one more moves memory
    take_turns: bool = True  # one of two groups exponentiates while the other multiplies


def default_tiles(width: int) -> Tiles:
    """Blocks whose accumulators fit the registers at this width, a multiple of 64."""
    return Tiles(columns=128 if width <= 128 else 64, stages=4 if width <= 64 else 3)


# --- the log-sum-exp ----------------------------------------------------------------------------


def supports(states_ND: jax.Array, candidates_SD: jax.Array, *ids: jax.Array) -> bool:
    """Whether the kernel takes these operands; the XLA path takes all others."""
    return (
        states_ND.dtype == candidates_SD.dtype
        and states_ND.dtype in (jnp.bfloat16, jnp.float16)
        and 0 < states_ND.shape[1] <= 256
        and min(len(states_ND), len(candidates_SD)) > 0
        and all(x.dtype.itemsize <= 4 for x in ids)
    )


def logsumexp(
    states_ND: jax.Array,
    candidates_SD: jax.Array,
    bias_S: jax.Array,
    ids_S: jax.Array,
    exclude_NL: jax.Array,
    block_elements: int,
    tiles: Tiles | None = None,
) -> jax.Array:
    """(N,) float32 masked log-sum-exp; arguments as `fold_masks` returns them.

    `block_elements` is the budget of the XLA path, where that is taken (see `supports`); the kernel
    keeps its logits in registers. L = 0 skips the comparison of ids.
    """
    if not supports(states_ND, candidates_SD, ids_S, exclude_NL):
        return xla.logsumexp(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, block_elements)
    ids_S, exclude_NL = ids_S.astype(jnp.int32), exclude_NL.astype(jnp.int32)
    return _logsumexp(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, tiles)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _logsumexp(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, tiles):
    return _forward(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, tiles, mean=False)[0]


def _forward(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, tiles, mean):
    """lse_N and, where asked for, the softmax mean of the candidates (N, D) in float32."""
    states = Side(states_ND, None, tuple(exclude_NL.T))
    candidates = Side(candidates_SD, bias_S, (ids_S,))
    sums_KND, total_KN, maximum_KN = attend(states, candidates, products=mean, tiles=tiles)
    maximum_N = jnp.max(maximum_KN, axis=0)
    scale_KN = jnp.exp2(maximum_KN - maximum_N)
    total_N = jnp.sum(scale_KN * total_KN, axis=0)
    lse_N = maximum_N / LOG2E + jnp.log(total_N)
    if not mean:
        return lse_N, None
    scale_KN = scale_KN / jnp.where(total_N > 0, total_N, 1)
    return lse_N, jnp.sum(scale_KN[:, :, None] * sums_KND, axis=0)


def _fwd(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, tiles):
    inputs = states_ND, candidates_SD, bias_S, ids_S, exclude_NL
    lse_N, mean_ND = _forward(*inputs, tiles, mean=True)
    return lse_N, (*inputs, lse_N, mean_ND)


def _bwd(tiles, residuals, g_N):
    states_ND, candidates_SD, bias_S, ids_S, exclude_NL, lse_N, mean_ND = residuals
    empty_N = jnp.isneginf(lse_N)
    g_N = jnp.where(empty_N, 0, g_N)
    largest = jnp.max(jnp.abs(g_N))
    unit = jnp.where(largest > 0, largest, 1)  # |g / unit| ≤ 1 suits float16
    states = Side(
        states_ND, jnp.where(empty_N, -jnp.inf, SHIFT - lse_N), tuple(exclude_NL.T)
    )
    candidates = Side(candidates_SD, bias_S, (ids_S,))
    sums_KSD, total_KS, _ = attend(candidates, states, g_N / unit, tiles=tiles)
    scale = unit * math.exp(-SHIFT)
    d_states = (g_N[:, None] * mean_ND).astype(states_ND.dtype)
    d_candidates = (scale * jnp.sum(sums_KSD, axis=0)).astype(candidates_SD.dtype)
    return d_states, d_candidates, scale * jnp.sum(total_KS, axis=0), None, None


_logsumexp.defvjp(_fwd, _bwd)


# --- the kernel ---------------------------------------------------------------------------------


class Side(NamedTuple):
    """The rows or the columns: vectors, and what is added to their logits or masks them."""

    vectors: jax.Array  # (R, D)
    bias: jax.Array | None  # (R,) float32, a power of two
    keys: Sequence[jax.Array]  # (R,) int32 each; a row and a column with a key in common: masked


def attend(
    rows: Side,
    columns: Side,
    weight_C: jax.Array | None = None,
    *,
    products: bool = True,
    tiles: Tiles | None = None,
) -> tuple[jax.Array | None, jax.Array, jax.Array | None]:
    """Sums over the columns of p_rc = 2^(log2(e)·row_r·column_c + bias_r + bias_c), 0 if masked.

    Args:
      rows: R of them.
      columns: C of them, same type and width.
      weight_C: p's factors. None: p is taken relative to the largest of its row and part.
      products: whether to sum p·column too.
      tiles: block sizes; None chooses by width.

    Returns:
      For each of K parts of the columns, in float32: Σ_c p_rc·column_c (K, R, D), None without
      `products`; Σ_c p_rc (K, R); the exponent p is relative to (K, R), None with weights.
    """
    (r, d), c = rows.vectors.shape, len(columns.vectors)
    width = _round_up(d, 64)
    tiles = tiles or default_tiles(width)
    tile_r = tiles.groups * tiles.rows
    blocks_r, blocks_c = pl.cdiv(r, tile_r), pl.cdiv(c, tiles.columns)
    parts, steps = _split(blocks_r, blocks_c)
    padded_r, padded_c = blocks_r * tile_r, parts * steps * tiles.columns
    rows, columns = _pad(rows, padded_r, width), _pad(columns, padded_c, width)
    if weight_C is not None:
        weight_C = jnp.pad(weight_C, (0, padded_c - c))
    per_row = jax.ShapeDtypeStruct((parts, padded_r), jnp.float32)
    per_element = jax.ShapeDtypeStruct((parts, padded_r, width), jnp.float32)
    row_smem, column_smem = (
        jax.tree.map(lambda x, shape=shape: plgpu.SMEM((*shape, *x.shape[1:]), x.dtype), tree)
        for shape, tree in (
            ((tiles.groups, tiles.rows), rows),
            ((tiles.stages, tiles.columns), (columns, weight_C)),
        )
    )

    def barriers(count, arrivals):
        return plgpu.Barrier(num_arrivals=arrivals, num_barriers=count)

    sums, total, maximum = plgpu.kernel(
        functools.partial(_kernel, tiles, steps),
        out_type=(
            per_element if products else None, per_row, per_row if weight_C is None else None
        ),
        scratch_types=(
            row_smem,
            column_smem,
            barriers(tiles.groups, arrivals=len(jax.tree.leaves(row_smem))),
            barriers(tiles.stages, arrivals=len(jax.tree.leaves(column_smem))),
            barriers(tiles.stages, arrivals=tiles.groups),
            barriers(1, arrivals=tiles.groups),
        ),
        grid=(parts, blocks_r),
        grid_names=("part", "block"),
        num_threads=tiles.groups + 1,
        thread_name="group",
        kernel_name="logsumexp_forward" if weight_C is None else "logsumexp_backward",
        compiler_params=plgpu.CompilerParams(
            approx_math=True, lowering_semantics=plgpu.LoweringSemantics.Warpgroup
        ),
    )(rows, columns, weight_C)
    if products:
        sums = sums[:, :r, :d]
    return sums, total[:, :r], None if maximum is None else maximum[:, :r]


def _kernel(
    tiles, steps, rows, columns, weight, sums_out, total_out, maximum_out,
    row_smem, column_smem, loaded, ready, used, turn,
):  # fmt: skip
    """One block of rows against one part of the columns; in each program, warpgroups by role."""
    group, part = lax.axis_index("group"), lax.axis_index("part")

    def load(source, block, target, slot, barrier):
        for x, y in zip(jax.tree.leaves(source), jax.tree.leaves(target), strict=True):
            plgpu.copy_gmem_to_smem(x.at[block], y.at[slot], barrier.at[slot])

    @pl.when(group == tiles.groups)
    def _move():
        plgpu.set_max_registers(MOVER_REGISTERS, action="decrease")

        def load_columns(step, slot):
            block = pl.ds((part * steps + step) * tiles.columns, tiles.columns)
            load((columns, weight), block, column_smem, slot, ready)

        for slot in range(min(tiles.stages, steps)):
            load_columns(slot, slot)

        @pl.loop(0, steps)
        def _refill(step):
            slot = lax.rem(step, tiles.stages)
            plgpu.barrier_wait(used.at[slot])
            pl.when(step + tiles.stages < steps)(
                lambda: load_columns(step + tiles.stages, slot)
            )

    @pl.when(group < tiles.groups)
    def _compute():
        plgpu.set_max_registers((512 - MOVER_REGISTERS) // tiles.groups // 8 * 8, action="increase")
        block = lax.axis_index("block") * tiles.groups + group
        own = pl.ds(block * tiles.rows, tiles.rows)
        load(rows, own, row_smem, group, loaded)
        plgpu.barrier_wait(loaded.at[group])
        vectors, *scalars = jax.tree.map(lambda ref: ref.at[group], row_smem)
        bias, keys = jax.tree.map(lambda ref: _vector(ref, 1), scalars)

        def change_turns():
            if tiles.take_turns and tiles.groups == 2:
                plgpu.barrier_arrive(turn)
                plgpu.barrier_wait(turn)

        over = functools.partial(lax.broadcast_in_dim, shape=(tiles.rows, tiles.columns))
        down = functools.partial(over, broadcast_dimensions=(0,))  # a value for each row
        along = functools.partial(over, broadcast_dimensions=(1,))  # for each column

        def one_block(step, carry):
            sums, total, maximum = carry
            slot = lax.rem(step, tiles.stages)
            (block, block_bias, block_keys), block_weight = jax.tree.map(
                lambda ref: ref.at[slot], column_smem
            )
            plgpu.barrier_wait(ready.at[slot])

            start = along(_vector(block_bias, 0))
            if bias is not None:
                start = start + down(bias)
            logits = _multiply_onto(start, vectors, block.transpose((1, 0)), change_turns)
            for row_key, key in itertools.product(keys, block_keys):
                logits = jnp.where(down(row_key) == along(_vector(key, 0)), -jnp.inf, logits)
            if maximum is not None:
                new = jnp.maximum(maximum, jnp.max(logits, axis=1) * LOG2E)
                rescale = jnp.exp2(maximum - new)
                p = jnp.exp2(logits * LOG2E - down(new))
                maximum, total = new, total * rescale
                if sums is not None:
                    sums = sums * lax.broadcast_in_dim(rescale, sums.shape, (0,))
            else:
                p = jnp.exp2(logits * LOG2E) * along(_vector(block_weight, 0))
            total = total + jnp.sum(p, axis=1)
            change_turns()
            if sums is not None:
                sums = _multiply_onto(sums, p.astype(block.dtype), block)
            plgpu.barrier_arrive(used.at[slot])
            return sums, total, maximum

        start = (
            None if sums_out is None else _filled((tiles.rows, vectors.shape[1]), 0),
            _filled((tiles.rows,), 0),
            None if maximum_out is None else _filled((tiles.rows,), FLOOR),
        )
        pl.when(group == 1)(change_turns)
        results = lax.fori_loop(0, steps, one_block, start)
        pl.when(group == 0)(change_turns)
        for out, result in zip((sums_out, total_out, maximum_out), results, strict=True):
            if out is not None:
                out.at[part, own][...] = result


def _multiply_onto(start, a, b, meanwhile=lambda: None):
    """start + a·b on the tensor cores; `meanwhile` runs before the result is awaited."""

    def multiply(accumulator):
        plgpu.wgmma(accumulator, a, b)
        meanwhile()

    return pl.run_state(multiply)(plgpu.ACC.init(start))


def _vector(ref, axis: int) -> jax.Array:
    """A value for each row or column of the logits: in their registers' layout less `axis`."""
    return plgpu.layout_cast(ref[...], plgpu.Layout.WGMMA.reduce(axis))


def _filled(shape, value) -> jax.Array:
    layout = plgpu.Layout.WGMMA if len(shape) == 2 else plgpu.Layout.WGMMA.reduce(1)
    return plgpu.layout_cast(jnp.full(shape, value, jnp.float32), layout)


# --- sizes --------------------------------------------------------------------------------------


def _round_up(size: int, multiple: int) -> int:
    return pl.cdiv(size, multiple) * multiple


def _split(blocks_r: int, blocks_c: int) -> tuple[int, int]:
    """(parts of the columns, steps in each): parts keep every processor busy with few rows."""

    def time(parts):  # in steps; starting and ending a part costs about two
        return pl.cdiv(parts * blocks_r, PROCESSORS) * (pl.cdiv(blocks_c, parts) + 2)

    steps = pl.cdiv(blocks_c, min(range(1, min(blocks_c, 16) + 1), key=time))
    return pl.cdiv(blocks_c, steps), steps


def _pad(side: Side, size: int, width: int) -> Side:
    """Zero vectors and keys that a bias of −inf masks, where there is a bias."""
    more = size - len(side.vectors)
    return Side(
        jnp.pad(side.vectors, ((0, more), (0, width - side.vectors.shape[1]))),
        None if side.bias is None else jnp.pad(side.bias, (0, more), constant_values=-jnp.inf),
        tuple(jnp.pad(key, (0, more)) for key in side.keys),
    )
