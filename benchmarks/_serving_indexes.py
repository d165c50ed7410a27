"""Nearest-neighbour libraries on a made-up catalogue: what benchmarks/serving.py measures of them.

Items lie around cluster centres, with biases of popular and rare ones; users are sums of items of a
few clusters. Maximum inner product: the bias is an extra column, which users have a one for.

Shapes: I items, R users, D width with the column of the bias, K list length.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

ITEMS_OF_A_CLUSTER = 200


class Index(NamedTuple):
    """A built index.

    Attributes:
      search: (users (R, D), K) → items (R, K).
      size_mb: of its file or memory.
      filtered: search with excluded items (R, H) left out, by the library itself; None: it cannot.
    """

    search: Callable[[np.ndarray, int], np.ndarray]
    size_mb: float
    filtered: Callable[[np.ndarray, int, np.ndarray], np.ndarray] | None = None


def made_up(items: int, users: int, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """(items (I, D), users (R, D)) float32, with the column of the bias."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(max(1, items // ITEMS_OF_A_CLUSTER), width)) / np.sqrt(width)
    cluster_I = rng.integers(0, len(centres), items)
    noise_ID = rng.normal(size=(items, width)) / np.sqrt(width)
    item_ID = centres[cluster_I] + 0.6 * noise_ID
    bias_I1 = rng.normal(size=(items, 1)) * 0.3
    taste_R3 = rng.integers(0, items, (users, 3))
    weight_R31 = rng.dirichlet([1.0] * 3, users)[:, :, None]
    state_RD = 3 * (weight_R31 * item_ID[taste_R3]).sum(axis=1)
    ones_R1 = np.ones((users, 1))
    found = np.hstack([item_ID, bias_I1]), np.hstack([state_RD, ones_R1])
    return tuple(np.ascontiguousarray(x, np.float32) for x in found)


def exact(items_ID: np.ndarray, users_RD: np.ndarray, k: int) -> np.ndarray:
    """The K best items of each user (R, K), by NumPy."""
    lists = []
    for user_D in users_RD:
        score_I = items_ID @ user_D
        best = np.argpartition(-score_I, k)[:k]
        lists.append(best[np.argsort(-score_I[best])])
    return np.array(lists)


def as_cosine(items_ID: np.ndarray) -> np.ndarray:
    """Items with one column more, so that all are of one length.

    The largest inner product with (user, 0) is then the smallest angle and distance, exactly.
    """
    square_I = (items_ID.astype(np.float64) ** 2).sum(axis=1)
    extra_I = np.sqrt(np.maximum(square_I.max() - square_I, 0))
    return np.hstack([items_ID, extra_I[:, None]]).astype(np.float32)


def _wider(users_RD: np.ndarray) -> np.ndarray:
    return np.pad(users_RD, ((0, 0), (0, 1)))


def _size_mb(index: Any) -> float:
    import faiss

    return faiss.serialize_index(index).nbytes / 2**20


def faiss_flat(items_ID: np.ndarray) -> Iterator[tuple[str, Index]]:
    """Exact, and exact on numbers of 8 and 16 bits with the best scored again."""
    import faiss

    width = items_ID.shape[1]
    flat = faiss.IndexFlatIP(width)
    flat.add(items_ID)
    yield "faiss flat", Index(lambda x, k: flat.search(x, k)[1], _size_mb(flat))
    for name in ("SQ8", "SQfp16"):
        quantised = faiss.index_factory(width, name, faiss.METRIC_INNER_PRODUCT)
        quantised.train(items_ID)
        quantised.add(items_ID)
        found = Index(lambda x, k, q=quantised: q.search(x, k)[1], _size_mb(quantised))
        yield f"faiss {name}, every item", found


def faiss_ivf(items_ID: np.ndarray) -> Iterator[tuple[str, Index]]:
    """Inverted lists: only the lists nearest to the user are read."""
    import faiss

    lists = int(4 * np.sqrt(len(items_ID)))
    for kind in ("Flat", "SQ8"):
        name = f"IVF{lists},{kind}"
        index = faiss.index_factory(items_ID.shape[1], name, faiss.METRIC_INNER_PRODUCT)
        index.cp.max_points_per_centroid = 64
        index.train(items_ID)
        index.add(items_ID)
        size = _size_mb(index)
        for probes in (8, 16, 32, 64, 128):

            def parameters(probes=probes, **more):
                return faiss.SearchParametersIVF(nprobe=probes, **more)

            def search(x, k, index=index, parameters=parameters):
                return index.search(x, k, params=parameters())[1]

            def filtered(x, k, excluded_RH, index=index, parameters=parameters):
                found = []
                for user, excluded_H in zip(x, excluded_RH, strict=True):
                    without = faiss.IDSelectorNot(faiss.IDSelectorBatch(excluded_H))
                    found.append(index.search(user[None], k, params=parameters(sel=without))[1][0])
                return np.array(found)

            yield f"faiss {name}, nprobe {probes}", Index(search, size, filtered)


