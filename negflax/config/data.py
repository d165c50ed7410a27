"""Settings of the events, the synthetic platform, labels and batches."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from negflax.config.kinds import Count, Natural, OneOf, Range, Share


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where events come from and how they are split (docs/method.md §5).

    Attributes:
      source: name of a registered source (`synthetic`, `kuairand_mini`, `movielens_100k`,
        `ml1m_sequences`), `event_log` for your own files, or a builder with its variant, such as
        `kuairand/pure` (docs/data_sets.md).
      root: folder that holds the data sets, prepared ones too; empty means $NEGFLAX_DATA_DIR.
      manual_dir: for a builder: folder with the original files, from which the data set is
        prepared (into `root`, or else <workdir>/data) if it is not yet.
      path: for `event_log`: a .parquet or .csv file, or a folder of them.
      items_path: for `event_log`: optional item table (item_id, creator_id, cluster_ids, title,
        duration_ms, item_vector).
      columns: for `event_log`: columns that the file calls otherwise, as in `item_id=movieId`, our
        name first; a time that is not in milliseconds with its unit, s, us or ns:
        `timestamp_ms=rated_at:s`.
      item_columns: the same of the item table.
      split: `temporal` (global, by time), `user_fraction` (the last events of each user test, the
        ones before them validate; for logs whose users are active at different times),
        `leave_one_out` (last event of a user is the test, the one before it validation; for
        published tables only) or `column` (the source's own split).
      valid_from: first moment of the validation period, ISO 8601 with a zone; empty: by fraction.
      test_from: first moment of the test period, ISO 8601 with a zone; empty: by fraction.
      valid_fraction: share of the events, by time, that validate when `valid_from` is empty; under
        `user_fraction` of each user's events, rounded down.
      test_fraction: share of the events, by time, that test when `test_from` is empty; under
        `user_fraction` of each user's events, rounded down.
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

    source: Annotated[
        str,
        OneOf(
            "synthetic",
            "kuairand_mini",
            "movielens_100k",
            "ml1m_sequences",
            "event_log",
            also=lambda name: "/" in name,  # a builder: known once it is imported
        ),
    ] = "synthetic"
    root: str = ""
    manual_dir: str = ""
    path: str = ""
    items_path: str = ""
    columns: tuple[str, ...] = ()
    item_columns: tuple[str, ...] = ()
    split: Literal["temporal", "user_fraction", "leave_one_out", "column"] = "temporal"
    valid_from: str = ""
    test_from: str = ""
    valid_fraction: Share = 0.1
    test_fraction: Share = 0.1
    min_item_events: Count = 1
    spread_rows: bool = False
    reserved_items: Natural = 0
    hash_buckets: Natural = 0
    cache_dir: str = ""


@dataclasses.dataclass(frozen=True)
class WorldConfig:
    """The embedded synthetic short-video platform (negflax/world/).

    Attributes:
      name: a world of negflax/world/named_worlds.py: `heedless` (the default), `grumble`, `loose`,
        `reacting`, `reacting_weakly` or `control`. The other settings add to it or replace parts.
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
      parameters: mechanisms that differ from negflax/world/parameters.py, as in
        `aversion_loss = 3.0`; for sensitivity, another world than the default.
    """

    name: Literal["heedless", "grumble", "loose", "reacting", "reacting_weakly", "control"] = (
        "heedless"
    )
    seed: Natural = 0
    num_users: Count = 12_000
    num_items: Count = 5_000
    num_creators: Count = 800
    num_clusters: Count = 40
    steps: Count = 70
    latent_dim: Count = 16
    dislike_rate: Annotated[float, Range("a share from 0.001 to 0.07", least=0.001, most=0.07)] = (
        0.05
    )
    dislikes: Literal["taste", "random"] = "taste"
    platform_reacts: bool = False
    parameters: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class LabelConfig:
    """Which feedback becomes a label (docs/method.md §4 and 5.7).

    A rule is a condition, or several joined by `and`, with an optional label weight behind a colon:
    `rating >= 4`, `dislike: 3`, `dismissal and reason == spam: 5`. A condition is `signal`,
    `signal OP number` (OP one of >= > <= < ==) or `signal == word`. A null signal never matches.

    Attributes:
      positive: rules that make an event a positive label, with r the weight.
      negative: rules that make an event a negative label, with w the weight. A weight of 0
        switches a rule off. Where the log has no column `dislike`, what they match is heard as one
        (docs/labels.md).
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
    horizon: Count = 1


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

    rows: Count = 32
    length: Count = 100
    seed: Natural = 0
    prefetch: Count = 2
