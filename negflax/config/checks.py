"""Whether settings are in their ranges and agree with each other."""

from __future__ import annotations

from typing import Any

from negflax.config.choices import AT_LEAST_ONE, CHOICES, NOT_NEGATIVE, POSITIVES_ONLY, SHARES
from negflax.config.errors import ConfigError
from negflax.config.loss import LossConfig
from negflax.config.run import Config


def check(config: Config) -> None:
    """Raises a ConfigError that names the first setting that is not accepted."""

    def get(key: str) -> Any:
        section, name = key.split(".")
        return getattr(getattr(config, section), name)

    for key, allowed in CHOICES.items():
        value = get(key)
        for one in value if isinstance(value, tuple) else (value,):
            if key == "data.source" and "/" in one:
                continue  # a builder, whose variants are known once it is imported
            if one not in allowed:
                raise ConfigError(f"config.{key} = {one!r}: choose from {', '.join(allowed)}")
    for key in SHARES:
        if not 0 <= get(key) < 1 and key != "optimizer.final_fraction":
            raise ConfigError(f"config.{key} = {get(key)}: a share from 0 up to, not including, 1")
    for key in AT_LEAST_ONE:
        if get(key) < 1:
            raise ConfigError(f"config.{key} = {get(key)}: at least 1 is needed")
    if any(k < 1 for k in config.eval.ks) or not config.eval.ks:
        raise ConfigError(f"config.eval.ks = {config.eval.ks}: list lengths of at least 1")
    if not 0.001 <= config.world.dislike_rate <= 0.07:
        raise ConfigError(
            f"config.world.dislike_rate = {config.world.dislike_rate}: a share from 0.001 to 0.07"
        )
    if not config.eval.rate_betas:
        raise ConfigError("config.eval.rate_betas is empty: give at least one value of β")
    if any(one < 0 for one in config.eval.lambdas):
        raise ConfigError(f"config.eval.lambdas = {config.eval.lambdas}: numbers of at least 0")
    for key in NOT_NEGATIVE:
        if get(key) < 0:
            raise ConfigError(f"config.{key} = {get(key)}: a number of at least 0")
    _check_weight(config.loss)
    _check_objective(config)
    if 0 < config.labels.propensity_cap < 1 or config.labels.propensity_cap < 0:
        raise ConfigError(
            f"config.labels.propensity_cap = {config.labels.propensity_cap}: 0 (off) or at least 1"
        )
    if not config.mesh.rows or len(set(config.mesh.rows)) < len(config.mesh.rows):
        raise ConfigError(f"config.mesh.rows = {config.mesh.rows}: name an axis, each at most once")
    if config.data.hash_buckets and config.data.split == "leave_one_out":
        raise ConfigError(
            "config.data.hash_buckets: `leave_one_out` knows every item that it keeps; set it to 0"
        )
    if config.data.hash_buckets and config.data.min_item_events < 2:
        raise ConfigError(
            "config.data.hash_buckets needs config.data.min_item_events above 1: else every item "
            "of the training period has a row of its own, and the buckets are never trained"
        )
    if config.data.source == "event_log" and not config.data.path:
        raise ConfigError("config.data.path is empty: name your .parquet or .csv file or folder")


def _check_weight(loss: LossConfig) -> None:
    if loss.objective in POSITIVES_ONLY:
        return
    policy = f"config.loss.weight_policy = {loss.weight_policy!r}"
    if loss.weight_policy in ("running_p", "balance") and not loss.w_max:
        raise ConfigError(
            f"{policy} has no fixed point without a cap: set config.loss.w_max, to the order of "
            "the catalogue's size, or take 'frozen_p'"
        )
    if loss.weight_policy == "frozen_p" and not loss.positives_only_steps:
        raise ConfigError(
            f"{policy} measures in a warm-up: set config.loss.positives_only_steps above 0, or "
            "take 'constant' with config.loss.w"
        )


def _check_objective(config: Config) -> None:
    loss, objective = config.loss, f"config.loss.objective = {config.loss.objective!r}"
    if loss.negative_candidates == "uncorrected" and loss.candidates == "full":
        raise ConfigError(
            "config.loss.negative_candidates = 'uncorrected' needs sampled candidates: a full "
            "softmax has no correction; set config.loss.candidates to 'uniform' or 'unigram'"
        )
    if loss.temperature <= 0:
        raise ConfigError(f"config.loss.temperature = {loss.temperature}: a number above 0")
    if loss.gbce_t > 1:
        raise ConfigError(f"config.loss.gbce_t = {loss.gbce_t}: a number from 0 to 1")
    if loss.objective == "negative_weight_limited" and not loss.w_max:
        raise ConfigError(f"{objective} holds weights below a cap: set config.loss.w_max above 0")
    if loss.objective == "gbce" and loss.candidates != "uniform":
        raise ConfigError(
            f"{objective} draws its negatives uniformly: set config.loss.candidates = 'uniform'"
        )
    if loss.objective == "gbce" and loss.num_candidates < loss.gbce_negatives:
        raise ConfigError(
            f"config.loss.gbce_negatives = {loss.gbce_negatives}: at most "
            f"config.loss.num_candidates = {loss.num_candidates}"
        )
    if config.model.behaviour_head and loss.objective != "reinforce":
        raise ConfigError(f"config.model.behaviour_head serves 'reinforce' alone, not {objective}")
    if (
        loss.objective == "reinforce"
        and not config.model.behaviour_head
        and not config.labels.propensity_cap
    ):
        raise ConfigError(
            f"{objective} asks for the logging policy: set config.model.behaviour_head = True, or "
            "with logged propensities config.labels.propensity_cap"
        )
