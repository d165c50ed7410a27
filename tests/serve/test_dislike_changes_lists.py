"""What serving is for here: after a dislike, the next list holds fewer items of its kind."""

import dataclasses
import random

import numpy as np
import pyarrow as pa
import pytest

import negflax
from negflax.config import event_log_defaults

KINDS, OF_A_KIND = 5, 12


def kind(item):
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


@pytest.fixture(scope="module")
def run(tmp_path_factory):
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
    return negflax.fit(log(), config, tmp_path_factory.mktemp("run") / "mine", test=False)


def test_the_share_of_its_kind_falls_at_once(run):
    before, liked, disliked = [], [], []
    for item in range(10, 10 + 3 * KINDS):
        session = run.session()
        for earlier in range(KINDS):  # one of each kind
            session.add({"item_id": earlier, "like": True, "dislike": False})

        def share(session, item=item):
            listed = session.recommend(10, exclude_seen=False)["item_id"].to_pylist()
            return np.mean([kind(other) == kind(item) for other in listed])

        other = run.session(state=session.to_bytes())
        before.append(share(session))
        session.add({"item_id": item, "like": True, "dislike": False})
        other.add({"item_id": item, "like": False, "dislike": True})
        liked.append(share(session))
        disliked.append(share(other))
    print(f"share of its kind: {np.mean(before):.2f} before, {np.mean(disliked):.2f} after")
    assert np.mean(before) > 0.12
    assert np.mean(disliked) < 0.5 * np.mean(before)
    assert np.mean(disliked) < 0.5 * np.mean(liked)
