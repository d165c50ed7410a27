"""The study's page: the answer in plain words first, then what a referee wants to check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from negflax.evaluate.report import html, plots
from negflax.study.personal import Estimates, beyond_rate_adjusted, shown
from negflax.study.quality import RATE_ADJUSTED
from negflax.study.settings import BASELINE, DIVERGED, KEPT_HR_P
from negflax.study.statistics import dominates
from negflax.study.tables import verdict

METHOD = (
    "Shared warm start. For each seed one model is trained on positives alone, at a constant "
    "learning rate, for {warm} steps; from there every objective goes on from the same parameters "
    "and optimizer state to step {total}, positives only as well, while the rate falls linearly. "
    "The test period's runs do the same on both earlier periods. So arms of a seed differ in "
    "nothing but what the last quarter of "
    "training did, and the budget is fixed: no arm was stopped by its own patience.\n\n"
    "Tuning. One scalar of each objective, {trials} settings each: a weak and a strong one, then "
    "by bisection. One rule chooses on the validation period, seed 0: the least HR_n among "
    "settings that keep {kept:.0%} of the HR_p of positives only, else the most HR_p. "
    "The rate-adjusted baseline's "
    "β is chosen by the same rule among {betas}. The test period was scored with the chosen "
    "settings alone, and with the fronts over β.\n\n"
    "Ranking. Full catalogue of {items:,} items, seen items masked (kept for the stratum "
    "same_item), one list of {k} a user at the start of the period. Test: {users:,} users, "
    "{positives:,} positives and {negatives:,} negatives, {seeds} seeds.\n\n"
    "Intervals. 95 %, hierarchical bootstrap, {resamples:,} resamples: users are drawn anew, the "
    "same for all arms, and seeds with replacement, the same for all arms, since arms share a "
    "seed's warm start. Differences and ratios are paired in both.\n\n"
    "Diverged. A short continuation at full weight, no ramp: a step that is not finite, or "
    "|logits| beyond {diverged:g} times those of positives only. Gradients are clipped as in the "
    "config."
)


NOTES = {
    "against": "Relative changes of HR_p and HR_n. The intervals answer the question: yes if both "
    "suffice with either end, no if one of them cannot. Dominated by: better in one beyond the "
    "interval of the paired difference, and in the mean no worse in the other.",
    "quality": "Front: no other trained arm has at least its HR_p for at most its HR_n, by the "
    "means. hr_p, ndcg_p, delta = hr_p − hr_n, auc: higher is better; hr_n, anti_ndcg: lower.",
    "baseline": "HR_n minus the least that the front of the rate-adjusted baseline "
    "(positives only + β · log of the item's positive rate, β from 0 up) has at the arm's "
    "HR_p or more: below 0 is personal. Related, "
    "creator=rejected and cluster=rejected: the user had rejected an item of that creator or "
    "cluster before; there a personal effect belongs.",
    "within": "AUC between the liked and rejected items of one user, minus the rate-adjusted "
    "baseline's at equal HR_p: above 0 is better. quality=…: among items of about equal "
    "positive rate, so that item quality explains little.",
    "apart": "Both with β · log of the item's positive rate added, from 0 up: HR_n of the arm's "
    "front minus that of positives only, at shares of the HR_p of positives only.",
    "front": "Scored on the test period whole, so that arms can be compared at equal HR_p; the β "
    "that validation chose stands in the first tables.",
    "varied": "Each variant beside positives only in the same model and their β-front. Uncorrected "
    "candidates: 2,048 uniform ones, p of negatives within the sample, a plain w, tuned anew.",
    "strata": "same_item: seen before, in lists that keep seen items; the rest unseen. "
    "Related: its "
    "creator or cluster was rejected before by the user.",
    "stability": "Short runs from the warm start at full weight. Weights: plain ones, and ω / p̄ "
    "for ω of .03 to 30; of ssm_upweighted α. negative_weight_limited has its cap at .3. ✗: "
    "diverged.",
    "cases": "p in the second of two states, which dislikes a popular and a rare item; the cold "
    "item has no label. After as many steps on positives alone.",
}


class Findings(NamedTuple):
    """What the page is about.

    Attributes:
      found: estimates on the test period.
      trained: names of trained arms.
      baselines: names of baselines.
      shares: of runs that diverged, by objective.
    """

    found: Estimates
    trained: Sequence[str]
    baselines: Sequence[str]
    shares: Mapping[str, float]


def answer(findings: Findings) -> str:
    """The first section: what a product manager needs, every sentence from the figures."""
    found, trained, _, shares = findings
    parts = []
    better = [n for n in trained if n != BASELINE and verdict(found, n) == "yes"]
    maybe = [n for n in trained if n != BASELINE and verdict(found, n) == "undecided"]
    parts.append(
        "Is there a setting with at least 20 % fewer users who get something they reject (HR_n), "
        "for at most 10 % fewer who get something they like (HR_p)? "
        + (f"Yes, shown for {_list(better)}. " if better else "Not shown for any objective. ")
        + (f"The intervals leave it open for {_list(maybe)}." if maybe else "")
    )
    for name in ("ntr", "negative_weight"):
        if name not in trained:
            continue
        hr_p, hr_n = (found[name, m].relative(found[BASELINE, m]) for m in ("hr_p", "hr_n"))
        parts.append(
            "{}: HR_n {:+.1%} [{:+.1%}, {:+.1%}], HR_p {:+.1%} [{:+.1%}, {:+.1%}] against "
            "positives only.".format(name, *hr_n.interval(), *hr_p.interval())
        )
    if "ntr" in trained:
        rivals = [
            other
            for other in trained
            if other != "ntr"
            and dominates(
                found[other, "hr_p"].minus(found["ntr", "hr_p"]),
                found[other, "hr_n"].minus(found["ntr", "hr_n"]),
            )
        ]
        parts.append(
            f"Objectives that beat ntr beyond the intervals: {_list(rivals)}."
            if rivals
            else "No objective beats ntr beyond the intervals."
        )
        one = beyond_rate_adjusted(found, "ntr")["hr_n"]
        words = {"yes": "shown", "not shown": "not shown", "no: more": "no, it is worse"}
        parts.append(
            "Does ntr do more than push down items that are bad for everyone? At the same HR_p, "
            "its HR_n less that of the baseline (positives only + β · log of the item's positive "
            "rate) is {:+.4f} [{:+.4f}, {:+.4f}]: {}.".format(*one.interval(), words[shown(one)])
        )
    away = {n: s for n, s in shares.items() if s > 0}
    steady = _list([name for name in shares if name not in away])
    if away:
        named = ", ".join(f"{name} {share:.0%}" for name, share in away.items())
        parts.append(f"Runs that diverged on the grid of weights: {named}; none of {steady}.")
    else:
        parts.append(f"No run diverged on the grid of weights ({steady}).")
    return "\n\n".join(parts)


def write_page(
    path: Any,
    title: str,
    findings: Findings,
    tables: Mapping[str, tuple[list, str]],
    method: Mapping[str, Any],
) -> Any:
    """The page, self-contained; returns (path, chart of the front).

    Args:
      path: of the .html file.
      title: its heading.
      findings: estimates, the arms and runs that diverged.
      tables: title → (rows, note), in order.
      method: what METHOD's places hold.
    """
    found, trained, baselines, _ = findings
    shown_baselines = [n for n in baselines if n in (RATE_ADJUSTED, "popularity")]
    points = {name: _point(found, name) for name in (*trained, *shown_baselines)}
    chart = plots.front_chart(points, method["k"])
    text = METHOD.format(**method, diverged=DIVERGED, kept=KEPT_HR_P)
    sections: list[html.Section] = [
        html.Text("The answer", answer(findings)),
        html.Figure(
            "Liked against rejected items in the lists, test period",
            [chart],
            "Up is more users who get something they like, left fewer who get something they "
            f"reject; 95 % intervals over seeds and users. {RATE_ADJUSTED}: positives only + "
            "β · log(the "
            "item's positive rate), trained on no negative.",
        ),
    ]
    sections += [html.Table(name, rows, note) for name, (rows, note) in tables.items() if rows]
    sections.append(html.Text("How it was done", text))
    return html.write_report(path, title, sections), chart


def _point(found: Estimates, name: str) -> list[float]:
    hr_p, hr_n = (found[name, m].interval() for m in ("hr_p", "hr_n"))
    return [hr_p[0], hr_n[0], *hr_p[1:], *hr_n[1:]]


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
