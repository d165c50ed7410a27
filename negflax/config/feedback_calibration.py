"""Settings of the calibration by feedback counts (docs/calibration.md)."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from negflax.config.kinds import Count, Natural, NotNegative, Positive, Range

KINDS = ("cluster", "creator")


@dataclasses.dataclass(frozen=True)
class CalibrationConfig:
    """A correction of the scores by what the user did with items of the same kind.

    Attributes:
      after_training: fit it when training has ended; `launch.calibrate` fits it at any time.
      kinds: of items that feedback is counted by: `cluster` (an item's first) and `creator`.
      omega: above 0, dislikes are labels of the calibration, whatever the run was trained on: its
        objective is `ntr` with w = ω / p̄, p̄ the model's mean p of the negative labels; 0: the
        objective and the weights of the run.
      form: how feedback moves the scores: `belief` (probabilities of disinterest and of an aversion
        by cluster; in few counts by creator), `linear` (in counts and rates), or `auto`: the first
        unless the other is better held out by more than two standard errors.
      labels: number of training labels that it is fitted on, and of validation labels that terms
        are also chosen on, in whole batches; 0: all.
      candidates: items drawn for a log-sum-exp where training draws candidates, too.
      cap: dislikes of a kind above this count no further.
      prior_seen: κ of the dislike rate dislikes / (seen + κ), in events.
      decay: share of an event's recency that is left one event later.
      prior_deviation: standard deviation of the normal prior on each scalar (ridge).
      keep: a block of terms stays if it improves the held-out objective by more than this many
        standard errors (over users).
      min_users: a term stays only if this many users have what it counts.
    """

    after_training: bool = False
    kinds: tuple[Literal["cluster", "creator"], ...] = KINDS
    omega: NotNegative = 0.0
    form: Literal["auto", "belief", "linear"] = "belief"
    labels: Natural = 100_000
    candidates: Count = 8_192
    cap: Count = 3
    prior_seen: Positive = 5.0
    decay: Annotated[float, Range("a share between 0 and 1", least=0, below=1)] = 0.9
    prior_deviation: Annotated[float, Range("a number from .001 to 1000", 1e-3, 1e3)] = 1.0
    keep: NotNegative = 1.0
    min_users: Natural = 30
