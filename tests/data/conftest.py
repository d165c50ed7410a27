"""Small logs and sequences for the tests of negflax.data."""

import numpy as np
import pyarrow as pa
import pytest

from negflax.config import Config, DataConfig, LabelConfig
from negflax.data import Catalogue, Sequences


def _log(**columns):
    """An event log of 3 valid rows; keywords replace, add or (None) remove columns."""
    table = {"user_id": [1, 1, 2], "item_id": [10, 11, 10], "timestamp_ms": [5, 6, 7]} | columns
    return pa.table({k: v for k, v in table.items() if v is not None})


def _random_log(seed, users=12, items=9, longest=20):
    """A random log with every kind of feedback, nulls included, and a split column."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, longest + 1, users)
    num = int(lengths.sum())
    user = np.repeat(np.arange(users), lengths)
    place = np.arange(num) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    left = np.repeat(lengths, lengths) - place

    def some(values):
        return pa.array(values, mask=rng.random(num) < 0.3)

    return pa.table(
        {
            "user_id": user,
            "item_id": rng.integers(0, items, num),
            "timestamp_ms": some(1_000_000 + 60_000 * place + rng.integers(0, 60_000, num)),
            "pos": place,
            "split": np.select([left == 1, left == 2], ["test", "valid"], "train"),
            "long_view": some(rng.random(num) < 0.5),
            "dislike": some(rng.random(num) < 0.3),
            "skip": some(rng.random(num) < 0.4),
            "dwell_ms": some(rng.integers(0, 90_000, num)),
            "duration_ms": some(rng.integers(0, 60_000, num)),
            "surface": some(rng.integers(0, 40, num)),
        }
    )


def _config(split="column", positive=("long_view",), negative=("dislike", "skip"), **data):
    horizon = data.pop("horizon", 1)
    return Config(
        data=DataConfig(split=split, **data),
        labels=LabelConfig(positive=positive, negative=negative, horizon=horizon),
    )


def _sequences(train_lengths, held_out=0, seed=0, unlabelled=0.0):
    """Sequences whose event e has the item e + 1, so that an id names its event."""
    rng = np.random.default_rng(seed)
    train_U = np.asarray(train_lengths)
    length_U = train_U + held_out
    num = int(length_U.sum())
    offsets = np.append(0, np.cumsum(length_U))
    place = np.arange(num) - np.repeat(offsets[:-1], length_U)
    kind = rng.choice(3, num, p=[unlabelled, *[(1 - unlabelled) / 2] * 2])
    creators = np.append(0, rng.integers(0, 5, num)).astype(np.int32)
    return Sequences(
        catalogue=Catalogue(
            item_ids=np.arange(num),
            creator_V=creators,
            clusters_VC=np.stack([creators * 2, creators * 3], 1).astype(np.int32),
            train_count_V=np.zeros(num + 1, np.int64),
        ),
        user_ids=np.arange(len(length_U)),
        offsets_U1=offsets,
        item_E=np.arange(1, num + 1, dtype=np.int32),
        **{
            name: rng.integers(0, high, num).astype(np.uint8)
            for name, high in (
                ("dislike_E", 3),
                ("dwell_E", 26),
                ("watch_ratio_E", 17),
                ("gap_E", 24),
                ("surface_E", 32),
                ("dismissal_E", 3),
            )
        },
        time_E=np.full(num, -1),
        positive_weight_E=np.where(kind == 1, 1 + rng.random(num), 0).astype(np.float32),
        negative_weight_E=np.where(kind == 2, 1 + rng.random(num), 0).astype(np.float32),
        split_E=np.where(place < np.repeat(train_U, length_U), 0, 2).astype(np.uint8),
        report={},
    )


@pytest.fixture(scope="session")
def log():
    return _log


@pytest.fixture(scope="session")
def random_log():
    return _random_log


@pytest.fixture(scope="session")
def make_config():
    return _config


@pytest.fixture(scope="session")
def make_sequences():
    return _sequences
