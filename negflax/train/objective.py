"""The objective of a step: states and vectors → sum over this device's labels.

Shapes: B rows, T steps, N = B·T states, L labels a state, E extra columns, S candidates, D width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.nn import softplus

from negflax.config import OBJECTIVES, Config
from negflax.data.batch import Batch
from negflax.loss import extra_columns, label_smoothing, objectives
from negflax.loss.candidates import Candidates
from negflax.loss.labels import ExtraColumns, LabelBatch, first_of_equals, margins
from negflax.loss.logsumexp import CandidateSet, KernelOptions, label_logsumexp
from negflax.loss.total import objective_sum
from negflax.model.encoders.products import in_force
from negflax.model.recommender import BEHAVIOUR_HEAD, Recommender, Vectors
from negflax.train.weights import LossWeights


class StepInputs(NamedTuple):
    """What the loss of a step reads besides parameters and rows; nothing of it is differentiated.

    Attributes:
      batch: this device's rows; −1 marks absent labels.
      candidates: rows and log q of the candidates.
      loss_weights: run-time scalars.
      negative_scale: global factor of the negative term in this step.
      first_row: number of this device's first row in the whole batch.
    """

    batch: Batch
    candidates: Candidates
    loss_weights: LossWeights
    negative_scale: jax.Array
    first_row: jax.Array

    @property
    def present_BTL(self) -> jax.Array:
        """Which labels count: those that are there and weigh anything."""
        r_BTL, w_BTL = self.batch.positive_weight_BTL, self.batch.negative_weight_BTL
        return (self.batch.label_ids_BTL >= 0) & (r_BTL + w_BTL > 0)


class Scored(NamedTuple):
    """Output vectors and their biases: (…, D) and (…,)."""

    vectors: jax.Array
    bias: jax.Array


def labels_loss(
    config: Config,
    model: Recommender,
    dense: Any,
    states_BTD: jax.Array,
    vectors: Vectors,
    inputs: StepInputs,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """(Σ objective, (margins_NL, logits_NL of present labels)), states in the order (B, T).

    Args:
      config: the run.
      model: what vectors and parameters mean.
      dense: parameters, for the behaviour head.
      states_BTD: user states.
      vectors: rows of `label` (B, T, L, D) and `candidate` (S, D).
      inputs: labels, candidates and weights.
    """
    batch, width, count = inputs.batch, config.model.embedding, inputs.present_BTL.shape[-1]
    states_ND, options = states_BTD.reshape(-1, width), _options(config)
    label = Scored(*model.output_vectors(vectors["label"]))
    item = Scored(*model.output_vectors(vectors["candidate"]))
    logits_BTL = jnp.einsum("btd,btld->btl", states_BTD, label.vectors) + label.bias
    log_q_S = inputs.candidates.log_q_S.astype(item.bias.dtype)
    corrected = CandidateSet(item.vectors, item.bias - log_q_S, inputs.candidates.ids_S)

    def per_label(x_BTL: jax.Array) -> jax.Array:
        return jnp.where(inputs.present_BTL, x_BTL, 0).reshape(-1, count).astype(states_ND.dtype)

    labels = LabelBatch(
        ids_NL=jnp.where(inputs.present_BTL, batch.label_ids_BTL, -1).reshape(-1, count),
        logits_NL=logits_BTL.reshape(-1, count),
        r_NL=per_label(batch.positive_weight_BTL),
        w_NL=per_label(batch.negative_weight_BTL),
        extra=_extra_columns(config, states_BTD, label, item, inputs),
        seen_NM=seen_items(batch) if config.loss.exclude_seen else None,
    )
    total = jnp.zeros((), states_ND.dtype)
    if config.model.behaviour_head:
        flat = Scored(label.vectors.reshape(-1, count, width), label.bias.reshape(-1, count))
        head_loss_NL = _behaviour_loss(
            dense[BEHAVIOUR_HEAD], states_ND, flat, labels.ids_NL, corrected, options
        )
        total = jnp.sum(jnp.where(labels.ids_NL >= 0, head_loss_NL, 0))
        labels = labels._replace(log_behaviour_NL=-lax.stop_gradient(head_loss_NL))

    def objective(
        candidates: CandidateSet, r_NL: jax.Array, w_NL: jax.Array, active_N: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        return objective_sum(
            objectives.get(config.loss.objective),
            states_ND,
            labels._replace(r_NL=r_NL, w_NL=w_NL),
            candidates,
            scalars=inputs.loss_weights.objective,
            active_N=active_N,
            options=options,
        )

    r_NL, w_NL = inputs.loss_weights.r * labels.r_NL, inputs.negative_scale * labels.w_NL
    if config.loss.negative_candidates == "corrected":
        value, margins_NL = objective(corrected, r_NL, w_NL, None)
    else:  # each kind of label over its own candidates: states with both count in both
        within_S = jnp.where(jnp.isposinf(log_q_S), -jnp.inf, item.bias)
        has_r_N, has_w_N = (jnp.any(x > 0, axis=1) for x in (labels.r_NL, labels.w_NL))
        positive, margins_NL = objective(corrected, r_NL, 0 * w_NL, has_r_N)
        negative, within_NL = objective(
            corrected._replace(bias_S=within_S), 0 * r_NL, w_NL, has_w_N
        )
        value, margins_NL = positive + negative, jnp.where(labels.w_NL > 0, within_NL, margins_NL)
    if config.loss.label_smoothing:
        mean = label_smoothing.mean_item(item.vectors, item.bias, log_q_S, options.split_over)
        smoothed = label_smoothing.smoothing_sum(states_ND, labels.logits_NL, r_NL, *mean)
        value += config.loss.label_smoothing * smoothed
    shown_NL = lax.stop_gradient(jnp.where(labels.ids_NL >= 0, labels.logits_NL, 0))
    return total + value, (margins_NL, shown_NL)


def seen_items(batch: Batch) -> jax.Array:
    """(N, T) rows of the items that came before in the state's row, −1 where none."""
    rows, steps = batch.item_ids_BT.shape
    user_BT = jnp.cumsum(batch.reset_BT, axis=1)
    same_BTT = user_BT[:, :, None] == user_BT[:, None, :]
    before_BTT = same_BTT & jnp.tril(jnp.ones((steps, steps), bool))
    items_B1T = batch.item_ids_BT[:, None]
    return jnp.where(before_BTT & (items_B1T > 0), items_B1T, -1).reshape(rows * steps, steps)


