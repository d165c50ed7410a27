"""The files of an exported model, and what their JSON holds. Version 2.

    manifest.json                 version, model, shapes, and size and SHA-256 of every other file
    history.jaxexport             (weights, codes (1, T, 9), count (1,)) → (states (1, D), carry)
    history_batch.jaxexport       the same for any number of users
    step.jaxexport                (weights, codes (1, 9), carry) → (states (1, D), carry)
    step_batch.jaxexport          the same for any number of users
    step.onnx, start.npz          with --onnx: see negflax/serve/onnx_step.py
    weights.npz                   the arrays that all of them take first, as a dict by name
    items.parquet                 item_id, vector (the bias last), title, creator, clusters
    vocabulary.json               ids and features of the items, in the order of the rows
    features.json                 how the fields of an event become codes
    calibration.json              correction of the scores by feedback counts, if the run has one
    index.faiss                   nearest neighbours; place i is item i
    report.json                   recall of the index, and an example with its list

`codes` are int32 in the order of `columns` in features.json; a history is right-aligned, and
`count` of its T steps are events. `carry` is a tuple of arrays. A score is the inner product of an
item's vector with a user's state to which a 1 was added; a calibration adds to it what its JSON
says. Version 1 had no calibration.
"""

from __future__ import annotations

from typing import Any

from negflax.calibration import Calibration, kind_counts
from negflax.calibration.stored_calibration import to_json
from negflax.data import Catalogue, features
from negflax.serve.one_event import CODES

VERSION = 2
MANIFEST, REPORT = "manifest.json", "report.json"
HISTORY, STEP = "history", "step"  # + "_batch" + PROGRAM
PROGRAM = ".jaxexport"
WEIGHTS, ITEMS, INDEX = "weights.npz", "items.parquet", "index.faiss"
VOCABULARY, FEATURES = "vocabulary.json", "features.json"
CALIBRATION = "calibration.json"
PLATFORMS = ("cpu", "cuda", "tpu")


def vocabulary_json(catalogue: Catalogue) -> dict[str, Any]:
    """What turns ids into rows, and what an item brings into the codes of its events."""
    duration_V = catalogue.duration_V
    return {
        "version": VERSION,
        "item_ids": catalogue.item_ids.tolist(),
        "creator": catalogue.creator_V[1:].tolist(),
        "cluster": catalogue.clusters_VC[1:, 0].tolist(),
        "duration_ms": None
        if duration_V is None
        else [None if x != x else x for x in duration_V[1:].tolist()],
        "titles": None if catalogue.titles is None else catalogue.titles[1:].tolist(),
        "first_bucket_row": catalogue.table_rows - catalogue.bucket_rows,
        "bucket_rows": catalogue.bucket_rows,
    }


def features_json() -> dict[str, Any]:
    """The rules of negflax/data/features.py."""

    def bucket(of: str, edges: Any) -> dict[str, Any]:
        return {"kind": "bucket", "of": of, "edges": [float(edge) for edge in edges]}

    rules = {
        "item_ids": {"kind": "row"},
        "dislike": {"kind": "bit", "of": "dislike"},
        "dwell": bucket("dwell_ms", features.DWELL_EDGES_MS),
        "watch_ratio": bucket("dwell_ms / duration_ms", features.WATCH_RATIO_EDGES),
        "gap": bucket("seconds since the event before", features.GAP_EDGES_S),
        "surface": {"kind": "number", "of": "surface", "below": features.SURFACES},
        "dismissal": {"kind": "bit", "of": "dismissal"},
        "creator": {"kind": "item", "of": "creator"},
        "cluster": {"kind": "item", "of": "cluster"},
    }
    return {
        "version": VERSION,
        "columns": list(CODES),
        "rules": {name: rules[name] for name in CODES},
        "meaning": {
            "row": "1 + the item's place in vocabulary.json. For an unknown item: first_bucket_row "
            "+ CRC-32 of the id as UTF-8 text mod bucket_rows, or, without buckets, the event is "
            "left out; its other item features are then 0",
            "bit": "0 unknown, 1 no, 2 yes",
            "bucket": "0 unknown, otherwise 1 + the number of edges at or below the value",
            "number": "0 unknown, otherwise 1 + the number; outside [0, below): 1 + below",
            "item": "the item's value in vocabulary.json, 0 for an unknown item",
        },
    }


def calibration_json(calibration: Calibration) -> dict[str, Any]:
    """The scalars, and how the statistics that they belong to come from the codes of events."""
    return to_json(calibration) | {
        "version": VERSION,
        "statistics": {
            "seen": "events on items of the kind, a cluster or a creator; kind 0 is not counted",
            "dislike": f"of them those with dislike = {kind_counts.YES}",
            "dismissal": f"those with dismissal = {kind_counts.YES}",
            "skip": f"those with 0 < dwell < {kind_counts.SHORT_DWELL}",
            "long_view": f"those with dwell >= {kind_counts.LONG_DWELL} or watch_ratio >= "
            f"{kind_counts.WHOLE}",
            "enjoyed": "long views without a dislike",
            "last_seen": "number, from 1, of the last of them among all of the user's events",
            "last_dislike": "number of the last one with a dislike, else 0",
        },
        "features": {
            "seen": "log(1 + seen)",
            "recent": "decay ** (number of events - last_seen)",
            "enjoyed": "log(1 + enjoyed)",
            "skipped": "log(1 + skip)",
            "dislike": "min(dislike, cap)",
            "recent_dislike": "decay ** (number of events - last_dislike), 0 without one",
            "rate": "dislike / (seen + prior_seen)",
            "BELIEF/…": "of disinterest or aversion: log-odds = prior + dislike * min(dislike, "
            "cap) + dismissal * min(dismissal, cap) + skip * skip + long_view * long_view + other "
            "* (seen - skip - long_view)",
        },
        "meaning": "to the score of an item is added, for its cluster and its creator, if the user "
        "has met it: the sum of value * feature, and for each belief g(prior) - g(log-odds), g(x) ="
        " log(1 + exp(x + strength)) - log(1 + exp(x)); a name without a value is left out",
    }


_NUMBERS = {"type": "array", "items": {"type": "integer", "minimum": 0}}
SCHEMAS: dict[str, dict[str, Any]] = {
    VOCABULARY: {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Items of an exported negflax model, in the order of their rows",
        "type": "object",
        "additionalProperties": False,
        "required": [
            "version",
            "item_ids",
            "creator",
            "cluster",
            "first_bucket_row",
            "bucket_rows",
        ],
        "properties": {
            "version": {"const": VERSION},
            "item_ids": {"type": "array", "items": {"type": ["integer", "string"]}},
            "creator": _NUMBERS,
            "cluster": _NUMBERS,
            "duration_ms": {"type": ["array", "null"], "items": {"type": ["number", "null"]}},
            "titles": {"type": ["array", "null"], "items": {"type": "string"}},
            "first_bucket_row": {"type": "integer", "minimum": 1},
            "bucket_rows": {"type": "integer", "minimum": 0},
        },
    },
    FEATURES: {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "How an event becomes codes for an exported negflax model",
        "type": "object",
        "required": ["version", "columns", "rules"],
        "properties": {
            "version": {"const": VERSION},
            "columns": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
            "rules": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "required": ["kind"],
                    "properties": {
                        "kind": {"enum": ["row", "bit", "bucket", "number", "item"]},
                        "of": {"type": "string"},
                        "edges": {"type": "array", "items": {"type": "number"}},
                        "below": {"type": "integer"},
                    },
                },
            },
        },
    },
}
