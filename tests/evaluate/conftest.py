"""Tiny data sets for the evaluation tests."""

import numpy as np
import pytest

from negflax.data import SPLITS, Catalogue, Sequences
from negflax.evaluate import Queries


def build(users, num_items):
    """Sequences from one list a user of (item row, "+" | "-" | "", split)."""
    events = [event for user in users for event in user]
    item_E = np.array([item for item, _, _ in events], np.int32)
    zeros_V = np.zeros(num_items + 1, np.int64)
    blank_E = np.zeros(len(events), np.uint8)
    return Sequences(
        catalogue=Catalogue(
            np.arange(100, 100 + num_items), zeros_V.astype(np.int32), zeros_V[:, None], zeros_V
        ),
        user_ids=np.array([f"user{u}" for u in range(len(users))]),
        offsets_U1=np.cumsum([0] + [len(user) for user in users]),
        item_E=item_E,
        **dict.fromkeys(("dislike_E", "dwell_E", "watch_ratio_E", "gap_E", "surface_E"), blank_E),
        time_E=np.arange(len(events)),
        positive_weight_E=np.array([sign == "+" for _, sign, _ in events], np.float32),
        negative_weight_E=np.array([sign == "-" for _, sign, _ in events], np.float32),
        split_E=np.array([SPLITS.index(split) for _, _, split in events], np.uint8),
        report={},
    )


def ask(judged, num_items):
    """Queries without history from one (positives, negatives) pair of row lists a query."""
    sequences = build([[(1, "", "train")]] * len(judged), num_items)
    items = [[*sorted(positive), *sorted(negative)] for positive, negative in judged]
    signs = [[True] * len(positive) + [False] * len(negative) for positive, negative in judged]
    return sequences, Queries(
        user_R=np.arange(len(judged)),
        end_R=sequences.offsets_U1[:-1],
        judged_offsets_R1=np.cumsum([0] + [len(row) for row in items]),
        judged_item_J=np.array([item for row in items for item in row], np.int32),
        judged_positive_J=np.array([sign for row in signs for sign in row], bool),
    )


@pytest.fixture(scope="session")
def make_sequences():
    return build


@pytest.fixture(scope="session")
def make_queries():
    return ask


@pytest.fixture(scope="session")
def log():
    """300 users, 40 items, seeded at random: history, then a valid and a test window."""
    rng = np.random.default_rng(0)
    splits = ["train"] * 8 + ["valid"] * 3 + ["test"] * 4
    users = [
        [
            (int(rng.integers(1, 41)), "+-"[rng.integers(2)] if rng.random() < 0.7 else "", split)
            for split in splits[rng.integers(10) :]
        ]
        for _ in range(300)
    ]
    return build(users, 40)