def faiss_hnsw(items_ID: np.ndarray) -> Iterator[tuple[str, Index]]:
    """A graph, over items of one length."""
    import faiss

    wide = as_cosine(items_ID)
    index = faiss.IndexHNSWFlat(wide.shape[1], 16)
    index.hnsw.efConstruction = 80
    index.add(wide)
    size = _size_mb(index)
    for ef in (128, 256, 512):

        def search(x, k, ef=ef):
            parameters = faiss.SearchParametersHNSW(efSearch=ef)
            return index.search(_wider(x), k, params=parameters)[1]

        yield f"faiss HNSW16, ef {ef}", Index(search, size)


def usearch(items_ID: np.ndarray) -> Iterator[tuple[str, Index]]:
    """A graph, over items of one length."""
    from usearch.index import Index as Graph

    wide = as_cosine(items_ID)
    for dtype in ("f32", "i8"):
        graph = Graph(
            ndim=wide.shape[1], metric="cos", dtype=dtype, connectivity=16, expansion_add=80
        )
        graph.add(np.arange(len(wide)), wide, threads=1)
        for ef in (128, 256, 512):

            def search(x, k, graph=graph, ef=ef):
                graph.expansion_search = ef
                return graph.search(_wider(x), k, threads=1).keys.reshape(len(x), -1)

            yield f"usearch {dtype}, ef {ef}", Index(search, graph.serialized_length / 2**20)


def voyager(items_ID: np.ndarray) -> Iterator[tuple[str, Index]]:
    """A graph; it makes items of one length itself."""
    import voyager as library

    graph = library.Index(
        library.Space.InnerProduct, num_dimensions=items_ID.shape[1], M=16, ef_construction=80
    )
    graph.add_items(items_ID, num_threads=1)
    size = len(graph.as_bytes()) / 2**20
    for ef in (128, 256, 512):

        def search(x, k, ef=ef):
            return graph.query(x, k, num_threads=1, query_ef=ef)[0]

        yield f"voyager, ef {ef}", Index(search, size)


LIBRARIES = {
    "faiss_flat": faiss_flat,
    "faiss_ivf": faiss_ivf,
    "faiss_hnsw": faiss_hnsw,
    "usearch": usearch,
    "voyager": voyager,
}


def recall(expected_RK: np.ndarray, found_RK: np.ndarray) -> float:
    """Share of the exact lists' items that were found."""
    pairs = zip(expected_RK, found_RK, strict=True)
    return float(np.mean([len(np.intersect1d(a, b)) / len(a) for a, b in pairs]))


def measured(
    library: str, items_ID: np.ndarray, users_RD: np.ndarray, expected_RK: np.ndarray
) -> Iterator[dict[str, Any]]:
    """One row of figures for each setting of a library, one thread, one user after the other."""
    k = expected_RK.shape[1]
    rng = np.random.default_rng(1)
    excluded_RH = rng.integers(0, len(items_ID), (len(users_RD), 20))
    excluded_RH[:, :10] = expected_RK[:, :10]
    before = time.process_time()
    for name, index in LIBRARIES[library](items_ID):
        build = time.process_time() - before
        singles = [user_D[None] for user_D in users_RD]
        found = [index.search(one, k)[0] for one in singles]
        row = {
            "index": name,
            "recall": recall(expected_RK, np.array(found)),
            "queries_per_cpu_s": 1 / cpu_seconds(lambda one, x=index: x.search(one, k), singles),
            "build_cpu_s": build,
            "mb": index.size_mb,
        }
        if index.filtered is not None:
            pairs = list(zip(singles, excluded_RH, strict=True))
            seconds = cpu_seconds(lambda p, x=index: x.filtered(p[0], k, p[1][None]), pairs)
            row["filtered_per_cpu_s"] = 1 / seconds
        yield row
        before = time.process_time() - build  # settings of one index share its build


def cpu_seconds(call: Callable[[Any], Any], arguments: list[Any], rounds: int = 3) -> float:
    """Median CPU seconds of one call."""
    times = []
    for _ in range(rounds):
        before = time.process_time()
        for one in arguments:
            call(one)
        times.append((time.process_time() - before) / len(arguments))
    return statistics.median(times)
