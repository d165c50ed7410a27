"""The calibration's scalars, trained together with the encoder (benchmarks/inside_training.py).

Shapes: B rows, T steps, D width, K clusters, F statistics, E events.
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

from negflax.calibration import counts_of, kind_terms
from negflax.calibration.kind_counts import STATISTICS, kind_of_items
from negflax.calibration.kind_terms import Scales
from negflax.data import Batch, Catalogue, Sequences, StreamBatches
from negflax.model import Recommender
from negflax.train import optimizer
from negflax.train.step import Trainer

SCALARS = "calibration"  # beside the encoder's parameters
TERMS = kind_terms.FORMS["belief"]["cluster"]
# A scalar moves by UNIT where its parameter moves by 1, so that its gradient is small in the norm
# by which the gradients of a step are clipped together; its rate is UNIT times that of the
# parameter.
UNIT = 0.01
EVENTS = 4_096  # events whose histories are counted at a time

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
        encoder = {name: x for name, x in dense.items() if name != SCALARS}
        states_BTD, last = super().states(encoder, vectors, batch, **options)
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
