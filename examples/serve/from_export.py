"""Serves an exported model with jax, numpy and faiss alone: copy this file, negflax is not needed.

  python -m launch.export --workdir=runs/mine --out=exported
  python examples/serve/from_export.py exported                  # the example of the report
  python examples/serve/from_export.py exported '[{"item_id": 17, "dislike": true}]'

Without faiss, or without an index in the export, every item is scored. So it is where the export
has a calibration (calibration.json), whose corrections are no part of the vectors in the index.
"""

import hashlib
import json
import math
import sys
import zlib
from pathlib import Path

import numpy as np

VERSION = 2
BITS = ("dislike", "dismissal")
NUMBERS = ("dwell_ms", "duration_ms", "timestamp_ms", "surface")
# Further columns of a log, which say nothing here.
OTHERS = (
    *("item_id", "user_id", "skip", "like", "random_exposure", "rating", "reward", "pos"),
    *("creator_id", "cluster_ids", "propensity", "reason", "split"),
)

# What is counted of a user's events by cluster and by creator; calibration.json explains it.
STATISTICS = (
    "seen",
    "dislike",
    "dismissal",
    "skip",
    "long_view",
    "enjoyed",
    "last_seen",
    "last_dislike",
)
YES, SHORT, LONG, WHOLE = 2, 8, 13, 12  # codes of a bit, of 3 s, of 18 s and of a whole view


def tally(stats, code, number):
    """Counts one event, the user's `number`-th, by its codes."""
    long_view = code["dwell"] >= LONG or code["watch_ratio"] >= WHOLE
    disliked = code["dislike"] == YES
    stats["seen"] += 1
    stats["dislike"] += disliked
    stats["dismissal"] += code["dismissal"] == YES
    stats["skip"] += 0 < code["dwell"] < SHORT
    stats["long_view"] += long_view
    stats["enjoyed"] += long_view and not disliked
    stats["last_seen"] = number
    if disliked:
        stats["last_dislike"] = number


def kind_bias(values, stats, events, scales):
    """What is added to the scores of a cluster or creator with these statistics."""
    dislikes = min(stats["dislike"], scales["cap"])
    last = stats["last_dislike"]
    features = {
        "seen": math.log1p(stats["seen"]),
        "recent": scales["decay"] ** (events - stats["last_seen"]),
        "enjoyed": math.log1p(stats["enjoyed"]),
        "skipped": math.log1p(stats["skip"]),
        "dislike": dislikes,
        "recent_dislike": scales["decay"] ** (events - last) if last else 0.0,
        "rate": stats["dislike"] / (stats["seen"] + scales["prior_seen"]),
    }
    total = sum(values.get(name, 0.0) * feature for name, feature in features.items())
    evidence = {
        "dislike": dislikes,
        "dismissal": min(stats["dismissal"], scales["cap"]),
        "skip": stats["skip"],
        "long_view": stats["long_view"],
        "other": stats["seen"] - stats["skip"] - stats["long_view"],
    }
    for belief in ("disinterest", "aversion"):
        prior = values.get(f"{belief}/prior", 0.0)
        odds = prior + sum(values.get(f"{belief}/{name}", 0.0) * x for name, x in evidence.items())
        strength = values.get(f"{belief}/strength", 0.0)
        for x, sign in ((odds, -1), (prior, 1)):
            total += sign * (np.logaddexp(0, x + strength) - np.logaddexp(0, x))
    return total


class ExportError(ValueError):
    """The folder is no whole export that this file can read."""


