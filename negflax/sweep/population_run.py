"""Trains a population; each member's folder is that of a run, as if it had trained alone.

So a member is restored, evaluated, served and resumed like any run, and a sweep that was stopped
goes on from the newest step that all its members have.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from negflax import mesh as meshes
from negflax import preemption
from negflax.config import Config, ConfigError
from negflax.data import Sequences, StreamBatches, prefetch
from negflax.evaluate.circumstances import check_list_lengths
from negflax.files import write_json
from negflax.fitting import mesh_of, validation
from negflax.model import Recommender
from negflax.train.checkpoint import NonFiniteError, abstract_state, write_config
from negflax.train.loop import DONE, open_checkpoints, planned_steps, warm_up_steps
from negflax.train.members import MemberTrainer, group_mesh, member_mesh
from negflax.train.restore import save_catalogue
from negflax.train.state import State
from negflax.train.step import Trainer
from negflax.train.weights import loss_weights
from negflax.train.workdir_lock import locked
from negflax.train.writers import MetricWriter

Validate = Callable[[State], dict[str, float]]


def at_most(peak: int, shared: int, limit: int) -> int:
    """Members that fit into a device.

    Args:
      peak: bytes of one run, by the planner.
      shared: those of them that members have in common.
      limit: bytes of the device.

    Raises:
      ConfigError: not even one fits.
    """
    if peak > limit:
        raise ConfigError(
            f"a single run needs {peak / 2**30:.2f} GiB of memory, but {limit / 2**30:.2f} are "
            "available: python -m launch.plan says what to change"
        )
    return 1 + (limit - peak) // max(1, peak - shared)


def train_population(runs: Mapping[str, Config], workdir: Path, sequences: Sequences) -> None:
    """Trains the members that are not done, in one program, each into <workdir>/<its name>.

    Args:
      runs: name → config; they differ in `grid.RUN_TIME` settings alone.
      workdir: of the sweep.
      sequences: their data.

    Raises:
      CheckpointError: another process is training a member.
      ConfigError: settings that do not suit the data or the devices, or more than one process.
      Preempted: the sweep was asked to leave; all members have saved the step that it names.
    """
    if jax.process_count() > 1:
        raise ConfigError("--mode=population runs in one process: use --mode=array or sequential")
    runs = {name: one for name, one in runs.items() if not (workdir / name / DONE).exists()}
    with contextlib.ExitStack() as locks:
        for name in runs:
            locks.enter_context(locked(workdir / name))
        if runs:
            _Training(runs, workdir, sequences).run()


class _Training:
    """Trains one population; members that patience stopped are removed on the way."""

    def __init__(self, runs: Mapping[str, Config], workdir: Path, sequences: Sequences):
        self.runs, self.workdir = dict(runs), workdir
        self.config = config = next(iter(runs.values()))
        check_list_lengths(config.eval.ks, sequences.catalogue)
        for name, one in runs.items():
            write_config(workdir / name, one)
            save_catalogue(workdir / name, sequences.catalogue)
        self.batches = StreamBatches.of(config, sequences)
        self.stop = planned_steps(config, self.batches)
        self.model = Recommender(config.model, sequences.catalogue)
        self.counts = sequences.catalogue.train_count_V
        self.validate = None
        if config.train.eval_every:
            self.validate = validation(config, self.model, sequences, mesh_of(config))
        self.checkpoints = {
            name: open_checkpoints(one, workdir / name, self.model) for name, one in runs.items()
        }

    def population(self, names: Sequence[str]) -> MemberTrainer:
        """The program for these members."""
        mesh = member_mesh(mesh_of(self.config), len(names))
        trainer = Trainer(self.config, self.model, self.counts, self.stop, group_mesh(mesh))
        dtype, rows = self.config.model.dtype, self.model.num_rows
        weights = [loss_weights(self.runs[name].loss, dtype, rows) for name in names]
        return MemberTrainer(trainer, mesh, weights)

    def run(self) -> None:
        """Trains to the end."""
        names = list(self.runs)
        population = self.population(names)
        state = self._restored(population)
        start = step = int(state["step"])
        logging.info("training %d members together for %d steps", len(names), self.stop - start)
        with self._writers(start) as writers, preemption.unsaved():
            out: set[str] = set()
            while step < self.stop and len(out) < len(names):
                names, population, state = self._compacted(names, out, population, state)
                step, state = self._until_change(step, names, out, population, state, writers)
        for name, one in self.checkpoints.items():
            one.close()
            best = one.best()
            done = max(one.steps(), default=0)
            write_json(
                self.workdir / name / DONE, {"step": done, "best_step": best[0] if best else done}
            )

    def _until_change(
        self,
        step: int,
        names: list[str],
        out: set[str],
        population: MemberTrainer,
        state: State,
        writers: Mapping[str, MetricWriter],
    ) -> tuple[int, State]:
        """Trains until the last step, or until half of the members are out."""
        split = meshes.split(population.mesh)
        settings = self.config.train
        stream = prefetch(
            self.batches,
            step,
            self.stop,
            self.config.batch.prefetch,
            lambda batch: jax.device_put(batch, split),
        )
        skipped = in_a_row = jnp.zeros(len(names), jnp.int32)  # steps that were not finite
        with contextlib.closing(stream):
            for batch in stream:
                if preemption.requested(step):
                    self._save(step, names, out, population, state, {})
                    for one in self.checkpoints.values():
                        one.wait()
                    raise preemption.Preempted(f"all members are saved at step {step}")
                state, metrics = population.step(state, batch)
                step += 1
                skipped += metrics["skipped"]
                in_a_row = metrics["skipped"] * (in_a_row + 1)
                if step % settings.log_every == 0 or step == self.stop:
                    metrics = jax.device_get(metrics | {"skipped": skipped})
                    _tell(step, self.stop, names, out, metrics, writers)
                    self._stop_failing(names, out, jax.device_get(in_a_row))
                validating = self.validate is not None and (
                    step % settings.eval_every == 0 or step == self.stop
                )
                if validating or step % settings.checkpoint_every == 0 or step == self.stop:
                    self._save(step, names, out, population, state, writers if validating else {})
                    if 2 * len(out) >= len(names) and step < self.stop:
                        break
        return step, state

    def _save(
        self,
        step: int,
        names: list[str],
        out: set[str],
        population: MemberTrainer,
        state: State,
        writers: Mapping[str, MetricWriter],
    ) -> None:
        """Every member that still trains, with its metrics where there are writers for them."""
        counts = step > warm_up_steps(self.config)
        for index, name in enumerate(names):
            if name in out:
                continue
            own, found = population.member(state, index), None
            if writers:
                found = self.validate(own)
                writers[name].write(step, "valid", found)
            try:
                self.checkpoints[name].save(step, own, found if counts else None)
            except NonFiniteError as error:
                logging.warning("%s is not trained further: %s", name, error)
                out.add(name)
                continue
            if writers and self._out_of_patience(name, step):
                out.add(name)

    def _stop_failing(self, names: list[str], out: set[str], in_a_row: np.ndarray) -> None:
        """Members of which every step is skipped train no further; the others do."""
        for name, steps in zip(names, in_a_row, strict=True):
            if steps >= self.config.train.max_skipped and name not in out:
                out.add(name)
                logging.warning(
                    "%s is not trained further: its last %d steps were skipped, as their loss or "
                    "gradient is not finite",
                    name,
                    steps,
                )

    def _out_of_patience(self, name: str, step: int) -> bool:
        settings, best = self.config.train, self.checkpoints[name].best()
        if not settings.patience or best is None:
            return False
        return step - best[0] >= settings.patience * settings.eval_every

    def _compacted(
        self, names: list[str], out: set[str], population: MemberTrainer, state: State
    ) -> tuple[list[str], MemberTrainer, State]:
        """A smaller population, which has to be compiled, once half of the members are out."""
        if 2 * len(out) < len(names):
            return names, population, state
        kept = [(index, name) for index, name in enumerate(names) if name not in out]
        smaller = self.population([name for _, name in kept])
        state = smaller.stack([population.member(state, index) for index, _ in kept])
        out.clear()
        logging.info("%d members remain", len(kept))
        return [name for _, name in kept], smaller, state

    def _restored(self, population: MemberTrainer) -> State:
        """The newest step that all have, else the start; what is newer is trained again."""
        common = set.intersection(*(set(one.steps()) for one in self.checkpoints.values()))
        trainer = population.trainer
        if not common:
            return population.stack([trainer.init()] * population.size)
        step = max(common)
        target = abstract_state(jax.eval_shape(trainer.init), trainer.shardings)
        for one in self.checkpoints.values():
            one.set_aside_later(step)
        return population.stack([one.restore(step, target) for one in self.checkpoints.values()])

    @contextlib.contextmanager
    def _writers(self, start: int) -> Iterator[dict[str, MetricWriter]]:
        with contextlib.ExitStack() as stack:
            writers = {}
            for name in self.runs:
                writers[name] = MetricWriter(self.workdir / name, start)
                stack.callback(writers[name].close)
            yield writers


def _tell(
    step: int,
    stop: int,
    names: Sequence[str],
    out: set[str],
    metrics: Any,
    writers: Mapping[str, MetricWriter],
) -> None:
    for index, name in enumerate(names):
        if name not in out:
            values = {key: float(value[index]) for key, value in metrics.items()}
            if values["skipped"]:
                logging.warning("%s: %d steps were skipped, not finite", name, values["skipped"])
            writers[name].write(step, "train", values)
    losses = " ".join(f"{value:.3f}" for value in metrics["loss"])
    logging.info("step %d/%d  loss of the members %s", step, stop, losses)
