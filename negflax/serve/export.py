"""A checkpoint as files that serve without negflax: programs, item vectors, rules, an index.

Shapes: B users, T steps of a history, F codes of an event, D width, V catalogue rows.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jax import export as jax_export

import negflax
from negflax.config import ConfigError
from negflax.files import write_arrays, write_json
from negflax.model.recommender import TABLE_FEATURES
from negflax.serve import export_format as names
from negflax.serve.export_format import calibration_json, features_json, vocabulary_json
from negflax.serve.index import build_index, faiss
from negflax.serve.list_table import cluster_names
from negflax.serve.one_event import CODES, batch_like
from negflax.serve.onnx_step import require_onnx, write_onnx
from negflax.serve.trained import TrainedRecommender

SAMPLE_USERS, SAMPLE_EVENTS = 200, 20  # made-up histories that recall is measured on


class Programs:
    """The encoder as functions of plain arrays, ready for `jax.export`."""

    def __init__(self, recommender: TrainedRecommender):
        """The recommender whose encoder it is."""
        self._model = recommender.trained.model
        read = {"item", *TABLE_FEATURES}  # not the output vectors of an untied model
        tables = {name: x for name, x in recommender.lists.tables.items() if name in read}
        parts = {"dense": recommender.trained.state["dense"], "tables": tables}
        parts = jax.tree.map(np.asarray, jax.device_get(parts))
        leaves, self._tree = jax.tree_util.tree_flatten_with_path(parts)
        self._names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
        self.weights = dict(zip(self._names, (x for _, x in leaves), strict=True))
        self._carry = recommender.encoding.newcomer.last

    def carry(self, users: Any) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Shapes of what the encoder carries."""
        leaves = jax.tree.leaves(self._carry)
        return tuple(jax.ShapeDtypeStruct((users, *x.shape[1:]), x.dtype) for x in leaves)

    def history(self, weights: Any, codes_BTF: jax.Array, count_B: jax.Array) -> Any:
        """(states (B, D), carry) of whole histories."""
        users, steps, _ = codes_BTF.shape
        padding_BT = jnp.arange(steps) < steps - count_B[:, None]
        reset_BT = padding_BT.at[:, 0].set(True)
        codes_BTF = jnp.where(padding_BT[:, :, None], 0, codes_BTF)
        nothing = tuple(jnp.zeros(x.shape, x.dtype) for x in self.carry(users))
        return self._read(weights, codes_BTF, reset_BT, nothing)

    def step(self, weights: Any, codes_BF: jax.Array, carry: tuple[jax.Array, ...]) -> Any:
        """(states (B, D), carry) one event later."""
        codes_B1F = codes_BF[:, None]
        return self._read(weights, codes_B1F, jnp.zeros(codes_B1F.shape[:2], bool), carry)

    def _read(self, weights: Any, codes_BTF: Any, reset_BT: Any, carry: Any) -> Any:
        parts = jax.tree.unflatten(self._tree, [weights[name] for name in self._names])
        batch = batch_like(codes_BTF, reset_BT, jnp)
        vectors = {
            use: parts["tables"][name]["rows"][ids]
            for name, uses in self._model.lookups(batch, None).items()
            for use, ids in uses.items()
            if use != "label"
        }
        start = jax.tree.unflatten(jax.tree.structure(self._carry), carry) if carry else None
        states_BTD, last = self._model.states(parts["dense"], vectors, batch, start=start)
        return states_BTD[:, -1].astype(jnp.float32), tuple(jax.tree.leaves(last))


def write_export(
    recommender: TrainedRecommender,
    out: str | Path,
    *,
    platforms: tuple[str, ...] = names.PLATFORMS,
    index: bool = True,
    onnx: bool = False,
) -> dict[str, Any]:
    """Writes all files of an export; the manifest comes last, so that half an export is none.

    Args:
      recommender: of the checkpoint; its `history` is T.
      out: folder.
      platforms: of the programs.
      index: with an index, which needs faiss.
      onnx: with the step as ONNX too, which needs jax2onnx.

    Returns:
      The report.

    Raises:
      ConfigError: a package of the extra `serve` or `onnx` is not installed, or the model reads the
        time of requests.
    """
    if importlib.util.find_spec("flatbuffers") is None:  # what jax.export serialises by
        raise ConfigError("an export needs flatbuffers: pip install 'negflax[serve]'")
    out, trained = Path(out), recommender.trained
    if trained.config.model.request:
        raise ConfigError(
            "an export cannot be told the time of a request yet: serve the run with negflax, or "
            "train with config.model.request = ()"
        )
    if onnx:
        require_onnx(recommender)
    out.mkdir(parents=True, exist_ok=True)
    (out / names.MANIFEST).unlink(missing_ok=True)
    programs = Programs(recommender)
    written = _write_programs(programs, out, recommender, platforms)
    if onnx:
        written += write_onnx(out, programs, recommender)
    write_arrays(out / names.WEIGHTS, programs.weights)
    vectors_ID = item_vectors(recommender)
    _write_items(out / names.ITEMS, recommender, vectors_ID)
    write_json(out / names.VOCABULARY, vocabulary_json(trained.catalogue))
    write_json(out / names.FEATURES, features_json())
    (out / names.CALIBRATION).unlink(missing_ok=True)
    if trained.calibration is not None:
        write_json(out / names.CALIBRATION, calibration_json(trained.calibration))
        written.append(names.CALIBRATION)
    for name, schema in names.SCHEMAS.items():
        write_json(out / name.replace(".json", ".schema.json"), schema)
    report = {"example": example(recommender)}
    if index:
        built = build_index(vectors_ID, sample_states(recommender))
        faiss().write_index(built.index, str(out / names.INDEX))
        said = {"kind": built.kind, "probes": getattr(built.index, "nprobe", None)}
        report["index"] = said | {f"recall@{built.k}": built.recall, "users": built.measured_on}
        written.append(names.INDEX)
    write_json(out / names.REPORT, report)
    written += [names.WEIGHTS, names.ITEMS, names.VOCABULARY, names.FEATURES, names.REPORT]
    manifest = {
        "version": names.VERSION,
        "negflax": negflax.__version__,
        "jax": jax.__version__,
        "model": recommender.fingerprint,
        "step": trained.step,
        "encoder": trained.config.model.encoder,
        "history": recommender.history,
        "width": trained.config.model.embedding,
        "items": trained.catalogue.num_rows - 1,
        "goes_on": recommender.encoding.goes_on,
        "platforms": list(platforms),
        "files": {name: _described(out / name) for name in written},
    }
    write_json(out / names.MANIFEST, manifest)
    return report


