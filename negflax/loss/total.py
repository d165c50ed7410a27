"""From states and candidates to the sum of an objective over all labels."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from negflax.loss.kernels import xla
from negflax.loss.labels import Labels, margins
from negflax.loss.logsumexp import (
    BLOCK_ELEMENTS,
    candidate_logsumexp,
    combine_over,
    fold_masks,
    implementation,
)
from negflax.loss.objectives import Objective, Scalars


def objective_sum(
    objective: Objective,
    states_ND: jax.Array,
    label_logits_NL: jax.Array,
    candidates_SD: jax.Array,
    *,
    bias_S: jax.Array,
    candidate_ids_S: jax.Array,
    label_ids_NL: jax.Array,
    r_NL: jax.Array,
    w_NL: jax.Array,
    block_elements: int = BLOCK_ELEMENTS,
    impl: str = "auto",
    split_over: tuple[str, ...] = (),
    scalars: Scalars | None = None,
    extra_logits_NE: jax.Array | None = None,
    extra_ids_NE: jax.Array | None = None,
    log_behaviour_NL: jax.Array | None = None,
    active_N: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """(Σ objective, margins_NL): differentiable in states, logits, candidates and bias.

    The gradient is made in the forward pass (6·N·S·D operations) by `xla` while a block of states
    fits the budget with all candidates, and these are on one device. Else `candidate_logsumexp`
    does it in two passes (8·N·S·D).

    Args:
      objective: see negflax.loss.objectives.
      states_ND: user states.
      label_logits_NL: z_y of the labels.
      candidates_SD: candidate vectors.
      bias_S: item bias − log q; −inf masks.
      candidate_ids_S: their rows.
      label_ids_NL: rows of the labels, −1 where absent; left out of the state's candidates.
      r_NL: weights of positive labels, 0 where none.
      w_NL: weights of negative labels, 0 where none.
      block_elements: budget for the logits alive at a time, in elements.
      impl: as in candidate_logsumexp.
      split_over: mesh axes over which the candidates are split, inside shard_map: each device has
        other candidates and other states. States are gathered, not candidates.
      scalars: of the objective, if it has any.
      extra_logits_NE: logits of the state's own columns (negflax/loss/columns.py).
      extra_ids_NE: their ids, each at most once a state, −1 where absent.
      log_behaviour_NL: log β of the labels, a constant (`reinforce`).
      active_N: states that count, by default those with a label; the others' r and w must be 0, and
        their margins are not to be used.

    Returns:
      The sum, a scalar, and the margins (N, L) behind a stop_gradient, for metrics.
    """
    n, labels = label_logits_NL.shape
    # Per-state arrays all: the fused path walks blocks of states. Logits are differentiated.
    extras = {
        "ids": label_ids_NL,
        "r": r_NL,
        "w": w_NL,
        "extra_ids": extra_ids_NE,
        "log_behaviour": log_behaviour_NL,
        "scalars": jax.tree.map(lambda x: jnp.broadcast_to(x, (n, 1)), scalars),
    }
    extras = jax.tree.map(jnp.asarray, extras)
    logits_NC = label_logits_NL
    if extra_logits_NE is not None:
        logits_NC = jnp.concatenate([label_logits_NL, extra_logits_NE], axis=1)

    def state_loss(logits_NC, lse_N, x):
        logits_NL, extra_NLE = logits_NC[:, :labels], None
        if x["extra_ids"] is not None:
            extra_NLE = _unlike_label(logits_NC[:, labels:], x["extra_ids"], x["ids"])
        margins_NL = margins(logits_NL, x["ids"], lse_N)
        seen = Labels(margins_NL, logits_NL, x["r"], x["w"], extra_NLE, x["log_behaviour"])
        return objective(seen, x["scalars"])

    if active_N is None:
        active_N = jnp.any(label_ids_NL >= 0, axis=1)
    split = bool(split_over) and lax.axis_size(split_over) > 1
    fits = len(candidates_SD) * xla.MIN_STATES <= block_elements
    if implementation(impl) == "xla" and fits and not split:
        bias_S, ids_S, exclude_NL = fold_masks(
            states_ND, candidates_SD, bias_S, candidate_ids_S, label_ids_NL, None
        )
        total, lse_N = xla.state_loss_sum(
            state_loss,
            states_ND,
            logits_NC,
            candidates_SD,
            bias_S,
            ids_S,
            exclude_NL,
            active_N,
            extras,
            block_elements,
        )
    else:
        lse_N = label_logsumexp(
            states_ND,
            candidates_SD,
            bias_S=bias_S,
            candidate_ids_S=candidate_ids_S,
            label_ids_NL=label_ids_NL,
            block_elements=block_elements,
            impl=impl,
            split_over=split_over,
        )
        total = jnp.sum(state_loss(logits_NC, lse_N, extras))
    return total, lax.stop_gradient(margins(label_logits_NL, label_ids_NL, lse_N))


def label_logsumexp(
    states_ND: jax.Array,
    candidates_SD: jax.Array,
    *,
    bias_S: jax.Array,
    candidate_ids_S: jax.Array,
    label_ids_NL: jax.Array,
    block_elements: int = BLOCK_ELEMENTS,
    impl: str = "auto",
    split_over: tuple[str, ...] = (),
) -> jax.Array:
    """(N,) log-sum-exps over the candidates that are no labels; arguments as in objective_sum."""
    lse = functools.partial(
        candidate_logsumexp,
        candidates_SD=candidates_SD,
        bias_S=bias_S,
        candidate_ids_S=candidate_ids_S,
        block_elements=block_elements,
        impl=impl,
    )
    if split_over and lax.axis_size(split_over) > 1:
        return _over_all_candidates(lse, states_ND, label_ids_NL, split_over)
    return lse(states_ND, exclude_ids_NL=label_ids_NL)


def _unlike_label(logits_NE: jax.Array, ids_NE: jax.Array, label_ids_NL: jax.Array) -> jax.Array:
    """(N, L, E) logits of the extra columns, −inf where absent or the label's own item."""
    same_NLE = label_ids_NL[:, :, None] == ids_NE[:, None, :]
    return jnp.where((ids_NE >= 0)[:, None] & ~same_NLE, logits_NE[:, None], -jnp.inf)


def _over_all_candidates(
    lse: Callable[..., jax.Array],
    states_ND: jax.Array,
    label_ids_NL: jax.Array,
    axes: tuple[str, ...],
) -> jax.Array:
    """(N,) log-sum-exps of this device's states over the candidates of all devices along `axes`.

    Every device sums over its own candidates for everyone's states; the parts are combined.
    """
    states, label_ids = lax.all_gather((states_ND, label_ids_NL), axes, tiled=True)
    combined = combine_over(lse(states, exclude_ids_NL=label_ids), axes)
    n = len(states_ND)
    return lax.dynamic_slice_in_dim(combined, lax.axis_index(axes) * n, n)
