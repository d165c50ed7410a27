"""The tables of the study; estimates are shown as `value [low, high]`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from negflax.study import personal
from negflax.study.personal import Estimates
from negflax.study.quality import RATE_ADJUSTED, Tuned
from negflax.study.settings import BASELINE, DIVERGED
from negflax.study.statistics import Estimate, dominates, worthwhile

HEADLINE = ("hr_p", "hr_n", "delta", "ndcg_p", "anti_ndcg", "auc")
Rows = list[dict[str, Any]]


def plain(one: Estimate) -> str:
    """Formats a figure with its interval."""
    return _cell("{:.4f} [{:.4f}, {:.4f}]", one)


def signed(one: Estimate) -> str:
    """Formats a difference with its interval."""
    return _cell("{:+.4f} [{:+.4f}, {:+.4f}]", one)


def percent(one: Estimate) -> str:
    """Formats a relative change with its interval."""
    return _cell("{:+.1%} [{:+.1%}, {:+.1%}]", one)


def _cell(form: str, one: Estimate) -> str:
    return form.format(*one.interval()) if math.isfinite(one.value) else "–"


def quality(
    found: Estimates,
    trained: Sequence[str],
    baselines: Sequence[str],
    settings: Mapping[str, str],
    on_front: Mapping[str, bool],
) -> Rows:
    """Returns a row for each arm with its chosen setting, and for each baseline."""
    rows = []
    for name in (*trained, *baselines):
        row = {"arm": name, "setting": settings.get(name, "–")}
        row |= {metric: plain(found[name, metric]) for metric in HEADLINE}
        row["front"] = "–" if name in baselines else "yes" if on_front.get(name) else "no"
        rows.append(row)
    return rows


def against_baseline(found: Estimates, trained: Sequence[str], others: Sequence[str]) -> Rows:
    """Returns relative changes from positives only, whether they suffice, and dominating arms."""
    rows = []
    for name in [*trained, *others]:
        if name == BASELINE:
            continue
        hr_p, hr_n = (found[name, m].relative(found[BASELINE, m]) for m in ("hr_p", "hr_n"))
        better = [
            other
            for other in trained
            if other != name
            and dominates(
                found[other, "hr_p"].minus(found[name, "hr_p"]),
                found[other, "hr_n"].minus(found[name, "hr_n"]),
            )
        ]
        rows.append(
            {
                "arm": name,
                "HR_p": percent(hr_p),
                "HR_n": percent(hr_n),
                "20 % less HR_n for 10 % less HR_p": worthwhile(hr_n, hr_p),
                "dominated by": ", ".join(better) or "none",
            }
        )
    return rows


def beyond_rate_adjusted(found: Estimates, names: Sequence[str], metrics: Sequence[str]) -> Rows:
    """Returns metrics of arms minus the rate-adjusted baseline's at equal HR_p."""
    rows = []
    for name in names:
        differences = personal.beyond_rate_adjusted(found, name)
        row = {"arm": name}
        if "hr_n" in metrics:
            row["less than the baseline"] = personal.shown(differences["hr_n"])
        rows.append(row | {m: signed(differences[m]) for m in metrics if m in differences})
    return rows


def fronts_apart(found: Estimates, names: Sequence[str]) -> Rows:
    """Returns HR_n of an arm's β-front minus that of positives only, at shares of their HR_p."""
    return [
        {"arm": f"{name} + β"}
        | {
            f"at {level:.0%} of HR_p": signed(one)
            for level, one in personal.fronts_apart(found, name).items()
        }
        for name in names
    ]


def rate_adjusted_front(found: Estimates) -> Rows:
    """Returns HR_p and HR_n of positives only + β · log(item's positive rate), by β."""
    rows = []
    for arm in [a for a, m in found if m == "hr_p" and a.startswith(personal.on_beta(BASELINE))]:
        row = {"arm": arm} | {metric: plain(found[arm, metric]) for metric in ("hr_p", "hr_n")}
        changes = {m: found[arm, m].relative(found[BASELINE, m]) for m in ("hr_p", "hr_n")}
        row |= {f"{m} against {BASELINE}": percent(one) for m, one in changes.items()}
        rows.append(row | {"20 % less HR_n for 10 % less HR_p": verdict(found, arm)})
    return rows


def seeds(values: Mapping[str, Sequence[tuple[float, float]]]) -> Rows:
    """Returns HR_p and the largest absolute logit of each seed's run.

    `values` has these pairs by arm.
    """
    return [
        {"arm": name}
        | {f"seed {i}": f"{hr_p:.4f}, {logit:.3g}" for i, (hr_p, logit) in enumerate(pairs)}
        for name, pairs in values.items()
    ]


