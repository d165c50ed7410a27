"""Serving: latency and throughput of lists, sessions, indexes and the example service.

  python -m benchmarks.serving --json=serving.json            # all parts, about half an hour
  python -m benchmarks.serving --parts=lists,service --quick  # small catalogue, a minute
  python -m benchmarks.serving --parts=index --libraries=faiss_hnsw,usearch,voyager  # if installed

A made-up run: the default GRU with random parameters, items around cluster centres
(benchmarks/_serving_indexes.py). Lists and indexes run on one core, the service on all. Times are
wall times; beside them stand CPU seconds of the process, which a busy machine inflates less.

    p50_ms, p99_ms   single-user lists: 50 events read anew, K = 100, 10^5 items
    qps              users/s of lists in batches of 256
    update_ms        one event more in a session, median
    ann_recall@100   of the index that launch.export writes, 10^6 items
    ann_speedup      its queries per CPU second : those of the fastest exact search
    service_qps, service_p99_ms   POST /recommend of examples/serve on loopback, 10^5 items
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from launch import flags as shared

PARTS = ("lists", "encoders", "index", "service")
PART = flags.DEFINE_list("parts", list(PARTS), "What to measure.")
ITEMS = flags.DEFINE_list("items", ["100000", "1000000"], "Items of the index and of batches.")
QUICK = flags.DEFINE_boolean("quick", False, "20,000 items and few repetitions.")
LIBRARY = flags.DEFINE_list("libraries", ["faiss_flat", "faiss_ivf"], "Of the index part.")
SECONDS = flags.DEFINE_float("seconds", 15.0, "Of load on the service.")
CONNECTIONS = flags.DEFINE_integer("connections", 12, "Requests at once on the service.")
ALONE = flags.DEFINE_boolean("alone", False, "This process is a part, on one core.")
WIDTH, K, EVENTS = 64, 100, 50


def made_up_run(items: int, encoder: str = "gru") -> Any:
    """A Trained of random parameters."""
    import dataclasses

    import jax

    from benchmarks._serving_indexes import made_up
    from negflax.config import Config, EvalConfig, MeshConfig, ModelConfig
    from negflax.data import Catalogue
    from negflax.mesh import make_mesh
    from negflax.model import Recommender
    from negflax.train.restore import Trained
    from negflax.train.step import Trainer

    features = ("dislike", "dwell", "watch_ratio", "gap")
    model_config = ModelConfig(
        hidden=WIDTH, embedding=WIDTH, encoder=encoder, features=features, item_bias=True
    )
    config = dataclasses.replace(Config(), model=model_config, eval=EvalConfig(history=64))
    catalogue = Catalogue(
        item_ids=np.arange(1, items + 1),
        creator_V=np.arange(items + 1) % 1_000,
        clusters_VC=(np.arange(items + 1) % 100)[:, None],
        train_count_V=np.ones(items + 1, np.int64),
    )
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    model = Recommender(config.model, catalogue)
    state = Trainer(config, model, catalogue.train_count_V, 1, mesh).init()
    vectors_ID, _ = made_up(items, 1, WIDTH)
    rows = state["tables"]["item"]["rows"]
    rows = rows.at[1 : items + 1].set(vectors_ID.astype(rows.dtype))
    state["tables"]["item"]["rows"] = rows
    return Trained(config, catalogue, model, state, 1, mesh)


def timed(call: Any, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """(wall, CPU) milliseconds of each call; two before them compile."""
    call(), call()
    wall, cpu = [], []
    for _ in range(rounds):
        before, before_cpu = time.perf_counter(), time.process_time()
        call()
        wall.append(1e3 * (time.perf_counter() - before))
        cpu.append(1e3 * (time.process_time() - before_cpu))
    return np.array(wall), np.array(cpu)


def figures_of(name: str, times: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    """Median and 99th percentile, wall and CPU."""
    return {
        f"{name}p50_ms": float(np.median(times[0])),
        f"{name}p99_ms": float(np.quantile(times[0], 0.99)),
        f"{name}p50_cpu_ms": float(np.median(times[1])),
        f"{name}p99_cpu_ms": float(np.quantile(times[1], 0.99)),
    }


def random_events(count: int, items: int, seed: int = 0) -> list[dict[str, Any]]:
    """Events of one user."""
    rng = np.random.default_rng(seed)
    return [
        {
            "item_id": int(rng.integers(1, items + 1)),
            "timestamp_ms": 1_700_000_000_000 + 30_000 * i,
            "dwell_ms": int(rng.integers(0, 30_000)),
            "dislike": bool(rng.random() < 0.1),
        }
        for i in range(count)
    ]


def measure_lists(quick: bool) -> dict[str, float]:
    """Single users, sessions and batches, exactly."""
    from negflax.serve import ListRules, TrainedRecommender
    from negflax.serve.list_rules import UserHistory
    from negflax.serve.one_event import encode_event

    found: dict[str, float] = {}
    for items in (20_000,) if quick else map(int, ITEMS.value):
        served = TrainedRecommender(made_up_run(items), history=64)
        catalogue, before, codes = served.trained.catalogue, -1, []
        events = random_events(EVENTS, items)
        for event in events:
            code, _, before = encode_event(event, catalogue, before)
            codes.append(code)
        codes_nF, session = np.stack(codes), served.session()
        for event in events:
            session.add(event)
        _, user = session.now()

        def single(served=served, codes_nF=codes_nF, user=user):
            state_1D = served.encoding.whole(codes_nF).state_1D
            return served.lists.of_states(state_1D, [user], K, ListRules())

        users = 256
        states_RD = np.repeat(session.state[None], users, axis=0)
        states_RD += np.random.default_rng(0).normal(size=states_RD.shape).astype(np.float32) / 8
        crowd = [UserHistory(user.seen, user.disliked)] * users

        def batch(served=served, states_RD=states_RD, crowd=crowd):
            return served.lists.of_states(states_RD, crowd, K, ListRules())

        size = "" if items == (20_000 if quick else 100_000) else f"{items}_items/"
        found |= figures_of(size, timed(single, 20 if quick else 200))
        in_session = timed(lambda s=session: s.recommend(K), 20 if quick else 200)
        found |= figures_of(f"{size}session_", in_session)
        wall, cpu = timed(batch, 3 if quick else 7)
        found[f"{size}qps"] = 1e3 * users / float(np.median(wall))
        found[f"{size}users_per_cpu_s"] = 1e3 * users / float(np.median(cpu))
        if not size:
            more = iter(random_events(2_000, items, seed=1))
            wall, cpu = timed(lambda s=session, more=more: s.add(next(more)), 500)
            found |= {"update_ms": float(np.median(wall)), "update_cpu_ms": float(np.median(cpu))}
            data = session.to_bytes()
            found["state_bytes"] = len(data)
            wall, _ = timed(lambda s=served, d=data: s.session(state=d), 100)
            found["restore_ms"] = float(np.median(wall))
    return found


def measure_encoders(quick: bool) -> dict[str, float]:
    """A session's step beside what re-encoding costs, also by PyTorch, CPU ms on one core."""
    from negflax.serve.encoding import Encoding
    from negflax.serve.lists import Lists
    from negflax.serve.one_event import CODES

    found: dict[str, float] = {}
    rounds = 10 if quick else 50
    for encoder in ("gru", "attention"):
        trained = made_up_run(20_000, encoder)
        encoding = Encoding(trained, Lists(trained).tables)
        rng = np.random.default_rng(0)
        for events in (50, 200, 1_000):
            codes_nF = np.zeros((events, len(CODES)), np.int32)
            codes_nF[:, 0] = rng.integers(1, 20_000, events)
            _, cpu = timed(lambda e=encoding, c=codes_nF: np.asarray(e.whole(c).state_1D), rounds)
            found[f"{encoder}/whole_{events}_cpu_ms"] = float(np.median(cpu))
        step, read = encoding.whole(codes_nF), encoding.one_more
        one = functools.partial(read, step, codes_nF[0])
        _, cpu = timed(lambda one=one: np.asarray(one().state_1D), rounds)
        found[f"{encoder}/step_cpu_ms"] = float(np.median(cpu))
    if importlib.util.find_spec("torch") is not None:
        found |= measure_torch(rounds)
    return found