def _write_programs(
    programs: Programs, out: Path, recommender: TrainedRecommender, platforms: tuple[str, ...]
) -> list[str]:
    weights = {k: jax.ShapeDtypeStruct(x.shape, x.dtype) for k, x in programs.weights.items()}
    steps, written = recommender.history, []
    for suffix, (users,) in (("", (1,)), ("_batch", jax_export.symbolic_shape("b"))):
        codes = jax.ShapeDtypeStruct((users, steps, len(CODES)), jnp.int32)
        count = jax.ShapeDtypeStruct((users,), jnp.int32)
        calls = {names.HISTORY: (programs.history, (codes, count))}
        if recommender.encoding.goes_on:
            codes = jax.ShapeDtypeStruct((users, len(CODES)), jnp.int32)
            calls[names.STEP] = (programs.step, (codes, programs.carry(users)))
        for name, (function, arguments) in calls.items():
            made = jax_export.export(jax.jit(function), platforms=platforms)(weights, *arguments)
            file = f"{name}{suffix}{names.PROGRAM}"
            (out / file).write_bytes(made.serialize())
            written.append(file)
    return written


def item_vectors(recommender: TrainedRecommender) -> np.ndarray:
    """(V − 1, D + 1) float32 vectors of the items; the last column is the bias, 0 without one."""
    model = recommender.trained.model
    rows = recommender.lists.tables[model.output_table]["rows"]
    rows = np.asarray(rows[1 : model.num_rows], np.float32)
    width = model.config.embedding
    bias_V = rows[:, width:] if model.config.item_bias else np.zeros((len(rows), 1), np.float32)
    return np.ascontiguousarray(np.hstack([rows[:, :width], bias_V]))


def _write_items(path: Path, recommender: TrainedRecommender, vectors_ID: np.ndarray) -> None:
    catalogue = recommender.trained.catalogue
    rows = np.arange(1, catalogue.num_rows)
    flat = pa.array(vectors_ID.reshape(-1), pa.float32())
    columns: dict[str, Any] = {
        "item_id": catalogue.item_ids,
        "vector": pa.FixedSizeListArray.from_arrays(flat, vectors_ID.shape[1]),
    }
    if catalogue.titles is not None:
        columns["title"] = catalogue.titles[1:]
    if catalogue.creator_ids is not None and len(catalogue.creator_ids):
        known = np.append("", catalogue.creator_ids.astype(str))
        columns["creator"] = known[catalogue.creator_V[1:]]
    if catalogue.cluster_ids is not None and len(catalogue.cluster_ids):
        columns["clusters"] = [x.split("|") if x else [] for x in cluster_names(catalogue, rows)]
    pq.write_table(pa.table(columns), path)


def sample_states(recommender: TrainedRecommender) -> np.ndarray:
    """(R, D + 1) states of made-up users, whose items are drawn as often as in training."""
    catalogue, rng = recommender.trained.catalogue, np.random.default_rng(0)
    count_V = np.maximum(catalogue.train_count_V[1:], 0) + 1e-9
    share_V = count_V / count_V.sum()
    drawn = rng.choice(len(share_V), (SAMPLE_USERS, SAMPLE_EVENTS), p=share_V) + 1
    steps = min(recommender.history, SAMPLE_EVENTS)
    codes_RTF = np.zeros((SAMPLE_USERS, steps, len(CODES)), np.int32)
    codes_RTF[:, :, 0] = drawn[:, :steps]
    codes_RTF[:, :, CODES.index("creator")] = catalogue.creator_V[drawn[:, :steps]]
    codes_RTF[:, :, CODES.index("cluster")] = catalogue.clusters_VC[drawn[:, :steps], 0]
    reset_RT = np.zeros((SAMPLE_USERS, steps), bool)
    reset_RT[:, 0] = True
    states_RD, _ = recommender.encoding(batch_like(codes_RTF, reset_RT, np))
    return np.pad(np.asarray(states_RD, np.float32), ((0, 0), (0, 1)), constant_values=1)


def example(recommender: TrainedRecommender, k: int = 5) -> dict[str, Any]:
    """A few events of a user, and the list after them, to check a reader of the export with."""
    catalogue = recommender.trained.catalogue
    best = 1 + np.argsort(-catalogue.train_count_V[1:], kind="stable")[:3]
    session, events = recommender.session(), []
    for i, item in enumerate(catalogue.ids(best).tolist()):
        time_ms = 1_700_000_000_000 + 90_000 * i
        events.append({"item_id": item, "timestamp_ms": time_ms, "dislike": i == 1})
        session.add(events[-1])
    found = session.recommend(min(k, catalogue.num_rows - 1), exclude_seen=False)
    scores = [score if math.isfinite(score) else None for score in found["score"].to_pylist()]
    return {"events": events, "items": found["item_id"].to_pylist(), "scores": scores}


def _described(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}
