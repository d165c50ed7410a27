"""A made-up log in which a dislike ends a kind of items, and a run that has learned this."""

import dataclasses
import random

import pyarrow as pa

import negflax
from negflax.config import event_log_defaults

KINDS, OF_A_KIND = 5, 12


def kind(item):
    """The kind of an item."""
    return int(item) % KINDS


def log(users=150, events=24):
    """Visits in which each kind comes up until the user dislikes it, and then never again."""
    draw, rows = random.Random(0), []
    for user in range(users):
        kinds = list(range(KINDS))
        for place in range(events):
            now = draw.choice(kinds)
            disliked = len(kinds) > 2 and draw.random() < 0.2
            item = KINDS * draw.randrange(OF_A_KIND) + now
            rows.append((user, item, place, not disliked, disliked))
            if disliked:
                kinds.remove(now)
    names = ("user_id", "item_id", "pos", "like", "dislike")
    return pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


def items():
    """Titles and kinds of the items."""
    ids = list(range(KINDS * OF_A_KIND))
    titles = [f"film {item}" for item in ids]
    return pa.table({"item_id": ids, "title": titles, "cluster_ids": [f"{kind(i)}" for i in ids]})


def trained_run(folder):
    """A small GRU, trained on the log."""
    changes = {
        "data": {"split": "user_fraction", "min_item_events": 1},
        "batch": {"rows": 16, "length": 24},
        "model": {"hidden": 24, "embedding": 24, "feature_dim": 8, "features": ("dislike",)},
        "loss": {"positives_only_steps": 50, "ramp_steps": 20},
        "optimizer": {"warmup_steps": 10, "learning_rate": 0.01, "table_learning_rate": 0.1},
        "train": {"steps": 250, "eval_every": 250, "checkpoint_every": 250},
        "eval": {"history": 32, "bootstrap": 0},
    }
    config = event_log_defaults(3_600)
    parts = {k: dataclasses.replace(getattr(config, k), **v) for k, v in changes.items()}
    config = dataclasses.replace(config, **parts)
    return negflax.fit(log(), config, folder, items=items(), test=False)
