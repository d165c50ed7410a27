"""Which rows a batch needs, and what becomes of them: rows → vectors → states and logits.

The tables hold everything whose size grows with the catalogue: `item` (input and, when tied,
output), `output` (when not tied), `creator` and `cluster` features. All else is dense.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from negflax.config import ConfigError, ModelConfig
from negflax.data.batch import Batch
from negflax.model import encoders, item_vectors, related_items, request_time
from negflax.model.encoders.products import in_force, precision
from negflax.model.items import Items
from negflax.tables.table import TableSpec

TABLE_FEATURES = ("creator", "cluster")
# Beside the encoder's parameters: (D, D), and what model/request_time.py has.
BEHAVIOUR_HEAD, REQUEST_TIME = "behaviour_head", "request_time"
_BESIDE = (BEHAVIOUR_HEAD, REQUEST_TIME, item_vectors.TABLE)

Dense = dict[str, Any]  # parameters of the encoder, a plain nested dict
Vectors = dict[str, jax.Array]  # "input", "label", "candidate", "creator", "cluster"
Lookups = dict[str, dict[str, Any]]  # table → use, as in Vectors → ids


class Recommender:
    """The model of one config and catalogue; holds no parameters.

    Attributes:
      config: the model section.
      num_rows: V of the catalogue, row 0 included; reserved rows of the item tables follow.
      vocabulary: the catalogue's fingerprint: which item each row is.
      tables: name → TableSpec.
      related: creators and clusters of every item, where its vector is composed of theirs.
      constants: shapes of tables that are not learned: given vectors of the items.
      vector_VW: these vectors; None where the model has none.
    """

    def __init__(self, config: ModelConfig, items: Items):
        """The model section and the items it scores.

        Raises:
          ConfigError: the section asks for what JAX or the items do not have.
        """
        self.config, self.num_rows = config, items.num_rows
        self.vocabulary = items.fingerprint
        if config.dtype == "float64" and not jax.config.jax_enable_x64:
            raise ConfigError(
                "config.model.dtype = 'float64' needs JAX's 64-bit mode: set JAX_ENABLE_X64=1 in "
                "the environment, or use 'float32'"
            )
        num_rows, feature_sizes = items.table_rows, items.feature_sizes
        width, unit = config.embedding, 1 / math.sqrt(config.embedding)
        output = TableSpec(num_rows, width + config.item_bias, unit, bias=config.item_bias)
        self.tables = {"item": output if config.tied else TableSpec(num_rows, width, unit)}
        if not config.tied:
            self.tables["output"] = output
        for name in TABLE_FEATURES:
            if name in config.features:
                self.tables[name] = TableSpec(feature_sizes[name], config.feature_dim, 1.0)
        self.related = related_items.related_of(items, config.composed)
        for kind in self.related:
            self.tables[related_items.table_of(kind)] = TableSpec(feature_sizes[kind], width, 0.0)
        self.vector_VW = item_vectors.vectors_of(items, config.composed)
        self.constants = {}
        if self.vector_VW is not None:
            self.constants[item_vectors.TABLE] = item_vectors.spec_of(self.vector_VW, num_rows)
        self._dense_sizes = {
            k: v
            for k, v in feature_sizes.items()
            if k in config.features and k not in TABLE_FEATURES
        }
        self._graph = encoders.graph_of(config, self._dense_sizes)

    @property
    def output_table(self) -> str:
        """Name of the table whose rows are scored."""
        return "item" if self.config.tied else "output"

    def init_dense(self, key: jax.Array) -> Dense:
        """Start values of the dense parameters."""
        encoder = encoders.build(self.config, self._dense_sizes, key)
        dense = nnx.to_pure_dict(nnx.split(encoder)[1])
        if self.config.behaviour_head:
            dense[BEHAVIOUR_HEAD] = jnp.eye(self.config.embedding, dtype=self.config.dtype)
        if self.config.request:
            dense[REQUEST_TIME] = request_time.init(self.config, jax.random.fold_in(key, 1))
        if self.vector_VW is not None:  # begins at 0, as the rows of creators and clusters do
            shape = self.vector_VW.shape[1], self.config.embedding
            dense[item_vectors.TABLE] = jnp.zeros(shape, self.config.dtype)
        return dense

    def lookups(
        self,
        batch: Batch,
        candidate_ids_S: jax.Array | None,
        related: related_items.RelatedItems | None = None,
        *,
        shared: bool = True,
    ) -> Lookups:
        """Table → use → ids of every row read, −1 for none.

        Args:
          batch: whose items and labels are read.
          candidate_ids_S: rows to score, if any.
          related: `self.related`, as arrays on the device, for composed vectors; without it, only
            the items' own rows.
          shared: the candidates are the same on every device.
        """
        uses: dict[str, dict[str, Any]] = {"item": {"input": batch.item_ids_BT}}
        output = uses.setdefault(self.output_table, {})
        output["label"] = batch.label_ids_BTL
        if candidate_ids_S is not None:
            output["candidate"] = candidate_ids_S
        for name in TABLE_FEATURES:
            if name in self.tables:
                uses[name] = {name: getattr(batch, f"{name}_BT")}
        items = uses["item"] | output
        if related is None:
            return uses
        for name in self.constants:
            uses[name] = item_vectors.lookups(items)
        return uses | related_items.lookups(items, related, shared=shared)

    def vectors(self, rows: dict[str, Vectors], lookups: Lookups) -> Vectors:
        """Use → vectors, composed of the rows that were read: table → use → rows.

        Given vectors are projected already, by item_vectors.project.
        """
        of_related = {related_items.table_of(kind) for kind in self.related} | set(self.constants)
        own = {
            use: x for name in lookups if name not in of_related for use, x in rows[name].items()
        }
        found = {name: rows[name] for name in lookups if name in of_related}
        return related_items.add(own, found, lookups)

    def states(
        self, dense: Dense, vectors: Vectors, batch: Batch, **encoder_options: Any
    ) -> tuple[jax.Array, jax.Array]:
        """(states_BTD, last) from looked-up vectors; options as in negflax/model/encoders/."""
        states_BTD, last = self.states_of_events(dense, vectors, batch, **encoder_options)
        return self.at_request(dense, states_BTD, batch.request_BTR), last

    def at_request(self, dense: Dense, states: jax.Array, codes: Any) -> jax.Array:
        """States (…, D) of users who ask at the times of the codes (…, R)."""
        if not self.config.request:
            return states
        with precision(in_force(self.config)):
            return request_time.apply(dense[REQUEST_TIME], states, codes, self.config)

    def states_of_events(
        self, dense: Dense, vectors: Vectors, batch: Batch, **encoder_options: Any
    ) -> tuple[jax.Array, jax.Array]:
        """`states` before the time of the request is known."""
        width = self.config.embedding
        # Unit variance in: rows are N(0, 1/D), so that s·v starts small as well.
        items_BTD = vectors["input"][..., :width] * math.sqrt(width)
        encoder = nnx.merge(self._graph, {k: v for k, v in dense.items() if k not in _BESIDE})
        ids = {name: getattr(batch, f"{name}_BT") for name in self._dense_sizes}
        with precision(in_force(self.config)):
            return encoder(items_BTD, ids, vectors, batch.reset_BT, **encoder_options)

    def composed(self, rows: dict[str, jax.Array], dense: Dense) -> dict[str, jax.Array]:
        """Tables to score with: the item tables composed, the related items' tables left out."""
        left = {
            name: x
            for name, x in rows.items()
            if name not in map(related_items.table_of, self.related)
        }
        compose = jax.jit(related_items.compose_rows)
        for name in {"item", self.output_table} if self.related else ():
            left[name] = compose(rows[name], rows, self.related)
        for name in {"item", self.output_table} if self.constants else ():
            table = left[name]
            given = item_vectors.on_devices(self.vector_VW, len(table), table.sharding)
            with jax.default_matmul_precision("highest"):
                add = jax.jit(item_vectors.add_to_table, out_shardings=table.sharding)
                left[name] = add(table, dense[item_vectors.TABLE], given)
        return left

    def output_vectors(self, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(vectors (…, D), bias (…,)) of rows of the output table."""
        width = self.config.embedding
        bias = rows[..., width] if self.config.item_bias else jnp.zeros(rows.shape[:-1], rows.dtype)
        return rows[..., :width], bias
