"""From states, labels and candidates to the sum of an objective over all labels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from negflax.loss.kernels import one_pass, xla
from negflax.loss.labels import ExtraColumns, LabelBatch, Labels, alone, margins, require_shapes
from negflax.loss.logsumexp import (
    DEFAULTS,
    CandidateSet,
    KernelOptions,
    implementation,
    label_logsumexp,
)
from negflax.loss.masks import fold_masks
from negflax.loss.objectives import Objective, Scalars

ONE_PASS = ("xla", "mosaic_tpu")  # implementations; docs/kernel.md says why the third is none


def objective_sum(
    objective: Objective,
    states_ND: jax.Array,
    labels: LabelBatch,
    candidates: CandidateSet,
    *,
    scalars: Scalars | None = None,
    active_N: jax.Array | None = None,
    options: KernelOptions = DEFAULTS,
) -> tuple[jax.Array, jax.Array]:
    """(Σ objective, margins_NL): differentiable in states, logits, candidates and bias.

    The gradient is made in the forward pass (6·N·S·D operations) by `xla` and `mosaic_tpu` while a
    block of states fits the budget with all candidates, and these are on one device. Else, and with
    `mosaic_gpu`, `candidate_logsumexp` does it in two passes (8·N·S·D).

    Args:
      objective: see negflax.loss.objectives.
      states_ND: user states.
      labels: of the states.
      candidates: what the labels are compared with.
      scalars: of the objective, if it has any.
      active_N: states that count, by default those with a label; the others' r and w must be 0, and
        their margins are not to be used.
      options: how the log-sum-exp is computed.

    Returns:
      The sum, a scalar, and the margins (N, L) behind a stop_gradient, for metrics; +inf of labels
      without any other item, which count nowhere.
    """
    _check(states_ND, labels, active_N)
    n, count = labels.logits_NL.shape
    logits_NC = labels.logits_NL
    if labels.extra is not None:
        logits_NC = jnp.concatenate([logits_NC, labels.extra.logits_NE], axis=1)
    # Per-state arrays all: the fused path walks blocks of states. Logits are differentiated.
    extras = {
        "ids": labels.ids_NL,
        "r": labels.r_NL,
        "w": labels.w_NL,
        "extra_ids": None if labels.extra is None else labels.extra.ids_NE,
        "log_behaviour": labels.log_behaviour_NL,
        "scalars": jax.tree.map(lambda x: jnp.broadcast_to(x, (n, 1)), scalars),
    }
    extras = jax.tree.map(jnp.asarray, extras)

    def state_loss(logits_NC, lse_N, x):
        logits_NL, extra_NLE = logits_NC[:, :count], None
        if x["extra_ids"] is not None:
            extra_NLE = _unlike_label(ExtraColumns(logits_NC[:, count:], x["extra_ids"]), x["ids"])
        margins_NL = margins(logits_NL, x["ids"], lse_N)
        r_NL, w_NL = (jnp.where(alone(x["ids"], lse_N), 0, x[name]) for name in "rw")
        seen = Labels(margins_NL, logits_NL, r_NL, w_NL, extra_NLE, x["log_behaviour"])
        return objective(seen, x["scalars"])

    fits = len(candidates.vectors_SD) * xla.MIN_STATES <= options.block_elements
    if implementation(options.impl) in ONE_PASS and fits and not options.is_split():
        if active_N is None:
            active_N = jnp.any(labels.ids_NL >= 0, axis=1)
        bias_S, ids_S, exclude_NL = fold_masks(
            states_ND,
            candidates.vectors_SD,
            candidates.bias_S,
            candidates.ids_S,
            labels.excluded_NX,
        )
        per_state = one_pass.PerState(states_ND, logits_NC, exclude_NL, active_N, extras)
        total, lse_N = one_pass.state_loss_sum(
            state_loss,
            per_state,
            candidates.vectors_SD,
            bias_S,
            ids_S,
            options,
        )
    else:
        lse_N = label_logsumexp(states_ND, candidates, labels.excluded_NX, options)
        total = jnp.sum(state_loss(logits_NC, lse_N, extras))
    margins_NL = lax.stop_gradient(margins(labels.logits_NL, labels.ids_NL, lse_N))
    return total, jnp.where(alone(labels.ids_NL, lse_N), jnp.inf, margins_NL)


def _check(states_ND: jax.Array, labels: LabelBatch, active_N: jax.Array | None) -> None:
    """Raises a ValueError where an array does not belong to these states and labels."""
    n, shape = len(states_ND), jnp.shape(labels.logits_NL)
    require_shapes((n, *shape[1:]), logits_NL=labels.logits_NL)
    alike = {"r_NL": labels.r_NL, "w_NL": labels.w_NL, "ids_NL": labels.ids_NL}
    require_shapes(shape, **alike, log_behaviour_NL=labels.log_behaviour_NL)
    require_shapes((n,), active_N=active_N)
    if labels.extra is not None:
        columns = jnp.shape(labels.extra.logits_NE)
        require_shapes((n, *columns[1:]), logits_NE=labels.extra.logits_NE)
        require_shapes(columns, ids_NE=labels.extra.ids_NE)


def _unlike_label(extra: ExtraColumns, label_ids_NL: jax.Array) -> jax.Array:
    """(N, L, E) logits of the extra columns, −inf where absent or the label's own item."""
    ids_NE, logits_NE = extra.ids_NE, extra.logits_NE
    same_NLE = label_ids_NL[:, :, None] == ids_NE[:, None, :]
    return jnp.where((ids_NE >= 0)[:, None] & ~same_NLE, logits_NE[:, None], -jnp.inf)
