"""The log-sum-exp in plain XLA: blocks of logits that are recomputed, never an N × S array.

A block is kept transposed, (S, N): then neither gradient product has to transpose the large array,
and maximum and sum run down its columns, vectorised over states. Any cotangent, two passes,
8·N·S·D operations; where the loss is known, `one_pass.py` does with 6.

Products of float32 are float32 on every platform: TPUs and GPUs would round to fewer bits unless
they are told. Shapes: N states, S candidates, D width; `b` marks one block.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from negflax.mesh import platform

MIN_STATES = 64  # in a block with all candidates; where the budget allows fewer, two passes win
# In a block: more is no faster on a CPU, and skips less; the others are busy with larger ones.
MAX_STATES = {"cpu": 128, "gpu": 4096, "tpu": 1024}
LANES = 128  # accelerators fill whole ones
FEW_EXCLUDED = 8  # ids a state: up to so many are compared one by one
MAX_CANDIDATES = 8192  # in a block of the two passes: 4 MB of logits stay in a core's cache

# Masked means: the candidate's id is among the state's excluded ids, or its bias is −inf.


def precision(x: jax.Array) -> lax.Precision:
    """Of products of these operands: float32 ones are not cut to fewer bits."""
    return lax.Precision.HIGHEST if x.dtype == jnp.float32 else lax.Precision.DEFAULT


def products(states_bD, candidates_bD, kind) -> jax.Array:
    """(Sb, Nb) products in the accumulator's dtype."""
    return contract(candidates_bD, states_bD, (1, 1), kind)


def contract(left, right, axes: tuple[int, int], kind) -> jax.Array:
    """A product over one axis of each, in the left one's dtype, added up in the accumulator's."""
    return lax.dot_general(
        left,
        right.astype(left.dtype),
        (((axes[0],), (axes[1],)), ((), ())),
        precision(left),
        preferred_element_type=kind,
    )


def excluded(ids_b, exclude_bL) -> jax.Array:
    """(Sb, Nb) whether the state excludes the candidate: few ids inside other passes."""
    size, (states, labels) = len(ids_b), exclude_bL.shape
    if labels <= FEW_EXCLUDED:
        columns = [ids_b[:, None] == exclude_bL[:, i] for i in range(labels)]
        return functools.reduce(jnp.logical_or, columns, jnp.zeros((), bool))
    none = jnp.zeros((size, states), bool)

    def by_place():  # candidates are consecutive rows, as in a full softmax
        place_bL = exclude_bL - ids_b[0]
        place_bL = jnp.where(place_bL < 0, size, place_bL)  # else −1 would be the last one
        return none.at[place_bL, jnp.arange(states)[:, None]].set(True, mode="drop")

    def one_by_one():
        def compare(i, found):
            return found | (ids_b[:, None] == exclude_bL[:, i])

        return lax.fori_loop(0, labels, compare, none)

    consecutive = jnp.all(ids_b == ids_b[0] + jnp.arange(size, dtype=ids_b.dtype))
    return lax.cond(consecutive, by_place, one_by_one)


def _logits(states_bD, candidates_bD, bias_b, ids_b, exclude_bL) -> jax.Array:
    """(Sb, Nb) logits, −inf where masked."""
    logits = products(states_bD, candidates_bD, bias_b.dtype) + bias_b[:, None]
    return jnp.where(excluded(ids_b, exclude_bL), -jnp.inf, logits)


def finite(maximum):
    """A column without candidates has maximum −inf; 0 keeps exp(−inf − max) at 0, not NaN."""
    return jnp.where(jnp.isneginf(maximum), 0, maximum)


def sums(left, right) -> jax.Array:
    """A matrix-vector product that rounds nothing (a 65th column costs a CPU far more)."""
    return lax.dot(left, right, precision="highest")


# --- two passes ---------------------------------------------------------------------------------


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def logsumexp(
    states_ND, candidates_SD, bias_S, ids_S, exclude_NL, block_elements, product_dtype=None
) -> jax.Array:
    """(N,) masked log-sum-exp; arguments as `fold_masks` returns them.

    Products are of `product_dtype`, by default the operands', and sums of the bias's dtype.
    """
    tile_n, tile_s = _tiles(len(states_ND), len(candidates_SD), block_elements)
    candidates = _candidate_blocks(candidates_SD, bias_S, ids_S, tile_s, product_dtype)

    def one_block(block):
        states_bD, exclude_bL = block

        def online(carry, candidate_block):
            maximum, total = carry
            logits = _logits(states_bD, *candidate_block, exclude_bL)
            new = jnp.maximum(maximum, jnp.max(logits, axis=0))
            kept = total * jnp.exp(maximum - finite(new))
            return (new, kept + jnp.sum(jnp.exp(logits - finite(new)), axis=0)), None

        start = jnp.full(tile_n, -jnp.inf, bias_S.dtype), jnp.zeros(tile_n, bias_S.dtype)
        (maximum, total), _ = lax.scan(online, start, candidates)
        return maximum + jnp.log(total)

    blocks = split((states_ND, exclude_NL), tile_n)
    return lax.map(one_block, blocks).reshape(-1)[: len(states_ND)]


