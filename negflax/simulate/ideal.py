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
from collections.abc import Collection
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from negflax.config import WorldConfig
from negflax.data import Sequences, features
from negflax.simulate.ideal_answers import Asked, Tastes, answers
from negflax.simulate.observer import Past
from negflax.world import Population, draw_population, mechanisms

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


def ideal_lists(
    sequences: Sequences,
    event_ST: np.ndarray,
    world: WorldConfig,
    aims: Collection[Aim],
    length: int,
    signal: str = "dislike",
    tastes: Tastes | None = None,
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
      tastes: what is known of the users' tastes before the feedback on the last event; by default
        the truth.

    Returns:
      The answer to each aim.
    """
    p, population = mechanisms(world), draw_population(world)
    place_V = places(sequences, population)
    user_S = users_of(sequences, event_ST)
    tastes = tastes or Tastes(
        population.users.taste_UW[user_S][:, None], population.users.patience_U[user_S][:, None]
    )
    histories = past_of(sequences, event_ST, place_V), user_S, tastes
    known_I = np.zeros(len(population.items.cluster_I), bool)
    known_I[place_V[1:]] = True
    row_I = np.zeros(len(known_I), np.int64)
    row_I[place_V[1:]] = np.arange(1, len(place_V))

    def run(aims: list[Aim], w_A: list[float]) -> tuple[dict[Aim, Ideal], float]:
        found_S2AK, mass_S2A2, p_negative_S, negative_S = answers(
            population,
            histories,
            known_I,
            jnp.array(w_A),
            p=p,
            asked=Asked(length, signal, tuple(aim.session_goes_on for aim in aims)),
        )
        rows_A2SK = row_I[np.asarray(found_S2AK)].transpose(2, 1, 0, 3)
        mass_A2S2 = np.asarray(mass_S2A2).transpose(2, 1, 0, 3)
        by_aim = map(Ideal, rows_A2SK, mass_A2S2)
        return dict(zip(aims, by_aim, strict=True)), float(p_negative_S.sum() / negative_S.sum())

    plain = [Aim(), *(aim for aim in dict.fromkeys(aims) if not aim.omega and aim != Aim())]
    found, mean_p = run(plain, [aim.w for aim in plain])
    if by_omega := [aim for aim in dict.fromkeys(aims) if aim.omega]:
        found |= run(by_omega, [aim.omega / mean_p for aim in by_omega])[0]
    return {aim: found[aim] for aim in aims}


def places(sequences: Sequences, population: Population) -> np.ndarray:
    """(V,) index in the world of every catalogue row; 0 for row 0, which is no item."""
    place_I = np.argsort(np.asarray(population.items.item_id_I))  # index by public id, from 0
    return np.append(0, place_I[sequences.catalogue.item_ids])


def users_of(sequences: Sequences, event_ST: np.ndarray) -> np.ndarray:
    """(S,) indices in the population of the users of these events."""
    user_S = np.searchsorted(sequences.offsets_U1, event_ST[:, 0], side="right") - 1
    return sequences.user_ids[user_S].astype(np.int64)


def past_of(sequences: Sequences, event_ST: np.ndarray, place_V: np.ndarray) -> Past:
    """The logged events as the observer reads them, (S, T)."""
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
