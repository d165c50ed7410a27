"""Compares all objectives: gradients, cases, stability, quality; one page that tells it.

  python -m launch.study --config=configs/study_synthetic.py --workdir=runs/study_synthetic

Quality: every setting of every objective trains once and is validated; one rule chooses a setting
for each objective (negflax/study/settings.py); the chosen ones train anew on both periods with
--seeds seeds and see the test period. Every finished run leaves one JSON file under
<workdir>/figures, and is not done again when the command is repeated.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

from absl import flags, logging
from ml_collections import config_flags

from launch import flags as shared
from launch.fit import fit, refit
from negflax import study
from negflax.config import Config, ConfigError, from_config_dict
from negflax.data import Sequences, open_sequences
from negflax.evaluate import format_table, plots, report, run
from negflax.evaluate.checks import EvaluationError
from negflax.files import write_json, write_text
from negflax.mesh import make_mesh
from negflax.study.settings import BASELINE
from negflax.train.loop import open_checkpoints
from negflax.train.restore import load_trained
from negflax.train.writers import read_metrics

CONFIG = config_flags.DEFINE_config_file("config", None, "One of configs/study_*.py.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the study.")
OBJECTIVES = flags.DEFINE_list("objectives", [], "Those to compare, positives only besides; all.")
SEEDS = flags.DEFINE_integer("seeds", 5, "Training seeds of every quoted point.")
QUICK = flags.DEFINE_bool("quick", False, "Two settings each, two seeds, short cases: a trial.")

POLICY_WEIGHTS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # omega, or weights in the small world
CONSTANT_WEIGHTS = (0.1, 1.0, 10.0, 100.0, 1000.0, 3000.0)
DIVERGED = 10.0  # times the max |logit| of positives only


def with_loss(config: Config, objective: str, setting: dict[str, Any], seed: int) -> Config:
    """The run of one setting; what an objective cannot do without is added."""
    loss = {"objective": objective} | setting
    if objective == "gbce":
        loss["candidates"] = "uniform"
    model = dataclasses.replace(config.model, behaviour_head=objective == "reinforce")
    return dataclasses.replace(
        config,
        loss=dataclasses.replace(config.loss, **loss),
        model=model,
        train=dataclasses.replace(config.train, seed=seed, refit=False),
        batch=dataclasses.replace(config.batch, seed=seed),
    )


def stability(folder: Path) -> dict[str, float]:
    """max |logit| over the logged steps, and how many of those were not finite."""
    steps = [m for m in read_metrics(folder) if m["kind"] == "train"]
    logits = [m["max_logit"] for m in steps]
    bad = sum(not math.isfinite(m["loss"] or math.nan) for m in steps) if steps else 0
    finite = [x for x in logits if x is not None and math.isfinite(x)]
    return {"max_logit": max(finite, default=math.nan), "non_finite_steps": bad}


class Study:
    """Runs of a study, each once; progress with the time left."""

    def __init__(self, config: Config, workdir: Path, sequences: Sequences, planned: int):
        """`planned` is the number of runs in all."""
        self.config, self.workdir, self.sequences = config, workdir, sequences
        self._planned, self._done, self._made, self._since = planned, 0, 0, time.monotonic()

    def validated(self, objective: str, number: int, setting: dict[str, Any]) -> dict[str, Any]:
        """A setting trained on the training period, scored on validation."""

        def work(folder: Path) -> dict[str, Any]:
            config = with_loss(self.config, objective, setting, 0)
            fit(config, folder, self.sequences)
            return self._scored(folder, "valid", _best_step(config, folder))

        return self._once(f"valid-{objective}-{number}", work) | {"setting": setting}

    def tested(
        self, objective: str, setting: dict[str, Any], best_step: int, seed: int
    ) -> dict[str, Any]:
        """A chosen setting trained anew on both periods, scored on the test period."""

        def work(folder: Path) -> dict[str, Any]:
            config = with_loss(self.config, objective, setting, seed)
            refit(config, folder, self.sequences, best_step)
            return self._scored(folder, "test", None)

        return self._once(f"test-{objective}-{seed}", work)

    def _scored(self, folder: Path, split: str, step: int | None) -> dict[str, Any]:
        trained = load_trained(folder, str(step or "latest"), make_mesh(self.config.mesh))
        found = run.evaluate_trained(trained, split, folder, self.sequences).metrics
        return {"step": trained.step, "metrics": found}

    def _once(self, name: str, work: Any) -> dict[str, Any]:
        path = self.workdir / "figures" / f"{name}.json"
        if not path.exists():
            folder = self.workdir / "runs" / name
            try:
                found = work(folder)
            except EvaluationError as error:  # scores that are not finite are a finding
                logging.warning("%s: %s", name, error)
                found = {"step": 0, "metrics": {}, "error": str(error)}
            write_json(path, _plain(found | stability(folder)))
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            self._made += 1
        self._done += 1
        each = (time.monotonic() - self._since) / max(1, self._made)
        left = (self._planned - self._done) * each / 60 if self._made else 0.0
        logging.info("study: %s, %d of %d, ETA %.0f min", name, self._done, self._planned, left)
        return json.loads(path.read_text())


def _best_step(config: Config, folder: Path) -> int:
    found = open_checkpoints(config, folder, read_only=True).best()
    if found is None:
        raise EvaluationError("no validation after the warm-ups gave a finite score")
    return found[0]


def small_worlds(names: list[str], quick: bool) -> dict[str, list[dict[str, Any]]]:
    """Parts 1 to 3 in worlds of two states: tables by title."""
    case = study.CASE._replace(steps=300) if quick else study.CASE
    largest = study.case_outcomes(BASELINE, (0.0,), case)[0]["max_logit"]
    cases, drifts = [], []
    for name in names:
        weights = POLICY_WEIGHTS + CONSTANT_WEIGHTS
        for w, found in zip(weights, study.case_outcomes(name, weights, case), strict=True):
            finite = found["not_finite"] == 0
            diverged = not finite or found["max_logit"] > DIVERGED * largest
            drifts.append(
                {"objective": name, "w": w, "max_logit": found["max_logit"],
                 "drift": found["drift"], "diverged": diverged}
            )  # fmt: skip
            if w in (0.3, 3.0):
                shown = ("disliked_popular", "liked_popular", "disliked_rare", "cold")
                cases.append(
                    {"objective": name, "w": w} | {k: f"{found[k]:.3g}" for k in shown}
                )  # fmt: skip
    return {
        "What pushes a negative down, per unit of weight": study.gradient_rows(),
        "A popular item disliked beside one liked; a rare one disliked beside a cold one": cases,
        "Drift in the small world, by weight": drifts,
    }


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    workdir, quick = Path(WORKDIR.value), QUICK.value
    shared.start(workdir)
    config = from_config_dict(CONFIG.value)
    names = OBJECTIVES.value or [name for name in study.SETTINGS if name != BASELINE]
    if unknown := set(names) - set(study.SETTINGS):
        raise ConfigError(f"--objectives: unknown {sorted(unknown)}; known: {list(study.SETTINGS)}")
    seeds = 2 if quick else SEEDS.value
    names = [BASELINE, *(name for name in names if name != BASELINE)]
    grid = {name: study.SETTINGS[name][2:4] if quick and name != BASELINE else study.SETTINGS[name]
            for name in names}  # fmt: skip
    tables = small_worlds(names, quick)
    planned = sum(map(len, grid.values())) + seeds * len(names)
    runs = Study(config, workdir, open_sequences(config, workdir), planned)

    k = config.eval.ks[0]
    hr_p, hr_n = f"hr_p@{k}", f"hr_n@{k}"
    valid = {n: [runs.validated(n, i, s) for i, s in enumerate(grid[n])] for n in names}
    base = valid[BASELINE][0]
    picks, tested = {}, {}
    for name in names:
        read = lambda key, name=name: {  # noqa: E731
            str(i): _number(one["metrics"].get(key)) for i, one in enumerate(valid[name])
        }
        pick = int(study.chosen(read(hr_p), read(hr_n), _number(base["metrics"][hr_p])))
        picks[name] = grid[name][pick]
        tested[name] = [
            runs.tested(name, picks[name], valid[name][pick]["step"], seed) for seed in range(seeds)
        ]
    figures = summarise(names, valid, tested, k, base["max_logit"])
    keys = (f"hr_p@{k}", f"hr_n@{k}", f"delta@{k}", f"ndcg_p@{k}", f"anti_ndcg@{k}")
    tables |= {
        f"Test period, {seeds} seeds: mean [95 % interval over seeds]": quality_rows(
            tested, picks, figures, keys
        ),
        "Floors, test period": floor_rows(tested[BASELINE][0]["metrics"], keys),
        "Test period, negatives by kind": strata_rows(tested, k),
        "Validation, one seed: every setting": validation_rows(valid, keys),
    }
    write_outputs(workdir, config, figures, tables, valid, k)


def _plain(value: Any) -> Any:
    """JSON knows no NaN and no infinity: null stands for both."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _mean(found: list[dict[str, Any]], key: str) -> tuple[float, float, float]:
    return study.seed_interval([_number(one["metrics"].get(key)) for one in found])


