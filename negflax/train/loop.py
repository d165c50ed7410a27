"""The training loop.

The order of a round is fixed: dispatch step k → read the metrics of step k − 1, so that the device
never waits for the host → every `eval_every` steps validate and save. Everything is a function of
(config, step): a killed run that restarts from its newest checkpoint ends with the same bits.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from absl import logging

from negflax import mesh as meshes
from negflax.config import Config, positives_only
from negflax.data import Batch, StreamBatches, prefetch
from negflax.files import write_json
from negflax.model import Recommender
from negflax.train.checkpoint import Checkpoints, Identity, abstract_state
from negflax.train.goodput import Goodput
from negflax.train.state import State
from negflax.train.step import Trainer
from negflax.train.writers import MetricWriter

Validate = Callable[[State], dict[str, float]]
DONE = "done.json"  # in the working folder once training has ended
LOWER_IS_BETTER = ("hr_n", "anti_ndcg", "anti_precision", "weighted_loss", "positive_rank")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a training run ended with.

    Attributes:
      state: at the last step.
      step: last step.
      best_step: step of the best validated checkpoint, the last one without validation.
      targets_per_cpu_second: labels trained per CPU second, compilation and validation left out; 0
        when no step was left to do.
      goodput: wall and CPU seconds by phase.
    """

    state: State
    step: int
    best_step: int
    targets_per_cpu_second: float
    goodput: Goodput


def planned_steps(config: Config, batches: StreamBatches) -> int:
    """Steps of the whole schedule, from config.train.steps or .epochs; at least 1."""
    return config.train.steps or max(1, round(config.train.epochs * batches.steps_per_epoch))


def warm_up_steps(config: Config) -> int:
    """Steps before the learning rate and the weight of the negative term are what they will be."""
    if positives_only(config.loss.objective):
        return config.optimizer.warmup_steps
    return max(
        config.optimizer.warmup_steps, config.loss.positives_only_steps + config.loss.ramp_steps
    )


def open_checkpoints(
    config: Config, workdir: Path, model: Recommender | None = None, **options: Any
) -> Checkpoints:
    """The run's checkpoints, with the config's rule for the best one.

    The model says what the tables' rows are, for saving and restoring; looking needs none.
    """
    metric = config.train.metric
    identity = None
    if model:
        num_rows = {name: spec.num_rows for name, spec in model.tables.items()}
        identity = Identity(model.vocabulary, num_rows)
    return Checkpoints(
        workdir,
        metric,
        config.train.keep_latest,
        identity=identity,
        lower_is_better=metric.split("@")[0] in LOWER_IS_BETTER,
        **options,
    )


