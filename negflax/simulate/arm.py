"""A trained model as used by the simulations: from events to user states and the best items.

Shapes: S users, T steps, V catalogue rows, D width, M items.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from negflax.calibration import counts_on_device
from negflax.calibration.counts_on_device import Counted, KindOnDevice
from negflax.config import ConfigError
from negflax.data import Batch, features
from negflax.model import Recommender
from negflax.serve.topk import Queries, top_k_of_rows
from negflax.simulate.personal_terms import PersonalTerms, add_dislikes, nothing_disliked
from negflax.train.restore import Trained, scored_tables

DISLIKE_INPUT = "dislike"  # the feature that shows dislikes to a model
BRANCHES = ("none", "dislike", "skip", "dismissal")
UNKNOWN_DURATION_MS = 30_000.0  # assumed for items without a duration in the catalogue
SKIP_MS = np.array([500.0])


class Events(NamedTuple):
    """Past events as encoder inputs: int32 item rows and codes (negflax/data/features.py)."""

    item: jax.Array
    dislike: jax.Array
    dwell: jax.Array
    watch_ratio: jax.Array
    gap: jax.Array
    surface: jax.Array
    dismissal: jax.Array


class Arm(NamedTuple):
    """The arrays of a trained model and its catalogue that the simulation needs.

    Attributes:
      dense: parameters of the encoder.
      rows: table → composed rows, (V or more, width).
      creator_V: int32 creators, 0 if unknown.
      cluster_V: int32, first cluster of each item, 0 if unknown.
      whole_V: (dwell, watch ratio) codes of a view of the whole item, each (V,) int32.
      skip_2: the same two codes for a skip.
      calibration: corrections of the scores by kind of item; empty without a calibration.
      terms: what a personal baseline adds to the scores; None: nothing.
    """

    dense: Any
    rows: dict[str, jax.Array]
    creator_V: jax.Array
    cluster_V: jax.Array
    whole_V: tuple[jax.Array, jax.Array]
    skip_2: jax.Array
    calibration: dict[str, KindOnDevice]
    terms: PersonalTerms | None = None


class UserState(NamedTuple):
    """What the lists of S users depend on.

    Attributes:
      state_SD: states of the encoder.
      counted: feedback counts, where the arm has a calibration.
      disliked_SN: rows of the items disliked last, where the arm has terms.
    """

    state_SD: jax.Array
    counted: Counted | None
    disliked_SN: jax.Array | None = None


class Carry(NamedTuple):
    """What is needed to read further events: the encoder's carry, counts and dislikes so far."""

    encoder: Any
    counted: Counted | None
    disliked_SN: jax.Array | None = None


def arm_of(trained: Trained, has_dwell: bool, terms: PersonalTerms | None = None) -> Arm:
    """Returns the arrays of a checkpoint.

    Args:
      trained: the checkpoint.
      has_dwell: whether the log has dwell times; if not, simulated events have none either.
      terms: what is added to its scores.

    Raises:
      ConfigError: the model reads the time of requests.
    """
    if trained.config.model.request:
        raise ConfigError(
            "simulated requests have no time: use a run with config.model.request = ()"
        )
    catalogue = trained.catalogue
    duration_V = catalogue.duration_V
    if duration_V is None:
        duration_V = np.full(catalogue.num_rows, np.nan)
    whole_V = np.where(duration_V > 0, duration_V, UNKNOWN_DURATION_MS)
    dwell_V = features.dwell_codes(whole_V).astype(np.int32) * has_dwell
    ratio_V = features.watch_ratio_codes(whole_V, duration_V).astype(np.int32) * has_dwell
    skip_ratio = features.watch_ratio_codes(SKIP_MS, np.array([UNKNOWN_DURATION_MS]))
    skip_2 = np.concatenate([features.dwell_codes(SKIP_MS), skip_ratio])
    rows = scored_tables(trained.model, trained.state)
    return Arm(
        dense=_alone(trained.state["dense"]),
        rows={name: _alone(table["rows"]) for name, table in rows.items()},
        creator_V=jnp.asarray(catalogue.creator_V, jnp.int32),
        cluster_V=jnp.asarray(catalogue.clusters_VC[:, 0], jnp.int32),
        whole_V=(jnp.asarray(dwell_V), jnp.asarray(ratio_V)),
        skip_2=jnp.asarray(skip_2, jnp.int32),
        calibration=counts_on_device.on_device(trained.calibration, catalogue),
        terms=terms,
    )


def _alone(tree: Any) -> Any:
    """Copies the arrays to one device."""
    return jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), tree)