def summarise(names, valid, tested, k, usual_logit) -> dict[str, Any]:
    """The fixed figures: `<objective>/hr_p`, `_low`, `_high`, …, `pareto/<objective>`."""
    figures: dict[str, Any] = {}
    for name in names:
        for short in ("hr_p", "hr_n", "delta", "ndcg_p", "anti_ndcg"):
            value, low, high = _mean(tested[name], f"{short}@{k}")
            figures |= {f"{name}/{short}": value, f"{name}/{short}_low": low,
                        f"{name}/{short}_high": high}  # fmt: skip
        every = valid[name] + tested[name]
        away = [
            one["non_finite_steps"] > 0 or "error" in one
            or not _number(one["max_logit"]) <= DIVERGED * usual_logit
            for one in every
        ]  # fmt: skip
        figures[f"{name}/diverged_share"] = sum(away) / len(away)
        figures[f"{name}/max_logit"] = max(_number(one["max_logit"]) for one in every)
        figures[f"{name}/runs"] = len(every)
    points = {n: (figures[f"{n}/hr_p"], figures[f"{n}/hr_n"]) for n in names}
    points = {n: p for n, p in points.items() if all(map(math.isfinite, p))}
    front = study.on_front(points)
    return figures | {f"pareto/{name}": front.get(name, False) for name in names}


