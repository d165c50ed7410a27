"""Whether every setting is what its type says, and whether settings agree with each other."""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from typing import Annotated, Any, Literal

from negflax.config.config import Config
from negflax.config.errors import ConfigError
from negflax.config.evaluate import AT_K, AT_LAMBDA, WITHOUT_LIST, measured
from negflax.config.kinds import OneOf, Range
from negflax.config.loss import OBJECTIVES, LossConfig, positives_only
from negflax.config.registry import Registry, choose_from


def check(config: Config) -> None:
    """Checks a config, however it was built.

    Raises:
      ConfigError: the first setting that has a wrong type, is out of its range, or does not go
        together with another one; the message names its key and says what to do.
    """
    if not isinstance(config, Config):
        raise ConfigError(
            f"config is a {type(config).__name__}: a negflax.Config is needed; "
            "negflax.config.from_config_dict builds one from a ConfigDict or a dict"
        )
    _check_section(config, "config")
    _check_agreement(config)
    _check_precision(config)
    _check_metric(config)
    if not positives_only(config.loss.objective):
        _check_weight(config.loss)
    _check_objective(config)


def _check_section(section: Any, key: str) -> None:
    kinds = typing.get_type_hints(type(section), include_extras=True)
    for name, kind in kinds.items():
        value = getattr(section, name)
        if not dataclasses.is_dataclass(kind):
            _check_setting(kind, value, f"{key}.{name}")
        elif not isinstance(value, kind):
            raise ConfigError(f"{key}.{name} is a section: give it a {kind.__name__}")
        else:
            _check_section(value, f"{key}.{name}")


