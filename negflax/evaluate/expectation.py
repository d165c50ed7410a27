"""Exact expectations over the order of tied items, for lists of K judged items (JAX).

An item with g items above it and t items in its tie group, itself included, has a place drawn
uniformly from g+1 .. g+t. The end of a list cuts at most one tie group of a query: s = K - g of its
t places are listed. Nothing else is random, so the expectations below are exact.

Shapes: J judged items of R queries; an item that does not count has query R and both signs 0.
Counts are floats, so that one program is compiled for all K.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln


class Judged(NamedTuple):
    """Judged items and their ranks.

    Attributes:
      query_J: int, query of the item, 0..R-1.
      greater_J: number of items above it.
      ties_J: size of its tie group, at least 1.
      positive_J: 1 for an item of P*, else 0.
      negative_J: 1 for an item of N, else 0.
    """

    query_J: jax.Array
    greater_J: jax.Array
    ties_J: jax.Array
    positive_J: jax.Array
    negative_J: jax.Array


class Cut(NamedTuple):
    """The tie group that the end of a list cuts; all 0 if no group with judged items is cut.

    Attributes:
      places_R: number s of the group's places that are listed.
      ties_R: size t of the group.
      positives_R: number of positives in the group.
      negatives_R: number of negatives in the group.
    """

    places_R: jax.Array
    ties_R: jax.Array
    positives_R: jax.Array
    negatives_R: jax.Array


def in_list(judged: Judged, k: jax.Array) -> jax.Array:
    """Returns the probability that each judged item is among the first K."""
    return jnp.clip((k - judged.greater_J) / judged.ties_J, 0, 1)


def gain(judged: Judged, k: jax.Array, upto: jax.Array) -> jax.Array:
    """Returns the expected gain 1/log2(place + 1) of each judged item, 0 beyond place K.

    upto[n] is the sum of the gains of the first n places.
    """

    def within(place_J: jax.Array) -> jax.Array:
        return upto[jnp.minimum(place_J, k).astype(int)]

    first_J, last_J = judged.greater_J, judged.greater_J + judged.ties_J
    return (within(last_J) - within(first_J)) / judged.ties_J


def cut_of(judged: Judged, in_list_J: jax.Array, k: jax.Array, num_queries: int) -> Cut:
    """Returns the tie group that is cut at K, for each query."""
    cut_J = (in_list_J > 0) & (in_list_J < 1)

    def largest(value_J: jax.Array) -> jax.Array:  # the same for all items of the group
        chosen_J = jnp.where(cut_J, value_J, 0)
        largest_R = jax.ops.segment_max(chosen_J, judged.query_J, num_queries)
        return jnp.maximum(largest_R, 0)

    def count(sign_J: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(cut_J * sign_J, judged.query_J, num_queries)

    return Cut(
        largest(k - judged.greater_J),
        largest(judged.ties_J),
        count(judged.positive_J),
        count(judged.negative_J),
    )


def hit_probability(certain_R: jax.Array, marked_R: jax.Array, cut: Cut) -> jax.Array:
    """Returns the probability that the list has an item of one sign.

    Args:
      certain_R: number of items of the sign that are certainly listed.
      marked_R: number m of items of the sign in the group that is cut.
      cut: the group.
    """
    miss_R = _hypergeometric(0.0, marked_R, cut)
    return jnp.where(certain_R > 0, 1.0, 1.0 - jnp.where(marked_R > 0, miss_R, 1.0))


def negative_precision(
    avoided_R: jax.Array, avoided_negatives_R: jax.Array, cut: Cut
) -> tuple[jax.Array, jax.Array]:
    """Returns the expectation of metric 6, `|N∩A| / |A|`, given A ≠ ∅, and P(A ≠ ∅).

    Of the m judged items in the group, j are listed with hypergeometric probability, and a share
    m⁻/m of these is negative in expectation. The expectation is a sum over j up to the largest m.

    Args:
      avoided_R: number of judged items that are certainly not listed.
      avoided_negatives_R: number of negatives among them.
      cut: the group that is cut.
    """
    marked_R = cut.positives_R + cut.negatives_R
    share_R = cut.negatives_R / jnp.maximum(marked_R, 1)

    def add(state: tuple) -> tuple:
        j, value_R, defined_R = state
        probability_R = _hypergeometric(j, marked_R, cut)
        size_R = avoided_R + marked_R - j
        negatives_R = avoided_negatives_R + (marked_R - j) * share_R
        value_R += probability_R * jnp.where(size_R > 0, negatives_R / jnp.maximum(size_R, 1), 0)
        return j + 1, value_R, defined_R + probability_R * (size_R > 0)

    zeros_R = jnp.zeros_like(avoided_R)
    start = (jnp.zeros((), avoided_R.dtype), zeros_R, zeros_R)
    last = marked_R.max()
    _, value_R, defined_R = jax.lax.while_loop(lambda state: state[0] <= last, add, start)
    return value_R / jnp.where(defined_R > 0, defined_R, 1), defined_R


def auc(judged: Judged, num_queries: int) -> tuple[jax.Array, jax.Array]:
    """Returns P(score⁺ > score⁻) + P(equal) / 2 over the pairs of each query, by rank sums.

    Two items of a query are tied if and only if the same number of items is above them. (Mann and
    Whitney 1947)

    Returns:
      (values, 0 for a query without pairs; whether it has pairs), each (R,).
    """
    order = jnp.lexsort((judged.greater_J, judged.query_J))
    query_J, greater_J, positive_J, negative_J = (
        x[order] for x in (judged.query_J, judged.greater_J, judged.positive_J, judged.negative_J)
    )
    new_J = (jnp.diff(query_J, prepend=-1) != 0) | (jnp.diff(greater_J, prepend=-1.0) != 0)
    group_J = jnp.cumsum(new_J) - 1
    negatives_J = jnp.cumsum(negative_J)  # of this and all earlier queries, down to this item
    tied_J = jax.ops.segment_sum(negative_J, group_J, len(group_J))[group_J]
    upto_J = jax.ops.segment_max(negatives_J, group_J, len(group_J))[group_J]
    count_R = jax.ops.segment_sum(negative_J, query_J, num_queries)
    before_R = jnp.cumsum(count_R) - count_R
    above_J = upto_J - tied_J - before_R[query_J]  # negatives of the query above the item
    lost_R = jax.ops.segment_sum(positive_J * (above_J + tied_J / 2), query_J, num_queries)
    pairs_R = jax.ops.segment_sum(positive_J, query_J, num_queries) * count_R
    defined_R = pairs_R > 0
    return jnp.where(defined_R, 1 - lost_R / jnp.where(defined_R, pairs_R, 1), 0), defined_R


def _hypergeometric(j: jax.Array | float, marked_R: jax.Array, cut: Cut) -> jax.Array:
    """Returns P(j of m marked items are among s of t places) = C(m, j) C(t-m, s-j) / C(t, s)."""
    rest_R, places_R = cut.ties_R - marked_R, cut.places_R - j
    possible_R = (j <= marked_R) & (places_R >= 0) & (places_R <= rest_R)
    log_R = _log_choose(marked_R, j) + _log_choose(rest_R, places_R)
    return jnp.where(possible_R, jnp.exp(log_R - _log_choose(cut.ties_R, cut.places_R)), 0)


def _log_choose(n: jax.Array, k: jax.Array | float) -> jax.Array:
    """Returns log C(n, k); finite but meaningless if k is not in 0..n."""
    k = jnp.clip(k, 0, n)
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
