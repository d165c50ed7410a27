"""The HTML page of the study: first the answer in words, then the tables and the method."""

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
    "Shared warm start. For each seed, one model is trained on positives only with a constant "
    "learning rate for {warm} steps. From there every objective, positives only included, "
    "continues with the same parameters and optimizer state to step {total}, while the learning "
    "rate falls linearly. Runs for the test period do the same on both earlier periods. So the "
    "arms of a seed differ only in the last quarter of training. All have the same number of "
    "steps; there is no early stopping.\n\n"
    "Tuning. One parameter of each objective is tuned over {trials} settings: a weak and a strong "
    "one, then by bisection. The same rule chooses for all, on the validation period with seed 0: "
    "the lowest HR_n among settings that keep {kept:.0%} of the HR_p of positives only, or the "
    "highest HR_p if none does. β of the rate-adjusted baseline is chosen by the same rule among "
    "{betas} values. Only the chosen settings, and the fronts over β, were scored on the test "
    "period.\n\n"
    "Ranking. The full catalogue of {items:,} items is ranked, with seen items masked (kept for "
    "the stratum same_item), and each user gets one list of {k} at the start of the period. Test "
    "period: {users:,} users, {positives:,} positives and {negatives:,} negatives, {seeds} "
    "seeds.\n\n"
    "Intervals. They are 95 % intervals of a hierarchical bootstrap with {resamples:,} resamples. "
    "Each resample draws users and seeds with replacement, the same for all arms, since arms "
    "share a seed's warm start. Differences and ratios are paired in both.\n\n"
    "Divergence. It is measured in a short continuation at full weight without a ramp. A run "
    "diverged if a step was not finite, or if |logits| exceeded {diverged:g} times those of "
    "positives only. Gradients are clipped as in the config."
)


NOTES = {
    "against": "Relative changes of HR_p and HR_n. The answer is yes if both whole intervals meet "
    "the limits, no if one whole interval misses its limit, else undecided. Dominated by: arms "
    "that are better in one metric by more than the interval of the paired difference, and not "
    "worse in the other by the mean.",
    "quality": "Front: no other trained arm has at least its HR_p for at most its HR_n, by the "
    "means. hr_p, ndcg_p, delta = hr_p − hr_n, auc: higher is better; hr_n, anti_ndcg: lower.",
    "baseline": "HR_n of the arm minus the lowest HR_n on the front of the rate-adjusted baseline "
    "(positives only + β · log of the item's positive rate, β ≥ 0) with at least the arm's HR_p: "
    "below 0 is a personal effect. Related, creator=rejected and cluster=rejected: the user had "
    "rejected an item of that creator or cluster before; a personal effect should appear there.",
    "within": "AUC between the liked and rejected items of one user, minus the rate-adjusted "
    "baseline's at equal HR_p: above 0 is better. quality=…: among items of about equal "
    "positive rate, so that item quality explains little.",
    "apart": "HR_n of the arm + β · log of the item's positive rate (β ≥ 0) minus HR_n of "
    "positives only with the same term, at shares of the HR_p of positives only.",
    "front": "All values of β were scored on the test period, so that arms can be compared at "
    "equal HR_p; the first tables have the β that validation chose.",
    "varied": "Each variant is compared with positives only in the same model, and with the "
    "β-front of that. Uncorrected candidates: 2,048 uniform candidates, p of negatives within the "
    "sample, a fixed w, tuned separately.",
    "strata": "same_item: items seen before, in lists that keep seen items; all others are unseen. "
    "Related: the user had rejected an item of that creator or cluster before.",
    "stability": "Short runs from the warm start at full weight. The weights w are fixed ones, and "
    "ω / p̄ for ω from .03 to 30; for ssm_upweighted they are α. negative_weight_limited has the "
    "cap .3. ✗: diverged.",
    "cases": "p in the second of two states, which dislikes a popular and a rare item; the cold "
    "item has no label. Training with the objective follows as many steps on positives only.",
}


class Findings(NamedTuple):
    """The results that the page shows.

    Attributes:
      found: estimates on the test period.
      trained: names of trained arms.
      baselines: names of baselines.
      shares: share of diverged runs, by objective.
      personal: names of baselines that react to dislikes and train nothing.
    """

    found: Estimates
    trained: Sequence[str]
    baselines: Sequence[str]
    shares: Mapping[str, float]
    personal: Sequence[str] = ()


