"""The log-sum-exp in plain XLA: blocks of logits that are recomputed, never an N × S array.

A block is kept transposed, (S, N): then neither gradient product has to transpose the large array,
and maximum and sum run down its columns, vectorised over states. Shapes: N states, S candidates,
D width, E = D + 1; `b` marks one block.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

MIN_TILE = 128  # states, or candidates, in a block where the budget would allow fewer
MAX_STATES = 128  # in a block of known loss: more is no faster on a CPU, and skips less

# Masked means: the candidate's id is among the state's excluded ids, or its bias is −inf.


def _logits(states_bD, candidates_bD, bias_b, ids_b, exclude_bL) -> jax.Array:
    """(Sb, Nb) logits in the accumulator's dtype, −inf where masked."""
    logits = lax.dot_general(
        candidates_bD, states_bD, (((1,), (1,)), ((), ())), preferred_element_type=bias_b.dtype
    )
    excluded = functools.reduce(
        jnp.logical_or,
        [ids_b[:, None] == exclude_bL[:, i] for i in range(exclude_bL.shape[1])],
        jnp.zeros((), bool),
    )
    return jnp.where(excluded, -jnp.inf, logits + bias_b[:, None])


def _finite(maximum):
    """A column without candidates has maximum −inf; 0 keeps exp(−inf − max) at 0, not NaN."""
    return jnp.where(jnp.isneginf(maximum), 0, maximum)


def _down(weights_SN, augmented_ES) -> jax.Array:
    """(E, N) = augmentedᵀ · weights, in the weights' dtype (the accumulator's)."""
    weights = weights_SN.astype(augmented_ES.dtype)
    return lax.dot(augmented_ES, weights, preferred_element_type=weights_SN.dtype)


def _across(weights_SN, states_ND, scale_N) -> tuple[jax.Array, jax.Array]:
    """(∂candidates, ∂bias) = weights · (scale ⊙ [states, 1])."""
    operand, width = states_ND.dtype, states_ND.shape[1]
    scaled = (_augmented(states_ND) * scale_N[:, None]).astype(operand)
    both = lax.dot(weights_SN.astype(operand), scaled, preferred_element_type=weights_SN.dtype)
    return both[:, :width], both[:, width]


def _augmented(x_ND: jax.Array) -> jax.Array:
    """[x, 1] of width E = D + 1: a product with it adds up what it multiplies, for free."""
    return jnp.concatenate([x_ND, jnp.ones((len(x_ND), 1), x_ND.dtype)], axis=1)


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
    transposed = jnp.swapaxes(candidates[0], 1, 2)
    # exp(logit − lse) needs no maximum: it is at most 1. An empty state has no gradient.
    g_N = jnp.where(jnp.isneginf(lse_N), 0, g_N).astype(bias_S.dtype)

    def one_block(carry, block):
        states_bD, exclude_bL, lse_b, g_b = block

        def one_tile(d_states, tile):
            candidate_block, candidates_Db = tile
            logits = _logits(states_bD, *candidate_block, exclude_bL)
            softmax = jnp.exp(logits - _finite(lse_b))
            more = _down(softmax, candidates_Db)
            return d_states + more, _across(softmax, states_bD, g_b)

        start = jnp.zeros(states_bD.shape[::-1], bias_S.dtype)
        d_states, d_candidates = lax.scan(one_tile, start, (candidates, transposed))
        return jax.tree.map(jnp.add, carry, d_candidates), (d_states * g_b).T

    blocks, kind = _blocks((states_ND, exclude_NL, lse_N, g_N), tile_n), bias_S.dtype
    zeros = jnp.zeros(candidates[0].shape, kind), jnp.zeros(candidates[1].shape, kind)
    (d_candidates, d_bias), d_states = lax.scan(one_block, zeros, blocks)
    d_states = d_states.reshape(-1, states_ND.shape[1])[: len(states_ND)].astype(states_ND.dtype)
    d_candidates = d_candidates.reshape(-1, candidates_SD.shape[1])[: len(candidates_SD)]
    d_bias = d_bias.reshape(-1)[: len(bias_S)]
    return d_states, d_candidates.astype(candidates_SD.dtype), d_bias, None, None


logsumexp.defvjp(_logsumexp_fwd, _logsumexp_bwd)


# --- the loss is known: its gradient in the forward pass, 6·N·S·D operations --------------------

