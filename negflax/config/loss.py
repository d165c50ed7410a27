"""Settings of the objective and its candidates."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The objective and its candidates (docs/method.md §2 and 3).

    Attributes:
      objective: `ntr`, `ssm` (positives only) or another of docs/choosing_an_objective.md.
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
      block_elements: budget, in elements, of the block of logits that is alive at a time.
      implementation: of the log-sum-exp: `auto` (by platform), `xla`, or the Pallas kernels
        `mosaic_gpu` and `mosaic_tpu` (docs/kernel.md).
    """

    objective: str = "ntr"
    candidates: str = "full"
    num_candidates: int = 2048
    alpha: float = 0.75
    weight_policy: str = "frozen_p"
    omega: float = 0.3
    w: float = 1.0
    w_max: float = 0.0
    r: float = 1.0
    positives_only_steps: int = 200
    ramp_steps: int = 100
    averaging_steps: int = 100
    negative_candidates: str = "corrected"
    upweight: float = 100.0
    recent_negatives: int = 4
    epsilon: float = 1e-4
    penalty: float = 1.0
    gamma: float = 2.0
    rho_max: float = 10.0
    top_k: float = 1.0
    gbce_t: float = 0.75
    gbce_negatives: int = 64
    contrastive: float = 0.1
    temperature: float = 1.0
    block_elements: int = 8_000_000
    implementation: str = "auto"
