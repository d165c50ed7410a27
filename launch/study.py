"""Compares all objectives by gradients, small cases, stability and quality, on one page.

  python -m launch.study --config=configs/study_kuairand.py --workdir=runs/study_kuairand

For each seed, every objective continues from the same warm start with the same budget of steps
(negflax/study/training.py). Each is tuned on validation by the same rule over the same number of
settings, and evaluated on the test period with --seeds seeds. Finished runs are kept under
<workdir>/runs, and a repeated command skips them. Two processes with different --objectives may
share a folder once the first has finished `ssm`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from negflax import study
from negflax.config import ConfigError, from_config_dict
from negflax.data import open_sequences
from negflax.evaluate import format_table
from negflax.files import plain, write_json, write_text
from negflax.mesh import make_mesh
from negflax.study import anatomy, personal_baselines, quality, stability, tables, variants
from negflax.study import study_page as page
from negflax.study.personal import AVERSION, WITHIN, on_beta
from negflax.study.quality import RATE_ADJUSTED, SPREAD, Judge
from negflax.study.settings import BASELINE
from negflax.train.checkpoint import write_config

from . import flags as shared

CONFIG = config_flags.DEFINE_config_file("config", None, "One of configs/study_*.py.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the study.")
OBJECTIVES = flags.DEFINE_list(
    "objectives", [], "Objectives to compare, besides the baseline `ssm`; default: all."
)
STABILITY = flags.DEFINE_list(
    "stability", [], "Objectives to test for stability, of --objectives; default: all of them."
)
SEEDS = flags.DEFINE_integer("seeds", 5, "Training seeds of each result on the test period.")
TRIALS = flags.DEFINE_integer("settings", study.TRIALS, "Settings to try for each objective.")
VARIANTS = flags.DEFINE_integer("variants", 0, "Training seeds of the variants of NTR; 0: none.")
QUICK = flags.DEFINE_bool(
    "quick", False, "Trial run: two settings per objective, two seeds, short small cases."
)


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    workdir, quick = Path(WORKDIR.value), QUICK.value
    shared.start(workdir)
    config = from_config_dict(CONFIG.value)
    trained = _names(OBJECTIVES.value)
    seeds, trials = range(2 if quick else SEEDS.value), 2 if quick else TRIALS.value
    tried = [n for n in trained if n != BASELINE and n in (STABILITY.value or trained)]
    write_config(workdir, config)
    runs = study.Runs(config, workdir, open_sequences(config, workdir), make_mesh(config.mesh))
    runs.progress.plan(
        {
            "valid": 2 + trials * (len(trained) - 1),
            "test": 1 + len(seeds) * (1 + len(trained)),
            "stability": stability.runs_of(tried, quick),
        }
    )

    # Quality: tune on validation, then evaluate the chosen settings on the test period
    valid, judge = Judge(runs, "valid"), Judge(runs, "test")
    tuned, tested = {}, {}
    for name in trained:
        tuned[name] = quality.tune(runs, valid, name, trials)
        tested[name] = quality.test(runs, name, tuned[name], seeds)
    tuned[RATE_ADJUSTED] = quality.tune_rate_adjusted(runs, valid)
    personal = personal_baselines.tune(runs, valid)
    personal_tested = personal_baselines.test(runs, personal, seeds)
    tuned |= personal
    grid = stability.grid(runs, tried, quick)
    usual = tuned[BASELINE].trials[0].figures["max_logit"]
    shares = {name: stability.diverged_share(found, usual) for name, found in grid.items()}

    # Paired estimates with intervals over seeds and users
    finite = [name for name in trained if all(one.ranks for one in tested[name])]
    columns = {name: [judge.columns(one.ranks[""]) for one in tested[name]] for name in finite}
    for name in [n for n in SPREAD if n in finite]:
        for scorer in [n for n in tested[name][0].ranks if n.startswith(quality.beta_name())]:
            columns[on_beta(name, scorer)] = [judge.columns(r.ranks[scorer]) for r in tested[name]]
    columns[RATE_ADJUSTED] = columns[
        on_beta(BASELINE, quality.beta_name(tuned[RATE_ADJUSTED].setting))
    ]
    for name in ("block_creator", "drop_disliked"):
        columns[name] = [judge.columns(one.ranks[name], whole=False) for one in tested[BASELINE]]
    for name in personal:
        columns[name] = [judge.columns(one.ranks[name], whole=False) for one in personal_tested]
    for name, ranks in runs.baselines("test").ranks.items():
        columns[name] = [judge.columns(ranks, whole=False)] * len(seeds)
    found = judge.estimates(columns)
    baselines = [n for n in columns if n not in finite and "+beta" not in n]
    front = study.on_front({n: (found[n, "hr_p"].value, found[n, "hr_n"].value) for n in finite})

    varied = []
    if VARIANTS.value and "ntr" in finite:
        few = range(VARIANTS.value)
        varied = variants.rows(runs, valid, judge, tuned["ntr"], trials, few)

    # The page
    settings = {
        n: tables.setting_text(n, one.arm.parameter, one.setting) for n, one in tuned.items()
    }
    objectives = [name for name in finite if name != BASELINE]
    counts = judge.negatives()
    by_seed = {
        name: [
            (judge.means(one.ranks[""])["hr_p"], one.figures["max_logit"]) for one in tested[name]
        ]
        for name in finite
    }
    shown = {
        "Against positives only, test period": (
            tables.against_baseline(found, finite, [RATE_ADJUSTED, *personal]),
            page.NOTES["against"],
        ),
        "Test period": (
            tables.quality(found, finite, baselines, settings, front),
            page.NOTES["quality"],
        ),
        "Personal, or item quality? Rejected items, against `rate_adjusted`": (
            tables.beyond_rate_adjusted(found, objectives, AVERSION),
            page.NOTES["baseline"],
        ),
        "Personal, or item quality? Order within a user, against `rate_adjusted`": (
            tables.beyond_rate_adjusted(found, objectives, WITHIN),
            page.NOTES["within"],
        ),
        "With item quality added to the scores": (
            tables.fronts_apart(found, [n for n in SPREAD if n in objectives]),
            page.NOTES["apart"],
        ),
        "Personal, or item quality? NTR in other forms, each against its own `rate_adjusted`": (
            varied,
            page.NOTES["varied"],
        ),
        "The front of `rate_adjusted`, test period": (
            tables.rate_adjusted_front(found),
            page.NOTES["front"],
        ),
        "Seed by seed, test period: HR_p, largest |logit|": (tables.seeds(by_seed), ""),
        "HR_n by kind of negative": (
            tables.strata(found, [*finite, RATE_ADJUSTED], counts),
            page.NOTES["strata"],
        ),
        "Stability: max |logit| (growth per 100 steps) by weight": (
            tables.stability(grid, usual),
            page.NOTES["stability"],
        ),
        "Gradient and loss of a negative label, per unit of weight": (anatomy.gradient_rows(), ""),
        "Small world: p of disliked and liked popular items, disliked rare and cold items": (
            stability.case_rows(trained, quick),
            page.NOTES["cases"],
        ),
        "Validation, one seed: every setting": (tables.validation(tuned), ""),
    }
    for title, (rows, _) in shown.items():
        print(f"\n{title}\n{format_table(rows)}" if rows else "")
    method = judge.circumstances(runs) | {"seeds": len(seeds), "trials": trials}
    findings = page.Findings(found, finite, baselines, shares, [RATE_ADJUSTED, *personal])
    path, chart = page.write_page(
        workdir / "study.html", f"{config.name}: objectives compared", findings, shown, method
    )
    chart.savefig(workdir / "front.png", dpi=150, facecolor="white")
    for stem, title in (
        ("test", "Test period"),
        ("validation", "Validation, one seed: every setting"),
    ):
        write_text(workdir / f"{stem}.csv", _csv(shown[title][0]))
    figures = tables.figures(found, finite, baselines, front, shares)
    rows = {title: rows for title, (rows, _) in shown.items()}
    write_json(shared.JSON.value or workdir / "study.json", plain(figures | {"tables": rows}))
    print(f"\n{page.answer(findings)}\n\npage: {path}")


def _names(asked: Sequence[str]) -> list[str]:
    """Returns the names of the objectives to train, the positives-only baseline first.

    Raises:
      ConfigError: an objective is unknown.
    """
    if unknown := set(asked) - set(study.ARMS):
        raise ConfigError(
            f"--objectives: unknown {sorted(unknown)}; choose from {', '.join(study.ARMS)}"
        )
    return [BASELINE, *(name for name in asked or study.ARMS if name != BASELINE)]


def _csv(rows: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(out, names)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    shared.run(main, trains=True)