def train(
    config: Config,
    trainer: Trainer,
    batches: StreamBatches,
    steps: int,
    workdir: Path,
    validate: Validate | None = None,
    init: Callable[[], State] | None = None,
) -> Outcome:
    """Trains to `steps` (or until patience ends), resuming from the newest checkpoint.

    Args:
      config: the run.
      trainer: its jitted step.
      batches: its data.
      steps: last step.
      workdir: where checkpoints and metrics go.
      validate: state → metrics, called every config.train.eval_every steps; None: never.
      init: makes the state of step 0 where there is no checkpoint; None: `trainer.init`.
    """
    goodput, settings = Goodput(), config.train
    checkpoints = open_checkpoints(config, workdir, trainer.model)
    if checkpoints.steps():
        target = abstract_state(jax.eval_shape(trainer.init), trainer.shardings)
        _, state = checkpoints.restore_first("latest", target)
    else:
        state = (init or trainer.init)()
    start = int(state["step"])
    if start:
        logging.info("resuming from step %d", start)
    writer = MetricWriter(workdir, start, settings.loggers)
    progress = _Progress(start, steps, settings.log_every, writer)
    sharding = meshes.split(trainer.mesh)

    def put(batch: Batch) -> Batch:  # this host's rows of the batch, to its devices
        return jax.tree.map(
            lambda array: jax.make_array_from_process_local_data(sharding, array), batch
        )

    stream = prefetch(batches, start, steps, config.batch.prefetch, put)
    step, pending = start, None

    def busy() -> bool:
        return step <= start + 1 or not pending["loss"].is_ready()

    goodput.enter("compile")
    try:
        over = _out_of_patience(config, checkpoints, start)
        for batch in [] if over else goodput.fed(stream, busy):
            state, metrics = trainer.step(state, batch)
            if pending is not None:
                jax.block_until_ready(pending)  # the host is never more than a step ahead
                progress.read(step, pending)
            step, pending = step + 1, metrics
            if step == start + 1:
                jax.block_until_ready(state)
                goodput.enter("step")
            validating = (
                validate
                and settings.eval_every
                and (step % settings.eval_every == 0 or step == steps)
            )
            if validating or step % settings.checkpoint_every == 0 or step == steps:
                jax.block_until_ready(state)  # so that its time counts as a step's
                found = None
                if validating:
                    with goodput("validate"):
                        found = validate(state)
                    progress.validated(step, found)
                # What a warm-up validates is not yet the objective's: it can't be the best.
                counts = step > warm_up_steps(config)
                with goodput("checkpoint"):
                    checkpoints.save(step, state, found if counts else None)
                if validating and _out_of_patience(config, checkpoints, step):
                    break
        if pending is not None:
            progress.read(step, pending)
        progress.flush()
        goodput.enter("finish")
        checkpoints.close()
        best = checkpoints.best()
        write_json(Path(workdir) / DONE, {"step": step, "best_step": best[0] if best else step})
    finally:
        stream.close()
        writer.close()
    rate = progress.targets / goodput.cpu["step"] if goodput.cpu["step"] else 0.0
    return Outcome(state, step, best[0] if best else step, rate, goodput)


def _out_of_patience(config: Config, checkpoints: Checkpoints, step: int) -> bool:
    """True after `patience` validations without a new best; those of warm-ups do not count."""
    if not config.train.patience or (best := checkpoints.best()) is None:
        return False
    stop = step - best[0] >= config.train.patience * config.train.eval_every
    if stop:
        logging.info("no better %s since step %d: stopping", config.train.metric, best[0])
    return stop


class _Progress:
    """Reads metrics that the device has finished, and tells rate, time left and loss terms."""

    def __init__(self, start: int, steps: int, every: int, writer: MetricWriter):
        self._start, self._steps, self._every, self._writer = start, steps, every, writer
        self._since, self._unread = time.perf_counter(), []
        self.targets = 0  # labels of all steps but the first, which compiles

    def read(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """`metrics` of `step`; fetched from the device in groups, at each line of progress."""
        self._unread.append((step, metrics))
        if step % self._every == 0:
            self.flush()

    def flush(self) -> None:
        if not self._unread:
            return
        fetched = jax.device_get(self._unread)
        step = fetched[-1][0]
        self.targets += sum(int(m["labels"]) for s, m in fetched if s > self._start + 1)
        values = {name: float(value) for name, value in fetched[-1][1].items()}
        self._unread = []
        self._writer.write(step, "train", values)
        elapsed = time.perf_counter() - self._since
        rate = (step - self._start) / elapsed
        logging.info(
            "step %d/%d  %.1f steps/s  ETA %s  loss %.4f  positive %.4f  negative %.5f  push %.3f",
            step,
            self._steps,
            rate,
            _clock((self._steps - step) / rate),
            values["loss"],
            values["loss_positive"],
            values["loss_negative"],
            values["push"],
        )

    def validated(self, step: int, found: dict[str, float]) -> None:
        self._writer.write(step, "valid", found)
        first = min((int(k.split("@")[1]) for k in found if k.startswith("hr_p@")), default=0)
        shown = [f"{name}@{first}" for name in ("hr_p", "hr_n", "ndcg_p", "delta")]
        line = [f"{k} {found[k]:.4f}" for k in shown if found.get(k) is not None]
        logging.info("valid %d/%d  %s", step, self._steps, "  ".join(line))


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"
