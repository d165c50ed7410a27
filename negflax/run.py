"""The public API: `fit` trains a run, `load` opens one, and a `Run` recommends and evaluates."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import pyarrow as pa

from negflax.calibration import load_calibrated
from negflax.config import (
    Config,
    ConfigError,
    MeshConfig,
    check,
    event_log_defaults,
    from_config_dict,
)
from negflax.data import Catalogue, open_sequences
from negflax.data.event_files import count_events, event_files
from negflax.data.rule_matches import require_matches
from negflax.data.tabular import Data, arrow_table, as_file, is_path
from negflax.evaluate import Result, build_queries, evaluation
from negflax.evaluate.calibration import calibration_figures
from negflax.evaluate.circumstances import check_list_lengths
from negflax.evaluate.report import run_page
from negflax.files import write_json
from negflax.fitting import calibrate_after_training, mesh_of, refit, train_run
from negflax.mesh import make_mesh
from negflax.object_store import downloaded, mirrored
from negflax.processes import from_first
from negflax.serve import Session, TrainedRecommender
from negflax.train.checkpoint import compare_config, read_config
from negflax.train.loop import Outcome
from negflax.train.restore import REFIT, Trained, checkpoint_folder
from negflax.train.warm_start import catalogue_of
from negflax.train.workdir_lock import locked

RESULTS, REPORT = "results.json", "report.html"


class Run:
    """A trained run. Keep the object: the first call for each shape compiles.

    Attributes:
      workdir: its folder, which holds everything that is needed.
      checkpoint: `best`, `latest` or a step.
      calibrated: use the calibration by feedback counts, if the run has one (docs/calibration.md).
      result: of the evaluation that `fit` ended with, query by query; None for a loaded run.
      metrics: figures of the test period and of training, as in results.json; {} before there are
        any. Names: docs/metrics.md.
    """

    def __init__(self, workdir: str | Path, checkpoint: str = "best", calibrated: bool = True):
        """Opens `workdir` lazily; `negflax.load` checks it at once."""
        self.workdir, self.checkpoint = Path(workdir), str(checkpoint)
        self.calibrated = calibrated
        self.result: Result | None = None

    def __repr__(self) -> str:
        """The call that opens this run."""
        return f"negflax.load({str(self.workdir)!r}, checkpoint={self.checkpoint!r})"

    @functools.cached_property
    def trained(self) -> Trained:
        """The checkpoint with its config, catalogue and model, on all devices."""
        mesh = make_mesh(MeshConfig(), jax.devices())
        return load_calibrated(self.workdir, self.checkpoint, mesh, calibrated=self.calibrated)

    @functools.cached_property
    def config(self) -> Config:
        """The config of the run, read without restoring its parameters."""
        return read_config(checkpoint_folder(self.workdir, self.checkpoint))

    @property
    def catalogue(self) -> Catalogue:
        """The items that it knows."""
        return self.trained.catalogue

    @property
    def metrics(self) -> dict[str, Any]:
        """The contents of results.json; {} if the run has not been evaluated."""
        path = self.workdir / RESULTS
        return json.loads(path.read_text()) if path.exists() else {}

    @functools.cached_property
    def recommender(self) -> TrainedRecommender:
        """Serves this run; as in evaluation, it reads `config.eval.history` events of a user."""
        return TrainedRecommender(self.trained, history=self.config.eval.history)

    def recommend(
        self,
        events: Data,
        k: int = 10,
        *,
        at: Any = None,
        explain: bool = False,
        progress: Callable[[int, int], Any] | None = None,
        **rules: Any,
    ) -> pa.Table:
        """The k best items for every user of an event log, by the newest events of each.

        Args:
          events: a file or folder, a pyarrow.Table or any object with `__arrow_c_stream__`, with
            the columns of the training log (a missing feedback column counts as unknown).
          k: length of the lists.
          at: time of the request, for models with config.model.request: a datetime, ISO 8601
            text (both in UTC where they name no zone) or milliseconds since 1970. None: a minute
            after the last event of each user.
          explain: with `p`, the probability over the catalogue, and with the better items that a
            rule left out: their `rank` is null and `reason` says why.
          progress: called with (users done, users) after every block of users.
          **rules: `exclude_seen` (True), `exclude` (item ids), `drop_disliked`, `block_creators`,
            `cap_per_creator`, `cap_per_cluster`, `aversion` (docs/serving.md).

        Returns:
          user_id, rank from 1, item_id, score and, where known, title and clusters.

        Raises:
          ConfigError: k is below 1 or above the number of items, or an unknown rule.
          DataError: unusable events; it names column and row.
          ModelError: the checkpoint has values that are not finite.
        """
        serve = self.recommender.recommend
        return serve(events, k, at=at, explain=explain, progress=progress, **rules)[0]

    def session(
        self,
        user: int | str | None = None,
        *,
        events: Data | None = None,
        state: bytes | None = None,
    ) -> Session:
        """A user who is being served: `add(event)` changes the state and the next `recommend(k)`.

        Args:
          user: whose it is; with `state`, of whom the state has to be.
          events: an event log with the user's history, all of which is read; without `user` it must
            hold one user alone.
          state: of `Session.to_bytes`, to go on from there, without `events`.

        Raises:
          DataError: unusable events, or a log of several users.
          StateError: bytes that are no state of this checkpoint or of this user.
        """
        return self.recommender.session(user, events=events, state=state)

    def evaluate(self, split: str = "test") -> dict[str, Any]:
        """Ranks the whole catalogue for every user of a period, beside the baselines.

        Args:
          split: `test` or `valid`.

        Returns:
          Figures by name, as in results.json.

        Raises:
          DataError: the run's data is no longer there.
        """
        sequences = open_sequences(self.config, self.workdir, self.catalogue)
        return evaluation.evaluate_trained(self.trained, split, self.workdir, sequences).metrics


def load(workdir: str | Path, checkpoint: str = "best", *, calibrated: bool = True) -> Run:
    """Opens a run that `fit` or launch.train has trained.

    Args:
      workdir: its folder, or an address such as gs://bucket/run, which is downloaded.
      checkpoint: `best`, `latest` or a step.
      calibrated: use the calibration by feedback counts, if the run has one.

    Raises:
      CheckpointError: there is no such run or checkpoint.
    """
    run = Run(downloaded(workdir), checkpoint, calibrated)
    run.trained  # noqa: B018 - so that what is missing is told now
    return run


def fit(
    data: Data | None = None,
    config: Config | Mapping[str, Any] | None = None,
    workdir: str | Path | None = None,
    *,
    items: Data | None = None,
    init_from: str | Path = "",
    resume_from: str | Path = "",
    test: bool = True,
) -> Run:
    """Trains a run, or resumes it where it stopped, and scores its test period.

    The folder then holds checkpoints, results.json, data_report.json and report.html. A config that
    is refused leaves no run there, at most prepared data.

    Args:
      data: an event log: a .csv or .parquet file or a folder of them, a pyarrow.Table, or any
        object with `__arrow_c_stream__`, such as a pandas or polars data frame. None: what
        config.data names.
      config: a negflax.Config, or an ml_collections ConfigDict. None: settings for an event log
        with the signals `like` and `dislike` (negflax/config/event_log.py).
      workdir: folder of the run, one for each config; by default runs/<config.name>. An address
        such as gs://bucket/run has a local copy, which is uploaded (docs/operations.md).
      items: an item table (item_id and any of title, creator_id, cluster_ids, duration_ms,
        item_vector), in the same forms as `data`.
      init_from: folder of a run whose best parameters this one starts from.
      resume_from: folder of a run with the same config and data that this one goes on with.
      test: score the test period.

    Raises:
      ConfigError: a setting is not accepted; the message names it.
      DataError: unusable events; the message names file, column and row.
      CheckpointError: the folder holds another run, or another trainer is at work in it.
      EvaluationError: no event of the test period has a label; with test=False none is needed.
    """
    if data is None and config is None:
        raise ConfigError(
            "negflax.fit() needs data: give the argument data, or set config.data.source"
        )
    if data is not None and not is_path(data):
        data = arrow_table(data, "data")
    config = _settings(config, data)
    check(config)  # first of all: what is refused leaves no trace
    mesh_of(config)
    with mirrored(workdir or Path("runs") / config.name, trains=True) as folder:
        starts = [str(downloaded(start)) if start else "" for start in (init_from, resume_from)]
        return _fit(_with_data(config, data, items, folder), folder, *starts, test)


def _fit(config: Config, workdir: Path, init_from: str, resume_from: str, test: bool) -> Run:
    mesh = mesh_of(config)
    compare_config(workdir, config)

    with locked(workdir):
        grows = init_from and config.data.reserved_items
        known = catalogue_of(init_from) if grows else None
        sequences = open_sequences(config, workdir, known=known)
        check_list_lengths(config.eval.ks, sequences.catalogue)
        require_matches(sequences.report)
        if test:
            build_queries(sequences, "test", max_users=1)  # that it can be scored in the end
        outcome = train_run(config, workdir, sequences, 0, init_from, resume_from)
        if config.train.refit:
            refit(config, workdir / REFIT, sequences, outcome.best_step, init_from)

        if config.calibration.after_training:
            calibrate_after_training(workdir, sequences)
        run, results = Run(workdir), _figures(outcome)
        if test:
            trained = load_calibrated(workdir, "best", mesh)
            run.result = evaluation.evaluate_trained(trained, "test", workdir, sequences)
            shown = run_page.look_at(config.name, trained, run.result, sequences, "test", workdir)
            from_first(lambda: str(run_page.write_page(workdir / REPORT, "test", [shown])))
            results |= run.result.metrics | calibration_figures(shown.calibration)
            results |= shown.examples.figures
        from_first(lambda: write_json(workdir / RESULTS, results))
        return run


def _settings(config: Any, data: Data | None) -> Config:
    """The config as a Config, or the one that suits the size of the data."""
    if config is None:
        events = count_events(event_files(str(data))) if is_path(data) else data.num_rows
        return event_log_defaults(events)
    return config if isinstance(config, Config) else from_config_dict(config)


def _with_data(config: Config, data: Data | None, items: Data | None, workdir: Path) -> Config:
    """The config with the paths of what was given; tables become files of the run."""
    folder = workdir / "data"
    named = {}
    if data is not None:
        named = {"source": "event_log", "path": as_file(data, folder, "events")}
    if items is not None:
        named["items_path"] = as_file(items, folder, "items")
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **named))


def _figures(outcome: Outcome) -> dict[str, Any]:
    """What results.json holds besides the metrics."""
    return {
        "step": outcome.step,
        "best_step": outcome.best_step,
        "targets_per_cpu_second": outcome.targets_per_cpu_second or None,
        "device_wait_share": outcome.goodput.wait_share,
        "devices": jax.device_count(),
        **{f"seconds/{k}": v for k, v in outcome.goodput.wall.items()},
        **{f"cpu_seconds/{k}": v for k, v in outcome.goodput.cpu.items()},
    }
