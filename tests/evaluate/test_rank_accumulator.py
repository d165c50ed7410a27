"""The catalogue in chunks: the same ranks, and never an array of users × catalogue."""

import dataclasses

import jax
import numpy as np
import pytest

from negflax.config import EvalConfig, MeshConfig, ModelConfig
from negflax.data import Catalogue
from negflax.evaluate import build_queries, default_baselines, protocol
from negflax.evaluate.baselines.filters import block_creator, drop_disliked
from negflax.evaluate.baselines.popularity import cached, rate_adjusted
from negflax.evaluate.calibration import calibrate
from negflax.evaluate.protocol import LazyScores, chunks
from negflax.evaluate.ranking import rank_scorers
from negflax.evaluate.scorer import column_function, model_scorer
from negflax.mesh import make_mesh, split
from negflax.model import Recommender
from negflax.tables import init_rows

USERS, CHUNKS = 64, (1, 3, 13, 39)  # queries of a block, rows of a chunk


def assert_same(found, expected):
    """Every field of every scorer and mode; probabilities up to the order of a float32 sum."""
    for key, ranks in found.items():
        for name, values in vars(ranks).items():
            other = getattr(expected[key], name)
            if name.startswith("log"):
                np.testing.assert_allclose(values, other, rtol=1e-5, atol=1e-8)
            else:
                np.testing.assert_array_equal(values, other, f"{key} {name}")


@pytest.fixture(scope="module")
def disliked(log):
    """The log with creators, and negatives that are explicit dislikes."""
    creator_V = (np.arange(41) % 7).astype(np.int32)
    return dataclasses.replace(
        log,
        catalogue=dataclasses.replace(log.catalogue, creator_V=creator_V),
        dislike_E=np.where(log.negative_weight_E > 0, 2, 1).astype(np.uint8),
    )


@pytest.mark.parametrize("rows", CHUNKS)
def test_chunks_change_no_rank(disliked, rows, monkeypatch):
    scores = np.random.default_rng(0).integers(-3, 4, (300, 41)).astype(np.float32)
    base = cached(lambda block: scores[block.user_R])
    scorers = default_baselines(disliked, ("train",), 0) | {
        "model": base,
        "rate": rate_adjusted(base, disliked, ("train",), 1.0),
        "drop": drop_disliked(base, disliked),
        "block": block_creator(base, disliked),
    }
    queries = build_queries(disliked, "test")
    arguments = scorers, queries, disliked, (True, False), USERS, 25
    expected = rank_scorers(*arguments)
    monkeypatch.setattr(protocol, "SCORES_ALIVE", rows * USERS)
    assert_same(rank_scorers(*arguments), expected)


def test_chunks_change_no_calibration(log, monkeypatch):
    scores = np.random.default_rng(0).normal(size=(300, 41)) * 3
    arguments = (
        lambda block: scores[block.user_R],
        build_queries(log, "test"),
        EvalConfig(bootstrap=20),
    )
    expected = calibrate(*arguments)
    monkeypatch.setattr(protocol, "SCORES_ALIVE", 7 * 256)
    found = calibrate(*arguments)
    assert sum(map(len, found.values())) > 4
    for sign, bins in found.items():
        for one, other in zip(bins, expected[sign], strict=True):
            assert dataclasses.astuple(one) == pytest.approx(dataclasses.astuple(other))


def tiny_model(items, bias=True):
    blank_V = np.zeros(items + 1, np.int64)
    catalogue = Catalogue(np.arange(items), blank_V.astype(np.int32), blank_V[:, None], blank_V)
    config = ModelConfig(hidden=8, embedding=8, item_bias=bias, features=("dislike",))
    return Recommender(config, catalogue)


@pytest.mark.parametrize("devices", [1, 8])
def test_model_in_chunks_on_any_devices(log, devices, monkeypatch):
    """Against the whole array of scores, ranked at once."""
    model, mesh = tiny_model(40), make_mesh(MeshConfig(), jax.devices()[:devices])
    tables = {
        name: {"rows": init_rows(jax.random.key(7), spec, mesh, "float32")}
        for name, spec in model.tables.items()
    }
    rows = np.array(tables[model.output_table]["rows"])
    rows[20] = rows[3]  # a tie of two items in different chunks
    tables[model.output_table]["rows"] = jax.device_put(rows, split(mesh))
    state = {"dense": model.init_dense(jax.random.key(1)), "tables": tables}
    scorer = model_scorer(model, state, log, mesh, 6)
    queries = build_queries(log, "test", max_users=50)
    dense_RV = np.array(scorer(queries))
    dense_RV[:, 20] = dense_RV[:, 3]
    users = {(u, e): r for r, (u, e) in enumerate(zip(queries.user_R, queries.end_R, strict=True))}
    lookup = lambda block: dense_RV[[users[pair] for pair in zip(block.user_R, block.end_R)]]  # noqa: E731, B905
    expected = rank_scorers({"model": lookup}, queries, log, (True, False), 32, 10)
    monkeypatch.setattr(protocol, "SCORES_ALIVE", 7 * 32)
    assert_same(rank_scorers({"model": scorer}, queries, log, (True, False), 32, 10), expected)


@pytest.mark.parametrize("devices", [1, 8])
def test_memory_is_that_of_a_chunk(devices):
    """Ten million rows, 256 users: the program holds a chunk of scores and of rows."""
    width, users, items = 32_768, 256, 10_000_000
    mesh = make_mesh(MeshConfig(), jax.devices()[:devices])
    shapes = (users, 8), (items, 9), ()
    dtypes = np.float32, np.float32, np.int32
    asked = (jax.ShapeDtypeStruct(*x) for x in zip(shapes, dtypes, strict=True))
    compiled = column_function(tiny_model(3), mesh, width).lower(*asked).compile()
    analysis = compiled.memory_analysis()
    bytes_ = analysis.temp_size_in_bytes + analysis.output_size_in_bytes
    assert bytes_ < 4 * (2 * users * width / devices + 4 * 9 * width)


def test_scorers_score_a_chunk_at_a_time(log, monkeypatch):
    monkeypatch.setattr(protocol, "SCORES_ALIVE", 500)

    def columns(queries):
        def scores(rows):
            assert (rows.stop - rows.start) * len(queries) <= 500
            return np.zeros((len(queries), rows.stop - rows.start))

        return LazyScores((len(queries), 41), scores)

    baseline = drop_disliked(rate_adjusted(cached(columns), log, ("train",), 1.0), log)
    queries = build_queries(log, "test")
    rank_scorers({"a": cached(columns), "b": baseline}, queries, log, (True,), USERS, 5)


def test_chunks_cover_the_items():
    for items, users in ((1, 1), (40, 64), (8_000_000, 3)):
        pieces = chunks(items + 1, users)
        assert pieces[0].start == 1 and pieces[-1].stop == items + 1
        assert all(a.stop == b.start for a, b in zip(pieces, pieces[1:], strict=False))
