"""The log-sum-exp in plain XLA: blocks of logits that are recomputed, never an N × S array.

A block is kept transposed, (S, N): then neither gradient product has to transpose the large array,
and maximum and sum run down its columns, vectorised over states. Shapes: N states, S candidates,
D width; `b` marks one block.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

MIN_STATES = 64  # in a block with all candidates; where the budget allows fewer, two passes win
MAX_STATES = 128  # in a block: more is no faster on a CPU, and skips less
FEW_EXCLUDED = 8  # ids a state: up to so many are compared one by one
MAX_CANDIDATES = 8192  # in a block of the two passes: 4 MB of logits stay in a core's cache

# Masked means: the candidate's id is among the state's excluded ids, or its bias is −inf.


def _products(states_bD, candidates_bD, kind) -> jax.Array:
    """(Sb, Nb) products in the accumulator's dtype."""
    return lax.dot_general(
        candidates_bD, states_bD, (((1,), (1,)), ((), ())), preferred_element_type=kind
    )


def _excluded(ids_b, exclude_bL) -> jax.Array:
    """(Sb, Nb) whether the state excludes the candidate: few ids inside other passes."""
    size, (states, excluded) = len(ids_b), exclude_bL.shape
    if excluded <= FEW_EXCLUDED:
        columns = [ids_b[:, None] == exclude_bL[:, i] for i in range(excluded)]
        return functools.reduce(jnp.logical_or, columns, jnp.zeros((), bool))
    none = jnp.zeros((size, states), bool)

    def by_place():  # candidates are consecutive rows, as in a full softmax
        place_bL = exclude_bL - ids_b[0]
        place_bL = jnp.where(place_bL < 0, size, place_bL)  # else −1 would be the last one
        return none.at[place_bL, jnp.arange(states)[:, None]].set(True, mode="drop")

    def one_by_one():
        def compare(i, found):
            return found | (ids_b[:, None] == exclude_bL[:, i])

        return lax.fori_loop(0, excluded, compare, none)

    consecutive = jnp.all(ids_b == ids_b[0] + jnp.arange(size, dtype=ids_b.dtype))
    return lax.cond(consecutive, by_place, one_by_one)


def _logits(states_bD, candidates_bD, bias_b, ids_b, exclude_bL) -> jax.Array:
    """(Sb, Nb) logits, −inf where masked."""
    logits = _products(states_bD, candidates_bD, bias_b.dtype) + bias_b[:, None]
    return jnp.where(_excluded(ids_b, exclude_bL), -jnp.inf, logits)


def _finite(maximum):
    """A column without candidates has maximum −inf; 0 keeps exp(−inf − max) at 0, not NaN."""
    return jnp.where(jnp.isneginf(maximum), 0, maximum)


def _times(left, weights_or_states, kind) -> jax.Array:
    """A matrix product in the operands' dtype, added up in the accumulator's."""
    return lax.dot(left, weights_or_states.astype(left.dtype), preferred_element_type=kind)


def _sums(left, right) -> jax.Array:
    """A matrix-vector product that rounds nothing (a 65th column in _times costs far more)."""
    return lax.dot(left, right, precision="highest")


# --- any cotangent: two passes, 8·N·S·D operations ---------------------------------------------


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def logsumexp(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, block_elements) -> jax.Array:
    """(N,) masked log-sum-exp; arguments as `fold_masks` returns them."""
    tile_n, tile_s = _tiles(len(states_ND), len(candidates_SD), block_elements)
    candidates = _candidate_blocks(candidates_SD, bias_S, ids_S, tile_s)

    def one_block(block):
        states_bD, exclude_bL = block

        def online(carry, candidate_block):
            maximum, total = carry
            logits = _logits(states_bD, *candidate_block, exclude_bL)
            new = jnp.maximum(maximum, jnp.max(logits, axis=0))
            kept = total * jnp.exp(maximum - _finite(new))
            return (new, kept + jnp.sum(jnp.exp(logits - _finite(new)), axis=0)), None

        start = jnp.full(tile_n, -jnp.inf, bias_S.dtype), jnp.zeros(tile_n, bias_S.dtype)
        (maximum, total), _ = lax.scan(online, start, candidates)
        return maximum + jnp.log(total)

    blocks = _blocks((states_ND, exclude_NL), tile_n)
    return lax.map(one_block, blocks).reshape(-1)[: len(states_ND)]


