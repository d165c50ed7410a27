"""The arms of the live experiments (docs/method.md §8), and published effects of real ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from negflax.config import Config
from negflax.evaluate.baselines.personal_scores import ALONE, CALIBRATED, Adjustment

CONTROL = "no_signal"
AGAIN = "control_again"  # the control trained in another order, to show the size of random effects
INPUT = "dislike"  # the feature that the control's model does not have
DISLIKES = ("dislike",)
# Skips are eight times as frequent as dislikes; with this weight both signals push about equally.
SKIPS_TOO = ("dislike", "skip: 0.1")


@dataclasses.dataclass(frozen=True)
class ArmSpec:
    """An arm: one way to use dislikes.

    Attributes:
      sees: whether past dislikes are an input: of the encoder if config.model.features names them,
        and of the calibration.
      negative: rules of negative labels; without any, a disliked long view is a positive label.
      loss: settings of config.loss.
      block: filter on the lists, one of served_lists.BLOCKS.
      order: number added to config.batch.seed, to train on the users in another order.
      added: what is added to the model's scores; an arm that sees dislikes may be calibrated
        without it too (config.calibration.after_training). β are set beforehand, not tuned.
      labels_afterwards: whether dislikes are labels of that calibration, at config.loss.omega.
    """

    sees: bool = True
    negative: tuple[str, ...] = ()
    loss: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"objective": "ssm"})
    block: str = ""
    order: int = 0
    added: Adjustment = ALONE
    labels_afterwards: bool = False


def _labels(objective: str, **loss: Any) -> ArmSpec:
    return ArmSpec(negative=DISLIKES, loss={"objective": objective} | loss)


ARMS: dict[str, ArmSpec] = {
    CONTROL: ArmSpec(sees=False),
    AGAIN: ArmSpec(sees=False, order=1),
    "input_only": ArmSpec(),
    "drop_disliked": ArmSpec(sees=False, block="items"),
    "block_creators": ArmSpec(sees=False, block="creators"),
    "rate_adjusted": ArmSpec(sees=False, added=ALONE._replace(rate_beta=1.0)),
    "negative_example": ArmSpec(sees=False, added=ALONE._replace(example_beta=1.0)),
    "counts": ArmSpec(added=CALIBRATED),
    "input_then_label": ArmSpec(added=CALIBRATED, labels_afterwards=True),
    "input_and_label": _labels("ntr"),
    "skips_too": ArmSpec(negative=SKIPS_TOO, loss={"objective": "ntr"}),
    "ssm_upweighted": _labels("ssm_upweighted"),
    "negative_weight": _labels("negative_weight", weight_policy="constant", w=0.1),
    "negative_weight_limited": _labels(
        "negative_weight_limited", weight_policy="constant", w=1.0, w_max=0.1
    ),
    "smoothed": _labels("smoothed", weight_policy="constant", w=1.0),
    "probability_regularized": _labels("probability_regularized"),
    "focal": _labels("focal", weight_policy="constant", w=0.1),
    "gbce": _labels("gbce", weight_policy="constant", w=1.0, candidates="uniform"),
    "contrastive": _labels("contrastive"),
    "reinforce": _labels("reinforce", weight_policy="constant", w=0.1),
}
DEFAULT_ARMS = (
    CONTROL,
    AGAIN,
    "input_only",
    "drop_disliked",
    "block_creators",
    "input_and_label",
    "skips_too",
    "ssm_upweighted",
    "negative_weight",
)


PERSONAL = ("rate_adjusted", "negative_example", "counts")  # baselines that train nothing more


@dataclasses.dataclass(frozen=True)
class Published:
    """A published effect of a live experiment (Wang et al., RecSys 2023; not measured here).

    Attributes:
      surface: surface of the experiment.
      arm: our arm that corresponds to the treatment.
      metric: our metric that is closest to the published one.
      percent: relative change from the production model without that signal.
      control: our arm that corresponds to that model.
      note: remark on the effect.
    """

    surface: str
    arm: str
    metric: str
    percent: float
    control: str = CONTROL
    note: str = ""


PUBLISHED = (
    Published("home", "input_only", "dislike_rate", -0.34, note="not significant"),
    Published("home", "drop_disliked", "dislike_rate", -0.84),
    Published("home", "input_and_label", "dislike_rate", -2.44),
    Published("home", "input_and_label", "repeated_dislikes", -9.60),
    Published("home", "input_and_label", "dismissing_users", -2.05),
    Published("home", "input_and_label", "viewers", -0.14),
    Published("feed", "input_and_label", "dislike_rate", -1.10),
    Published("feed", "input_and_label", "repeated_dislikes", -7.10),
    Published("feed", "input_and_label", "satisfied", 0.0),
    Published("feed", "input_and_label", "unsatisfied", -0.35),
    Published("feed", "skips_too", "enjoyment", 0.40, "input_and_label"),
    Published("feed", "skips_too", "long_days", 0.61, "input_and_label"),
    Published("feed", "skips_too", "repeated_skips", -1.44, "input_and_label"),
    Published("feed", "skips_too", "creators", 0.88, "input_and_label", "diversity"),
)


def reproduced(published: float, low: float, high: float) -> str:
    """Returns whether the simulated interval agrees with a published effect.

    `yes`: the interval lies on the published side of 0, or covers 0 if the published effect is 0.
    `opposite`: it lies on the other side. `no`: anything else.
    """
    if published == 0:
        return "yes" if low <= 0 <= high else "no"
    sign = 1 if published > 0 else -1
    if min(sign * low, sign * high) > 0:
        return "yes"
    return "opposite" if max(sign * low, sign * high) < 0 else "no"


def config_of(base: Config, spec: ArmSpec) -> Config:
    """Returns the config of an arm: the run's, with the arm's inputs, labels and objective."""
    features = base.model.features
    if not spec.sees:
        features = tuple(name for name in features if name != INPUT)
    head = spec.loss["objective"] == "reinforce"  # it needs an estimate of the logging policy
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, features=features, behaviour_head=head),
        batch=dataclasses.replace(base.batch, seed=base.batch.seed + spec.order),
        labels=dataclasses.replace(base.labels, negative=spec.negative),
        loss=dataclasses.replace(base.loss, **spec.loss),
    )