def quality_rows(tested, picks, figures, keys) -> list[dict[str, Any]]:
    """A row for each objective at its chosen setting."""
    rows = []
    for name, found in tested.items():
        cells = {key: "{:.4f} [{:.4f}, {:.4f}]".format(*_mean(found, key)) for key in keys}
        setting = ", ".join(f"{k}={v}" for k, v in picks[name].items()) or "–"
        rows.append(
            {"objective": name, "setting": setting, **cells,
             "on front": "yes" if figures[f"pareto/{name}"] else "no",
             "diverged": f"{figures[f'{name}/diverged_share']:.0%} of {figures[f'{name}/runs']}"}
        )  # fmt: skip
    return rows


def floor_rows(metrics: dict[str, Any], keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """Scorers that learn next to nothing."""
    floors = sorted({key.split("/")[0] for key in metrics if key.endswith(f"/{keys[0]}")
                     and "=" not in key and not key.startswith("kept")})  # fmt: skip
    return [{"floor": n} | {key: metrics.get(f"{n}/{key}") for key in keys} for n in floors]


def strata_rows(tested: dict[str, list[dict[str, Any]]], k: int) -> list[dict[str, Any]]:
    """HR_n and anti-NDCG of each kind of held-out negative."""
    some = next(iter(tested.values()))[0]["metrics"]
    keys = [key for key in some if key.startswith("negative=")
            and key.endswith((f"/hr_n@{k}", f"/anti_ndcg@{k}"))]  # fmt: skip
    rows = [{"objective": n} | {key: _mean(f, key)[0] for key in keys} for n, f in tested.items()]
    return rows if keys else []


def validation_rows(valid: dict[str, list[dict[str, Any]]], keys: tuple[str, ...]) -> list[dict]:
    """Every setting, with what it did to the logits."""
    return [
        {"objective": name, "setting": ", ".join(f"{k}={v}" for k, v in one["setting"].items())}
        | {key: one["metrics"].get(key) for key in keys}
        | {"max_logit": one["max_logit"], "non_finite_steps": one["non_finite_steps"]}
        for name, found in valid.items()
        for one in found
    ]


def write_outputs(workdir, config, figures, tables, valid, k) -> None:
    """Terminal, JSON, CSV, PNG and the page."""
    for title, rows in tables.items():
        print(f"\n{title}\n{format_table(rows)}")
    names = list(valid)
    ends = [f"{metric}{end}" for metric in ("hr_p", "hr_n") for end in ("_low", "_high")]
    points = {
        n: [figures[f"{n}/{key}"] for key in ("hr_p", "hr_n", *ends)]
        for n in names if math.isfinite(figures[f"{n}/hr_p"])
    }  # fmt: skip
    chart = plots.front_chart(points, k)
    text = (
        "Positives only (ssm) is the first term of every objective; the others add a term for what "
        "users rejected. Wanted: few rejected items in the lists (HR_n, to the left) at no loss of "
        "liked ones (HR_p, up).\n\nOne rule chooses each objective's setting on the validation "
        "period: the least HR_n among settings that keep 90 % of the HR_p of positives only, else "
        "the most HR_p. Each objective had equally many settings. The test period was scored with "
        "the chosen ones alone, retrained on both earlier periods. Intervals: t, over seeds.\n\n"
        "On the front: no other objective has at least its HR_p for at most its HR_n, by the means "
        f"over seeds. Diverged: a step that is not finite, or |logits| above {DIVERGED:g} times "
        "those of positives only, in any of the objective's runs."
    )
    sections: list[report.Section] = [
        report.Text("How to read this", text),
        report.Figure("HR of positives against HR of negatives, test period", [chart]),
    ]
    order = sorted(tables, key=lambda title: not title.startswith(("Test", "Floors")))
    sections += [report.Table(title, tables[title]) for title in order if tables[title]]
    page = report.write_report(workdir / "study.html", f"{config.name}: objectives", sections)
    chart.savefig(workdir / "front.png", dpi=150, facecolor="white")
    for stem, title in (("validation", "Validation, one seed: every setting"),
                        ("small_worlds", "Drift in the small world, by weight")):  # fmt: skip
        out = io.StringIO()
        writer = csv.DictWriter(out, list(tables[title][0]))
        writer.writeheader()
        writer.writerows(tables[title])
        write_text(workdir / f"{stem}.csv", out.getvalue())
    write_json(shared.JSON.value or workdir / "study.json", _plain(figures | {"tables": tables}))
    print(f"\npage: {page}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    shared.run(main)