def _logsumexp_fwd(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, block_elements):
    lse_N = logsumexp(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, block_elements)
    return lse_N, (states_ND, candidates_SD, bias_S, ids_S, exclude_NL, lse_N)


def _logsumexp_bwd(block_elements, residuals, g_N):
    states_ND, candidates_SD, bias_S, ids_S, exclude_NL, lse_N = residuals
    tile_n, tile_s = _tiles(len(states_ND), len(candidates_SD), block_elements)
    candidates = _candidate_blocks(candidates_SD, bias_S, ids_S, tile_s)
    transposed, kind = jnp.swapaxes(candidates[0], 1, 2), bias_S.dtype
    # exp(logit − lse) needs no maximum: it is at most 1. An empty state has no gradient.
    g_N = jnp.where(jnp.isneginf(lse_N), 0, g_N).astype(kind)

    def one_block(carry, block):
        states_bD, exclude_bL, lse_b, g_b = block

        def one_tile(d_states, tile):
            candidate_block, candidates_Db = tile
            logits = _logits(states_bD, *candidate_block, exclude_bL)
            softmax = jnp.exp(logits - _finite(lse_b))
            narrow = softmax.astype(candidates_Db.dtype)
            d_block = _times(narrow, states_bD * g_b[:, None], kind), _sums(softmax, g_b)
            return d_states + _times(candidates_Db, narrow, kind), d_block

        start = jnp.zeros(states_bD.shape[::-1], kind)
        d_states, d_candidates = lax.scan(one_tile, start, (candidates, transposed))
        return jax.tree.map(jnp.add, carry, d_candidates), (d_states * g_b).T

    blocks = _blocks((states_ND, exclude_NL, lse_N, g_N), tile_n)
    zeros = jnp.zeros(candidates[0].shape, kind), jnp.zeros(candidates[1].shape, kind)
    (d_candidates, d_bias), d_states = lax.scan(one_block, zeros, blocks)
    d_states = d_states.reshape(-1, states_ND.shape[1])[: len(states_ND)].astype(states_ND.dtype)
    d_candidates = d_candidates.reshape(-1, candidates_SD.shape[1])[: len(candidates_SD)]
    d_bias = d_bias.reshape(-1)[: len(bias_S)]
    return d_states, d_candidates.astype(candidates_SD.dtype), d_bias, None, None


logsumexp.defvjp(_logsumexp_fwd, _logsumexp_bwd)


# --- the loss is known: its gradient in the forward pass, 6·N·S·D operations --------------------

StateLoss = Callable[..., jax.Array]


class PerState(NamedTuple):
    """What a block of states takes along; states and logits are differentiated.

    Attributes:
      states_ND: user states.
      logits_NL: logits of the labels and of the state's own columns.
      exclude_NL: ids that the state leaves out of its candidates, -1 where absent.
      active_N: whether the state counts.
      extras: a tree of arrays (N, ...) for the loss.
    """

    states_ND: jax.Array
    logits_NL: jax.Array
    exclude_NL: jax.Array
    active_N: jax.Array
    extras: Any


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 5))
def state_loss_sum(
    loss: StateLoss,
    per_state: PerState,
    candidates_SD: jax.Array,
    bias_S: jax.Array,
    ids_S: jax.Array,
    block_elements: int,
) -> tuple[jax.Array, jax.Array]:
    """Σ_n loss(logits_n, lse_n, extras_n), and lse_N for metrics (not differentiable).

    Differentiated, it walks blocks of states; each block's logits are made once and used three
    times (value, ∂states, ∂candidates), since the loss tells the cotangent of lse on the spot.
    The exponentials stand below a bound on the logits, |s|·max|c| + max bias, which saves the pass
    for the maximum; where too little is left of a state's sum, its block is done again, and the
    blocks after it, below the true maximum. States that are not active (no label) come last and
    their blocks are skipped: their loss and gradient are 0, and their lse is not to be used.
    """
    states_ND, logits_NL, exclude_NL, active_N, extras = per_state
    lse_N = logsumexp(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, block_elements)
    each_NL = loss(logits_NL, lse_N, extras)
    return jnp.sum(jnp.where(active_N[:, None], each_NL, 0)), lse_N


