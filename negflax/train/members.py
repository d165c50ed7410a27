"""Training with several settings of the loss at once, in one program.

The members of a population have the same data, model, optimizer and seed, so each step draws one
batch and one set of candidates for all of them. They differ in the run-time scalars of the loss
(LossWeights). The step is that of `Trainer`, mapped over a leading axis of the state. Up to
rounding, each member gets the parameters that it would have if trained alone.

Shapes: M members, in front of every array of the state but `step` and `rng`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from negflax.data.batch import Batch
from negflax.mesh import AXES, platform
from negflax.train.state import State
from negflax.train.step import RunTime, Trainer
from negflax.train.step_metrics import Metrics
from negflax.train.weights import LossWeights

AXIS = "members"  # of the mesh: groups of devices that train members of their own
SHARED = ("step", "rng")  # parts of the state that all members have in common
Step = Callable[[State, Batch, RunTime], tuple[State, Metrics]]


def member_mesh(mesh: Mesh, members: int) -> Mesh:
    """Returns the devices of a mesh as groups; the number of groups divides that of the members.

    Groups do not communicate. The rows of a batch are split within a group.
    """
    groups = math.gcd(members, mesh.devices.size)
    grid = mesh.devices.reshape(groups, mesh.devices.size // groups, 1)
    return Mesh(grid, (AXIS, *AXES), axis_types=(AxisType.Auto,) * 3)


def group_mesh(mesh: Mesh) -> Mesh:
    """Returns the devices of the first group, the mesh that one member is trained on."""
    return Mesh(mesh.devices[0], AXES, axis_types=(AxisType.Auto,) * 2)


class MemberTrainer:
    """Trains all members: the step of `Trainer`, mapped over them.

    Attributes:
      trainer: of one member on the mesh of a group; its own loss weights are not used.
      mesh: of all groups.
      step: (state, batch) → (state, metrics, each (M,)), jitted, the state donated.
      lower: the same as jax.stages.Lowered.
    """

    def __init__(self, trainer: Trainer, mesh: Mesh, loss_weights: Sequence[LossWeights]):
        """The run, the groups of devices and the weights of each member."""
        self.trainer, self.mesh = trainer, mesh
        self.loss_weights = jax.tree.map(lambda *one: np.stack(one), *loss_weights)
        self.size = len(loss_weights)
        alone = mesh.devices.size == 1 and platform() == "cpu"
        jitted = jax.jit(self._one_by_one() if alone else self._at_once(), donate_argnums=0)

        def arguments(state: State, batch: Batch) -> tuple:
            return state, batch, trainer.run_time()._replace(loss_weights=self.loss_weights)

        self.lower = lambda state, batch: jitted.lower(*arguments(state, batch))
        self.step = lambda state, batch: jitted(*arguments(state, batch))
        self.shardings = {
            name: jax.tree.map(functools.partial(self._placed, name), part)
            for name, part in trainer.specs.items()
        }

    def _placed(self, name: str, spec: PartitionSpec) -> NamedSharding:
        axes = () if name in SHARED else (AXIS,)
        return NamedSharding(self.mesh, PartitionSpec(*axes, *spec))

    def _at_once(self) -> Step:
        """All members in each operation, which fills an accelerator."""
        names = jax.eval_shape(self.trainer.init)
        axes = {name: None if name in SHARED else 0 for name in names}
        return jax.vmap(
            self.trainer.sharded(self.mesh),
            in_axes=(axes, None, RunTime(None, None, None, 0, None)),
            out_axes=(axes, 0),
            spmd_axis_name=AXIS,
        )

    def _one_by_one(self) -> Step:
        """One member after the other within the program: what one reads fits a CPU's cache."""
        alone = self.trainer.sharded(self.trainer.mesh)

        def step(state: State, batch: Batch, values: RunTime) -> tuple[State, Metrics]:
            shared = {name: state[name] for name in SHARED}

            def one(member: tuple[State, LossWeights]) -> tuple[State, Metrics]:
                own, loss_weights = member
                new, metrics = alone(
                    own | shared, batch, values._replace(loss_weights=loss_weights)
                )
                return {name: new[name] for name in own}, metrics

            own = {name: part for name, part in state.items() if name not in SHARED}
            new, metrics = jax.lax.map(one, (own, values.loss_weights))
            return new | shared | {"step": state["step"] + 1}, metrics

        return step

    def stack(self, states: Sequence[State]) -> State:
        """One state of the population from its members' own."""

        def join(name: str, parts: Sequence[Any]) -> Any:
            return parts[0] if name in SHARED else jax.tree.map(lambda *x: jnp.stack(x), *parts)

        joined = {name: join(name, [one[name] for one in states]) for name in states[0]}
        return jax.device_put(joined, self.shardings)

    def member(self, state: State, index: int) -> State:
        """A member's state, as its `Trainer` alone would have it."""
        own = {
            name: part if name in SHARED else jax.tree.map(lambda x: x[index], part)
            for name, part in state.items()
        }
        return jax.device_put(own, self.trainer.shardings)

    def metrics(self, metrics: Metrics, index: int) -> Metrics:
        """A member's metrics of a step."""
        return jax.tree.map(lambda x: x[index], metrics)
