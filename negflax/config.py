"""Every setting of a run, its default and its meaning: the one place for each default.

`defaults()` is what a file in configs/ starts from and overrides; `from_config_dict` turns the
result into frozen dataclasses, once, and names the key of anything it does not accept.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from typing import Any

FORMAT_VERSION = 2  # of the checkpoint layout and the config that is stored beside it


class ConfigError(ValueError):
    """A setting is unknown, of the wrong type or out of range; the message names its key."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where events come from and how they are split (SPEC section 5).

    Attributes:
      source: name of a registered source (`synthetic`, `kuairand_mini`, `movielens_100k`,
        `ml1m_sequences`), `event_log` for your own files, or a builder with its variant, such as
        `kuairand/pure` (docs/data_sets.md).
      root: folder that holds the data sets, prepared ones too; empty means $NEGFLAX_DATA_DIR.
      manual_dir: for a builder: folder with the original files, from which the data set is
        prepared (into `root`, or else <workdir>/data) if it is not yet.
      path: for `event_log`: a .parquet or .csv file, or a folder of them.
      items_path: for `event_log`: optional item table (item_id, creator_id, cluster_ids, title).
      split: `temporal` (global, by time), `leave_one_out` (last event of a user is the test, the
        one before it validation; for published tables only) or `column` (the source's own split).
      valid_from: first moment of the validation period, ISO 8601 with a zone; empty: by fraction.
      test_from: first moment of the test period, ISO 8601 with a zone; empty: by fraction.
      valid_fraction: share of the events, by time, that validate when `valid_from` is empty.
      test_fraction: share of the events, by time, that test when `test_from` is empty.
      min_item_events: items with fewer events in the training period are unknown items.
      spread_rows: give popular items rows far from each other, so that shards of the item tables
        are asked for equally many rows; else rows are in the order of the item ids.
      reserved_items: rows behind those of the known items, kept free for items that a later run
        brings (--init_from): the tables keep their shapes. Until then no one draws, scores, lists
        or ranks them.
      hash_buckets: rows that items outside the vocabulary share, by a hash of their id, as inputs
        of the encoder; they are no labels and in no list. 0: events on them are left out. Needs
        min_item_events above 1, as items with fewer events are what the rows are trained on.
      cache_dir: where prepared sequences and the synthetic data set are kept, for any number of
        runs; empty means <workdir>/data.
    """

    source: str = "synthetic"
    root: str = ""
    manual_dir: str = ""
    path: str = ""
    items_path: str = ""
    split: str = "temporal"
    valid_from: str = ""
    test_from: str = ""
    valid_fraction: float = 0.1
    test_fraction: float = 0.1
    min_item_events: int = 1
    spread_rows: bool = False
    reserved_items: int = 0
    hash_buckets: int = 0
    cache_dir: str = ""


@dataclasses.dataclass(frozen=True)
class WorldConfig:
    """The embedded synthetic short-video platform (negflax/world/).

    Attributes:
      seed: of users, items and behaviour.
      num_users: users, at least 1.
      num_items: items in the catalogue.
      num_creators: creators; a creator's items span clusters.
      num_clusters: content clusters.
      steps: rounds of the platform; each active user sees one item a round.
      latent_dim: width of the taste vectors.
      dislike_rate: share of the events with a dislike, 0.001 to 0.07. An assumption: public logs
        that show dislikes at all have fewer (docs/world.md).
      dislikes: what a dislike follows: `taste` (aversions of the user) or `random` (a coin, the
        control of experiments).
      platform_reacts: the platform that makes the log shows less of what was disliked.
    """

    seed: int = 0
    num_users: int = 12_000
    num_items: int = 5_000
    num_creators: int = 800
    num_clusters: int = 40
    steps: int = 70
    latent_dim: int = 16
    dislike_rate: float = 0.05
    dislikes: str = "taste"
    platform_reacts: bool = False


@dataclasses.dataclass(frozen=True)
class LabelConfig:
    """Which feedback becomes a label (SPEC section 4 and 5.7).

    A rule is a condition, or several joined by `and`, with an optional label weight behind a colon:
    `rating >= 4`, `dislike: 3`, `dismissal and reason == spam: 5`. A condition is `signal`,
    `signal OP number` (OP one of >= > <= < ==) or `signal == word`. A null signal never matches.

    Attributes:
      positive: rules that make an event a positive label, with r the weight.
      negative: rules that make an event a negative label, with w the weight. A weight of 0
        switches a rule off.
      explicit: a negative rule whose first signal is one of these beats a positive rule on the same
        event; else the later feedback wins (columns `<signal>_at_ms`), or the positive.
      skip: what makes an event a `skip`, for each range of durations in seconds, as in
        `7-18: watch_ratio < .2 and dwell_s < 3`; empty: the log's own column `skip`.
      propensity_cap: above 0, the weights are divided by max(propensity, 1 / cap); at least 1.
      horizon: 1: the label of a state is the next event. h > 1: the next positive and the next
        negative within the h next events (two labels a state).
    """

    positive: tuple[str, ...] = ("long_view", "like")
    negative: tuple[str, ...] = ("dislike", "skip")
    explicit: tuple[str, ...] = ("dislike", "dismissal")
    skip: tuple[str, ...] = ()
    propensity_cap: float = 0.0
    horizon: int = 1


@dataclasses.dataclass(frozen=True)
class BatchConfig:
    """Shape and order of the training batches.

    Attributes:
      rows: B, sequences in a batch.
      length: T, steps in a sequence. Users are concatenated into rows of T steps with a reset
        flag where a user begins, so there is no padding but in the last row.
      seed: of the order of users; batch i is a pure function of (seed, i).
      prefetch: batches prepared ahead on the host.
    """

    rows: int = 32
    length: int = 100
    seed: int = 0
    prefetch: int = 2


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The user encoder and the item vectors (SPEC section 4).

    Attributes:
      encoder: recurrent cell: `gru`.
      hidden: H, width of the encoder's state.
      embedding: D, width of an item's row.
      feature_dim: width of the embedding of each feedback feature.
      features: event features beside the item: any of `dislike`, `dwell`, `watch_ratio`, `gap`,
        `surface`, `creator`, `cluster`. The bits a model must not see are left out here.
      tied: one item table for input and output, or one each.
      composed: what an item's vector holds besides its own row, on both sides: the row of its
        `creator`, the mean of those of its clusters (`cluster`), both or neither.
      item_bias: a learned bias for each item, kept as one more column of its output row.
      dropout_input: share of the encoder's input that is dropped in training.
      dropout_output: share of the user state that is dropped in training.
      dtype: of parameters and products, `float32` or `float64` (needs jax_enable_x64).
      behaviour_head: estimate the logging policy from the state, for the objective `reinforce`.
    """

    encoder: str = "gru"
    hidden: int = 64
    embedding: int = 64
    feature_dim: int = 8
    features: tuple[str, ...] = ("dislike", "dwell", "watch_ratio", "gap")
    tied: bool = True
    composed: tuple[str, ...] = ()
    item_bias: bool = True
    dropout_input: float = 0.1
    dropout_output: float = 0.1
    dtype: str = "float32"
    behaviour_head: bool = False


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The objective and its candidates (SPEC sections 2 and 3).

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


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Optax for the dense parameters, sparse row updates for the tables.

    Attributes:
      dense: `adam`, `adagrad` or `sgd`.
      tables: sparse, exact on merged duplicate rows: `rowwise_adagrad` (one accumulator a row),
        `adagrad`, `sgd`, `momentum`, `lazy_adam`, `rowwise_adam` (another optimizer than Adam each:
        docs/tables.md); or Optax on every row, for tables of at most 200,000 rows: `dense_adagrad`,
        `dense_adam`.
      table_dtype: of the tables' rows: `model` (as model.dtype) or `bfloat16`, half the memory,
        rounded stochastically; slots and arithmetic stay in model.dtype.
      learning_rate: peak rate of the dense parameters.
      table_learning_rate: peak rate of the tables.
      table_weight_decay: decoupled weight decay of the touched rows: they shrink by rate · decay.
      momentum: μ of `momentum`, β₁ of every Adam.
      adam_b2: β₂ of every Adam.
      warmup_steps: linear warm-up from 0.
      schedule: `constant`, `linear` or `cosine` decay to `final_fraction` of the peak.
      final_fraction: what is left of the rate at the last step.
      clip_norm: bound on the global norm over dense parameters and touched rows; 0 is off.
      clip_value: then a bound on each element of these gradients; 0 is off.
      adagrad_init: first value of Adagrad's accumulators.
    """

    dense: str = "adam"
    tables: str = "rowwise_adagrad"
    table_dtype: str = "model"
    learning_rate: float = 2e-3
    table_learning_rate: float = 0.1
    table_weight_decay: float = 0.0
    momentum: float = 0.9
    adam_b2: float = 0.98
    warmup_steps: int = 50
    schedule: str = "linear"
    final_fraction: float = 0.05
    clip_norm: float = 1.0
    clip_value: float = 0.0
    adagrad_init: float = 1e-7


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Length of training, validation and checkpoints.

    Attributes:
      seed: of parameters, candidates and dropout.
      epochs: passes over the training events; used when `steps` is 0.
      steps: training steps; 0 means by `epochs`.
      eval_every: steps between validations; 0 switches validation off.
      checkpoint_every: steps between checkpoints.
      keep_latest: newest checkpoints that are kept; the best one is kept besides.
      metric: validation metric that names the best checkpoint and drives patience.
      patience: validations without a new best, after the warm-ups, before training stops; 0 is off.
      refit: after the best step is known, train anew on training + validation events for that many
        steps, in <workdir>/refit (SPEC section 5.4).
      log_every: steps between lines of progress and metrics.
      splits: which events train: (`train`,) or (`train`, `valid`).
      hubs: services that get the metrics as well: `wandb`, `mlflow` (extra `loggers`).
    """

    seed: int = 0
    epochs: float = 5.0
    steps: int = 0
    eval_every: int = 200
    checkpoint_every: int = 200
    keep_latest: int = 2
    metric: str = "ndcg_p@10"
    patience: int = 0
    refit: bool = False
    log_every: int = 50
    splits: tuple[str, ...] = ("train",)
    hubs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Full-catalogue ranking (SPEC sections 5 and 6).

    Attributes:
      ks: list lengths K.
      lambdas: values of λ, what a listed negative costs in units of a listed positive.
      history: newest events of a user that the encoder reads.
      users_per_block: requests that are scored at a time.
      state: from which state a user is asked. `last_only`: once, at the start of the period, with
        all its events judged. `successive`: before each labelled event, from the state just before
        it, with that event judged.
      valid_users: users (a fixed sample) in the validations during training; 0 means all.
      loss_weight_negative: w⁻ of the weighted loss, metric 9, with w⁺ = 1.
      negative_popularity: c of the floor that counts an item's positives minus c × its negatives.
      rate_betas: values of β of the floor model + β·log(item's positive rate); the one with the
        best delta at the first K on the validation period is used.
      bootstrap: resamples of the user-clustered paired bootstrap.
      seed: of samples, random floor and bootstrap.
    """

    ks: tuple[int, ...] = (10, 20)
    lambdas: tuple[float, ...] = (0.0, 1.0, 2.0, 5.0)
    history: int = 100
    users_per_block: int = 256
    state: str = "last_only"
    valid_users: int = 2_000
    loss_weight_negative: float = 3.0
    negative_popularity: float = 1.0
    rate_betas: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    bootstrap: int = 10_000
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices. Batches are split over all of them, and by default the rows of tables as well.

    Attributes:
      data: devices along `data`; 0 means all that `table` leaves.
      table: devices along `table`.
      rows: axes that the rows of tables are sharded over, any of `data`, `table`; along an axis
        that is left out, devices hold copies.
      lookup: how rows reach the devices that need them: `psum` (every device gets the rows that
        all ask for), `all_to_all` (each gets its own from their owners) or `auto`, whichever costs
        less (negflax/tables/exchange.py, `form`).
    """

    data: int = 0
    table: int = 1
    rows: tuple[str, ...] = ("data", "table")
    lookup: str = "auto"


@dataclasses.dataclass(frozen=True)
class Config:
    """One run. Sections: see their classes.

    Attributes:
      name: a word for tables and plots.
      data: event source and split.
      world: the synthetic platform.
      labels: feedback → labels.
      batch: training batches.
      model: encoder and item vectors.
      loss: objective and candidates.
      optimizer: optimizers and schedule.
      train: length, validation, checkpoints.
      eval: ranking evaluation.
      mesh: devices.
    """

    name: str = "negflax"
    data: DataConfig = DataConfig()
    world: WorldConfig = WorldConfig()
    labels: LabelConfig = LabelConfig()
    batch: BatchConfig = BatchConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
    mesh: MeshConfig = MeshConfig()


POSITIVES_ONLY = ("ssm", "ssm_upweighted")  # objectives without a term for negative labels
FEATURES = ("dislike", "dwell", "watch_ratio", "gap", "surface", "creator", "cluster")

_CHOICES: dict[str, tuple[str, ...]] = {
    "data.source": ("synthetic", "kuairand_mini", "movielens_100k", "ml1m_sequences", "event_log"),
    "world.dislikes": ("taste", "random"),
    "data.split": ("temporal", "leave_one_out", "column"),
    "model.encoder": ("gru",),
    "model.features": FEATURES,
    "model.composed": ("creator", "cluster"),
    "model.dtype": ("float32", "float64"),
    "loss.objective": (
        "ntr",
        "ssm",
        "ssm_upweighted",
        "negative_weight",
        "negative_weight_limited",
        "smoothed",
        "probability_regularized",
        "focal",
        "reinforce",
        "gbce",
        "contrastive",
    ),
    "loss.negative_candidates": ("corrected", "uncorrected"),
    "loss.weight_policy": ("constant", "frozen_p", "running_p", "density", "balance"),
    "loss.implementation": ("auto", "xla", "mosaic_gpu", "mosaic_tpu"),
    "loss.candidates": ("full", "uniform", "unigram", "in_batch"),
    "optimizer.dense": ("adam", "adagrad", "sgd"),
    "optimizer.tables": (
        "rowwise_adagrad",
        "adagrad",
        "sgd",
        "momentum",
        "lazy_adam",
        "rowwise_adam",
        "dense_adagrad",
        "dense_adam",
    ),
    "optimizer.table_dtype": ("model", "bfloat16"),
    "optimizer.schedule": ("constant", "linear", "cosine"),
    "eval.state": ("last_only", "successive"),
    "train.splits": ("train", "valid"),
    "train.hubs": ("wandb", "mlflow"),
    "mesh.rows": ("data", "table"),
    "mesh.lookup": ("auto", "psum", "all_to_all"),
}
_SHARES = ("data.valid_fraction", "data.test_fraction", "model.dropout_input",
           "model.dropout_output", "optimizer.final_fraction", "optimizer.momentum",
           "optimizer.adam_b2")  # fmt: skip
_NOT_NEGATIVE = ("loss.omega", "loss.w", "loss.w_max", "loss.r", "loss.positives_only_steps",
                 "loss.ramp_steps", "loss.upweight", "loss.epsilon", "loss.penalty", "loss.gamma",
                 "loss.rho_max", "loss.gbce_t", "loss.contrastive", "optimizer.clip_norm",
                 "optimizer.clip_value",
                 "optimizer.table_weight_decay", "data.reserved_items",
                 "data.hash_buckets")  # fmt: skip
_AT_LEAST_ONE = ("world.num_users", "world.num_items", "world.num_creators", "world.num_clusters",
                 "world.steps", "labels.horizon", "batch.rows", "batch.length", "model.hidden",
                 "model.embedding", "loss.num_candidates", "loss.block_elements",
                 "loss.averaging_steps", "loss.recent_negatives", "loss.gbce_negatives",
                 "loss.top_k",
                 "train.checkpoint_every", "train.log_every", "train.keep_latest", "eval.history",
                 "eval.users_per_block", "mesh.table", "data.min_item_events",
                 "batch.prefetch", "world.latent_dim", "model.feature_dim")  # fmt: skip


def to_dict(config: Config) -> dict[str, Any]:
    """The config as nested plain dicts, ready for JSON."""
    return dataclasses.asdict(config)


def defaults() -> Any:
    """Every default as a ConfigDict, for a file in configs/ to override (needs ml_collections)."""
    import ml_collections

    return ml_collections.ConfigDict(to_dict(Config()))


def from_config_dict(values: Any) -> Config:
    """Builds the frozen config from a ConfigDict or nested mapping, and checks it.

    Raises:
      ConfigError: an unknown key, a wrong type or a value out of range, named by its key.
    """
    if hasattr(values, "to_dict"):
        values = values.to_dict()
    config = _build(Config, values, "")
    _check(config)
    return config


def _build(cls: type, values: Mapping[str, Any], prefix: str) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigError(f"config.{prefix.rstrip('.')} is a section: give it a mapping")
    types = typing.get_type_hints(cls)
    for key in values:
        if key not in types:
            near = difflib.get_close_matches(key, types, n=1)
            hint = f"did you mean `{prefix}{near[0]}`?" if near else f"known: {', '.join(types)}"
            raise ConfigError(f"config.{prefix}{key} is not a setting; {hint}")
    return cls(**{k: _convert(types[k], v, f"{prefix}{k}") for k, v in values.items()})


def _convert(kind: Any, value: Any, key: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, f"{key}.")
    if typing.get_origin(kind) is tuple:
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise ConfigError(f"config.{key} is a tuple: write ({value!r},)")
        element = typing.get_args(kind)[0]
        return tuple(_convert(element, v, key) for v in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"config.{key} = {value!r}: expected {kind.__name__}")
    return value


def _check(config: Config) -> None:
    def get(key: str) -> Any:
        section, name = key.split(".")
        return getattr(getattr(config, section), name)

    for key, allowed in _CHOICES.items():
        value = get(key)
        for one in value if isinstance(value, tuple) else (value,):
            if key == "data.source" and "/" in one:
                continue  # a builder, whose variants are known once it is imported
            if one not in allowed:
                raise ConfigError(f"config.{key} = {one!r}: choose from {', '.join(allowed)}")
    for key in _SHARES:
        if not 0 <= get(key) < 1 and key != "optimizer.final_fraction":
            raise ConfigError(f"config.{key} = {get(key)}: a share from 0 up to, not including, 1")
    for key in _AT_LEAST_ONE:
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
    for key in _NOT_NEGATIVE:
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
