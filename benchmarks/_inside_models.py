"""Models of benchmarks/inside_training.py: what is trained together with the encoder.

Shapes: B rows, T steps, L labels a step, S candidates, D width, K clusters, F statistics, E events.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import negflax
from negflax.calibration import counts_of, kind_terms
from negflax.calibration.kind_counts import STATISTICS, YES, kind_of_items
from negflax.calibration.kind_terms import Scales
from negflax.data import Batch, Catalogue, Sequences, StreamBatches
from negflax.model import Recommender
from negflax.model.encoders.dropout import dropout
from negflax.model.encoders.gru import GRU
from negflax.model.encoders.gru_memory import OTHER_SEED
from negflax.model.encoders.products import matmul
from negflax.train import optimizer
from negflax.train.step import Trainer

SCALARS, SIGN = "calibration", "sign_head"  # beside the encoder's parameters
BESIDE = (SCALARS, SIGN)
TERMS = kind_terms.FORMS["belief"]["cluster"]
# A scalar moves by UNIT where its parameter moves by 1, so that its gradient is small in the norm
# by which the gradients of a step are clipped together; its rate is UNIT times that of the
# parameter.
UNIT = 0.01
EVENTS = 4_096  # events whose histories are counted at a time
DISLIKED_MEMORY = "gru_disliked_memory"

CountedBatch = collections.namedtuple("CountedBatch", (*Batch._fields, "stats_BTKF", "age_BT"))


class CountedBatches:
    """The batches of a run, each with what the users had done with every cluster before a step."""

    def __init__(self, batches: StreamBatches, sequences: Sequences):
        """Counts before every event of the log: (E, K, F) int16."""
        self._batches = batches
        kind_V = kind_of_items(sequences.catalogue, "cluster")
        events, offsets = len(sequences.item_E), sequences.offsets_U1
        user_E = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        self.age_E = (np.arange(events) - offsets[user_E]).astype(np.int32)
        self.stats_EKF = np.zeros((events, kind_V.max() + 1, len(STATISTICS)), np.int16)
        for start in range(0, events, EVENTS):
            event_N = np.arange(start, min(start + EVENTS, events))
            counts = counts_of(sequences, user_E[event_N], event_N, kind_V)
            self.stats_EKF[start + counts.user_P, counts.kind_P] = counts.stats_PF

    def batch(self, i: int) -> Any:
        """Batch i; counts in the padding are those of some event, and read by no label."""
        event_BT = np.maximum(self._batches.targets(i), 0)
        counts = self.stats_EKF[event_BT], self.age_E[event_BT]
        return CountedBatch(*self._batches.batch(i), *counts)


class CountingModel(Recommender):
    """The scores of the recommender + b(what the user did with the cluster of the item).

    The correction is an inner product as well: states are [state, b of every cluster], and output
    vectors [vector, one-hot cluster]. So the loss is computed as ever, over wider vectors.
    """

    def __init__(self, config: Any, items: Catalogue, scales: Scales):
        """The model section, the items, and the constants of the features."""
        super().__init__(config, items)
        kind_V = kind_of_items(items, "cluster")
        self.kinds, self._scales = int(kind_V.max()) + 1, scales
        self._kind_V = np.pad(kind_V, (0, items.table_rows - items.num_rows))

    def init_dense(self, key: jax.Array) -> dict[str, Any]:
        """Also a parameter for each scalar; 0 is where a fit after training starts."""
        zero = jnp.zeros((), self.config.dtype)
        return super().init_dense(key) | {SCALARS: dict.fromkeys(TERMS, zero)}

    def states(
        self, dense: Any, vectors: Any, batch: Any, **options: Any
    ) -> tuple[jax.Array, jax.Array]:
        """(states (B, T, D + K), last)."""
        states_BTD, last = super().states(without_heads(dense), vectors, batch, **options)
        stats, age = batch.stats_BTKF.astype(jnp.float32), batch.age_BT.astype(jnp.float32)
        found = kind_terms.features(stats, age[..., None], self._scales, jnp)
        shift_BTK = kind_terms.shift(scalars_of(dense), found, jnp)
        return jnp.concatenate([states_BTD, shift_BTK.astype(states_BTD.dtype)], axis=-1), last

    def vectors(self, rows: Any, lookups: Any) -> Any:
        """Behind the rows of labels and candidates: the one-hot clusters."""
        found = super().vectors(rows, lookups)
        for use in ("label", "candidate"):
            if use in found:
                kind = (
                    jnp.asarray(self._kind_V)
                    .at[lookups[self.output_table][use]]
                    .get(mode="fill", fill_value=0, wrap_negative_indices=False)
                )
                one_hot = jax.nn.one_hot(kind, self.kinds, dtype=found[use].dtype)
                found = found | {use: jnp.concatenate([found[use], one_hot], axis=-1)}
        return found

    def output_vectors(self, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(vectors (…, D + K), bias (…,))."""
        vectors, bias = super().output_vectors(rows[..., : -self.kinds])
        return jnp.concatenate([vectors, rows[..., -self.kinds :]], axis=-1), bias


class SignModel(Recommender):
    """The recommender with an auxiliary head: is the next feedback a dislike?"""

    def init_dense(self, key: jax.Array) -> dict[str, Any]:
        """Also the head, which says nothing at first."""
        width, dtype = self.config.embedding, self.config.dtype
        head = {"kernel": jnp.zeros((width, width), dtype), "bias": jnp.zeros((), dtype)}
        return super().init_dense(key) | {SIGN: head}

    def states(
        self, dense: Any, vectors: Any, batch: Any, **options: Any
    ) -> tuple[jax.Array, jax.Array]:
        """As ever; the head is in the loss alone."""
        return super().states(without_heads(dense), vectors, batch, **options)