def _options(config: Config) -> KernelOptions:
    return KernelOptions(
        impl=config.loss.implementation,
        block_elements=config.loss.block_elements,
        split_over=config.mesh.rows if config.loss.candidates == "full" else (),
        precision=in_force(config.model),
    )


def _extra_columns(
    config: Config, states_BTD: jax.Array, label: Scored, item: Scored, inputs: StepInputs
) -> ExtraColumns | None:
    """The state's own columns, for the objectives that ask for some."""
    rows, steps, width = states_BTD.shape
    batch, asked = inputs.batch, OBJECTIVES.traits[config.loss.objective].extra
    if asked == "recent_negatives":
        negative_BTL = inputs.present_BTL & (batch.negative_weight_BTL > 0)
        place_BTE = extra_columns.recent_negatives(
            negative_BTL, batch.reset_BT, config.loss.recent_negatives
        )
        there, at = place_BTE >= 0, jnp.maximum(place_BTE, 0)
        take = jax.vmap(lambda x, place: x[place])  # along T·L, row by row
        vectors_BTED = take(label.vectors.reshape(rows, -1, width), at)
        logits_BTE = jnp.einsum("btd,bted->bte", states_BTD, vectors_BTED)
        logits_BTE += take(label.bias.reshape(rows, -1), at)
        ids = jnp.where(there, take(batch.label_ids_BTL.reshape(rows, -1), at), -1)
        ids_NE = ids.reshape(rows * steps, -1)
        ids_NE = jnp.where(first_of_equals(ids_NE), ids_NE, -1)
    elif asked == "sampled":
        ids_S = inputs.candidates.ids_S
        place_BK = extra_columns.candidate_windows(
            inputs.first_row, rows, config.loss.gbce_negatives, len(ids_S)
        )
        logits_BTE = jnp.einsum("btd,bkd->btk", states_BTD, item.vectors[place_BK])
        logits_BTE += item.bias[place_BK][:, None]
        ids_BK = ids_S[place_BK]
        ids_BK = jnp.where(first_of_equals(ids_BK), ids_BK, -1)
        ids_NE = jnp.repeat(ids_BK, steps, axis=0)
    else:
        return None
    return ExtraColumns(logits_BTE.reshape(rows * steps, -1), ids_NE)


def _behaviour_loss(
    head_DD: jax.Array,
    states_ND: jax.Array,
    label: Scored,
    label_ids_NL: jax.Array,
    candidates: CandidateSet,
    options: KernelOptions,
) -> jax.Array:
    """(N, L) −log β of the labels, a softmax of its own on the state behind a stop_gradient.

    The head learns which item was logged, liked or not, and moves nothing but itself (Chen et al.
    2019, section 4.3, which gives it item vectors of its own; here they are the policy's).
    """
    states_ND, label, candidates = lax.stop_gradient((states_ND, label, candidates))
    head_ND = states_ND @ head_DD
    logits_NL = jnp.einsum("nd,nld->nl", head_ND, label.vectors) + label.bias
    lse_N = label_logsumexp(head_ND, candidates, label_ids_NL, options)
    return softplus(-margins(logits_NL, label_ids_NL, lse_N))
