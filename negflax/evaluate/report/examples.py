"""Example users: their history, and their lists without and with a dislike of its last item.

Both lists come from the same history; only the dislike bit of its last event differs.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from negflax.data import Catalogue, Sequences, history_batch
from negflax.data.histories import padded_history_items
from negflax.evaluate.protocol import Queries
from negflax.serve.correction import Correction
from negflax.serve.scoring import list_function
from negflax.train.restore import Trained, scored_tables

NO, YES = 1, 2  # codes of Sequences.dislike_E; 0 is unknown
MIN_HISTORY = 4
SHOWN_EVENTS = 8
CANDIDATES = 256  # number of users searched for one whose list changes much
SHORTLIST = 16  # number of these, with the largest changes, whose related items are counted


@dataclasses.dataclass(frozen=True)
class Line:
    """An item of a history or list.

    Attributes:
      name: title or id of the item.
      detail: its creator and clusters.
      mark: in a history: `liked`, `disliked`, `skipped`, `negative` (of unknown kind) or empty; in
        a list: `liked later`, `negative later` or empty.
      related: in a list: whether it shares a creator or cluster with the history's last item.
      moved: in a list: `gone` if it is not in the list after the dislike, `new` if it is only
        there, or empty.
    """

    name: str
    detail: str
    mark: str = ""
    related: bool = False
    moved: str = ""


@dataclasses.dataclass(frozen=True)
class Example:
    """A user: the history, newest event first, and the lists without and with the dislike."""

    user: str
    history: list[Line]
    before: list[Line]
    after: list[Line]

    @property
    def related_lost(self) -> int:
        """Number of related items that the list loses."""
        before, after = (sum(line.related for line in x) for x in (self.before, self.after))
        return before - after


@dataclasses.dataclass(frozen=True)
class Examples:
    """Example users, and what a dislike does on average.

    Attributes:
      users: some of them.
      asked: number of users whose lists were compared.
      before: share of related items in their lists without the dislike; NaN without lists.
      after: the same with it.
    """

    users: list[Example]
    asked: int
    before: float
    after: float

    @property
    def figures(self) -> dict[str, Any]:
        """The same for results.json; {} if no list has a related item."""
        if not self.sentence:
            return {}
        shares = {"dislike/related_before": self.before, "dislike/related_after": self.after}
        return shares | {"dislike/change": self.sentence}

    @property
    def sentence(self) -> str:
        """What a dislike does, in words; empty if no list has a related item."""
        if not self.before > 0:
            return ""
        percent = 100 * (self.after / self.before - 1)
        does = (
            f"{'takes away' if percent < 0 else 'adds'} {abs(percent):.0f} % of its related items"
        )
        does = does if percent else "changes nothing"
        without, with_it = 100 * self.before, 100 * self.after
        return (
            f"In the lists of {self.asked:,} random users, a dislike of the last item {does}: "
            f"{without:.1f} % of a list is related to it without the dislike, "
            f"{with_it:.1f} % with it."
        )


def examples(trained: Trained, queries: Queries, sequences: Sequences, count: int = 3) -> Examples:
    """Returns example users, drawn with config.eval.seed.

    They have at least MIN_HISTORY events and a liked item in the evaluated period. The first user
    is chosen to show a change: of `CANDIDATES` users, the `SHORTLIST` whose lists change most are
    compared, and the one whose list loses most related items is taken. The others are random.

    Args:
      trained: the model; if neither it nor its calibration reads dislikes, both lists are equal.
      queries: queries with judged items.
      sequences: the events.
      count: number of users; fewer are returned if there are not enough.
    """
    config = trained.config.eval
    length_R = queries.end_R - sequences.offsets_U1[queries.user_R]
    liked_R = np.bincount(queries.query_J, queries.judged_positive_J, minlength=len(queries))
    able = np.flatnonzero((length_R >= MIN_HISTORY) & (liked_R > 0))
    chosen = np.random.default_rng(config.seed).permutation(able)[: max(count, CANDIDATES)]
    asked = Queries(
        queries.user_R[chosen],
        queries.end_R[chosen],
        np.zeros(len(chosen) + 1, np.int64),
        queries.judged_item_J[:0],
        queries.judged_positive_J[:0],
    )
    k = min(config.ks[0], 10)
    before, after = (_lists(trained, asked, sequences, yes, k) for yes in (False, True))
    replaced = [len(np.setdiff1d(*pair)) for pair in zip(before, after, strict=True)]
    most = np.argsort(-np.array(replaced, int), kind="stable")[:SHORTLIST].tolist()

    def example(i: int) -> Example:
        return _example(queries, chosen[i], sequences, before[i], after[i])

    shortlist = {i: example(i) for i in most}
    first = max(most, key=lambda i: shortlist[i].related_lost, default=-1)
    others = [i for i in range(len(chosen)) if i != first]
    users = [*(shortlist[i] for i in most if i == first), *map(example, others[: count - 1])]
    last_R = sequences.item_E[asked.end_R - 1]
    shares = [_related_share(sequences.catalogue, last_R, x) for x in (before, after)]
    return Examples(users, len(chosen), *shares)


def _related_share(catalogue: Catalogue, item_R: np.ndarray, lists: list[np.ndarray]) -> float:
    """Share of the listed items that are related to the user's."""
    related = [related_of(catalogue, item)[x] for item, x in zip(item_R, lists, strict=True)]
    listed = np.concatenate([*related, np.zeros(0)])
    return float(listed.mean()) if len(listed) else float("nan")