class ExportedModel:
    """An exported model: `state(events)`, `step(event, …)` and `recommend(state, k)`."""

    def __init__(self, folder, index=True):
        """Reads and checks the files.

        Raises:
          ExportError: a file is missing or damaged, of another version, or not finite.
        """
        self.folder = Path(folder)
        try:
            self.manifest = json.loads((self.folder / "manifest.json").read_text())
        except (OSError, ValueError) as error:
            raise ExportError(f"{folder} holds no export: write one by launch.export") from error
        if not isinstance(self.manifest, dict):
            raise ExportError(f"{folder}/manifest.json is damaged: export the run again")
        if self.manifest.get("version") != VERSION:
            raise ExportError(
                f"{folder}: export of version {self.manifest.get('version')}, this file reads "
                f"version {VERSION}: use examples/serve/from_export.py of the same negflax version"
            )
        for name, said in self.manifest["files"].items():
            path = self.folder / name
            if not path.exists():
                raise ExportError(f"{path} is missing: export the run again")
            if hashlib.sha256(path.read_bytes()).hexdigest() != said["sha256"]:
                raise ExportError(f"{path} is damaged (its SHA-256 differs): export the run again")
        self.items = json.loads((self.folder / "vocabulary.json").read_text())
        self.features = json.loads((self.folder / "features.json").read_text())
        self.row = {str(item): i + 1 for i, item in enumerate(self.items["item_ids"])}
        with np.load(self.folder / "weights.npz", allow_pickle=False) as weights:
            self.weights = {name: weights[name] for name in weights.files}
        for name, array in self.weights.items():
            if not np.isfinite(array).all():
                raise ExportError(f"weights.npz: {name} holds NaN or infinity")
        self.calibration = None
        if "calibration.json" in self.manifest["files"]:
            self.calibration = json.loads((self.folder / "calibration.json").read_text())
        self._programs = {}
        self.index = self._index() if index else None
        self._vectors = None

    def _index(self):
        try:
            import faiss
        except ImportError:
            return None
        path = self.folder / "index.faiss"
        return faiss.read_index(str(path)) if "index.faiss" in self.manifest["files"] else None

    def call(self, name, *arguments):
        """Runs a program of the export, such as `history_batch`."""
        if name not in self._programs:
            from jax import export

            data = (self.folder / f"{name}.jaxexport").read_bytes()
            self._programs[name] = export.deserialize(bytearray(data)).call
        return self._programs[name](self.weights, *arguments)

    def codes(self, event, before_ms=None):
        """An event as int32 codes in the order of features.json; None for an unknown item.

        Raises:
          ExportError: the event has no item_id, an unknown field, or a value that its field cannot
            have.
        """
        if not isinstance(event, dict) or event.get("item_id") is None:
            raise ExportError(f"{event!r} is no event: give an object with an item_id")
        if isinstance(event["item_id"], bool) or not isinstance(event["item_id"], int | str):
            raise ExportError(f"event: item_id = {event['item_id']!r}: give an integer or a text")
        for name in event:
            if name not in (*BITS, *NUMBERS, *OTHERS) and not str(name).endswith("_at_ms"):
                known = ", ".join((*BITS, *NUMBERS))
                raise ExportError(f"event: no such field: {name}; this file reads {known}")
        for name in BITS:
            if event.get(name) not in (None, False, True):  # 0 and 1 are equal to them
                raise ExportError(f"event: {name} = {event[name]!r}: give true, false or null")
        for name in NUMBERS:
            value = event.get(name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and math.isfinite(value)):
                raise ExportError(f"event: {name} = {value!r}: give a finite number or null")
            if value is not None and value < 0 and name != "surface":
                raise ExportError(f"event: {name} = {value!r}: give a number of at least 0")
        row = self.row.get(str(event["item_id"]), 0)
        told = row
        if not row:
            if not self.items["bucket_rows"]:
                return None
            hashed = zlib.crc32(str(event["item_id"]).encode()) % self.items["bucket_rows"]
            told = self.items["first_bucket_row"] + hashed
        duration = event.get("duration_ms")
        if duration is None and row and self.items["duration_ms"]:
            duration = self.items["duration_ms"][row - 1]
        dwell, time_ms = event.get("dwell_ms"), event.get("timestamp_ms")
        values = {"dwell_ms": dwell, "surface": event.get("surface")}
        values["dislike"], values["dismissal"] = event.get("dislike"), event.get("dismissal")
        if dwell is not None and duration:
            values["dwell_ms / duration_ms"] = dwell / duration
        if time_ms is not None and before_ms is not None and time_ms >= before_ms:
            values["seconds since the event before"] = (time_ms - before_ms) / 1000
        found = []
        for column in self.features["columns"]:
            rule = self.features["rules"][column]
            value = values.get(rule.get("of"))
            if rule["kind"] == "row":
                code = told
            elif rule["kind"] == "item":
                code = self.items[rule["of"]][row - 1] if row else 0
            elif value is None:
                code = 0
            elif rule["kind"] == "bit":
                code = 2 if value else 1
            elif rule["kind"] == "bucket":
                code = 1 + int(np.searchsorted(rule["edges"], value, side="right"))
            else:
                code = 1 + (int(value) if 0 <= value < rule["below"] else rule["below"])
            found.append(code)
        return np.array(found, np.int32)

    def newest(self, events):
        """(codes of the newest known events, as many as are read; time of the last one)."""
        known, before = [], None
        for event in events:
            codes = self.codes(event, before)
            if codes is not None:
                known.append(codes)
                before = event.get("timestamp_ms")
        return known[-self.manifest["history"] :], before

    def state(self, events):
        """(state (D,), carry, time of the last event) after a user's whole history."""
        steps, columns = self.manifest["history"], len(self.features["columns"])
        newest, before = self.newest(events)
        history = np.zeros((1, steps, columns), np.int32)
        if newest:
            history[0, steps - len(newest) :] = newest
        states, carry = self.call("history", history, np.array([len(newest)], np.int32))
        return np.asarray(states)[0], carry, before

    def step(self, event, carry, before_ms=None):
        """(state (D,), carry) one event later; an unknown item changes nothing: None."""
        codes = self.codes(event, before_ms)
        if codes is None:
            return None
        states, carry = self.call("step", codes[None], carry)
        return np.asarray(states)[0], carry

    def correction(self, events):
        """(items,) what the calibration adds to the scores after these events; None without one."""
        if self.calibration is None:
            return None
        codes = [codes for codes in map(self.codes, events) if codes is not None]
        column = {name: i for i, name in enumerate(self.features["columns"])}
        total = np.zeros(self.manifest["items"], np.float32)
        for kind, values in self.calibration["values"].items():
            counts = {}
            for number, event in enumerate(codes, 1):
                code = {name: int(event[i]) for name, i in column.items()}
                if code[kind]:
                    tally(counts.setdefault(code[kind], dict.fromkeys(STATISTICS, 0)), code, number)
            bias = {
                one: kind_bias(values, stats, len(codes), self.calibration["scales"])
                for one, stats in counts.items()
            }
            total += np.array([bias.get(one, 0) for one in self.items[kind]], np.float32)
        return total

    def recommend(self, state, k=10, exclude=(), added=None):
        """[(item id, score)] of the k best items, `exclude` (ids) left out.

        Args:
          state: of `state` or `step`.
          k: length of the list.
          exclude: ids.
          added: what `correction` gave; without it, a calibration is not used.

        Raises:
          ExportError: the state has another width or is not finite, or k is no whole number from 1
            to the number of items.
        """
        items, width = self.manifest["items"], self.manifest["width"]
        if np.shape(state) != (width,):
            raise ExportError(f"a state of shape {np.shape(state)}: this model has ({width},)")
        if not isinstance(k, int) or not 1 <= k <= items:
            raise ExportError(f"k = {k}: the catalogue has {items} items; ask for 1 to {items}")
        if not np.isfinite(state).all():
            raise ExportError("the state is not finite")
        query = np.append(state, 1).astype(np.float32)[None]
        left_out = {self.row[str(item)] - 1 for item in exclude if str(item) in self.row}
        if self.index is not None and added is None:
            scores, places = self.index.search(query, min(items, k + len(left_out)))
            scores, places = scores[0], places[0]
        else:
            score_I = self.vectors @ query[0] + (0 if added is None else added)
            places = np.argsort(-score_I, kind="stable")
            scores = score_I[places]
        found = [
            (self.items["item_ids"][place], float(score))
            for place, score in zip(places.tolist(), scores, strict=True)
            if place >= 0 and place not in left_out and math.isfinite(score)
        ]
        return found[:k]

    @property
    def vectors(self):
        """(items, D + 1) from the Parquet file; needs pyarrow."""
        if self._vectors is None:
            import pyarrow.parquet as pq

            column = pq.read_table(self.folder / "items.parquet")["vector"].combine_chunks()
            self._vectors = column.flatten().to_numpy().reshape(len(column), -1)
            if not np.isfinite(self._vectors).all():
                raise ExportError("items.parquet: a vector holds NaN or infinity")
        return self._vectors


def main(folder, events=None, reader=ExportedModel):
    """Prints a list for the events, or compares the example of the report."""
    model = reader(folder)
    example = json.loads((Path(folder) / "report.json").read_text())["example"]
    try:
        asked = example["events"] if events is None else json.loads(events)
    except ValueError as error:
        raise ExportError(f"the events are no JSON: {error}") from error
    if not isinstance(asked, list):
        raise ExportError('the events are no list, as in [{"item_id": 17, "dislike": true}]')
    state, _, _ = model.state(asked)
    found = model.recommend(state, len(example["items"]), added=model.correction(asked))
    for item, score in found:
        print(f"{item}\t{score:.4f}")
    if events is None:
        same = [item for item, _ in found] == example["items"]
        print("the list of the report" if same else f"the report has {example['items']}")
        return 0 if same else 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:3]))
    except ExportError as error:
        sys.exit(f"ExportError: {error}")