def measure_torch(rounds: int) -> dict[str, float]:
    """A transformer encoder of the size of SASRec (two blocks, width 64), read anew."""
    import torch

    torch.set_num_threads(1)
    layer = torch.nn.TransformerEncoderLayer(WIDTH, 2, WIDTH, batch_first=True, norm_first=True)
    encoder = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    found = {}
    for events in (50, 200, 1_000):
        table = torch.randn(20_000, WIDTH)
        ids = torch.randint(0, 20_000, (1, events))
        mask = torch.nn.Transformer.generate_square_subsequent_mask(events)

        def whole(table=table, ids=ids, mask=mask):
            with torch.inference_mode():
                return encoder(table[ids], mask=mask, is_causal=True)[:, -1].numpy()

        _, cpu = timed(whole, rounds)
        found[f"torch_transformer/whole_{events}_cpu_ms"] = float(np.median(cpu))
    return found


def measure_index(quick: bool) -> dict[str, Any]:
    """The index of launch.export, and other libraries, beside exact search."""
    import faiss

    from benchmarks import _serving_indexes as indexes
    from negflax.serve.index import build_index

    faiss.omp_set_num_threads(1)
    found: dict[str, Any] = {"libraries": []}
    for items in (20_000,) if quick else map(int, ITEMS.value):
        vectors_ID, users_RD = indexes.made_up(items, 200)
        flat = faiss.IndexFlatIP(vectors_ID.shape[1])
        flat.add(vectors_ID)
        expected_RK = flat.search(users_RD, K)[1]
        alone = indexes.cpu_seconds(lambda one, f=flat: f.search(one[None], K), list(users_RD))
        together = indexes.cpu_seconds(lambda x, f=flat: f.search(x, K), [users_RD])
        exact = max(1 / alone, len(users_RD) / together)
        built = build_index(vectors_ID, users_RD[:100], K)
        asked = users_RD[100:]  # not those that the number of probes was chosen on
        lists = [built.index.search(one[None], K)[1][0] for one in asked]
        recall = indexes.recall(expected_RK[100:], np.array(lists))
        seconds = indexes.cpu_seconds(lambda x, b=built: b.index.search(x[None], K), list(asked))
        largest = items == max(map(int, ITEMS.value)) or quick
        size = "" if largest else f"{items}_items/"
        found |= {
            f"{size}ann_recall@100": recall,
            f"{size}ann_speedup": 1 / seconds / exact,
            f"{size}ann_per_cpu_s": 1 / seconds,
            f"{size}exact_per_cpu_s": exact,
        }
        for library in LIBRARY.value:
            for row in indexes.measured(library, vectors_ID, users_RD, expected_RK):
                found["libraries"].append({"items": items} | row)
                print(json.dumps(found["libraries"][-1]), file=sys.stderr, flush=True)
    return found


