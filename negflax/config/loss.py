"""Settings of the objective and its candidates."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal, NamedTuple

from negflax.config.kinds import Count, Natural, NotNegative, Positive, Range, Share, UpToOne
from negflax.config.registry import Registry


class Traits(NamedTuple):
    """What a run has to know about an objective besides its function.

    Attributes:
      positives_only: it has no term for negative labels.
      extra: which items of a state's own it reads besides the candidates (see
        negflax/loss/extra_columns.py): `recent_negatives`, `sampled`, or none.
    """

    positives_only: bool = False
    extra: Literal["", "recent_negatives", "sampled"] = ""


OBJECTIVES = Registry(
    "loss.objective",
    "negflax.register_objective",
    {
        "ntr": Traits(),
        "ssm": Traits(positives_only=True),
        "ssm_upweighted": Traits(positives_only=True, extra="recent_negatives"),
        "negative_weight": Traits(),
        "negative_weight_limited": Traits(),
        "smoothed": Traits(),
        "probability_regularized": Traits(),
        "focal": Traits(),
        "reinforce": Traits(),
        "gbce": Traits(extra="sampled"),
        "contrastive": Traits(extra="recent_negatives"),
    },
)
POSITIVES_ONLY = tuple(name for name in OBJECTIVES.words if OBJECTIVES.traits[name].positives_only)


def positives_only(objective: str) -> bool:
    """Whether an objective, built in or registered, has no term for negative labels."""
    traits = OBJECTIVES.traits.get(objective)
    return traits is not None and traits.positives_only


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The objective and its candidates (docs/method.md §2 and 3).

    Attributes:
      objective: `ntr`, `ssm` (positives only) or another of
        docs/choosing_an_objective.md, or one of your own (docs/extending.md).
      candidates: `full` (the whole catalogue), `uniform`, `unigram` (frequency to the power
        `alpha`) or `in_batch` (the batch's labels plus `num_candidates` uniform draws).
      num_candidates: S, draws a step, shared by all states.
      alpha: exponent of the item frequency for `unigram`.
      weight_policy: what weighs the negative term, on top of the labels' own weights: `constant` w;
        `frozen_p` ω / p̄, p̄ the mean p of the negative labels at the end of a positives-only
        warm-up, frozen there; `running_p` ω / p̄, p̄ a running mean; `density` w times the positive
        over the negative label weight; `balance` w times the positive over the negative loss.
      omega: ω of `frozen_p` and `running_p`.
      w: of `constant`, `density` and `balance`.
      w_max: cap on the weight of the negative term, 0 for none; `running_p` and `balance` need one,
        and `negative_weight_limited`, which holds each label's weight below it.
      r: weight of the positive term.
      positives_only_steps: length of the positives-only warm-up.
      ramp_steps: steps over which the negative weight then grows linearly to its full size.
      averaging_steps: window of the running means of `running_p` and `balance`.
      negative_candidates: of sampled ones, what the negative labels' p is taken over: `corrected`
        (log q subtracted: p of the catalogue) or `uncorrected` (p within the sample, larger).
      upweight: α of `ssm_upweighted`, copies of a recent negative in the denominator.
      recent_negatives: E, newest negative items of a state in `ssm_upweighted` and `contrastive`.
      epsilon: ε of `smoothed`; belongs below 1 over the catalogue's size.
      penalty: λ of `probability_regularized`.
      gamma: γ of `focal`.
      rho_max: cap on the importance weight of `reinforce`.
      top_k: K of the multiplier of `reinforce`, 1 for none.
      gbce_t: t of `gbce`, its calibration from 0 to 1.
      gbce_negatives: K, sampled negatives of a state in `gbce`.
      contrastive: weight of the contrastive term of `contrastive`.
      temperature: τ of that term.
      label_smoothing: ε, the share of each positive label that is spread evenly over the catalogue,
        for `ssm` and `ntr`, and without `exclude_seen`; 0 is off.
      exclude_seen: items that a user has had are no candidates after that, as in lists without seen
        items. Costs little with candidates = `full`, more with sampled ones.
      block_elements: budget, in elements, of the block of logits that is alive at a time.
      implementation: of the log-sum-exp: `auto` (by platform), `xla`, or the Pallas kernels
        `mosaic_gpu` and `mosaic_tpu` (docs/kernel.md).
    """

    objective: Annotated[str, OBJECTIVES] = "ntr"
    candidates: Literal["full", "uniform", "unigram", "in_batch"] = "full"
    num_candidates: Count = 2048
    alpha: float = 0.75
    weight_policy: Literal["constant", "frozen_p", "running_p", "density", "balance"] = "frozen_p"
    omega: NotNegative = 0.3
    w: NotNegative = 1.0
    w_max: NotNegative = 0.0
    r: NotNegative = 1.0
    positives_only_steps: Natural = 200
    ramp_steps: Natural = 100
    averaging_steps: Count = 100
    negative_candidates: Literal["corrected", "uncorrected"] = "corrected"
    upweight: NotNegative = 100.0
    recent_negatives: Count = 4
    epsilon: NotNegative = 1e-4
    penalty: NotNegative = 1.0
    gamma: NotNegative = 2.0
    rho_max: NotNegative = 10.0
    top_k: Annotated[float, Range("at least 1 is needed", least=1)] = 1.0
    gbce_t: UpToOne = 0.75
    gbce_negatives: Count = 64
    contrastive: NotNegative = 0.1
    temperature: Positive = 1.0
    label_smoothing: Share = 0.0
    exclude_seen: bool = False
    block_elements: Count = 8_000_000
    implementation: Literal["auto", "xla", "mosaic_gpu", "mosaic_tpu"] = "auto"