def _fwd(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, *how):
    inputs = states_ND, candidates_SD, bias_S, ids_S, exclude_NL
    lse_N = logsumexp(*inputs, *how)
    return lse_N, (*inputs, lse_N)


def _bwd(block_elements, product_dtype, residuals, g_N):
    states_ND, candidates_SD, bias_S, ids_S, exclude_NL, lse_N = residuals
    tile_n, tile_s = _tiles(len(states_ND), len(candidates_SD), block_elements)
    candidates = _candidate_blocks(candidates_SD, bias_S, ids_S, tile_s, product_dtype)
    transposed, kind = jnp.swapaxes(candidates[0], 1, 2), bias_S.dtype
    # exp(logit − lse) needs no maximum: it is at most 1. An empty state has no gradient.
    g_N = jnp.where(jnp.isneginf(lse_N), 0, g_N).astype(kind)

    def one_block(carry, block):
        states_bD, exclude_bL, lse_b, g_b = block

        def one_tile(d_states, tile):
            candidate_block, candidates_Db = tile
            logits = _logits(states_bD, *candidate_block, exclude_bL)
            softmax = jnp.exp(logits - finite(lse_b))
            narrow = softmax.astype(candidates_Db.dtype)
            d_block = contract(narrow, states_bD * g_b[:, None], (1, 0), kind), sums(softmax, g_b)
            return d_states + contract(candidates_Db, narrow, (1, 0), kind), d_block

        start = jnp.zeros(states_bD.shape[::-1], kind)
        d_states, d_candidates = lax.scan(one_tile, start, (candidates, transposed))
        return jax.tree.map(jnp.add, carry, d_candidates), (d_states * g_b).T

    blocks = split((states_ND, exclude_NL, lse_N, g_N), tile_n)
    zeros = jnp.zeros(candidates[0].shape, kind), jnp.zeros(candidates[1].shape, kind)
    (d_candidates, d_bias), d_states = lax.scan(one_block, zeros, blocks)
    d_states = d_states.reshape(-1, states_ND.shape[1])[: len(states_ND)].astype(states_ND.dtype)
    d_candidates = d_candidates.reshape(-1, candidates_SD.shape[1])[: len(candidates_SD)]
    d_bias = d_bias.reshape(-1)[: len(bias_S)]
    return d_states, d_candidates.astype(candidates_SD.dtype), d_bias, None, None


logsumexp.defvjp(_fwd, _bwd)


# --- blocks -------------------------------------------------------------------------------------


def state_tile(n: int, s: int, block_elements: int) -> int:
    """States in a block that holds all candidates."""
    return max(1, min(n, _whole(max(MIN_STATES, block_elements // max(1, s)))))


def _whole(states: int) -> int:
    """So many states or fewer, as the platform likes them."""
    states = min(states, MAX_STATES[platform()])
    return states if states < LANES else states // LANES * LANES


def _tiles(n: int, s: int, block_elements: int) -> tuple[int, int]:
    """Block sizes (states, candidates) of the two passes within the budget."""
    tile_n = max(1, min(n, MAX_STATES[platform()]))
    return tile_n, max(1, min(s, MAX_CANDIDATES, block_elements // tile_n))


def split(tree: Any, size: int) -> Any:
    """Leading axis N → (blocks, size), zero-padded."""

    def split_one(x):
        count = -(-len(x) // size)
        padded = jnp.pad(x, [(0, count * size - len(x))] + [(0, 0)] * (x.ndim - 1))
        return padded.reshape(count, size, *x.shape[1:])

    return jax.tree.map(split_one, tree)


def _candidate_blocks(candidates_SD, bias_S, ids_S, size: int, product_dtype) -> Any:
    """(vectors, bias, ids) in blocks; what pads the last block is masked by its bias."""
    candidates_SD = candidates_SD.astype(product_dtype or candidates_SD.dtype)
    vectors, ids = split((candidates_SD, ids_S), size)
    count = len(vectors) * size
    bias = jnp.pad(bias_S, (0, count - len(bias_S)), constant_values=-jnp.inf)
    return vectors, bias.reshape(-1, size), ids
