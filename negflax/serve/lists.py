"""User states → lists: the one search of the catalogue, and the rules on top of it.

Everything is computed in a few fixed shapes: users and K are filled up to a power of two, excluded
items to one of four. The functions are compiled once for each and may be called from many threads.

Shapes: R users, D width, K list length, M ≥ K items that are looked at, H excluded rows, N recently
disliked items.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from negflax.config import ConfigError
from negflax.serve import list_rules
from negflax.serve.correction import Correction
from negflax.serve.list_rules import ListRules, UserHistory
from negflax.serve.one_event import rows_of
from negflax.serve.scoring import (
    ModelError,
    normaliser_function,
    similarity_function,
)
from negflax.serve.topk import Queries, top_k_function
from negflax.train.restore import Trained, scored_tables

SMALLEST = 16  # shape of excluded items, lists and histories
_FURTHER = 4  # times the items that are looked at, where rules leave too few of them


@dataclasses.dataclass(frozen=True)
class UserList:
    """The list of one user.

    Attributes:
      rows: (K or fewer,) int32 catalogue rows, the best first.
      scores: float32, their scores.
      lse: log-sum-exp of the user's scores, so that p = exp(score − lse); NaN unless asked for.
      left_out: (row, score, why) of better items that a rule left out; empty unless asked for.
    """

    rows: np.ndarray
    scores: np.ndarray
    lse: float = math.nan
    left_out: tuple[tuple[int, float, str], ...] = ()


def power_of_two(size: int, least: int = 1) -> int:
    """The smallest power of two that is at least both."""
    return 1 << (max(size, least) - 1).bit_length()


class Lists:
    """Searches the items of one checkpoint.

    Attributes:
      trained: the checkpoint.
      tables: its tables as serving reads them.
      correction: what its calibration adds to the scores.
    """

    def __init__(self, trained: Trained):
        """Composes the item vectors once."""
        self.trained = trained
        self.tables = scored_tables(trained.model, trained.state)
        self.correction = Correction(trained, self.tables)

    def check_k(self, k: int) -> None:
        """Refuses a list length.

        Raises:
          ConfigError: K is no whole number, below 1 or above the number of items.
        """
        items = self.trained.catalogue.num_rows - 1
        if not isinstance(k, int | np.integer) or isinstance(k, bool):
            raise ConfigError(f"k = {k!r}: give a whole number from 1 to {items}")
        if not 1 <= k <= items:
            raise ConfigError(f"k = {k}: the catalogue has {items} items; ask for 1 to {items}")

    def of_states(
        self,
        states_RD: Any,
        users: Sequence[UserHistory],
        k: int,
        rules: ListRules,
        explain: bool = False,
    ) -> list[UserList]:
        """A list for each user.

        Args:
          states_RD: their states; further rows are ignored.
          users: their histories.
          k: K.
          rules: what is left out.
          explain: with p, and with what the rules left out.

        Raises:
          ConfigError: K is below 1 or above the number of items.
          ModelError: a score is not finite.
        """
        self.check_k(k)
        named = rows_of(self.trained.catalogue, rules.exclude)
        excluded = [list_rules.excluded_rows(user, rules, named[named > 0]) for user in users]
        shifts = self.correction.of_users(users, len(states_RD))
        queries = Queries(states_RD, shifts)
        if explain or rules.look_further:
            found = self._walked(queries, users, k, rules, excluded)
        else:
            found = self._plain(queries, k, excluded)
        if not explain:
            return [dataclasses.replace(one, left_out=()) for one in found]
        output = self.tables[self.trained.model.output_table]["rows"]
        normaliser = normaliser_function(self.trained.model, self.trained.mesh, len(shifts))
        lse_R = np.asarray(normaliser(states_RD, output, *queries.arguments))
        return [
            dataclasses.replace(one, lse=float(lse)) for one, lse in zip(found, lse_R, strict=False)
        ]

    def _plain(self, queries: Queries, k: int, excluded: list[Any]) -> list[UserList]:
        """Where nothing but known rows is left out."""
        excluded_RH = _padded(
            [np.unique(np.concatenate([rows for rows, _ in one])) for one in excluded],
            len(queries.states_RD),
        )
        row_RM, score_RM = self._search(queries, k, excluded_RH)
        found = []
        for row_M, score_M in zip(row_RM[: len(excluded), :k], score_RM[:, :k], strict=False):
            listed = np.isfinite(score_M)
            found.append(UserList(row_M[listed], score_M[listed]))
        return found

    def _walked(
        self,
        queries: Queries,
        users: Sequence[UserHistory],
        k: int,
        rules: ListRules,
        excluded: list[Any],
    ) -> list[UserList]:
        """Rankings of M items, M raised until every list is whole or the catalogue has ended."""
        catalogue, length = self.trained.catalogue, len(queries.states_RD)
        why = [{int(row): said for rows, said in one for row in rows} for one in excluded]
        items = catalogue.num_rows - 1
        asked = min(items, k + max(map(len, why), default=0) + SMALLEST)
        while True:
            nothing_RH = np.zeros((length, 0), np.int32)
            row_RM, score_RM = self._search(queries, asked, nothing_RH)
            near_RM = self._near(row_RM, users, rules)
            walks = [
                list_rules.walk(row_RM[i], near_RM[i], user, rules, catalogue, why[i], k)
                for i, user in enumerate(users)
            ]
            if row_RM.shape[1] >= items or all(len(listed) == k for listed, _ in walks):
                break
            asked = min(items, _FURTHER * asked)
        return [
            UserList(
                row_RM[i, listed],
                score_RM[i, listed],
                left_out=tuple(
                    (int(row_RM[i, place]), float(score_RM[i, place]), said)
                    for place, said in left_out
                ),
            )
            for i, (listed, left_out) in enumerate(walks)
        ]

    def _near(
        self, row_RM: np.ndarray, users: Sequence[UserHistory], rules: ListRules
    ) -> np.ndarray:
        """(R, M) whether items are near what their user disliked lately."""
        if not rules.aversion or not rules.recent:
            return np.zeros(row_RM.shape, bool)
        other_RN = np.zeros((len(row_RM), power_of_two(rules.recent)), np.int32)
        for i, user in enumerate(users):
            other_RN[i, : rules.recent] = user.recently_disliked(rules.recent)
        model = self.trained.model
        similarity = similarity_function(model, self.trained.mesh)
        cosine_RM = similarity(self.tables[model.output_table]["rows"], row_RM, other_RN)
        return np.asarray(cosine_RM) >= rules.aversion

    def _search(
        self, queries: Queries, k: int, excluded_RH: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(rows, scores), both (R, K or more), by falling score, −inf where a list has ended."""
        trained, model = self.trained, self.trained.model
        length = min(power_of_two(k, SMALLEST), model.num_rows - 1)
        search = top_k_function(
            trained.mesh,
            model.num_rows,
            length,
            bias=model.config.item_bias,
            kinds=len(queries.shifts),
        )
        output = self.tables[model.output_table]["rows"]
        found = search(queries.states_RD, output, excluded_RH, *queries.arguments)
        row_RM, score_RM = jax.device_get(found)
        if not (score_RM < np.inf).all():  # NaN neither
            raise ModelError(
                f"the checkpoint of step {trained.step} gives scores that are not finite: choose "
                "an earlier one, or train with a lower config.optimizer.learning_rate"
            )
        return row_RM, score_RM


def _padded(rows: list[np.ndarray], length: int) -> np.ndarray:
    """Rows of each user as int32 (length, H), filled up with 0; H is 0, 16, 64, 256, ..."""
    longest = max(map(len, rows), default=0)
    width = SMALLEST if longest else 0
    while width < longest:
        width *= 4
    padded_RH = np.zeros((length, width), np.int32)
    for i, one in enumerate(rows):
        padded_RH[i, : len(one)] = one
    return padded_RH