def with_sign_loss(labels_loss: Callable[..., Any], weight: float) -> Callable[..., Any]:
    """`labels_loss` of a step of SignModel + weight · Σ log loss of the sign of each label.

    The logit of a dislike is stateᵀ · kernel · vector of the label's item + bias.
    """

    def both(
        config: Any, model: Any, dense: Any, states_BTD: jax.Array, vectors: Any, inputs: Any
    ) -> Any:
        total, seen = labels_loss(config, model, dense, states_BTD, vectors, inputs)
        label_BTLD, _ = model.output_vectors(vectors["label"])
        heads_BTD = matmul(states_BTD, dense[SIGN]["kernel"])
        logits_BTL = jnp.einsum("btd,btld->btl", heads_BTD, label_BTLD) + dense[SIGN]["bias"]
        sign_BTL = jnp.where(inputs.batch.negative_weight_BTL > 0, 1, -1)
        loss_BTL = jax.nn.softplus(-sign_BTL * logits_BTL)
        return total + weight * jnp.sum(jnp.where(inputs.present_BTL, loss_BTL, 0)), seen

    return both


class DislikedMemory(GRU):
    """The GRU + G · Σ_j γ^(t − j) a(feedback on j) e_j over the items that the user rejected.

    a is one number for a dislike and one for a dismissal; G, a and γ are learned.
    """

    def __init__(self, config: Any, feature_sizes: dict[str, int], *, rngs: nnx.Rngs):
        """As GRU; at first the memory adds nothing."""
        super().__init__(config, feature_sizes, rngs=rngs)
        dtype = jnp.dtype(config.dtype)
        self.memory = nnx.Param(0.3 * jnp.eye(config.embedding, dtype=dtype))
        self.memory_gate = nnx.Param(jnp.zeros(2, dtype))
        self.memory_decay = nnx.Param(jnp.full((), 3.0, dtype))  # γ = sigmoid(3) = .95

    def __call__(
        self,
        items_BTD: jax.Array,
        feature_ids: Any,
        feature_vectors: Any,
        reset_BT: jax.Array,
        *,
        start: Any = None,
        dropout_seed: jax.Array | None = None,
        first_row: jax.Array | int = 0,
    ) -> tuple[jax.Array, Any]:
        """(states_BTD, (the GRU's last, the memory (B, D)))."""
        cell_start, memory_BD = (None, None) if start is None else start
        options = {"start": cell_start, "dropout_seed": dropout_seed, "first_row": first_row}
        states_BTD, last = super().__call__(
            items_BTD, feature_ids, feature_vectors, reset_BT, **options
        )
        rejected_BT2 = jnp.stack(
            [feature_ids[name] == YES for name in ("dislike", "dismissal")], axis=-1
        )
        weight_BT1 = (rejected_BT2.astype(items_BTD.dtype) @ self.memory_gate[...])[..., None]
        if dropout_seed is not None:  # whole events, so that no single one is relied on
            seed, row = dropout_seed ^ jnp.uint32(OTHER_SEED), jnp.asarray(first_row, jnp.int32)
            weight_BT1 = dropout(weight_BT1, self.config.dropout_input, seed, row)
        left_BT1 = jnp.where(reset_BT, 0, jax.nn.sigmoid(self.memory_decay[...]))[..., None]
        memory_BTD = decayed_sum(items_BTD * weight_BT1, left_BT1, memory_BD)
        return states_BTD + matmul(memory_BTD, self.memory[...]), (last, memory_BTD[:, -1])


def decayed_sum(x_BTD: jax.Array, left_BT1: jax.Array, start_BD: jax.Array | None) -> jax.Array:
    """m_t = left_t · m_(t−1) + x_t along T, from `start_BD` or 0."""
    if start_BD is not None:
        x_BTD = x_BTD.at[:, 0].add(left_BT1[:, 0] * start_BD)

    def join(earlier: Any, later: Any) -> Any:
        return earlier[0] * later[0], later[0] * earlier[1] + later[1]

    return jax.lax.associative_scan(join, (left_BT1, x_BTD), axis=1)[1]


negflax.register_encoder(DISLIKED_MEMORY, DislikedMemory)


def without_heads(dense: dict[str, Any]) -> dict[str, Any]:
    """The parameters of the recommender alone."""
    return {name: x for name, x in dense.items() if name not in BESIDE}


def scalars_of(dense: dict[str, Any]) -> dict[str, Any]:
    """The scalars of a CountingModel by name."""
    return {name: kind_terms.START[name] + UNIT * x for name, x in dense[SCALARS].items()}


def parameters_of(values: dict[str, float]) -> dict[str, jax.Array]:
    """The parameters of these scalars, 0 where one is missing: the inverse of `scalars_of`."""
    return {
        name: jnp.float32((values.get(name, 0.0) - kind_terms.START[name]) / UNIT) for name in TERMS
    }


class ScalarTrainer(Trainer):
    """A trainer whose scalars have a learning rate of their own."""

    def __init__(self, rate: float, *arguments: Any):
        """The scalars' peak rate (0: they stay), and what a Trainer takes."""
        self._rate = rate
        super().__init__(*arguments)

    def _jit_step(self) -> Callable[..., Any]:
        own = dataclasses.replace(self.config.optimizer, learning_rate=self._rate / UNIT)
        self.dense_optimizer = optax.multi_transform(
            {
                "encoder": self.dense_optimizer,
                "scalars": optimizer.dense_optimizer(own, self.relative_rate),
            },
            lambda dense: {k: "scalars" if k == SCALARS else "encoder" for k in dense},
        )
        return super()._jit_step()
