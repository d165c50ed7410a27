"""Lists of an ideal observer, who knows the simulated world: a reference for responsiveness.

The observer knows every mechanism, every item and each user's lasting taste. Like a model, it has
to infer aversions from feedback, which it does by Bayes' rule (negflax/simulate/observer.py). Its
lists change after a dislike or a skip by as much as the distribution of the log justifies; a model
that imitates the log and changes more overreacts. For the objective with dislikes as labels, p is
the stationary point of the objective (docs/method.md §3), at the weight w that a run has frozen, or
at the w that an ω means for the observer. The two differ: w = ω / p̄, and the observer's p of what
is disliked next is larger than a model's. Freshness is left out.

Shapes: S users, T events, I items of the world in its own order, C clusters, V catalogue rows, A
aims, K list length.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from negflax.config import WorldConfig
from negflax.data import Sequences, features
from negflax.simulate.observer import Belief, Past, first_belief, rates, see
from negflax.world import Parameters, Population, draw_population, mechanisms
from negflax.world.population import Array

SESSION_S = 3_600.0  # a longer pause begins a new session


@dataclasses.dataclass(frozen=True)
class Aim:
    """What the observer's lists are best for.

    Attributes:
      w: weight of the negative term, of the objective with dislikes as labels; 0: positives only.
      omega: above 0, w is this ω / p̄ with the observer's own p̄.
      session_goes_on: the next event is in the same session for certain. Otherwise the session may
        end, more likely after a dislike, which rests the user's boredom with the cluster.
    """

    w: float = 0.0
    omega: float = 0.0
    session_goes_on: bool = False


class Ideal(NamedTuple):
    """The observer's answer for one aim, without and with the signal.

    Attributes:
      lists_2SK: catalogue rows, without consumed items.
      mass_2S2: probability of the last item's cluster and of its creator, over all items that may
        be listed, float32.
    """

    lists_2SK: np.ndarray
    mass_2S2: np.ndarray


class _Asked(NamedTuple):
    """List length, signal, and for each aim whether the session goes on: all compiled in."""

    length: int
    signal: str
    goes_on_A: tuple[bool, ...]


def ideal_lists(
    sequences: Sequences,
    event_ST: np.ndarray,
    world: WorldConfig,
    aims: Collection[Aim],
    length: int,
    signal: str = "dislike",
) -> dict[Aim, Ideal]:
    """Returns the observer's lists without and with the signal on the last event.

    Without it, the last item is watched to its end; with it, the user dislikes the item as well, or
    skips it instead.

    Args:
      sequences: log of the world.
      event_ST: indices of the users' events in the log, the newest last.
      world: settings of the world.
      aims: objectives of the lists.
      length: list length K.
      signal: one of walk.SIGNALS.

    Returns:
      The answer to each aim.
    """
    p, population = mechanisms(world), draw_population(world)
    place_I = np.argsort(np.asarray(population.items.item_id_I))  # index by public id, from 0
    place_V = np.append(0, place_I[sequences.catalogue.item_ids])
    user_S = np.searchsorted(sequences.offsets_U1, event_ST[:, 0], side="right") - 1
    user_S = sequences.user_ids[user_S].astype(np.int64)
    histories = _past(sequences, event_ST, place_V), user_S
    known_I = np.zeros(len(place_I), bool)
    known_I[place_V[1:]] = True
    row_I = np.zeros(len(place_I), np.int64)
    row_I[place_V[1:]] = np.arange(1, len(place_V))

    def run(aims: list[Aim], w_A: list[float]) -> tuple[dict[Aim, Ideal], float]:
        found_S2AK, mass_S2A2, p_negative_S, negative_S = _lists(
            population,
            histories,
            known_I,
            jnp.array(w_A),
            p=p,
            asked=_Asked(length, signal, tuple(aim.session_goes_on for aim in aims)),
        )
        rows_A2SK = row_I[np.asarray(found_S2AK)].transpose(2, 1, 0, 3)
        mass_A2S2 = np.asarray(mass_S2A2).transpose(2, 1, 0, 3)
        answers = map(Ideal, rows_A2SK, mass_A2S2)
        return dict(zip(aims, answers, strict=True)), float(p_negative_S.sum() / negative_S.sum())

    plain = [Aim(), *(aim for aim in dict.fromkeys(aims) if not aim.omega and aim != Aim())]
    found, mean_p = run(plain, [aim.w for aim in plain])
    if by_omega := [aim for aim in dict.fromkeys(aims) if aim.omega]:
        found |= run(by_omega, [aim.omega / mean_p for aim in by_omega])[0]
    return {aim: found[aim] for aim in aims}


def _past(sequences: Sequences, event_ST: np.ndarray, place_V: np.ndarray) -> Past:
    gap_code = features.gap_codes(np.array([0, 1000 * SESSION_S]), np.zeros(2, bool))[1]
    dwell_code = features.dwell_codes(np.array([3_000.0, 18_000.0]))
    ratio_code = features.watch_ratio_codes(np.ones(1), np.ones(1))[0]
    dwell_ST = sequences.dwell_E[event_ST]
    return Past(
        item=place_V[sequences.item_E[event_ST]],
        skip=dwell_ST < dwell_code[0],
        long_view=(dwell_ST >= dwell_code[1]) | (sequences.watch_ratio_E[event_ST] >= ratio_code),
        dislike=sequences.dislike_E[event_ST] == 2,
        new_session=sequences.gap_E[event_ST] >= gap_code,
    )


@functools.partial(jax.jit, static_argnames=("p", "asked"))
def _lists(
    population: Population,
    histories: tuple[Past, Array],
    known_I: Any,
    w_A: Array,
    p: Parameters,
    asked: _Asked,
) -> tuple[Array, Array, Array, Array]:
    """Returns lists (S, 2, A, K) of items for A aims, mass (S, 2, A, 2), and Σ b·p and Σ b, (S,).

    Mass is as in `Ideal`; b is the rate of dislikes of an item without the signal, p that of the
    first aim. `histories` has the events of S users and the indices of these users in the
    population.
    """
    items = population.items
    edge_I1 = jnp.append(0, items.popularity_I)
    share_I = jnp.diff(edge_I1)
    share_C = jnp.diff(edge_I1[items.start_C1])

    def one(x: tuple[Past, Array]) -> tuple[Array, Array, Array, Array]:
        past_T, user = x
        traits = jax.tree.map(lambda one: one[user], population.users)
        belief = first_belief(traits, len(share_C), p)

        def step(belief: Belief, event: Past) -> tuple[Belief, None]:
            return see(belief, event, items, traits, p), None

        belief = lax.scan(step, belief, jax.tree.map(lambda x: x[:-1], past_T))[0]
        last = jax.tree.map(lambda x: x[-1], past_T)

        related_2I = jnp.stack(
            [x == x[last.item] for x in (items.cluster_I, items.creator_I)]
        ).astype(jnp.float32)

        def after(given: Array) -> tuple[Array, Array, Array, Array]:
            skip, dislike = (given & (asked.signal == name) for name in ("skip", "dislike"))
            event = last._replace(skip=skip, long_view=~skip, dislike=dislike)
            now = see(belief, event, items, traits, p)
            annoyance = p.exit_skip if asked.signal == "skip" else p.exit_dislike
            ends = p.session_exit * jnp.where(given, annoyance, 1)
            rested = now._replace(boredom_C=p.boredom_rest * now.boredom_C)
            both = [rates(one, items, traits, share_I, share_C, p) for one in (now, rested)]
            mixed = [(1 - ends) * x + ends * y for x, y in zip(*both, strict=True)]
            listed_AK, mass_A2, sums = [], [], []
            for w, goes_on in zip(w_A, asked.goes_on_A, strict=True):
                a_I, b_I = both[0] if goes_on else mixed
                p_I = _stationary(a_I, w * b_I)
                listed_I = jnp.where(known_I, p_I, -1).at[past_T.item].set(-1)
                listed_AK.append(lax.top_k(listed_I, asked.length)[1])
                able_I = jnp.maximum(listed_I, 0)
                mass_A2.append(related_2I @ able_I / able_I.sum())
                sums.append(((b_I * p_I).sum(), b_I.sum()))
            return jnp.stack(listed_AK), jnp.stack(mass_A2), *sums[0]

        listed_2AK, mass_2A2, p_negative_2, negative_2 = jax.vmap(after)(jnp.array([False, True]))
        return listed_2AK, mass_2A2, p_negative_2[0], negative_2[0]

    return lax.map(one, histories, batch_size=50)


def _stationary(a_I: Array, wb_I: Array) -> Array:
    """Solves p_y = a_y / (μ + w·b_y) with Σ p = 1, the stationary point for small p."""

    def halve(_: int, bounds: Array) -> Array:
        middle = bounds.mean()
        above = (a_I / (middle + wb_I)).sum() > 1
        return jnp.where(above, jnp.array([middle, bounds[1]]), jnp.array([bounds[0], middle]))

    mu = lax.fori_loop(0, 40, halve, jnp.array([0.0, 1.0]) * a_I.sum()).mean()
    return a_I / (mu + wb_I)
