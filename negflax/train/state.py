"""The training state: a plain dict, any part of which can be restored on its own.

- `dense`: parameters of the encoder.
- `tables`: name → {rows, slots}, sharded by rows; bfloat16 rows as their bits (tables.unpack). On
  TPUs the rows are stored in lines (tables/lines.py); checkpoints have (V, D) on all devices.
- `opt`: Optax state of the dense parameters.
- `step`: int32; also the number of the next batch, as batch i is a pure function of (seed, i).
- `rng`: key data; a step's randomness is a pure function of (rng, step).
- `weight_sums`: running sums from which the weight of the negative term is computed (weights.py).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from negflax import mesh as meshes
from negflax.config import Config
from negflax.model.recommender import Recommender
from negflax.tables import RowOptimizer, init_rows, optimizers, pack, padded_rows
from negflax.tables.stored import in_lines, stored_rows
from negflax.train.weights import init_sums

State = dict[str, Any]


def init_state(
    config: Config,
    model: Recommender,
    dense_optimizer: optax.GradientTransformation,
    row_optimizer: RowOptimizer,
    mesh: Mesh,
) -> State:
    """Start values, each made where it lives: no table passes through one device."""
    key = jax.random.key(config.train.seed)
    dtype = config.model.dtype
    lines = kept_in_lines(config, row_optimizer, mesh)
    tables = {}
    for number, (name, spec) in enumerate(model.tables.items()):
        axes = config.mesh.rows
        length = stored_rows(spec, mesh, lines)
        rows = init_rows(jax.random.fold_in(key, number + 1), spec, mesh, dtype, axes, length)
        # Without out_shardings the slots of a jitted init land on one device.
        slots = jax.jit(row_optimizer.init, out_shardings=meshes.split(mesh, axes))(rows)
        if config.optimizer.table_dtype == "bfloat16":
            bits = jax.jit(
                lambda x: pack(x.astype(jnp.bfloat16)), out_shardings=meshes.split(mesh, axes)
            )
            rows = bits(rows)
        table = {"rows": rows, "slots": slots}
        tables[name] = in_lines(table, spec.bias, mesh, axes) if lines else table

    def make_rest(key: jax.Array) -> State:
        dense = model.init_dense(key)
        return {
            "dense": dense,
            "opt": dense_optimizer.init(dense),
            "step": jnp.zeros((), jnp.int32),
            "rng": jax.random.key_data(jax.random.fold_in(key, 0)),
            "weight_sums": init_sums(dtype),
        }

    return jax.jit(make_rest, out_shardings=meshes.copied(mesh))(key) | {"tables": tables}


def kept_in_lines(config: Config, row_optimizer: RowOptimizer, mesh: Mesh) -> bool:
    """Whether a training state holds its tables in lines (tables/lines.py): TPUs want them so.

    Where a step reads or writes every row, nothing is gained by it.
    """
    every_row = row_optimizer.every_row or config.loss.candidates == "full"
    return mesh.devices.flat[0].platform == "tpu" and not every_row


def abstract_parameters(
    model: Recommender, config: Config, mesh: Mesh, *, slots: bool = False
) -> State:
    """Shapes, dtypes and shardings of `dense` and `tables`, to restore them without a trainer.

    Args:
      model: whose parameters they are.
      config: the run: how its rows are stored, and over which axes of the mesh they are sharded.
      mesh: of any size; tables are padded to it.
      slots: with the optimizer's slots of each table; else its rows alone.
    """
    axes, dtype = config.mesh.rows, config.model.dtype
    largest = max(spec.num_rows for spec in model.tables.values())
    row_optimizer = optimizers.get(config.optimizer, largest)

    def on_mesh(tree: Any, sharding: NamedSharding) -> Any:
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
        )

    tables = {}
    for name, spec in model.tables.items():
        rows = jax.ShapeDtypeStruct((padded_rows(spec.num_rows, mesh.size), spec.width), dtype)
        packed = config.optimizer.table_dtype == "bfloat16"
        table = {"rows": jax.ShapeDtypeStruct(rows.shape, jnp.uint16) if packed else rows}
        if slots:
            table["slots"] = jax.eval_shape(row_optimizer.init, rows)
        tables[name] = on_mesh(table, meshes.split(mesh, axes))
    dense = jax.eval_shape(lambda: model.init_dense(jax.random.key(0)))
    return {"dense": on_mesh(dense, meshes.copied(mesh)), "tables": tables}


def partition_specs(state: State, row_axes: tuple[str, ...]) -> Any:
    """PartitionSpec of every array: tables by rows over `row_axes`, the rest copied."""

    def spec(path: tuple, _: Any) -> Any:
        return PartitionSpec(row_axes) if path[0].key == "tables" else meshes.COPIED

    return jax.tree_util.tree_map_with_path(spec, state)


def grafted(old: State, new: State) -> State:
    """A copy of `old` in the form of `new`: what only `new` has (the behaviour head) is fresh."""
    known = {jax.tree_util.keystr(path): x for path, x in jax.tree.leaves_with_path(old)}
    return jax.tree.map_with_path(
        lambda path, x: (
            known[jax.tree_util.keystr(path)].copy() if jax.tree_util.keystr(path) in known else x
        ),
        new,
    )
