"""Search instead of a grid: Optuna proposes as many settings as train side by side.

Two objectives, hr_p up and hr_n down, on the validation period. The study is a journal in the
sweep's folder, so a search that was stopped goes on with the trials that it had asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from negflax.config import Config, ConfigError
from negflax.sweep.grid import replaced

JOURNAL = "study.journal"
Judge = Callable[[Mapping[str, Config]], Mapping[str, Mapping[str, float]]]


def ranges(values: Mapping[str, Sequence[str]]) -> dict[str, tuple[float, float]]:
    """Of each setting its smallest and its largest value.

    Raises:
      ConfigError: values that are no numbers above 0, or one alone: the search is on a log scale.
    """
    found = {}
    for key, texts in values.items():
        try:
            numbers = [float(text) for text in texts]
        except ValueError as error:
            raise ConfigError(f"--grid={key}: a search needs numbers") from error
        if min(numbers) <= 0 or min(numbers) == max(numbers):
            raise ConfigError(f"--grid={key}: a search needs two different numbers above 0")
        found[key] = (min(numbers), max(numbers))
    return found


def open_study(workdir: Path, name: str, seed: int) -> Any:
    """The study of that name, in <workdir>/study.journal.

    Raises:
      ConfigError: Optuna is not installed.
    """
    try:
        optuna = importlib.import_module("optuna")
    except ImportError as error:
        raise ConfigError("--trials needs Optuna: pip install 'negflax[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    workdir.mkdir(parents=True, exist_ok=True)
    journal = optuna.storages.journal.JournalFileBackend(str(workdir / JOURNAL))
    return optuna.create_study(
        study_name=name,
        storage=optuna.storages.JournalStorage(journal),
        sampler=optuna.samplers.TPESampler(seed=seed, multivariate=False),
        directions=["maximize", "minimize"],
        load_if_exists=True,
    )


def search(
    study: Any,
    config: Config,
    limits: Mapping[str, tuple[float, float]],
    sizes: tuple[int, int],
    judge: Judge,
) -> dict[str, Config]:
    """Asks, trains and tells until the study has as many trials as wanted.

    Args:
      study: of `open_study`.
      config: what all trials have in common.
      limits: setting → smallest and largest value.
      sizes: trials in all, and how many are trained at a time.
      judge: trains runs and scores them on validation: name → hr_p and hr_n.

    Returns:
      All trials of the study: name → config.
    """
    optuna = importlib.import_module("optuna")
    distributions = {
        key: optuna.distributions.FloatDistribution(low, high, log=True)
        for key, (low, high) in limits.items()
    }
    wanted, together = sizes
    running = (optuna.trial.TrialState.RUNNING,)
    while True:
        asked = study.get_trials(deepcopy=False, states=running)
        room = min(together, wanted - len(study.get_trials(deepcopy=False)))
        asked = asked or [study.ask(distributions) for _ in range(room)]
        if not asked:
            return {_name(t): _config(config, t) for t in study.get_trials(deepcopy=False)}
        runs = {_name(trial): _config(config, trial) for trial in asked}
        found = judge(runs)
        for trial, name in zip(asked, runs, strict=True):
            if name in found:
                study.tell(trial.number, [found[name]["hr_p"], found[name]["hr_n"]])
            else:  # it diverged
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def _name(trial: Any) -> str:
    return f"trial={trial.number}"


def _config(config: Config, trial: Any) -> Config:
    for key, value in trial.params.items():
        config = replaced(config, key, repr(value))
    return config
