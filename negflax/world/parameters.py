"""The parameters of the synthetic platform: one number per mechanism, with its unit and reason.

Sizes, the seed and the switches of experiments are in `negflax.config.WorldConfig`;
`mechanisms` (negflax/world/named_worlds.py) applies a world's name and the switches. The unit of
affinity, on which all behaviour depends, is the standard deviation of the match between a random
user and a random item.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Parameters:
    """The mechanisms; rates quoted as reasons are those of the default world.

    Attributes:
      cluster_size_exponent: Zipf exponent of cluster sizes; topics are unequal, but none is tiny.
      popularity_exponent: Zipf exponent of item exposure; the top 1 % of the items then receive
        15-20 % of the events, as in public short-video logs.
      popularity_quality: correlation of popularity rank and quality; popular items are somewhat
        better, but popularity alone does not reveal quality.
      creator_exponent: Zipf exponent of the number of items per creator.
      creator_clusters: number of home clusters of a creator; above 1, so that creators are not
        nested in clusters and feedback on the two can be distinguished.
      creator_stray: weight of a creator outside its home clusters; inside the weight is 1.
      latent_creator: share of an item's latent variance that comes from its creator.
      latent_item: share of an item's latent variance that is its own; the rest comes from its
        cluster.
      cold_share: share of the items that are released during the log, not before it: platforms add
        items every day, and nothing is known about these.
      cold_days: days; cold items are released evenly over this first part of the log.
      duration_median_s: seconds; median length of a video.
      duration_spread: standard deviation of the logarithm of the length.
      duration_min_s: seconds; shortest video.
      duration_max_s: seconds; longest video.

      cluster_aversion: share of the clusters that a user is averse to, independent of taste.
      creator_aversion: share of the creators that a user is averse to, independent of taste.
      aversion_loss: affinity lost if the user is averse to the item's cluster or creator.

      patience_spread: standard deviation between users of a constant added to affinity: some users
        watch anything. It makes a user's own past predictive, as in public logs.

      candidates: number of items of the chosen cluster that the feed compares for one slot.
      cluster_personalisation: weight of the user's present interest, relative to popularity, in the
        choice of the cluster; weak enough that popularity remains visible.
      item_personalisation: weight of the match in the choice among the candidates.
      feed_boredom: penalty of recently shown clusters in the choice of the cluster: the feed varies
        its topics, which a model of the last item alone cannot predict.
      freshness: advantage in score of a newly released item over an old one among the candidates.
      freshness_days: days after which this advantage has fallen to 1/e.
      reaction_cluster: on a platform that reacts to dislikes: decrease of a cluster's log-odds for
        each of its items disliked within the last `no_repeat_rounds` rounds.
      reaction_creator: likewise: decrease of the score of a creator's items after a dislike of one.
      exploration: share of slots filled with a uniformly random item, on the discovery surface.
      no_repeat_rounds: number of rounds in which the feed does not repeat an item to a user.

      quality_weight: affinity per standard deviation of item quality.
      boredom_loss: affinity lost for each recent item of the same cluster.
      boredom_decay: share of boredom that remains after one more item.
      boredom_rest: share of boredom that remains at the next session.
      fatigue_loss: affinity lost for each item since the session began.
      fatigue_items: number of items after which fatigue stops growing.
      taste_learning: fraction by which one long view moves the user's taste towards the item's
        latent vector: interests drift towards what is enjoyed.
      taste_return: fraction by which each item moves taste back towards the user's lasting taste.
      swipe_bias: log-odds of a swipe within the first seconds at affinity 0.
      swipe_slope: decrease of these log-odds per unit of affinity.
      skip_s: seconds; a shorter dwell is a skip (for videos that are shorter than this, a dwell
        shorter than the video).
      long_view_s: seconds; a dwell at least this long, or of the whole video, is a long view.
      watch_bias: mean log watch ratio of users who do not swipe, at affinity 0 and median length.
      watch_slope: increase of the log watch ratio per unit of affinity.
      watch_length: decrease of the log watch ratio per unit of log length: a smaller part of long
        videos is watched.
      watch_noise: standard deviation of the log watch ratio, given all of the above.
      watch_max: highest watch ratio; videos loop, but nobody watches a loop forever.
      like_bias: log-odds of a like by a user who does not skip, at affinity 0.
      like_slope: increase of these log-odds per unit of affinity.
      dislike_noise: probability of a dislike without any aversion: accidents and moods.
      dislike_cluster: further probability of a dislike if the user is averse to the cluster.
      dislike_creator: further probability of a dislike if the user is averse to the creator.
      dislike_item_spread: standard deviation of the logarithm of an item's factor, with mean 1, of
        these three probabilities: some items are disliked by many, however long they are watched.
        .67 is a coefficient of variation of .75, that of "reduce similar" over items of KuaiRand.

      dismissal_skip: probability that a skip comes with "not interested": rarer than skips, as it
        takes a long press and a menu.
      dismissal_averse: further probability of it if the user is averse to the cluster or creator.

      page_items: number of items on a home page.
      position_decay: exponent a: a user looks at place n ≥ 0 of a home page with probability
        (1 + n)^−a.
      click_bias: log-odds of a click on an item that was looked at, at affinity 0.
      click_slope: increase of these log-odds per unit of affinity.

      activity: a of the Beta(a, 1) distribution of a user's share of rounds with an event; its mean
        is a/(a+1), with a tail of rare visitors.
      leave: probability of leaving the platform for good, per round.
      session_exit: probability that a session ends after an item that was watched.
      exit_skip: factor of this probability after a skip.
      exit_dislike: factor of this probability after a dislike or dismissal.
      return_next_day: probability of returning after 16 to 32 hours at mean satisfaction.
      return_satisfaction: increase of this probability per unit of satisfaction.
      satisfaction_mean: share of long views at which the probability is `return_next_day`.
      satisfaction_memory: weight of the past in satisfaction, the running mean of long views.
      arrival_days: days; users arrive evenly over this first part of the log.
      session_gap_hours: hours; mean pause, times the user's pace, of users who do not return the
        next day.
      pace_spread: standard deviation of the logarithm of a user's pace.
      browse_s: seconds; mean pause between two items of a session.
      log_days: days; later events are cut off.
      log_start_ms: milliseconds since 1970; start of the log (2024-01-01, UTC).
    """

    cluster_size_exponent: float = 0.4
    popularity_exponent: float = 0.8
    popularity_quality: float = 0.4
    creator_exponent: float = 0.6
    creator_clusters: int = 3
    creator_stray: float = 0.02
    latent_creator: float = 0.2
    latent_item: float = 0.25
    cold_share: float = 0.1
    cold_days: float = 20.0
    duration_median_s: float = 22.0
    duration_spread: float = 0.7
    duration_min_s: float = 5.0
    duration_max_s: float = 180.0

    cluster_aversion: float = 0.15
    creator_aversion: float = 0.05
    aversion_loss: float = 1.5
    patience_spread: float = 0.7

    candidates: int = 6
    cluster_personalisation: float = 1.5
    item_personalisation: float = 1.5
    feed_boredom: float = 0.7
    freshness: float = 1.0
    freshness_days: float = 3.0
    reaction_cluster: float = 2.0
    reaction_creator: float = 3.0
    exploration: float = 0.05
    no_repeat_rounds: int = 60

    quality_weight: float = 0.5
    boredom_loss: float = 0.25
    boredom_decay: float = 0.85
    boredom_rest: float = 0.2
    fatigue_loss: float = 0.02
    fatigue_items: int = 20
    taste_learning: float = 0.08
    taste_return: float = 0.02
    swipe_bias: float = 0.22
    swipe_slope: float = 1.0
    skip_s: float = 3.0
    long_view_s: float = 18.0
    watch_bias: float = -0.8
    watch_slope: float = 0.35
    watch_length: float = 0.3
    watch_noise: float = 0.6
    watch_max: float = 3.0
    like_bias: float = -4.5
    like_slope: float = 0.6
    dislike_noise: float = 0.008
    dislike_cluster: float = 0.2
    dislike_creator: float = 0.3
    dislike_item_spread: float = 0.0

    dismissal_skip: float = 0.004
    dismissal_averse: float = 0.04

    page_items: int = 6
    position_decay: float = 0.7
    click_bias: float = -1.8
    click_slope: float = 1.0

    activity: float = 2.5
    leave: float = 0.003
    session_exit: float = 0.1
    exit_skip: float = 1.5
    exit_dislike: float = 3.0
    return_next_day: float = 0.4
    return_satisfaction: float = 0.6
    satisfaction_mean: float = 0.33
    satisfaction_memory: float = 0.95
    arrival_days: float = 12.0
    session_gap_hours: float = 66.0
    pace_spread: float = 0.3
    browse_s: float = 2.0
    log_days: float = 30.0
    log_start_ms: int = 1_704_067_200_000


DEFAULT = Parameters()
NOMINAL_DISLIKES = 0.05  # share of events that `DEFAULT` gives in the default world
