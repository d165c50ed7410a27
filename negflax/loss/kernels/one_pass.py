"""Loss and gradient in one forward pass, with 6·N·S·D operations.

A loop over blocks of states computes the logits of each block once and uses them three times: for
the value, ∂states and ∂candidates. This needs the loss, which gives the cotangent of lse within the
block.

The exponentials are scaled by an upper bound on the logits, ‖state‖·max‖candidate‖ + max bias,
which saves the pass that finds the maximum. If a state's sum is then too small to be accurate, a
CPU repeats that block and those after it with the true maximum. Accelerators, where a branch in the
loop would be slow, repeat the whole loop. On accelerators the sums of a block are an additional
column of its matrix products: the column costs nothing on a wide matrix unit, and a separate sum
would read the block once more. On a CPU the separate sum is faster. What is done to the logits of a
block is in `block_weights.py`: XLA does it, or a kernel.

Shapes: N states, S candidates, D width; `b` marks one block.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from negflax.loss.kernels import xla
from negflax.loss.kernels.block_weights import block_states, walks_as_cpu, weigher
from negflax.loss.kernels.xla import contract
from negflax.loss.logsumexp import KernelOptions, candidate_logsumexp

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
    options: KernelOptions,
) -> tuple[jax.Array, jax.Array]:
    """Σ_n loss(logits_n, lse_n, extras_n), and lse_N for metrics (not differentiable).

    States that are not active (no label) come last and their blocks are skipped: their loss and
    gradient are 0, and their lse is not to be used. Sums are of the bias's dtype. The options name
    `xla` or `mosaic_tpu`.
    """
    states_ND, logits_NL, exclude_NL, active_N, extras = per_state
    lse_N = candidate_logsumexp(
        states_ND,
        candidates_SD,
        bias_S=bias_S,
        candidate_ids_S=ids_S,
        exclude_ids_NL=exclude_NL,
        options=options,
    )
    each_NL = loss(logits_NL, lse_N, extras)
    return jnp.sum(jnp.where(active_N[:, None], each_NL, 0)), lse_N


class _Walk(NamedTuple):
    """What the walk over blocks of states carries from block to block.

    Attributes:
      block: the next one.
      by_maximum: whether a bound has been too far above the logits.
      value: Σ loss.
      d_candidates: ∂ of the candidates, and on accelerators of the bias as its last column.
      d_bias_S: ∂ of the bias, on a CPU.
      lse: of the blocks that are done; and so the next ones.
      d_states: ∂ of the states.
      d_labels: ∂ of the labels' logits.
    """

    block: jax.Array
    by_maximum: jax.Array
    value: jax.Array
    d_candidates: jax.Array
    d_bias_S: jax.Array
    lse: jax.Array
    d_states: jax.Array
    d_labels: jax.Array


def _state_loss_fwd(loss, *arguments):
    *arguments, options = arguments
    bias_needed = arguments[2].perturbed
    arguments = jax.tree.map(
        lambda x: x.value, arguments, is_leaf=lambda x: hasattr(x, "perturbed")
    )
    walked = functools.partial(_walked, loss, bias_needed, options)
    # Under vmap, one walk after the other: both sides of a mapped branch would be computed, and all
    # that a mapped loop carries copied in every round.
    return jax.custom_batching.sequential_vmap(walked)(*arguments)


def _walked(
    loss: StateLoss,
    bias_needed: bool,
    options: KernelOptions,
    per_state: PerState,
    *candidates: jax.Array,
) -> tuple[Any, Any]:
    """(Σ loss, lse_N) and the gradients; `candidates` are their vectors, biases and ids."""
    candidates_SD, bias_S, ids_S = candidates
    states_ND, active_N = per_state.states_ND, per_state.active_N
    kind, n, s = bias_S.dtype, len(states_ND), len(candidates_SD)
    on_cpu = walks_as_cpu(options)
    column = int(not on_cpu)
    tile = block_states(n, candidates_SD, options)
    order_N = jnp.argsort(~active_N, stable=True)
    order_P = jnp.pad(order_N, (0, -n % tile))  # whole blocks: more states, which do not count
    blocks = jax.tree.map(lambda x: x[order_P].reshape(-1, tile, *x.shape[1:]), per_state)
    counts_P = active_N[order_P] & (jnp.arange(len(order_P)) < n)
    blocks = blocks._replace(active_N=counts_P.reshape(-1, tile))
    weigh = weigher(candidates_SD, bias_S, ids_S, blocks.exclude_NL, options)
    least = jnp.finfo(kind).tiny * 1e13  # what is lost to underflow is 1e-13 of it at the most

    def one_block(walk: _Walk, by_maximum: bool | jax.Array) -> _Walk:
        states_bD, labels_bL, exclude_bL, active_b, extras_b = jax.tree.map(
            lambda x: x[walk.block], blocks
        )
        weights, narrow, mean_Db, total_b, top_b = weigh(states_bD, exclude_bL, by_maximum)
        lse_b = top_b + jnp.log(total_b)
        done = by_maximum | jnp.all((total_b > least) | ~active_b)

        def block_loss(labels, lse):
            return jnp.sum(jnp.where(active_b[:, None], loss(labels, lse, extras_b), 0))

        value, (d_labels_b, d_lse) = jax.value_and_grad(block_loss, (0, 1))(labels_bL, lse_b)
        # ∂logits = softmax · d_lse, normalised after the products instead of element by element.
        some = done & (total_b > 0)
        scale_b = jnp.where(some, d_lse / jnp.where(some, total_b, 1), 0)
        scaled_bD = states_bD * scale_b[:, None]
        if not on_cpu:
            scaled_bD = jnp.concatenate([scaled_bD.astype(kind), scale_b[:, None]], axis=1)
        more = contract(narrow, scaled_bD, (1, 0), kind)
        d_states_b = (mean_Db * scale_b).T
        summed = bias_needed and on_cpu
        return _Walk(
            block=walk.block + (done if on_cpu else 1),
            by_maximum=walk.by_maximum | ~done,
            value=walk.value + jnp.where(done, value, 0),
            d_candidates=walk.d_candidates + more,
            d_bias_S=walk.d_bias_S + xla.sums(weights, scale_b) if summed else walk.d_bias_S,
            lse=walk.lse.at[walk.block].set(lse_b),
            d_states=walk.d_states.at[walk.block].set(d_states_b.astype(states_ND.dtype)),
            d_labels=walk.d_labels.at[walk.block].set(d_labels_b),
        )

    no_room = candidates_SD.dtype == jnp.float16  # below a bound
    start = _Walk(
        block=jnp.zeros((), jnp.int32),
        by_maximum=jnp.array(no_room),
        value=jnp.zeros((), kind),
        d_candidates=jnp.zeros((s, candidates_SD.shape[1] + column), kind),
        d_bias_S=jnp.zeros(bias_S.shape, kind),
        lse=jnp.full(blocks.active_N.shape, -jnp.inf, kind),
        d_states=jnp.zeros_like(blocks.states_ND),
        d_labels=jnp.zeros_like(blocks.logits_NL),
    )
    needed = -(-jnp.sum(active_N) // tile)

    def walk_all(by_maximum: bool | None) -> _Walk:
        def body(walk: _Walk) -> _Walk:
            return one_block(walk, walk.by_maximum if by_maximum is None else by_maximum)

        return lax.while_loop(lambda walk: walk.block < needed, body, start)

    if on_cpu:
        walk = walk_all(None)
    else:
        walk = walk_all(no_room)
        if not no_room:
            walk = lax.cond(walk.by_maximum, lambda _: walk_all(True), lambda walk: walk, walk)
    lse_N, d_states, d_labels = (
        jnp.zeros((n, *x.shape[2:]), x.dtype).at[order_N].set(x.reshape(-1, *x.shape[2:])[:n])
        for x in (walk.lse, walk.d_states, walk.d_labels)
    )
    d_candidates, d_bias_S = walk.d_candidates, walk.d_bias_S
    if column:
        d_candidates, d_bias_S = d_candidates[:, :-1], d_candidates[:, -1]
    d_candidates = d_candidates.astype(candidates_SD.dtype)
    return (walk.value, lse_N), (d_states, d_labels, d_candidates, d_bias_S)


def _state_loss_bwd(loss, options, gradients, cotangents):
    g, _ = cotangents
    if isinstance(g, jax.custom_derivatives.SymbolicZero):
        g = jnp.zeros(g.shape, g.dtype)
    d_states, d_labels, d_candidates, d_bias = ((x * g).astype(x.dtype) for x in gradients)
    return PerState(d_states, d_labels, None, None, None), d_candidates, d_bias, None


state_loss_sum.defvjp(_state_loss_fwd, _state_loss_bwd, symbolic_zeros=True)