StateLoss = Callable[..., jax.Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 9))
def state_loss_sum(
    loss: StateLoss,
    states_ND: jax.Array,
    label_logits_NL: jax.Array,
    candidates_SD: jax.Array,
    bias_S: jax.Array,
    ids_S: jax.Array,
    exclude_NL: jax.Array,
    active_N: jax.Array,
    extras: Any,
    block_elements: int,
) -> tuple[jax.Array, jax.Array]:
    """Σ_n loss(label_logits_n, lse_n, extras_n), and lse_N for metrics (not differentiable).

    Differentiated, it walks blocks of states; each block's logits are made once and used three
    times (value, ∂states, ∂candidates), since the loss tells the cotangent of lse on the spot.
    States that are not active (no label) come last and their blocks are skipped: their loss and
    gradient are 0, and their lse is not to be used.
    """
    lse_N = logsumexp(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, block_elements)
    each_NL = loss(label_logits_NL, lse_N, extras)
    return jnp.sum(jnp.where(active_N[:, None], each_NL, 0)), lse_N


def _state_loss_fwd(
    loss, states_ND, label_logits_NL, candidates_SD, bias_S, ids_S, exclude_NL, active_N, extras,
    block_elements,
):  # fmt: skip
    kind, n = bias_S.dtype, len(states_ND)
    tile = min(n, MAX_STATES, max(MIN_TILE, block_elements // max(1, len(candidates_SD))))
    order_N = jnp.argsort(~active_N, stable=True)
    sorted_inputs = jax.tree.map(
        lambda x: x[order_N], (states_ND, label_logits_NL, exclude_NL, active_N, extras)
    )
    blocks = _blocks(sorted_inputs, max(1, tile))
    width, augmented_ES = candidates_SD.shape[1], _augmented(candidates_SD).T

    def one_block(i, carry):
        value, d_candidates, d_bias, lse, d_states, d_labels = carry
        states_bD, labels_bL, exclude_bL, active_b, extras_b = jax.tree.map(lambda x: x[i], blocks)
        logits = _logits(states_bD, candidates_SD, bias_S, ids_S, exclude_bL)
        maximum = _finite(jnp.max(logits, axis=0))
        weights = jnp.exp(logits - maximum)
        down_EN = _down(weights, augmented_ES)
        # Operands narrower than the accumulator would round what they add up.
        total = down_EN[width] if candidates_SD.dtype == kind else jnp.sum(weights, axis=0)
        lse_b = maximum + jnp.log(total)

        def block_loss(labels, lse):
            each = loss(labels, lse, extras_b)
            return jnp.sum(jnp.where(active_b[:, None], each, 0))

        block_value, (d_labels_b, d_lse) = jax.value_and_grad(block_loss, (0, 1))(labels_bL, lse_b)
        # ∂logits = softmax · d_lse, normalised after the products instead of element by element.
        scale = jnp.where(total > 0, d_lse / jnp.where(total > 0, total, 1), 0)
        d_states_b = (down_EN[:width] * scale).T
        more, more_bias = _across(weights, states_bD, scale)
        return (
            value + block_value,
            d_candidates + more,
            d_bias + more_bias,
            lse.at[i].set(lse_b),
            d_states.at[i].set(d_states_b.astype(d_states.dtype)),
            d_labels.at[i].set(d_labels_b),
        )

    start = (
        jnp.zeros((), kind),
        jnp.zeros(candidates_SD.shape, kind),
        jnp.zeros(bias_S.shape, kind),
        jnp.full(blocks[3].shape, -jnp.inf, kind),
        jnp.zeros_like(blocks[0]),
        jnp.zeros_like(blocks[1]),
    )
    needed = -(-jnp.sum(active_N) // max(1, tile))
    value, d_candidates, d_bias, *sorted_outputs = lax.fori_loop(0, needed, one_block, start)
    lse_N, d_states, d_labels = (
        jnp.zeros((n, *x.shape[2:]), x.dtype).at[order_N].set(x.reshape(-1, *x.shape[2:])[:n])
        for x in sorted_outputs
    )
    gradients = d_states, d_labels, d_candidates.astype(candidates_SD.dtype), d_bias
    return (value, lse_N), gradients


def _state_loss_bwd(loss, block_elements, gradients, cotangents):
    g, _ = cotangents
    d_states, d_labels, d_candidates, d_bias = ((x * g).astype(x.dtype) for x in gradients)
    return d_states, d_labels, d_candidates, d_bias, None, None, None, None


state_loss_sum.defvjp(_state_loss_fwd, _state_loss_bwd)


# --- blocks -------------------------------------------------------------------------------------


def _tiles(n: int, s: int, block_elements: int) -> tuple[int, int]:
    """Block sizes (states, candidates) within the budget, of few states: small blocks are fast."""
    tile_n = max(1, min(n, MAX_STATES))
    return tile_n, max(1, min(s, max(MIN_TILE, block_elements // tile_n)))


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