def feedback(arm: Arm, codes_S: Events, branch: str) -> Events:
    """Returns the event on item k with the feedback of a branch (one of BRANCHES).

    `none` is a view of the whole item, and `dislike` is the same view plus the dislike bit. `skip`
    is a skip, and `dismissal` is a skip plus the dismissal bit. If dismissals are unknown in the
    log, the bit stays unknown in all branches.
    """
    dwell_S, ratio_S = (x[codes_S.item] for x in arm.whole_V)
    if branch in ("skip", "dismissal"):
        dwell_S = jnp.where(dwell_S > 0, arm.skip_2[0], 0)
        ratio_S = jnp.where(ratio_S > 0, arm.skip_2[1], 0)
    disliked, dismissed = (2 if branch == name else 1 for name in ("dislike", "dismissal"))
    return codes_S._replace(
        dislike=jnp.full_like(codes_S.item, disliked),
        dismissal=jnp.where(codes_S.dismissal > 0, dismissed, 0),
        dwell=dwell_S,
        watch_ratio=ratio_S,
    )


def read(
    model: Recommender, arm: Arm, events_ST: Events, last: Carry | None
) -> tuple[UserState, Carry]:
    """Returns the states after the events, and what further events need.

    Args:
      model: the model.
      arm: its arrays.
      events_ST: events to read.
      last: carry after the earlier events; None: there are none.
    """
    before = last or Carry(None, None)
    state_SD, encoder = encode_events(model, arm, events_ST, before.encoder)
    counted = before.counted
    if arm.calibration:
        counted = counted or counts_on_device.no_events(arm.calibration, len(state_SD))
        counted = counts_on_device.count(counted, events_ST, arm.calibration)
    disliked_SN = before.disliked_SN
    if arm.terms is not None:
        if disliked_SN is None:
            disliked_SN = nothing_disliked(len(state_SD))
        disliked_SN = add_dislikes(disliked_SN, events_ST.item, events_ST.dislike)
    return UserState(state_SD, counted, disliked_SN), Carry(encoder, counted, disliked_SN)


def encode_events(
    model: Recommender, arm: Arm, events_ST: Events, last: Any
) -> tuple[jax.Array, Any]:
    """Returns the states (S, D) after the events, and the encoder's carry.

    Arguments are those of `read`; `last` is the encoder's carry.
    """
    item_ST = events_ST.item
    none_STL = jnp.zeros((*item_ST.shape, 1), jnp.int32)
    batch = Batch(
        item_ids_BT=item_ST,
        dislike_BT=events_ST.dislike,
        dwell_BT=events_ST.dwell,
        watch_ratio_BT=events_ST.watch_ratio,
        gap_BT=events_ST.gap,
        surface_BT=events_ST.surface,
        dismissal_BT=events_ST.dismissal,
        creator_BT=arm.creator_V[item_ST],
        cluster_BT=arm.cluster_V[item_ST],
        reset_BT=jnp.zeros(item_ST.shape, bool).at[:, 0].set(last is None),
        label_ids_BTL=none_STL,
        positive_weight_BTL=none_STL.astype(jnp.float32),
        negative_weight_BTL=none_STL.astype(jnp.float32),
    )
    return encode(model, arm, batch, last)


def encode(model: Recommender, arm: Arm, batch: Batch, last: Any) -> tuple[jax.Array, Any]:
    """Returns the states (S, D) after the last steps of a batch, and the encoder's carry."""
    vectors = {
        use: arm.rows[name][ids]
        for name, uses in model.lookups(batch, None).items()
        for use, ids in uses.items()
        if use != "label"
    }
    states_STD, last = model.states(arm.dense, vectors, batch, start=last)
    return states_STD[:, -1], last


def best(
    model: Recommender, arm: Arm, user: UserState, taken_SN: jax.Array, length: int
) -> tuple[jax.Array, jax.Array]:
    """Returns the best items not consumed yet: rows (S, M) int32 and scores (S, M)."""
    rows = arm.rows[model.output_table]
    queries = queries_of(model, arm, user)
    return top_k_of_rows(queries, rows, taken_SN, num_rows=model.num_rows, k=length)


def queries_of(model: Recommender, arm: Arm, user: UserState) -> Queries:
    """Returns what the rows of the output table are scored by."""
    state_SD, counted, disliked_SN = user
    if model.config.item_bias:  # the rows' last column, times one
        state_SD = jnp.pad(state_SD, ((0, 0), (0, 1)), constant_values=1)
    shifts = tuple(one.shift(counted, kind) for kind, one in arm.calibration.items())
    if arm.terms is not None:
        shifts += (arm.terms.shift(disliked_SN),)
    return Queries(state_SD, shifts)
