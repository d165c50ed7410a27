"""The objective of a step: states and vectors → sum over this device's labels.

Shapes: B rows, T steps, N = B·T states, L labels a state, E extra columns, S candidates, D width.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.nn import softplus

from negflax.config import Config
from negflax.data.batches import Batch
from negflax.loss import columns, label_logsumexp, objective_sum, objectives
from negflax.loss.candidates import Candidates
from negflax.loss.labels import first_of_equals, margins
from negflax.model import Recommender
from negflax.model.recommender import BEHAVIOUR_HEAD
from negflax.train.weights import LossWeights


def labels_loss(
    config: Config,
    model: Recommender,
    dense: Any,
    states_BTD: jax.Array,
    vectors: dict[str, jax.Array],
    batch: Batch,
    present_BTL: jax.Array,
    candidates: Candidates,
    loss_weights: LossWeights,
    w: jax.Array,
    first_row: jax.Array,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """(Σ objective, (margins_NL, logits_NL of present labels)), states in the order (B, T).

    Args:
      config: the run.
      model: what vectors and parameters mean.
      dense: parameters, for the behaviour head.
      states_BTD: user states.
      vectors: rows of `label` (B, T, L, D) and `candidate` (S, D).
      batch: labels and weights.
      present_BTL: which labels count.
      candidates: ids and log q.
      loss_weights: run-time scalars.
      w: weight of the negative term.
      first_row: number of this device's first row in the batch.
    """
    width, labels = config.model.embedding, present_BTL.shape[-1]
    states_ND = states_BTD.reshape(-1, width)
    label_BTLD, label_bias = model.output_vectors(vectors["label"])
    logits_BTL = jnp.einsum("btd,btld->btl", states_BTD, label_BTLD) + label_bias
    candidate_SD, item_bias_S = model.output_vectors(vectors["candidate"])
    log_q_S = candidates.log_q_S.astype(item_bias_S.dtype)

    def per_label(x_BTL: jax.Array) -> jax.Array:
        return jnp.where(present_BTL, x_BTL, 0).reshape(-1, labels).astype(states_ND.dtype)

    label_ids_NL = jnp.where(present_BTL, batch.label_ids_BTL, -1).reshape(-1, labels)
    r_NL, w_NL = per_label(batch.positive_weight_BTL), per_label(batch.negative_weight_BTL)
    logits_NL = logits_BTL.reshape(-1, labels)
    contract = {
        "candidate_ids_S": candidates.ids_S,
        "label_ids_NL": label_ids_NL,
        "block_elements": config.loss.block_elements,
        "impl": config.loss.implementation,
        "split_over": config.mesh.rows if config.loss.candidates == "full" else (),
    }
    extra_logits_NE, extra_ids_NE = _extra_columns(
        config,
        states_BTD,
        (label_BTLD, label_bias),
        (candidate_SD, item_bias_S),
        batch,
        present_BTL,
        candidates,
        first_row,
    )

    total, log_behaviour_NL = jnp.zeros((), states_ND.dtype), None
    if config.model.behaviour_head:
        head_loss_NL = _behaviour_loss(
            dense[BEHAVIOUR_HEAD],
            states_ND,
            label_BTLD.reshape(-1, labels, width),
            label_bias.reshape(-1, labels),
            candidate_SD,
            item_bias_S - log_q_S,
            contract,
        )
        total = jnp.sum(jnp.where(label_ids_NL >= 0, head_loss_NL, 0))
        log_behaviour_NL = -lax.stop_gradient(head_loss_NL)

    objective = functools.partial(
        objective_sum,
        objectives.get(config.loss.objective),
        states_ND,
        logits_NL,
        candidate_SD,
        scalars=loss_weights.objective,
        extra_logits_NE=extra_logits_NE,
        extra_ids_NE=extra_ids_NE,
        log_behaviour_NL=log_behaviour_NL,
        **contract,
    )
    corrected_S = item_bias_S - log_q_S
    if config.loss.negative_candidates == "corrected":
        value, margins_NL = objective(bias_S=corrected_S, r_NL=loss_weights.r * r_NL, w_NL=w * w_NL)
    else:  # each kind of label over its own candidates: states with both count in both
        within_S = jnp.where(jnp.isposinf(log_q_S), -jnp.inf, item_bias_S)
        positive, margins_NL = objective(
            bias_S=corrected_S,
            r_NL=loss_weights.r * r_NL,
            w_NL=0 * w_NL,
            active_N=jnp.any(r_NL > 0, axis=1),
        )
        negative, within_NL = objective(
            bias_S=within_S, r_NL=0 * r_NL, w_NL=w * w_NL, active_N=jnp.any(w_NL > 0, axis=1)
        )
        value, margins_NL = positive + negative, jnp.where(w_NL > 0, within_NL, margins_NL)
    shown_NL = lax.stop_gradient(jnp.where(label_ids_NL >= 0, logits_NL, 0))
    return total + value, (margins_NL, shown_NL)


def _extra_columns(config, states_BTD, label, candidate, batch, present_BTL, drawn, first_row):
    """(logits_NE, ids_NE) of the state's own columns; (None, None) for most objectives."""
    rows, steps, width = states_BTD.shape
    if config.loss.objective in ("ssm_upweighted", "contrastive"):
        negative_BTL = present_BTL & (batch.negative_weight_BTL > 0)
        place_BTE = columns.recent_negatives(
            negative_BTL, batch.reset_BT, config.loss.recent_negatives
        )
        there, at = place_BTE >= 0, jnp.maximum(place_BTE, 0)
        take = jax.vmap(lambda x, place: x[place])  # along T·L, row by row
        vectors_BTED = take(label[0].reshape(rows, -1, width), at)
        logits_BTE = jnp.einsum("btd,bted->bte", states_BTD, vectors_BTED)
        logits_BTE += take(label[1].reshape(rows, -1), at)
        ids = jnp.where(there, take(batch.label_ids_BTL.reshape(rows, -1), at), -1)
        ids_NE = ids.reshape(rows * steps, -1)
        ids_NE = jnp.where(first_of_equals(ids_NE), ids_NE, -1)
    elif config.loss.objective == "gbce":
        place_BK = columns.candidate_windows(
            first_row, rows, config.loss.gbce_negatives, len(drawn.ids_S)
        )
        logits_BTE = jnp.einsum("btd,bkd->btk", states_BTD, candidate[0][place_BK])
        logits_BTE += candidate[1][place_BK][:, None]
        ids_BK = drawn.ids_S[place_BK]
        ids_BK = jnp.where(first_of_equals(ids_BK), ids_BK, -1)
        ids_NE = jnp.repeat(ids_BK, steps, axis=0)
    else:
        return None, None
    return logits_BTE.reshape(rows * steps, -1), ids_NE


def _behaviour_loss(head_DD, states_ND, label_NLD, label_bias_NL, candidate_SD, bias_S, contract):
    """(N, L) −log β of the labels, a softmax of its own on the state behind a stop_gradient.

    The head learns which item was logged, liked or not, and moves nothing but itself (Chen et al.
    2019, section 4.3, which gives it item vectors of its own; here they are the policy's).
    """
    frozen = lax.stop_gradient((states_ND, label_NLD, label_bias_NL, candidate_SD, bias_S))
    states_ND, label_NLD, label_bias_NL, candidate_SD, bias_S = frozen
    head_ND = states_ND @ head_DD
    logits_NL = jnp.einsum("nd,nld->nl", head_ND, label_NLD) + label_bias_NL
    lse_N = label_logsumexp(head_ND, candidate_SD, bias_S=bias_S, **contract)
    return softplus(-margins(logits_NL, contract["label_ids_NL"], lse_N))