def answer(findings: Findings) -> str:
    """Returns the first section, the answer in words, computed from the figures."""
    found, trained, _, shares, personal = findings
    parts = []
    better = [n for n in trained if n != BASELINE and verdict(found, n) == "yes"]
    maybe = [n for n in trained if n != BASELINE and verdict(found, n) == "undecided"]
    parts.append(
        "Is there a setting with at least 20 % fewer users who get something they reject (HR_n), "
        "for at most 10 % fewer who get something they like (HR_p)? "
        + (f"Yes, shown for {_list(better)}. " if better else "Not shown for any objective. ")
        + (f"The intervals leave the question open for {_list(maybe)}." if maybe else "")
    )
    for name in ("ntr", "negative_weight"):
        if name not in trained:
            continue
        hr_p, hr_n = (found[name, m].relative(found[BASELINE, m]) for m in ("hr_p", "hr_n"))
        parts.append(
            "{}: HR_n {:+.1%} [{:+.1%}, {:+.1%}], HR_p {:+.1%} [{:+.1%}, {:+.1%}] compared with "
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
            f"Objectives that dominate ntr by more than the intervals: {_list(rivals)}."
            if rivals
            else "No objective dominates ntr by more than the intervals."
        )
        one = beyond_rate_adjusted(found, "ntr")["hr_n"]
        words = {"yes": "shown", "not shown": "not shown", "no: more": "no, it is worse"}
        parts.append(
            "Does ntr do more than push down items that are bad for everyone? At the same HR_p, "
            "its HR_n minus that of the baseline (positives only + β · log of the item's positive "
            "rate) is {:+.4f} [{:+.4f}, {:+.4f}]: {}.".format(*one.interval(), words[shown(one)])
        )
        if personal:
            parts.append(against_personal(found, personal))
    away = {n: s for n, s in shares.items() if s > 0}
    steady = _list([name for name in shares if name not in away])
    if away:
        named = ", ".join(f"{name} {share:.0%}" for name, share in away.items())
        parts.append(f"Runs that diverged on the grid of weights: {named}; none of {steady}.")
    else:
        parts.append(f"No run diverged on the grid of weights ({steady}).")
    return "\n\n".join(parts)


def against_personal(found: Estimates, personal: Sequence[str]) -> str:
    """Returns whether ntr beats baselines that train nothing, and which of them beat it."""

    def beats(one: str, other: str) -> bool:
        return dominates(*(found[one, m].minus(found[other, m]) for m in ("hr_p", "hr_n")))

    won = [name for name in personal if beats("ntr", name)]
    lost = [name for name in personal if beats(name, "ntr")]
    neither = [name for name in personal if name not in (*won, *lost)]
    return (
        "Does ntr beat baselines that react to dislikes and train nothing (better in HR_p or HR_n "
        "by more than the interval, and not worse in the other)? It beats "
        f"{_list(won)}; it is beaten by {_list(lost)}; neither for {_list(neither)}."
    )


def write_page(
    path: Any,
    title: str,
    findings: Findings,
    tables: Mapping[str, tuple[list, str]],
    method: Mapping[str, Any],
) -> Any:
    """Writes the page and returns its path and the chart of the front.

    Args:
      path: path of the .html file.
      title: heading of the page.
      findings: results to show.
      tables: title → (rows, note), in order.
      method: values of the placeholders in METHOD.
    """
    found, trained, baselines, _, personal = findings
    shown_baselines = [n for n in baselines if n in (RATE_ADJUSTED, "popularity", *personal)]
    points = {name: _point(found, name) for name in (*trained, *shown_baselines)}
    chart = plots.front_chart(points, method["k"])
    text = METHOD.format(**method, diverged=DIVERGED, kept=KEPT_HR_P)
    sections: list[html.Section] = [
        html.Text("The answer", answer(findings)),
        html.Figure(
            "Liked and rejected items in the lists, test period",
            [chart],
            "Higher: more users get something they like; further left: fewer get something they "
            f"reject. Intervals are 95 %, over seeds and users. {RATE_ADJUSTED}: positives only + "
            "β · log(item's positive rate), trained without negatives.",
        ),
    ]
    sections += [html.Table(name, rows, note) for name, (rows, note) in tables.items() if rows]
    sections.append(html.Text("Method", text))
    return html.write_report(path, title, sections), chart


def _point(found: Estimates, name: str) -> list[float]:
    hr_p, hr_n = (found[name, m].interval() for m in ("hr_p", "hr_n"))
    return [hr_p[0], hr_n[0], *hr_p[1:], *hr_n[1:]]


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
