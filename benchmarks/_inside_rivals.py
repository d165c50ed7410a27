"""What the calibration is compared with inside training (benchmarks/inside_training.py).

Shapes: B rows, T steps, L labels a step, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import negflax
from negflax.calibration.kind_counts import YES
from negflax.model import Recommender
from negflax.model.encoders.dropout import dropout
from negflax.model.encoders.gru import GRU
from negflax.model.encoders.gru_memory import OTHER_SEED
from negflax.model.encoders.products import matmul

SIGN = "sign_head"  # beside the encoder's parameters
DISLIKED_MEMORY = "gru_disliked_memory"


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
        encoder = {name: x for name, x in dense.items() if name != SIGN}
        return super().states(encoder, vectors, batch, **options)


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