def measure_service(quick: bool) -> dict[str, float]:
    """The example service under connections that each wait for an answer before they ask again."""
    from negflax.train.checkpoint import Checkpoints, write_config
    from negflax.train.restore import CATALOGUE

    items = 20_000 if quick else 100_000
    trained = made_up_run(items)
    with tempfile.TemporaryDirectory() as folder:
        write_config(Path(folder), trained.config)
        trained.catalogue.save(Path(folder) / CATALOGUE)
        checkpoints = Checkpoints(Path(folder), trained.config.train.metric)
        checkpoints.save(1, trained.state, {trained.config.train.metric: 0.1})
        checkpoints.close()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        program = Path(__file__).parents[1] / "examples/serve/app.py"
        command = [sys.executable, str(program), f"--workdir={folder}", f"--port={port}"]
        command += ["--k", str(K)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as service:
            try:
                seconds = 3.0 if quick else SECONDS.value
                return asyncio.run(_load(service.pid, port, items, seconds))
            finally:
                service.terminate()


async def _load(pid: int, port: int, items: int, seconds: float) -> dict[str, float]:
    rng = np.random.default_rng(0)
    for _ in range(1_200):  # it compiles first
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            break
        await asyncio.sleep(0.5)
    feedback = [
        {"user_id": user, "item_id": int(item), "dislike": False}
        for user in range(100)
        for item in rng.integers(1, items + 1, 10)
    ]
    for body in feedback:
        await _ask(reader, writer, "/feedback", body)
    took: list[float] = []

    async def connection(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        deadline, i = time.perf_counter() + seconds + 2, number
        while time.perf_counter() < deadline:
            before, i = time.perf_counter(), i + 7
            await _ask(reader, writer, "/recommend", {"user_id": i % 100, "k": K})
            if deadline - before < seconds:  # the first two seconds warm up
                took.append(time.perf_counter() - before)
        writer.close()

    before, own = _cpu_seconds(pid), time.process_time()
    await asyncio.gather(*(connection(i) for i in range(CONNECTIONS.value)))
    used = _cpu_seconds(pid) - before
    return {
        "service_qps": len(took) / seconds,
        "service_p50_ms": 1e3 * float(np.median(took)),
        "service_p99_ms": 1e3 * float(np.quantile(took, 0.99)),
        "service_per_cpu_s": len(took) * (seconds + 2) / seconds / used,
        "service_cores_used": used / (seconds + 2),
        "client_cores_used": (time.process_time() - own) / (seconds + 2),
    }


async def _ask(reader: Any, writer: Any, path: str, body: dict[str, Any]) -> None:
    text = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text)
    answer = await reader.readuntil(b"\r\n\r\n")
    status = answer.split(b" ", 2)[1]
    length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    content = await reader.readexactly(length)
    if status != b"200":
        raise RuntimeError(f"{path}: {status.decode()} {content[:200]!r}")


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


MEASURES = {
    "lists": measure_lists,
    "encoders": measure_encoders,
    "index": measure_index,
    "service": measure_service,
}


def in_a_process(part: str) -> dict[str, Any]:
    """A part in a process of its own, on one core unless it is the service."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures.json"
        passed = [f"--parts={part}", "--alone", f"--json={path}", f"--seconds={SECONDS.value}"]
        passed += [f"--connections={CONNECTIONS.value}", f"--items={','.join(ITEMS.value)}"]
        passed += [f"--libraries={','.join(LIBRARY.value)}", *["--quick"] * QUICK.value]
        one = {min(os.sched_getaffinity(0))} if part != "service" else os.sched_getaffinity(0)
        start = functools.partial(os.sched_setaffinity, 0, one)
        command = [sys.executable, "-m", "benchmarks.serving", *passed]
        subprocess.run(command, check=True, preexec_fn=start)
        return json.loads(path.read_text())


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    from negflax.evaluate import format_table
    from negflax.files import write_json

    found: dict[str, Any] = {}
    for part in PART.value:
        if part not in MEASURES:
            raise app.UsageError(f"--parts={part}: choose from {', '.join(PARTS)}")
        found |= MEASURES[part](QUICK.value) if ALONE.value else in_a_process(part)
    if not ALONE.value:
        found["load"] = os.getloadavg()[0]
        plain = {name: value for name, value in found.items() if name != "libraries"}
        print(format_table([{"figure": name, "value": value} for name, value in plain.items()]))
        if found.get("libraries"):
            print(format_table(found["libraries"]))
    if shared.JSON.value:
        write_json(shared.JSON.value, found)


if __name__ == "__main__":
    app.run(main)
