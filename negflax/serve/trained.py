"""A trained run as a recommender: an event log in, a list of items for each of its users out.

Shapes: U users, R users scored at a time, T history steps, V catalogue rows, K list length.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa
from jax.sharding import Mesh

from negflax.config import ConfigError, MeshConfig
from negflax.data import Sequences, build_histories, history_batch
from negflax.data.histories import padded_history_items
from negflax.data.tabular import Data, as_events
from negflax.mesh import make_mesh
from negflax.serve.scoring import ModelError, check_finite, list_function, scored_tables
from negflax.train.restore import Trained, load_trained


class TrainedRecommender:
    """Lists from one checkpoint; keep it and ask often, as the first lists wait for a compiler.

    Attributes:
      trained: the checkpoint with its config, catalogue and model.
    """

    def __init__(self, trained: Trained):
        """What `negflax.train.restore.load_trained` gives; `load` does both.

        Raises:
          ModelError: a table has a value that is not finite.
        """
        check_finite(trained)
        self.trained = trained
        self._tables = scored_tables(trained.model, trained.state)

    @classmethod
    def load(
        cls, workdir: str | Path, checkpoint: str = "best", mesh: Mesh | None = None
    ) -> TrainedRecommender:
        """Loads a run.

        Args:
          workdir: its folder.
          checkpoint: `best`, `latest` or a step.
          mesh: devices to serve from, of any number; all of the machine's by default.

        Raises:
          CheckpointError: there is no such run or checkpoint.
        """
        if mesh is None:
            mesh = make_mesh(MeshConfig(), jax.devices())
        return cls(load_trained(workdir, checkpoint, mesh))

    def recommend(
        self, events: Data, k: int = 10, *, exclude_seen: bool = True, name: str = ""
    ) -> tuple[pa.Table, dict[str, Any]]:
        """The K best items for every user of an event log, by the user's whole history in it.

        An item that the run has not seen in training says nothing, unless the run has
        `data.hash_buckets`: its events are left out. They are counted either way. A user who is
        left without events gets the list of a newcomer.

        Args:
          events: a file or folder, a pyarrow.Table or any object with `__arrow_c_stream__`, with
            the columns of the training log (a missing feedback column counts as unknown).
          k: list length.
          exclude_seen: items of the user's history are not listed; a user who has had nearly the
            whole catalogue then gets a shorter list.
          name: of the log, for error messages; by default its path, or `events`.

        Returns:
          (user_id, rank from 1, item_id, score float32 and, if the catalogue has titles, title,
          ordered by user and rank; counts: `users`, `users_without_history`, `events`,
          `events_on_unknown_items`, `short_lists`, `repairs`).

        Raises:
          ConfigError: K is below 1 or above the number of items.
          DataError: unusable events; it names column and row.
          ModelError: a score is not finite.
        """
        catalogue = self.trained.catalogue
        items = catalogue.num_rows - 1
        if not 1 <= k <= items:
            raise ConfigError(f"k = {k}: the catalogue has {items} items, ask for 1 to {items}")
        table, found_name = as_events(events)
        histories = build_histories(table, catalogue, name or found_name)
        blocks = self._top_blocks(histories, k, exclude_seen)
        row_UK, score_UK = (np.concatenate(part) for part in zip(*blocks, strict=True))
        listed_UK = np.isfinite(score_UK)
        row_L = row_UK[listed_UK]
        columns = {
            "user_id": np.repeat(histories.user_ids, listed_UK.sum(axis=1)),
            "rank": np.broadcast_to(np.arange(1, k + 1, dtype=np.int32), row_UK.shape)[listed_UK],
            "item_id": catalogue.ids(row_L),
            "score": score_UK[listed_UK],
        }
        if catalogue.titles is not None:
            columns["title"] = catalogue.titles[row_L]
        short = int(np.sum(~listed_UK.all(axis=1)))
        return pa.table(columns), histories.report | {"short_lists": short}

    def _top_blocks(self, histories: Sequences, k: int, exclude_seen: bool) -> Any:
        """(catalogue rows (R, K), scores (R, K), −inf where the list has ended), block by block."""
        trained, users = self.trained, len(histories.user_ids)
        lists = list_function(trained.model, trained.mesh, k)
        # One shape of power-of-two size for all blocks, so that few programs are compiled.
        size = min(trained.config.eval.users_per_block, 1 << (users - 1).bit_length())
        for start in range(0, users, size):
            stop = min(start + size, users)
            user_R = np.minimum(np.arange(start, start + size), users - 1)
            end_R = histories.offsets_U1[user_R + 1]
            batch = history_batch(histories, end_R, user_R, trained.config.eval.history)
            excluded_RH = np.zeros((size, 0), np.int32)
            if exclude_seen:
                excluded_RH = padded_history_items(histories, user_R, end_R)
            found = lists(trained.state["dense"], self._tables, batch, excluded_RH)
            row_RK, score_RK = (np.asarray(x)[: stop - start] for x in found)
            if not (score_RK < np.inf).all():  # NaN neither
                raise ModelError(
                    f"the checkpoint of step {trained.step} gives scores that are not finite: "
                    "choose an earlier one, or train with a lower config.optimizer.learning_rate"
                )
            yield row_RK, score_RK
