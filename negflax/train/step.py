"""One training step: events → rows → states → log-sum-exp → objective → gradients → update.

The body runs on every device over its share of the batch and of the tables' rows; what devices
exchange stands out as a psum, or is in `lookup.fetch` and its `merge`. Its cost depends on the rows
touched, not on the catalogue (candidates="full" touches every row).

Shapes: B rows of this device, T steps, N = B·T states, L labels a state, S candidates, U distinct
rows, D width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from negflax.config import Config, ConfigError
from negflax.data.batch import Batch
from negflax.loss import candidates as sampling
from negflax.loss.logsumexp import RUNS_ON
from negflax.mesh import AXES, COPIED, SPLIT
from negflax.model import item_vectors
from negflax.model.recommender import Recommender
from negflax.model.related_items import RelatedItems
from negflax.tables import lookup, optimizers, padded_rows, updates
from negflax.tables.rounding import unpack
from negflax.train import optimizer, weights
from negflax.train.objective import StepInputs, labels_loss
from negflax.train.state import State, init_state, partition_specs
from negflax.train.step_metrics import Metrics, label_sums, metrics_of
from negflax.train.weights import LossWeights


class RunTime(NamedTuple):
    """Arguments of the compiled step that may change between calls without another compilation.

    Attributes:
      num_rows: V of the catalogue, scalar.
      unigram: alias table of the sampler, None where it needs none.
      related: related items of every row.
      loss_weights: weights of the loss's terms.
      constants: rows that are looked up and not learned, split as those of the tables.
    """

    num_rows: np.int32
    unigram: sampling.Unigram | None
    related: RelatedItems
    loss_weights: LossWeights
    constants: dict[str, jax.Array]


class Trainer:
    """Everything static about training one config: model, optimizers, sampler, jitted step.

    Attributes:
      init: () → State.
      step: (state, batch) → (state, metrics), jitted, the state donated.
      lower: (state, batch), or their shapes → the step as jax.stages.Lowered.
      specs: tree of the state's PartitionSpecs.
      shardings: tree of the state's NamedShardings.
      loss_weights: weights of the loss's terms, a run-time argument of the step.
    """

    def __init__(
        self, config: Config, model: Recommender, train_count_V: np.ndarray, steps: int, mesh: Mesh
    ):
        """Compiles nothing yet.

        Args:
          config: of the run.
          model: its model.
          train_count_V: training events of every catalogue row, for the sampler.
          steps: planned steps, for the learning rate schedule.
          mesh: devices to train on.

        Raises:
          ConfigError: the loss kernel named in the config does not run on these devices.
        """
        self.config, self.model, self.mesh = config, model, mesh
        _check_kernel(config.loss.implementation, mesh)
        self.relative_rate = optimizer.schedule(config.optimizer, steps)
        self.dense_optimizer = optimizer.dense_optimizer(config.optimizer, self.relative_rate)
        largest = max(spec.num_rows for spec in model.tables.values())
        self.row_optimizer = optimizers.get(config.optimizer, largest)
        self.lookup_mesh = config.mesh
        if self.row_optimizer.every_row:  # in one round: a second one would move every row again
            self.lookup_mesh = lookup.psum_lookup(config.mesh)
        alpha = 1.0 if config.loss.candidates == "in_batch" else config.loss.alpha
        sampled = config.loss.candidates in ("unigram", "in_batch")
        self.item_rows = model.tables[model.output_table].num_rows
        self.unigram = sampling.unigram(train_count_V, alpha, self.item_rows) if sampled else None
        self.related = jax.tree.map(jnp.asarray, model.related)
        self.loss_weights = weights.loss_weights(config.loss, config.model.dtype, model.num_rows)
        self.step = self._jit_step()

    def init(self) -> State:
        """Start values on the mesh."""
        return init_state(
            self.config, self.model, self.dense_optimizer, self.row_optimizer, self.mesh
        )

    @functools.cached_property
    def constants(self) -> dict[str, jax.Array]:
        """Given vectors of the items, as the step looks them up."""
        rows = NamedSharding(self.mesh, PartitionSpec(self.config.mesh.rows))
        return {
            name: item_vectors.on_devices(
                self.model.vector_VW, padded_rows(spec.num_rows, self.mesh.size), rows
            )
            for name, spec in self.model.constants.items()
        }

    def _jit_step(self) -> Callable[[State, Batch], tuple[State, Metrics]]:
        specs = partition_specs(jax.eval_shape(self.init), self.config.mesh.rows)
        self.shardings = jax.tree.map(lambda spec: NamedSharding(self.mesh, spec), specs)
        self.specs = specs
        jitted = jax.jit(self.sharded(self.mesh), donate_argnums=0)
        self.lower = lambda state, batch: jitted.lower(state, batch, self.run_time())
        return lambda state, batch: jitted(state, batch, self.run_time())

    def sharded(self, mesh: Mesh) -> Callable[[State, Batch, RunTime], tuple[State, Metrics]]:
        """The step before it is jitted, on this mesh or one that has more axes."""
        # check_vma=False: each psum below is written out, none is implied.
        return jax.shard_map(
            self._device_step,
            mesh=mesh,
            check_vma=False,
            in_specs=(self.specs, SPLIT, self._run_time_specs()),
            out_specs=(self.specs, COPIED),
        )

    def run_time(self) -> RunTime:
        """The arguments of the compiled step besides the state and the batch."""
        num_rows = np.int32(self.model.num_rows)
        return RunTime(num_rows, self.unigram, self.related, self.loss_weights, self.constants)

    def _run_time_specs(self) -> RunTime:
        return RunTime(COPIED, COPIED, COPIED, COPIED, PartitionSpec(self.config.mesh.rows))

    def _device_step(self, state: State, batch: Batch, values: RunTime) -> tuple[State, Metrics]:
        config, step = self.config, state["step"]
        num_rows, unigram, related, loss_weights, constants = values
        key = jax.random.fold_in(jax.random.wrap_key_data(state["rng"]), step)
        candidate_key, dropout_key = jax.random.split(key)
        label_ids_BTL = jnp.where(batch.label_ids_BTL > 0, batch.label_ids_BTL, -1)
        batch = batch._replace(label_ids_BTL=label_ids_BTL)  # from here on, −1 is absent
        candidates = sampling.draw(
            config.loss,
            num_rows,
            self.item_rows,
            candidate_key,
            label_ids_BTL.reshape(-1),
            unigram,
            config.mesh.rows,
        )
        inputs = StepInputs(
            batch=batch,
            candidates=candidates,
            loss_weights=loss_weights,
            negative_scale=weights.negative_scale(
                state["weight_sums"], step, loss_weights, config.loss
            ),
            first_row=lax.axis_index(AXES) * len(batch.item_ids_BT),
        )

        # 1. rows: distinct ids, fetched once; candidates are shared by all states
        full = config.loss.candidates == "full"
        lookups = self.model.lookups(batch, candidates.ids_S, related, shared=not full)
        held = {name: table["rows"] for name, table in state["tables"].items()} | constants
        specs = self.model.tables | self.model.constants
        scored = {self.model.output_table, *constants}
        fetched = {
            name: lookup.fetch(
                held[name],
                specs[name].num_rows,
                uses,
                whole=full and name in scored,
                mesh=self.lookup_mesh,
            )
            for name, uses in lookups.items()
        }
        given = {name: fetched.pop(name) for name in constants}

        # 2. loss and gradients of this device's labels, normalised by all devices' labels
        labels = jnp.maximum(lax.psum(jnp.sum(inputs.present_BTL), AXES), 1)
        dropout_seed = jax.random.bits(dropout_key, (), jnp.uint32)

        def loss(dense: Any, rows: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            found = {
                name: {use: rows[name][place] for use, place in table.index.items()}
                for name, table in fetched.items()
            }
            for name, table in given.items():
                found[name] = item_vectors.projected(dense[name], table, lookups[name])
            vectors = self.model.vectors(found, lookups)
            states_BTD, _ = self.model.states(
                dense, vectors, batch, dropout_seed=dropout_seed, first_row=inputs.first_row
            )
            total, seen = labels_loss(config, self.model, dense, states_BTD, vectors, inputs)
            return total / labels, seen

        rows = {n: unpack(table.rows_UD, config.model.dtype) for n, table in fetched.items()}
        # By default, TPUs would round the float32 operands of the model's products to bfloat16.
        with jax.default_matmul_precision("highest"):
            (value, (margins_NL, logits_NL)), (dense_gradient, row_gradients) = jax.value_and_grad(
                loss, (0, 1), has_aux=True
            )(state["dense"], rows)
        value, dense_gradient = lax.psum((value, dense_gradient), AXES)
        merged = {name: table.merge(row_gradients[name]) for name, table in fetched.items()}

        sums = label_sums(
            margins_NL, inputs.present_BTL, batch.positive_weight_BTL, batch.negative_weight_BTL
        )
        sums = lax.psum(sums, AXES)

        # 3. one clip over dense parameters and touched rows, then the two kinds of update
        squares = lax.psum(sum(gradient.square for gradient in merged.values()), config.mesh.rows)
        norm = jnp.sqrt(optax.tree.norm(dense_gradient) ** 2 + squares)
        clip = functools.partial(
            optimizer.clip, config.optimizer, scale=optimizer.clip_scale(config.optimizer, norm)
        )
        measured = jnp.stack([value, norm, *(sums[name].astype(value.dtype) for name in sums)])
        finite = jnp.all(jnp.isfinite(measured))  # on all devices; else the step changes nothing
        change, opt = self.dense_optimizer.update(
            jax.tree.map(clip, dense_gradient), state["opt"], state["dense"]
        )
        rate = config.optimizer.table_learning_rate * self.relative_rate(step)
        rounding_seeds = jax.random.bits(jax.random.fold_in(key, 2), (len(fetched),), jnp.uint32)

        def update(seed: jax.Array, table: Any, place_W: jax.Array, gradient_WD: jax.Array) -> Any:
            how = updates.RowStep(
                rate=rate,
                decay=config.optimizer.table_weight_decay,
                step=step,
                first_row=lax.axis_index(config.mesh.rows) * len(table["rows"]),
                seed=seed,
                skip=~finite,
            )
            return updates.apply(self.row_optimizer, table, place_W, clip(gradient_WD), how)

        new_tables = {
            name: lookup.update(merged[name], table, functools.partial(update, seed))
            for (name, table), seed in zip(state["tables"].items(), rounding_seeds, strict=True)
        }

        # 4. the new state, and what was measured: for the weight of later steps, and for people
        small = {
            "dense": optax.apply_updates(state["dense"], change),
            "opt": opt,
            "weight_sums": weights.update_sums(state["weight_sums"], step, sums, loss_weights),
        }
        kept = {name: state[name] for name in small}
        small = jax.tree.map(functools.partial(jnp.where, finite), small, kept)
        new = state | small | {"tables": new_tables, "step": step + 1}
        metrics = metrics_of(
            sums,
            loss_weights.r,
            inputs.negative_scale,
            loss=value,
            gradient_norm=norm,
            skipped=1 - finite.astype(jnp.int32),
            table_learning_rate=rate,
            max_logit=lax.pmax(jnp.max(jnp.abs(logits_NL), initial=0), AXES),
        )
        return new, metrics


def _check_kernel(implementation: str, mesh: Mesh) -> None:
    """Holds a kernel that is named to its platform.

    Raises:
      ConfigError: the mesh has other devices.
    """
    here = mesh.devices.flat[0].platform
    if RUNS_ON.get(implementation, here) != here:
        raise ConfigError(
            f"config.loss.implementation = {implementation!r} runs on a {RUNS_ON[implementation]}, "
            f"and these devices are of platform {here!r}: use 'auto' or 'xla'"
        )