class _Walk(NamedTuple):
    """What the walk over blocks of states carries from block to block."""

    block: jax.Array
    by_maximum: jax.Array
    value: jax.Array
    d_candidates_SD: jax.Array
    d_bias_S: jax.Array
    lse: jax.Array
    d_states: jax.Array
    d_labels: jax.Array


def _state_loss_fwd(loss, *arguments):
    *arguments, block_elements = arguments
    bias_needed = arguments[2].perturbed
    per_state, candidates_SD, bias_S, ids_S = jax.tree.map(
        lambda x: x.value, arguments, is_leaf=lambda x: hasattr(x, "perturbed")
    )
    states_ND, active_N = per_state.states_ND, per_state.active_N
    kind, n, s = bias_S.dtype, len(states_ND), len(candidates_SD)
    tile = state_tile(n, s, block_elements)
    order_N = jnp.argsort(~active_N, stable=True)
    blocks = _blocks(jax.tree.map(lambda x: x[order_N], per_state), tile)
    candidates_DS, ones_S = candidates_SD.T, jnp.ones(s, kind)
    longest = jnp.max(_length(candidates_SD, kind), initial=0)
    top_bias = _finite(jnp.max(bias_S, initial=-jnp.inf))
    least = jnp.finfo(kind).tiny * 1e13  # what is lost to underflow is 1e-13 of it at the most

    def one_block(walk: _Walk) -> _Walk:
        states_bD, labels_bL, exclude_bL, active_b, extras_b = jax.tree.map(
            lambda x: x[walk.block], blocks
        )
        products = _products(states_bD, candidates_SD, kind)
        excluded = _excluded(ids_S, exclude_bL)

        def below_maximum():
            logits = jnp.where(excluded, -jnp.inf, products + bias_S[:, None])
            maximum = _finite(jnp.max(logits, axis=0))
            return jnp.exp(logits - maximum), maximum

        def below_bound():
            bound = longest * _length(states_bD, kind) + top_bias
            bound = jnp.where(jnp.isnan(bound), jnp.inf, bound)  # ∞ · 0 of overflown lengths
            return jnp.where(excluded, 0, jnp.exp(products + bias_S[:, None] - bound)), bound

        weights, top_b = lax.cond(walk.by_maximum, below_maximum, below_bound)
        total_b = _sums(ones_S, weights)
        lse_b = top_b + jnp.log(total_b)
        done = walk.by_maximum | jnp.all((total_b > least) | ~active_b)

        def block_loss(labels, lse):
            return jnp.sum(jnp.where(active_b[:, None], loss(labels, lse, extras_b), 0))

        value, (d_labels_b, d_lse) = jax.value_and_grad(block_loss, (0, 1))(labels_bL, lse_b)
        # ∂logits = softmax · d_lse, normalised after the products instead of element by element.
        some = done & (total_b > 0)
        scale_b = jnp.where(some, d_lse / jnp.where(some, total_b, 1), 0)
        narrow = weights.astype(candidates_SD.dtype)
        more = _times(narrow, states_bD * scale_b[:, None], kind)
        d_states_b = (_times(candidates_DS, narrow, kind) * scale_b).T
        return _Walk(
            block=walk.block + done,
            by_maximum=walk.by_maximum | ~done,
            value=walk.value + jnp.where(done, value, 0),
            d_candidates_SD=walk.d_candidates_SD + more,
            d_bias_S=walk.d_bias_S + _sums(weights, scale_b) if bias_needed else walk.d_bias_S,
            lse=walk.lse.at[walk.block].set(lse_b),
            d_states=walk.d_states.at[walk.block].set(d_states_b.astype(states_ND.dtype)),
            d_labels=walk.d_labels.at[walk.block].set(d_labels_b),
        )

    start = _Walk(
        block=jnp.zeros((), jnp.int32),
        by_maximum=jnp.array(candidates_SD.dtype == jnp.float16),  # no room below a bound
        value=jnp.zeros((), kind),
        d_candidates_SD=jnp.zeros(candidates_SD.shape, kind),
        d_bias_S=jnp.zeros(bias_S.shape, kind),
        lse=jnp.full(blocks.active_N.shape, -jnp.inf, kind),
        d_states=jnp.zeros_like(blocks.states_ND),
        d_labels=jnp.zeros_like(blocks.logits_NL),
    )
    needed = -(-jnp.sum(active_N) // tile)
    walk = lax.while_loop(lambda walk: walk.block < needed, one_block, start)
    lse_N, d_states, d_labels = (
        jnp.zeros((n, *x.shape[2:]), x.dtype).at[order_N].set(x.reshape(-1, *x.shape[2:])[:n])
        for x in (walk.lse, walk.d_states, walk.d_labels)
    )
    d_candidates = walk.d_candidates_SD.astype(candidates_SD.dtype)
    return (walk.value, lse_N), (d_states, d_labels, d_candidates, walk.d_bias_S)


def _state_loss_bwd(loss, block_elements, gradients, cotangents):
    g, _ = cotangents
    if isinstance(g, jax.custom_derivatives.SymbolicZero):
        g = jnp.zeros(g.shape, g.dtype)
    d_states, d_labels, d_candidates, d_bias = ((x * g).astype(x.dtype) for x in gradients)
    return PerState(d_states, d_labels, None, None, None), d_candidates, d_bias, None


state_loss_sum.defvjp(_state_loss_fwd, _state_loss_bwd, symbolic_zeros=True)


def _length(x_ND: jax.Array, kind) -> jax.Array:
    return jnp.linalg.norm(x_ND.astype(kind), axis=1)


# --- blocks -------------------------------------------------------------------------------------


def state_tile(n: int, s: int, block_elements: int) -> int:
    """States in a block that holds all candidates."""
    return max(1, min(n, MAX_STATES, max(MIN_STATES, block_elements // max(1, s))))


def _tiles(n: int, s: int, block_elements: int) -> tuple[int, int]:
    """Block sizes (states, candidates) of the two passes within the budget."""
    tile_n = max(1, min(n, MAX_STATES))
    return tile_n, max(1, min(s, MAX_CANDIDATES, block_elements // tile_n))


def _blocks(tree: Any, size: int) -> Any:
    """Leading axis N → (blocks, size), zero-padded."""

    def split(x):
        count = -(-len(x) // size)
        padded = jnp.pad(x, [(0, count * size - len(x))] + [(0, 0)] * (x.ndim - 1))
        return padded.reshape(count, size, *x.shape[1:])

    return jax.tree.map(split, tree)


def _candidate_blocks(candidates_SD, bias_S, ids_S, size: int) -> Any:
    """(vectors, bias, ids) in blocks; what pads the last block is masked by its bias."""
    vectors, ids = _blocks((candidates_SD, ids_S), size)
    count = len(vectors) * size
    bias = jnp.pad(bias_S, (0, count - len(bias_S)), constant_values=-jnp.inf)
    return vectors, bias.reshape(-1, size), ids
