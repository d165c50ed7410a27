"""How evenly shards are asked for rows: rows by popularity, at random, and spread.

  python -m benchmarks.placement --json=placement.json

Ids are drawn from a Zipf law; a device asks for the distinct ones of its draws. `imbalance` is the
rows asked of the fullest shard over the mean, `rounds` what the exchange then takes.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np

from negflax.data.catalogue import spread
from negflax.evaluate import format_table
from negflax.tables.all_to_all import capacity


def imbalance(rows_K: np.ndarray, num_rows: int, shards: int) -> tuple[float, int]:
    """(fullest shard over the mean, rounds) of one device's ids."""
    shard_rows = -(-num_rows // shards)
    asked_P = np.bincount(np.unique(rows_K) // shard_rows, minlength=shards)
    most = capacity(len(rows_K), shards)
    return asked_P.max() / asked_P.mean(), 1 << max(0, math.ceil(math.log2(asked_P.max() / most)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--ids", type=int, default=16_384, help="of a device in a step")
    parser.add_argument("--exponent", type=float, default=1.0, help="of the Zipf law")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", default="")
    args = parser.parse_args()
    weight_V = np.arange(1, args.items + 1) ** -args.exponent
    cumulative_V = np.cumsum(weight_V / weight_V.sum())
    place_V = np.empty(args.items, np.int64)
    place_V[spread(weight_V)] = np.arange(args.items)  # rank → row
    table = []
    for shards in (2, 8, 64):
        for order in ("by popularity", "at random", "spread"):
            found = []
            for seed in range(args.seeds):
                rng = np.random.default_rng(seed)
                rank_K = np.searchsorted(cumulative_V, rng.random(args.ids))
                rows_K = {
                    "by popularity": lambda rank_K=rank_K: rank_K,
                    "at random": lambda rank_K=rank_K, rng=rng: rng.permutation(args.items)[rank_K],
                    "spread": lambda rank_K=rank_K: place_V[rank_K],
                }[order]()
                found.append(imbalance(rows_K, args.items, shards))
            worst, rounds = np.max(found, axis=0)
            mean = float(np.mean([one for one, _ in found]))
            table.append(
                {
                    "shards": shards,
                    "rows": order,
                    "imbalance": mean,
                    "worst of seeds": float(worst),
                    "rounds": int(rounds),
                }
            )
    print(format_table(table))
    if args.json:
        Path(args.json).write_text(json.dumps({"settings": vars(args), "rows": table}, indent=1))


if __name__ == "__main__":
    main()
