"""One random log, and every way to write it that means the same."""

import dataclasses
import gzip
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq
from hypothesis import strategies as st

DAY = 1_714_521_600_000
BITS_OF_A_LOG = ("bought", "returned", "dislike")


def logs(seed):
    """Events of 6 users on 8 items, some of them at one time, some of them twice."""
    rng, num = np.random.default_rng(seed), 60
    user = np.sort(rng.integers(0, 6, num))
    item = rng.integers(0, 8, num)
    stamp = DAY + 1000 * rng.permutation(num)
    returned = rng.random(num) < 0.4
    kind = rng.choice(["view", "purchase"], num)
    for row in range(0, num - 1, 7):  # what differs is what happened alone, or nothing at all
        user[row + 1], item[row + 1], stamp[row + 1] = user[row], item[row], stamp[row]
    return pa.table(
        {
            "user_id": user,
            "item_id": item,
            "timestamp_ms": stamp,
            "bought": kind == "purchase",
            "returned": returned,
            "dislike": rng.random(num) < 0.3,
            "returned_at_ms": pa.array(stamp + 5000, mask=~returned),
            "event": kind,
        }
    )


def change(table, name, function):
    place = table.column_names.index(name)
    return table.set_column(place, name, function(table[name].combine_chunks()))


def _iso(column):
    return pc.strftime(column.cast(pa.timestamp("ms")), "%Y-%m-%dT%H:%M:%SZ")


def _text(column):
    return column.cast(pa.string())


TIMES = {
    "integers": lambda c: c,
    "floats": lambda c: c.cast(pa.float64()),
    "unsigned": lambda c: c.cast(pa.uint64()),
    "decimals": lambda c: c.cast(pa.decimal128(24, 2)),
    "seconds": lambda c: c.cast(pa.timestamp("ms")).cast(pa.timestamp("s")),
    "nanoseconds": lambda c: c.cast(pa.timestamp("ms", "UTC")).cast(pa.timestamp("ns", "UTC")),
    "iso": _iso,
}
BITS = {
    "bool": lambda c: c,
    "integers": lambda c: c.cast(pa.int8()),
    "floats": lambda c: c.cast(pa.float32()),
    "halves": lambda c: c.cast(pa.uint8()).cast(pa.float16()),
    "words": lambda c: pc.if_else(c, "Y", "n"),
    "letters": lambda c: pc.if_else(c, " T", "F "),
    "dictionary": lambda c: pc.if_else(c, "true", "false").dictionary_encode(),
}
IDS = {
    "integers": lambda c: c,
    "small": lambda c: c.cast(pa.int16()),
    "floats": lambda c: c.cast(pa.float64()),
    "decimals": lambda c: c.cast(pa.decimal128(20, 0)),
    "text": _text,
    "text of floats": lambda c: pc.binary_join_element_wise(_text(c), "0", "."),
    "padded": lambda c: pc.binary_join_element_wise(" ", _text(c), " ", ""),
    "view": lambda c: _text(c).cast(pa.string_view()),
    "bytes": lambda c: _text(c).cast(pa.binary()),
}


def write(table, path, kind):
    """One file of the log; its name ends as its kind wants it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "parquet":
        return pq.write_table(table, f"{path}.parquet")
    views = [i for i, c in enumerate(table.columns) if pa.types.is_string_view(c.type)]
    halves = [i for i, c in enumerate(table.columns) if pa.types.is_float16(c.type)]
    for i in views + halves:
        plain = table.column(i).cast(pa.string() if i in views else pa.float32())
        table = table.set_column(i, table.column_names[i], plain)
    sink = io.BytesIO()
    csv.write_csv(table, sink)
    data = sink.getvalue()
    if kind == "gz":
        return Path(f"{path}.csv.gz").write_bytes(gzip.compress(data))
    if kind == "windows":
        data = b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")
    return Path(f"{path}.CSV").write_bytes(data)


ways = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["parquet", "csv", "gz", "windows"]),
        "time": st.sampled_from(sorted(TIMES)),
        "own_time": st.sampled_from(sorted(TIMES)),
        "bit": st.sampled_from(sorted(BITS)),
        "id": st.sampled_from(sorted(IDS)),
        "parts": st.integers(1, 4),
        "folders": st.booleans(),
        "extra": st.booleans(),
        "blanks": st.booleans(),
        "columns": st.permutations(range(8)),
        "users": st.permutations(range(6)),
    }
)


def rewritten(table, way):
    """The log as one table: other types, names with blanks, columns and users in another order.

    Events of a user at one time keep their order, which counts.
    """
    user_E = table["user_id"].to_numpy()
    table = table.take(np.argsort(np.array(way["users"])[user_E], kind="stable"))
    table = change(table, "timestamp_ms", TIMES[way["time"]])
    table = change(table, "returned_at_ms", TIMES[way["own_time"]])
    for name in BITS_OF_A_LOG:
        table = change(table, name, BITS[way["bit"]])
    for name in ("user_id", "item_id"):
        table = change(table, name, IDS[way["id"]])
    table = table.select([table.column_names[i] for i in way["columns"]])
    if way["extra"]:
        table = table.append_column("note", pa.array(["x"] * len(table)))
        table = table.append_column("cost", pa.array([float("nan")] * len(table)))
    if way["blanks"]:
        table = table.rename_columns([f" {name} " for name in table.column_names])
    return table


def written(table, way, folder):
    """The files of `rewritten` in a folder."""
    table = rewritten(table, way)
    size = -(-len(table) // way["parts"])
    for i in range(way["parts"]):
        place = folder / (f"day={i}" if way["folders"] else "") / str(i)
        write(table.slice(i * size, size), place, way["kind"])


def at_path(config, path):
    """The config with another log."""
    return dataclasses.replace(config, data=dataclasses.replace(config.data, path=str(path)))