def strata(found: Estimates, names: Sequence[str], counts: Mapping[str, int]) -> Rows:
    """Returns HR_n by kind of negative; the last row has the number of negatives."""
    parts = [metric for name, metric in found if name == BASELINE and metric.endswith("/hr_n")]
    rows = [
        {"arm": n} | {m.removesuffix("/hr_n"): plain(found[n, m]) for m in parts if (n, m) in found}
        for n in names
    ]
    numbers = {m.removesuffix("/hr_n"): f"{counts[m.removesuffix('/hr_n')]:,}" for m in parts}
    return [*rows, {"arm": "negatives"} | numbers]


def validation(tuned: Mapping[str, Tuned]) -> Rows:
    """Returns every setting tried on validation, with its metrics and largest logit."""
    return [
        {
            "arm": name,
            "setting": setting_text(name, one.arm.parameter, trial.setting),
            "w": f"{_number(trial.figures.get('w')):.4g}",
            "chosen": "yes" if trial.setting == one.setting else "",
        }
        | {metric: trial.metrics.get(metric) for metric in ("hr_p", "hr_n", "ndcg_p", "anti_ndcg")}
        | {
            "max |logit|": f"{_number(trial.figures['max_logit']):.3g}",
            "not finite": trial.figures["non_finite_steps"],
        }
        for name, one in tuned.items()
        for trial in one.trials
    ]


def setting_text(name: str, parameter: str, setting: float) -> str:
    """Formats the tuned parameter of an arm with its setting."""
    return f"{'β' if name == RATE_ADJUSTED else parameter} {setting:.3g}" if setting else "–"


def diverged(figures: Mapping[str, Any], usual_logit: float) -> bool:
    """Returns whether a step was not finite, or logits exceeded DIVERGED times the baseline's."""
    too_large = not _number(figures["max_logit"]) <= DIVERGED * usual_logit
    return figures["non_finite_steps"] > 0 or too_large


def stability(grid: Mapping[str, list[dict[str, Any]]], usual_logit: float) -> Rows:
    """Returns the largest logit and its growth per 100 steps, by objective and weight.

    ✗ marks runs that diverged.
    """
    rows = []
    for name, runs in grid.items():
        away = [diverged(one, usual_logit) for one in runs]
        row = {"arm": name, "diverged": f"{sum(away)} of {len(runs)}"}
        for one, bad in zip(runs, away, strict=True):
            cell = f"{_number(one['max_logit']):.3g} ({_number(one['growth']):+.2g})"
            row[f"w = {one['w']:.3g}"] = cell + (" ✗" if bad else "")
        rows.append(row)
    return rows


def figures(
    found: Estimates,
    trained: Sequence[str],
    baselines: Sequence[str],
    on_front: Mapping[str, bool],
    shares: Mapping[str, float],
) -> dict[str, Any]:
    """Returns the figures by name: `<arm>/hr_p`, `_low`, `_high`, …, `pareto/<objective>`."""
    flat: dict[str, Any] = {f"pareto/{name}": on_front[name] for name in trained}
    flat |= {f"{name}/diverged_share": share for name, share in shares.items()}
    for name in (*trained, *baselines):
        named = {m: found[name, m] for m in HEADLINE}
        if name != BASELINE:
            named |= {
                f"{m}_vs_{BASELINE}": found[name, m].relative(found[BASELINE, m])
                for m in ("hr_p", "hr_n")
            }
        for metric, one in named.items():
            ends = zip(("", "_low", "_high"), one.interval(), strict=True)
            flat |= {f"{name}/{metric}{end}": value for end, value in ends}
    for name in trained:
        if name != BASELINE:
            flat[f"{name}/worthwhile"] = verdict(found, name)
            beyond = personal.beyond_rate_adjusted(found, name)["hr_n"]
            ends = zip(("", "_low", "_high"), beyond.interval(), strict=True)
            flat |= {f"{name}/hr_n_beyond_baseline{end}": value for end, value in ends}
    return flat


def verdict(found: Estimates, name: str) -> str:
    """Returns whether an arm has 20 % less HR_n and at most 10 % less HR_p than positives only."""
    hr_p, hr_n = (found[name, m].relative(found[BASELINE, m]) for m in ("hr_p", "hr_n"))
    return worthwhile(hr_n, hr_p)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