def _lists(
    trained: Trained, asked: Queries, sequences: Sequences, disliked: bool, k: int
) -> list[np.ndarray]:
    """Returns the lists without seen items, with the last event of the history disliked or not."""
    if not len(asked):
        return []
    dislike_E, last_R = sequences.dislike_E.copy(), asked.end_R - 1
    dislike_E[last_R] = YES if disliked else np.minimum(dislike_E[last_R], NO)
    changed = dataclasses.replace(sequences, dislike_E=dislike_E)
    batch = history_batch(changed, asked.end_R, asked.user_R, trained.config.eval.history)
    tables = scored_tables(trained.model, trained.state)
    shifts = Correction(trained, tables).of_histories(changed, asked.user_R, asked.end_R)
    lists = list_function(trained.model, trained.mesh, k, len(shifts))
    row_RK, _ = lists(
        trained.state["dense"],
        tables,
        batch,
        padded_history_items(sequences, asked.user_R, asked.end_R),
        *((shifts,) if shifts else ()),
    )
    return [row_K[row_K > 0] for row_K in np.asarray(row_RK)]


def _example(
    queries: Queries, r: int, sequences: Sequences, before: np.ndarray, after: np.ndarray
) -> Example:
    catalogue, start = sequences.catalogue, sequences.offsets_U1[queries.user_R[r]]
    events = np.arange(max(start, queries.end_R[r] - SHOWN_EVENTS), queries.end_R[r])[::-1]
    history = [line_of(catalogue, sequences.item_E[e], mark_of(sequences, e)) for e in events]
    one = queries.block(r, r + 1)
    later = dict(zip(one.judged_item_J, one.judged_positive_J, strict=True))
    names = {True: "liked later", False: "negative later", None: ""}
    related_V = related_of(catalogue, sequences.item_E[queries.end_R[r] - 1])

    def lines(own: np.ndarray, other: np.ndarray, moved: str) -> list[Line]:
        return [
            line_of(
                catalogue,
                row,
                names[later.get(row)],
                bool(related_V[row]),
                "" if row in other else moved,
            )
            for row in own
        ]

    user = str(sequences.user_ids[queries.user_R[r]])
    return Example(user, history, lines(before, after, "gone"), lines(after, before, "new"))


def mark_of(sequences: Sequences, event: int) -> str:
    """Returns the feedback of an event as a word."""
    if sequences.dislike_E[event] == YES:
        return "disliked"
    if sequences.positive_weight_E[event] > 0:
        return "liked"
    if sequences.negative_weight_E[event] > 0:
        return "skipped" if sequences.dislike_E[event] == NO else "negative"
    return ""


def related_of(catalogue: Catalogue, row: int) -> np.ndarray:
    """Returns which items have the same creator as `row` or a cluster in common, bool (V,)."""
    creator, clusters = catalogue.creator_V[row], catalogue.clusters_VC[row]
    same_V = (catalogue.creator_V == creator) & (creator > 0)
    return same_V | np.isin(catalogue.clusters_VC, clusters[clusters > 0]).any(axis=1)


def line_of(
    catalogue: Catalogue, row: int, mark: str = "", related: bool = False, moved: str = ""
) -> Line:
    """Returns an item with its title, creator and clusters, as far as the catalogue has them."""
    title = catalogue.titles[row] if catalogue.titles is not None else ""
    creator, clusters = catalogue.creator_V[row], catalogue.clusters_VC[row]
    parts = [_named("creator", catalogue.creator_ids, [creator])] if creator else []
    if clusters.any():
        parts.append(_named("cluster", catalogue.cluster_ids, [c for c in clusters if c]))
    name = title or (f"item {catalogue.item_ids[row - 1]}" if row else "an item unknown to the run")
    return Line(str(name), " · ".join(parts), mark, related, moved)


def _named(kind: str, ids: np.ndarray | None, numbers: list[int]) -> str:
    """Returns the names of creators or clusters: their original ids if known, else numbers."""
    if ids is None or not len(ids):
        return f"{kind} " + ", ".join(str(n) for n in numbers)
    names = ", ".join(str(ids[n - 1]) for n in numbers)
    return names if kind == "cluster" and ids.dtype.kind not in "iu" else f"{kind} {names}"
