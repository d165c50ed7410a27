"""The states of a run's training and validation events that have a label, and the candidates.

Shapes: B rows, T steps, N labelled states, L labels a state, S candidates, D width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from negflax import tables
from negflax.config import CalibrationConfig, ConfigError
from negflax.data import SPLITS, Batch, Sequences, StreamBatches
from negflax.loss import candidates as sampling
from negflax.mesh import COPIED, SPLIT, exact_products, to_host
from negflax.train.restore import Trained, scored_tables

VALID = SPLITS.index("valid")
USERS = 5  # without a validation period, one user in five is held out


class LabelledStates(NamedTuple):
    """N states on the host.

    Attributes:
      states_ND: states.
      event_N: the event that each predicts next, absolute.
      ids_NL: rows of the labels, −1 where absent.
      r_NL: weights of positive labels.
      w_NL: weights of negative labels, without the run's factor.
    """

    states_ND: np.ndarray
    event_N: np.ndarray
    ids_NL: np.ndarray
    r_NL: np.ndarray
    w_NL: np.ndarray

    def part(self, start: int, stop: int) -> LabelledStates:
        """States start to stop − 1."""
        return LabelledStates(*(x[start:stop] for x in self))


class ItemVectors(NamedTuple):
    """S items in the order of their kinds.

    Attributes:
      row_S: catalogue rows.
      vectors_SD: output vectors.
      bias_S: item bias − log q.
      kind_S: their clusters or creators, nondecreasing.
    """

    row_S: np.ndarray
    vectors_SD: np.ndarray
    bias_S: np.ndarray
    kind_S: np.ndarray


class Model:
    """A checkpoint as the fit reads it: states and item vectors, on the host.

    Attributes:
      trained: the checkpoint.
    """

    def __init__(self, trained: Trained):
        """Composes the tables."""
        self.trained = trained
        model, mesh = trained.model, trained.mesh

        def on_device(dense: Any, state_tables: Any, batch: Batch) -> jax.Array:
            vectors = {
                use: _gathered(state_tables[name]["rows"], ids)
                for name, uses in model.lookups(batch, None).items()
                for use, ids in uses.items()
                if use != "label"
            }
            with exact_products():
                return model.states(dense, vectors, batch)[0]

        def jitted(function: Any, specs: Any) -> Any:
            mapped = jax.shard_map(
                function, mesh=mesh, check_vma=False, in_specs=specs, out_specs=COPIED
            )
            return jax.jit(mapped)

        self._tables = scored_tables(model, trained.state)
        self._states = jitted(on_device, (COPIED, SPLIT, COPIED))
        self._gather = jitted(_gathered, (SPLIT, COPIED))

    def states(self, batch: Batch) -> np.ndarray:
        """(B, T, D) states after every step."""
        states = self._states(self.trained.state["dense"], self._tables, batch)
        return np.asarray(to_host(states), np.float32)

    def vectors(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(vectors (…, D), bias (…,)) of items, as scored."""
        table = self._tables[self.trained.model.output_table]["rows"]
        found = self._gather(table, jnp.asarray(rows, jnp.int32))
        vectors, bias = self.trained.model.output_vectors(found)
        return np.asarray(to_host(vectors), np.float32), np.asarray(to_host(bias), np.float32)

    def candidates(self, kind_V: np.ndarray, size: int) -> ItemVectors:
        """All items, or `size` drawn ones where training draws them."""
        loss, rows = self.trained.config.loss, self.trained.model.num_rows
        if loss.candidates == "full":
            row_S, log_q_S = np.arange(1, rows), np.zeros(rows - 1, np.float32)
        else:
            if loss.negative_candidates == "uncorrected":
                raise ConfigError(
                    "a run with config.loss.negative_candidates = 'uncorrected' cannot be "
                    "calibrated: its negative labels have a p within the sample only"
                )
            key = jax.random.key(0)
            if loss.candidates == "uniform":
                drawn = sampling.draw_uniform(key, rows, size)
            else:
                train_count_V = self.trained.catalogue.train_count_V
                drawn = sampling.draw_unigram(
                    key, sampling.unigram(train_count_V, loss.alpha), size
                )
            row_S, log_q_S = (np.asarray(x) for x in drawn)
        order_S = np.argsort(kind_V[row_S], kind="stable")
        row_S, log_q_S = row_S[order_S], log_q_S[order_S]
        vectors_SD, bias_S = self.vectors(row_S)
        return ItemVectors(row_S, vectors_SD, bias_S - log_q_S, kind_V[row_S])


def labelled_states(
    model: Model, sequences: Sequences, settings: CalibrationConfig
) -> tuple[LabelledStates, LabelledStates]:
    """(the states to fit on, the states to choose on), about `settings.labels` labels of each.

    Those to choose on are of the validation period, with the whole history before them; where there
    is none, of a fifth of the users.

    Raises:
      ConfigError: one of them has no label.
    """
    config = model.trained.config
    held_out = bool((sequences.split_E == VALID).any())
    splits = ("train", "valid") if held_out else ("train",)
    batches = StreamBatches.of(config, sequences, splits)
    parts: tuple[list[LabelledStates], ...] = ([], [])
    for i in range(batches.steps_per_epoch):
        have = [sum(int((x.ids_NL >= 0).sum()) for x in part) for part in parts]
        wants = [not settings.labels or one < settings.labels for one in have]
        if not any(wants):
            break
        batch, event_BT = batches.batch(i), batches.targets(i)
        weighs_BTL = batch.positive_weight_BTL + batch.negative_weight_BTL > 0
        ids_BTL = np.where(weighs_BTL & (batch.label_ids_BTL > 0), batch.label_ids_BTL, -1)
        labelled_BT = (event_BT >= 0) & (ids_BTL >= 0).any(axis=2)
        if held_out:
            out_BT = sequences.split_E[event_BT] == VALID
        else:
            out_BT = np.searchsorted(sequences.offsets_U1, event_BT, side="right") % USERS == 0
        chosen = [labelled_BT & ~out_BT & wants[0], labelled_BT & out_BT & wants[1]]
        if not (chosen[0] | chosen[1]).any():
            continue
        columns = (
            model.states(batch),
            event_BT,
            ids_BTL.astype(np.int32),
            batch.positive_weight_BTL,
            batch.negative_weight_BTL,
        )
        for part, chosen_BT in zip(parts, chosen, strict=True):
            if chosen_BT.any():
                part.append(LabelledStates(*(x[chosen_BT] for x in columns)))
    for part, name in zip(parts, ("training", "validation"), strict=True):
        if not part:
            raise ConfigError(f"no {name} event has a label: there is nothing to calibrate on")
    fit, choose = (
        LabelledStates(*(np.concatenate(x) for x in zip(*part, strict=True))) for part in parts
    )
    return fit, choose


def _gathered(rows: jax.Array, ids: jax.Array) -> jax.Array:
    return tables.gather(rows, ids.reshape(-1)).reshape(*ids.shape, -1)