def _check_setting(kind: Any, value: Any, key: str) -> None:
    """Holds one value to its type, as the types of kinds.py are written."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        if not isinstance(value, tuple):
            shown = repr(tuple(value)) if isinstance(value, (list, set)) else f"({value!r},)"
            raise ConfigError(f"{key} = {value!r} is a tuple: write {shown}")
        for one in value:
            _check_setting(arguments[0], one, key)
        names = typing.get_origin(arguments[0]) is Literal
        if names and len(set(value)) < len(value):
            raise ConfigError(f"{key} = {value!r} names one twice: give each once")
    elif origin is Literal:
        _check_setting(Annotated[str, OneOf(*arguments)], value, key)
    elif origin is Annotated:
        kind, accepted = arguments
        _check_setting(kind, value, key)
        if accepted.accepts(value):
            return
        if isinstance(accepted, Range):
            raise ConfigError(f"{key} = {value!r}: {accepted.said}")
        if isinstance(accepted, Registry):
            raise ConfigError(accepted.unknown(value))
        raise ConfigError(f"{key} = {value!r}: {choose_from(value, accepted.words)}")
    elif kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ConfigError(f"{key} = {value!r}: a finite number is needed")
    elif not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(
            f"{key} = {value!r}: expected {kind.__name__}, not {type(value).__name__}"
        )


def _check_agreement(config: Config) -> None:
    if not config.eval.ks:
        raise ConfigError("config.eval.ks is empty: give at least one list length, such as (10,)")
    if not config.eval.rate_betas:
        raise ConfigError("config.eval.rate_betas is empty: give at least one value of β")
    if not config.calibration.kinds:
        raise ConfigError("config.calibration.kinds is empty: choose from cluster, creator")
    if 0 < config.labels.propensity_cap < 1 or config.labels.propensity_cap < 0:
        raise ConfigError(
            f"config.labels.propensity_cap = {config.labels.propensity_cap}: 0 (off) or at least 1"
        )
    if not config.mesh.rows or len(set(config.mesh.rows)) < len(config.mesh.rows):
        raise ConfigError(
            f"config.mesh.rows = {config.mesh.rows}: name at least one axis, and none twice"
        )
    if config.data.hash_buckets and config.data.split == "leave_one_out":
        raise ConfigError(
            "config.data.hash_buckets must be 0 with config.data.split = 'leave_one_out', where no "
            "item is unknown"
        )
    if config.data.hash_buckets and config.data.min_item_events < 2:
        raise ConfigError(
            "config.data.hash_buckets needs config.data.min_item_events above 1: otherwise every "
            "item of the training period has its own row, and the buckets are never trained"
        )
    if config.model.encoder == "attention" and config.model.hidden % config.model.heads:
        raise ConfigError(
            f"config.model.heads = {config.model.heads} does not divide config.model.hidden = "
            f"{config.model.hidden}: choose a divisor"
        )
    if config.data.source == "event_log" and not config.data.path:
        raise ConfigError("config.data.path is empty: name your .parquet or .csv file or folder")


def _check_metric(config: Config) -> None:
    metric, known = config.train.metric, measured(config.eval)
    if config.train.eval_every and metric not in known:
        near = difflib.get_close_matches(metric, known, n=1)
        raise ConfigError(
            f"config.train.metric = {metric!r} is not measured: "
            + (f"did you mean {near[0]!r}? " if near else "")
            + f"NAME@K is, with K of config.eval.ks = {config.eval.ks}, for {', '.join(AT_K)}; "
            f"NAME@K/lambda=λ, with λ of config.eval.lambdas, for {', '.join(AT_LAMBDA)}; and "
            f"{', '.join(WITHOUT_LIST)}"
        )


def _check_precision(config: Config) -> None:
    model, kernel = config.model, config.loss.implementation
    named = f"config.loss.implementation = {kernel!r}"
    if model.precision == "bfloat16" and model.dtype == "float64":
        raise ConfigError(
            "config.model.precision = 'bfloat16' cannot be used with config.model.dtype = "
            "'float64', as products of bfloat16 are summed in float32; set one of them to 'float32'"
        )
    if kernel == "mosaic_gpu" and (model.precision == "float32" or model.embedding > 256):
        raise ConfigError(
            f"{named} multiplies bfloat16 vectors of at most 256 values: set "
            "config.model.precision = 'bfloat16' and config.model.embedding to 256 or less, or "
            "use 'auto'"
        )
    if kernel == "mosaic_tpu" and model.dtype == "float64":
        raise ConfigError(f"{named} has no float64: set config.model.dtype = 'float32'")


def _check_weight(loss: LossConfig) -> None:
    policy = f"config.loss.weight_policy = {loss.weight_policy!r}"
    if loss.weight_policy in ("running_p", "balance") and not loss.w_max:
        raise ConfigError(
            f"{policy} has no fixed point without a cap: set config.loss.w_max to about the size "
            "of the catalogue, or use 'frozen_p'"
        )
    if loss.weight_policy == "frozen_p" and not loss.positives_only_steps:
        raise ConfigError(
            f"{policy} measures p during a warm-up: set config.loss.positives_only_steps above 0, "
            "or use 'constant' with config.loss.w"
        )


def _check_objective(config: Config) -> None:
    loss, objective = config.loss, f"config.loss.objective = {config.loss.objective!r}"
    own = loss.objective in OBJECTIVES.modules
    samples = OBJECTIVES.traits[loss.objective].extra == "sampled"
    if loss.negative_candidates == "uncorrected" and loss.candidates == "full":
        raise ConfigError(
            "config.loss.negative_candidates = 'uncorrected' needs sampled candidates: a full "
            "softmax has no correction; set config.loss.candidates to 'uniform' or 'unigram'"
        )
    if loss.objective == "negative_weight_limited" and not loss.w_max:
        raise ConfigError(f"{objective} needs a cap on weights: set config.loss.w_max above 0")
    if loss.label_smoothing and loss.exclude_seen:
        raise ConfigError(
            f"config.loss.label_smoothing = {loss.label_smoothing:g} raises the scores of all "
            "items, and with config.loss.exclude_seen = True nothing holds those of seen items "
            "back, so that they grow without end: set label_smoothing = 0 or exclude_seen = False"
        )
    if loss.label_smoothing and loss.objective not in ("ssm", "ntr"):
        raise ConfigError(
            f"config.loss.label_smoothing = {loss.label_smoothing:g} is defined for positives that "
            f"cost −log p: use the objective 'ssm' or 'ntr', not {loss.objective!r}, or set it to 0"
        )
    if loss.exclude_seen and loss.implementation not in ("auto", "xla"):
        raise ConfigError(
            f"config.loss.implementation = {loss.implementation!r} does not support "
            "config.loss.exclude_seen: set it to 'auto', or exclude_seen to False"
        )
    if samples and loss.candidates != "uniform":
        raise ConfigError(
            f"{objective} draws its negatives uniformly: set config.loss.candidates = 'uniform'"
        )
    if samples and loss.num_candidates < loss.gbce_negatives:
        raise ConfigError(
            f"config.loss.gbce_negatives = {loss.gbce_negatives}: at most "
            f"config.loss.num_candidates = {loss.num_candidates}"
        )
    if config.model.behaviour_head and loss.objective != "reinforce" and not own:
        raise ConfigError(
            f"config.model.behaviour_head is used only by 'reinforce', not by {objective}: set it "
            "to False"
        )
    if (
        loss.objective == "reinforce"
        and not config.model.behaviour_head
        and not config.labels.propensity_cap
    ):
        raise ConfigError(
            f"{objective} needs the logging policy: set config.model.behaviour_head = True, or "
            "config.labels.propensity_cap if the log has propensities"
        )
