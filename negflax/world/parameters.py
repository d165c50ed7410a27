"""Every mechanism of the synthetic platform as one named number, with its unit and its reason.

Sizes, the seed and what experiments switch are `negflax.config.WorldConfig`; `mechanisms` puts its
switches into force. Affinity, the quantity that behaviour follows,
is in standard deviations of the match between a random user and a random item.
"""

from __future__ import annotations

import dataclasses
import difflib

from negflax.config import ConfigError, WorldConfig


@dataclasses.dataclass(frozen=True)
class Parameters:
    """The mechanisms; rates in the reasons are those of the default world.

    Attributes:
      cluster_size_exponent: exponent of a cluster's number of items in its rank; topics are
        unequal, but none is tiny.
      popularity_exponent: Zipf exponent of an item's exposure in its popularity rank; the top 1 %
        of the items then take 15-20 % of the events, as in public short-video logs.
      popularity_quality: correlation of popularity rank and quality; popular items are somewhat
        better, yet popularity alone does not tell quality.
      creator_exponent: Zipf exponent of a creator's number of items.
      creator_clusters: number of home clusters of a creator; above 1, so that creators do not nest
        in clusters and feedback on the two can be told apart.
      creator_stray: weight of a creator outside its home clusters, home being 1.
      latent_creator: share of an item's latent variance that is its creator's.
      latent_item: share of an item's latent variance that is its own; the rest is its cluster's.
      cold_share: share of the items that are released during the log, not before: a platform is fed
        every day, and nothing is known of such items.
      cold_days: days; cold items are released evenly over this first part of the log.
      duration_median_s: seconds; median length of a video.
      duration_spread: standard deviation of the logarithm of the length.
      duration_min_s: seconds; shortest video.
      duration_max_s: seconds; longest video.

      cluster_aversion: share of the clusters that a user is averse to, independent of taste.
      creator_aversion: share of the creators that a user is averse to, independent of taste.
      aversion_loss: affinity that an averse cluster or creator takes away.

      patience_spread: standard deviation between users of a lasting addition to affinity: some
        watch whatever comes. It makes a user's own past predictive, as it is in public logs.

      candidates: items of the chosen cluster that the feed compares for one slot.
      cluster_personalisation: weight of the user's current interest in the choice of the cluster,
        beside its popularity: weak enough that popularity still shows.
      item_personalisation: weight of the match in the choice among the candidates.
      feed_boredom: weight, in the choice of the cluster, of how much of it was just shown: the
        feed varies its topics, which a model of the last item alone cannot follow.
      freshness: score that a just released item has over an old one among the candidates.
      freshness_days: days in which that falls to 1/e.
      reaction_cluster: of a platform that reacts to dislikes: fall of a cluster's log-odds for each
        of its items disliked within the remembered rounds.
      reaction_creator: of the same: fall of the score of a creator's items, once one was disliked.
      exploration: share of slots filled with a uniformly random item, on the discovery surface.
      no_repeat_rounds: rounds for which the feed avoids what it has shown to the user.

      quality_weight: affinity of one standard deviation of item quality.
      boredom_loss: affinity lost for each recent item of the same cluster.
      boredom_decay: share of boredom that is left after one more item.
      boredom_rest: share of boredom that is left at the next session.
      fatigue_loss: affinity lost for each item since the session began.
      fatigue_items: items after which fatigue grows no more.
      taste_learning: share of the way from the user's taste to an item's latent vector that one
        long view goes: interests drift with what is enjoyed.
      taste_return: share of the way back to the user's lasting taste, per item.
      swipe_bias: log-odds of a swipe within the first seconds at affinity 0.
      swipe_slope: fall of those log-odds per unit of affinity.
      skip_s: seconds; a shorter dwell (or, of shorter videos, than the whole) is a skip.
      long_view_s: seconds; a dwell at least as long (or the whole video) is a long view.
      watch_bias: mean log watch ratio of who stays, at affinity 0 and median length.
      watch_slope: log watch ratio per unit of affinity.
      watch_length: fall of the log watch ratio per unit of log length: long videos are left early.
      watch_noise: standard deviation of the log watch ratio, given all of the above.
      watch_max: highest watch ratio; a loop is left sooner or later.
      like_bias: log-odds of a like by who stays, at affinity 0.
      like_slope: rise of those log-odds per unit of affinity.
      dislike_noise: chance of a dislike without any aversion: slips and moods.
      dislike_cluster: further chance of a dislike on an averse cluster.
      dislike_creator: further chance of a dislike on an averse creator.

      dismissal_skip: chance that a skip comes with "not interested": sparser than skips, as it
        costs a press and a menu.
      dismissal_averse: further chance of it on an averse cluster or creator.

      page_items: items of a home page.
      position_decay: a: the item at place n ≥ 0 of a home page is looked at with chance (1 + n)^−a.
      click_bias: log-odds of a click on an item that is looked at, at affinity 0.
      click_slope: rise of those log-odds per unit of affinity.

      activity: a, of the Beta(a, 1) law of a user's share of rounds with an event: mean a/(a+1),
        with a tail of rare visitors.
      leave: chance of leaving for good, per round.
      session_exit: chance that a session ends after an item that was watched.
      exit_skip: factor of that chance after a skip.
      exit_dislike: factor after a dislike or dismissal.
      return_next_day: chance of coming back after 16 to 32 hours, for a user of mean satisfaction.
      return_satisfaction: rise of that chance per unit of satisfaction.
      satisfaction_mean: share of long views that leaves a user neither more nor less likely to
        return.
      satisfaction_memory: weight of the past in satisfaction, the running mean of long views.
      arrival_days: days; users arrive evenly over this first part of the log.
      session_gap_hours: hours; mean pause of who does not return the next day, times the user's
        pace.
      pace_spread: standard deviation of the logarithm of a user's pace.
      browse_s: seconds; mean pause between two items of a session.
      log_days: days; later events are cut off.
      log_start_ms: milliseconds since 1970; the log's first moment (2024-01-01, UTC).
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


def mechanisms(config: WorldConfig, parameters: Parameters = DEFAULT) -> Parameters:
    """The parameters with the switches of the config in force.

    `dislike_rate` scales the three chances of a dislike together: their shares stay as they are.
    With `dislikes = "random"` every event has the chance `dislike_rate`, aversion or not;
    dismissals then follow skips alone.

    Raises:
      ConfigError: config.world.parameters names no mechanism, or gives no number.
    """
    p = dataclasses.replace(parameters, **dict(map(_override, config.parameters)))
    if not config.platform_reacts:
        p = dataclasses.replace(p, reaction_cluster=0.0, reaction_creator=0.0)
    if config.dislikes == "random":
        return dataclasses.replace(
            p,
            dislike_noise=config.dislike_rate,
            dislike_cluster=0.0,
            dislike_creator=0.0,
            dismissal_averse=0.0,
        )
    scale = config.dislike_rate / NOMINAL_DISLIKES
    chances = ("dislike_noise", "dislike_cluster", "dislike_creator")
    return dataclasses.replace(p, **{name: min(1.0, scale * getattr(p, name)) for name in chances})


def _override(text: str) -> tuple[str, float | int]:
    """`name = number` of config.world.parameters."""
    name, _, number = (part.strip() for part in text.partition("="))
    types = {field.name: type(field.default) for field in dataclasses.fields(Parameters)}
    try:
        return name, types[name](number)
    except KeyError:
        near = difflib.get_close_matches(name, types, n=1)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        raise ConfigError(f"config.world.parameters: `{name}` is no mechanism{hint}") from None
    except ValueError:
        raise ConfigError(
            f"config.world.parameters: `{text}`: write `{name} = {types[name].__name__}`"
        ) from None
