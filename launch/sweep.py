"""Tunes one setting on validation and compares it with the positives-only baseline on the test.

  python -m launch.sweep --config=configs/kuairand.py --workdir=runs/kuairand_omega \
      --key=loss.omega --values=0.03,0.1,0.3,1,3

Each value is trained on the training period and evaluated on the validation period; --select names
the metric that chooses. The baseline (objective `ssm`) and the chosen value are then retrained on
both periods, and only these two are scored on the test period, once. A repeated command skips the
finished values.

A grid trains every combination, by default as one program (--mode=population), and shows the front
of HR_p against HR_n on validation with the baselines on it:

  python -m launch.sweep --config=configs/kuairand.py --workdir=runs/weights \
      --config.loss.weight_policy=constant --r_grid=0.5,1 --w_grid=1,10,100,1000

--grid=section.name=v1,v2 takes any setting and may be repeated; settings that are compiled in need
--mode=sequential or array (docs/launching.md). --trials=N lets Optuna choose N combinations within
the grid's limits. --sweep_member=i trains member i alone. launch.evaluate and the other programs
take a member's folder as they take any run's.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from negflax.config import Config, ConfigError, from_config_dict
from negflax.data import Sequences, open_sequences
from negflax.evaluate import Result, evaluation, format_table, paired_bootstrap
from negflax.evaluate.report import html, plots
from negflax.evaluate.report.tabulate import summary_rows
from negflax.files import write_json
from negflax.fitting import refit, train_run
from negflax.mesh import make_mesh
from negflax.sweep import grid, parse_grid
from negflax.sweep.grid import replaced
from negflax.train.loop import LOWER_IS_BETTER, open_checkpoints
from negflax.train.restore import REFIT, load_trained

from . import flags as shared
from . import sweep_grid

CONFIG = config_flags.DEFINE_config_file("config", None, "One of configs/*.py.")
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the sweep; it gets a folder for the run of each value."
)
KEY = flags.DEFINE_string("key", "loss.omega", "The setting to sweep, as section.name.")
VALUES = flags.DEFINE_list(
    "values", ["0.03", "0.1", "0.3", "1", "3"], "Values to try; `|` separates a tuple's elements."
)
SELECT = flags.DEFINE_string("select", "delta@10", "Validation metric that chooses the value.")
R_GRID = flags.DEFINE_list("r_grid", [], "Values of config.loss.r.")
W_GRID = flags.DEFINE_list("w_grid", [], "Values of config.loss.w.")
GRID = flags.DEFINE_multi_string(
    "grid", [], "A setting and its values, section.name=v1,v2; may be repeated."
)
MODE = flags.DEFINE_enum(
    "mode", "population", ["population", "array", "sequential"], "How a grid is trained."
)
MEMBER = flags.DEFINE_integer("sweep_member", -1, "Train only this member of the grid.")
STUDY = flags.DEFINE_string("study", "search", "Name of the study that --trials continues.")
TRIALS = flags.DEFINE_integer("trials", 0, "Number of search trials within the limits of the grid.")
TEST = flags.DEFINE_boolean("test", True, "Evaluate the best member of a grid on the test period.")
BASELINE = "ssm"


def settings(config: Config, key: str, values: list[str]) -> dict[str, Config]:
    """Returns the baseline's config and one config per value, by name.

    `|` separates the elements of a tuple.

    Raises:
      ConfigError: the key is not a setting, or a value has another type.
    """
    found = {BASELINE: replaced(config, "loss.objective", "ssm")}
    for text in values:
        folder = re.sub(r"[^\w.=-]+", "_", f"{key.partition('.')[2]}={text}")
        try:
            found[folder] = replaced(config, key, text)
        except ConfigError as error:
            raise ConfigError(f"--key, --values: {error}") from error
    return found


def best_step(config: Config, folder: Path) -> int:
    """Returns the step of the checkpoint with the best validation metric.

    Raises:
      ConfigError: no checkpoint was validated.
    """
    found = open_checkpoints(config, folder, read_only=True).best()
    if found is None:
        raise ConfigError(
            f"{folder}: no checkpoint was validated: set config.train.eval_every above 0"
        )
    return found[0]


def score(config: Config, folder: Path, sequences: Sequences, split: str) -> dict[str, Any]:
    """Returns the metrics of the best checkpoint on a split, cached in <folder>/<split>.json."""
    path = folder / f"{split}.json"
    if path.exists():
        return json.loads(path.read_text())
    trained = load_trained(folder, str(best_step(config, folder)), make_mesh(config.mesh))
    metrics = evaluation.evaluate_trained(trained, split, folder, sequences).metrics
    write_json(path, {"step": trained.step} | metrics)
    return {"step": trained.step} | metrics


def compared(config: Config, folders: dict[str, Path], sequences: Sequences) -> dict[str, Result]:
    """Evaluates the retrained runs on the test period."""
    mesh = make_mesh(config.mesh)
    return {
        name: evaluation.evaluate_trained(
            load_trained(folder, "best", mesh), "test", folder, sequences
        )
        for name, folder in folders.items()
    }


def ratio_rows(config: Config, chosen: str, results: dict[str, Result]) -> list[dict[str, Any]]:
    """Returns ratios of means, chosen over baseline, with user-clustered paired bootstrap CIs."""
    k, rows = config.eval.ks[0], []
    for metric in (f"hr_p@{k}", f"ndcg_p@{k}", f"hr_n@{k}", f"anti_ndcg@{k}"):
        a, b = (results[name].values[True, evaluation.MODEL][metric] for name in (chosen, BASELINE))
        value, low, high = paired_bootstrap(
            a.value_R,
            b.value_R,
            "mean_ratio",
            resamples=config.eval.bootstrap,
            seed=config.eval.seed,
        )
        rows.append({"metric": metric, f"{chosen} / {BASELINE}": value, "low": low, "high": high})
    return rows


def grid_main(config: Config, workdir: Path) -> None:
    """Trains a grid or one member of it, or searches it; then judges all members."""
    texts = [*GRID.value]
    texts += [f"loss.{x}={','.join(v)}" for x, v in (("r", R_GRID.value), ("w", W_GRID.value)) if v]
    values = parse_grid(texts)
    sweep = sweep_grid.Sweep(config, workdir, MODE.value, SELECT.value, TEST.value)
    if MEMBER.value >= 0:
        sweep_grid.train_member(sweep, grid(config, values), MEMBER.value)
        return
    if TRIALS.value:
        runs = sweep_grid.run_search(sweep, values, STUDY.value, TRIALS.value)
    else:
        runs = grid(config, values)
    sequences = sweep.sequences()
    sweep_grid.train_all(sweep, runs, sequences)
    valid = sweep_grid.judged(sweep, runs, sequences)
    figures = sweep_grid.report(sweep, runs, valid, sequences)
    write_json(shared.JSON.value or workdir / "sweep.json", figures)


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    workdir = Path(WORKDIR.value)
    shared.start(workdir)
    config = from_config_dict(CONFIG.value)
    if GRID.value or R_GRID.value or W_GRID.value:
        grid_main(config, workdir)
        return
    sequences = open_sequences(config, workdir)  # all are evaluated on these labels
    runs = settings(config, KEY.value, VALUES.value)

    valid = {}
    for name, one in runs.items():
        if not (workdir / name / "valid.json").exists():
            train_run(one, workdir / name, open_sequences(one, workdir))
        valid[name] = score(one, workdir / name, sequences, "valid")

    sign = -1 if SELECT.value.split("@")[0] in LOWER_IS_BETTER else 1
    chosen = max((n for n in runs if n != BASELINE), key=lambda n: sign * valid[n][SELECT.value])
    folders = {}
    for name in (BASELINE, chosen):
        folders[name] = workdir / name / REFIT
        events = open_sequences(runs[name], workdir)
        refit(runs[name], folders[name], events, best_step(runs[name], workdir / name))
    results = compared(config, folders, sequences)

    keys = evaluation.headline_keys(config.eval.ks)
    tables = {
        "Validation period": _rows(valid, keys),
        "Test period, retrained on training + validation": _rows(
            {name: result.metrics for name, result in results.items()}, keys
        ),
        "Baselines, test period": summary_rows(
            results[BASELINE].metrics, evaluation.SCORERS[1:], keys
        ),
        "Chosen setting against the baseline, test period": ratio_rows(config, chosen, results),
    }
    for title, rows in tables.items():
        print(f"\n{title}\n{format_table(rows)}")
    k = config.eval.ks[0]
    points = {name: (m[f"hr_p@{k}"], m[f"hr_n@{k}"]) for name, m in valid.items()}
    sections = [html.Table(title, rows) for title, rows in tables.items()]
    sections.insert(1, html.Figure("Validation front", [plots.front_chart(points, k)]))
    page = html.write_report(workdir / "sweep.html", f"{config.name}: {KEY.value}", sections)
    print(f"\nchosen by {SELECT.value}: {chosen}; page: {page}")
    figures = {f"valid/{name}/{k}": v for name, m in valid.items() for k, v in m.items()}
    for name, result in results.items():
        figures |= {f"test/{name}/{k}": v for k, v in result.metrics.items()}
    write_json(shared.JSON.value or workdir / "sweep.json", figures | {"chosen": chosen})


def _rows(metrics: dict[str, dict[str, Any]], keys: list[str]) -> list[dict[str, Any]]:
    """Returns one row per setting, each figure as `value [low, high]`."""
    return [
        {"setting": name}
        | {k: v for k, v in summary_rows(m, [evaluation.MODEL], keys)[0].items() if k != "scorer"}
        for name, m in metrics.items()
    ]


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    shared.run(main, trains=True)
