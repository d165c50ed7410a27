"""A recommendation service: lists, feedback that changes the next list, metrics, a page to try it.

  pip install 'negflax[serve]'
  make train
  python examples/serve/app.py --workdir=runs/synthetic --port=8000

http://127.0.0.1:8000 is the page, /openapi.json the interface. States are kept in memory, or with
--store=users.sqlite in a file, or with --store=redis://localhost in Redis. A checkpoint that
launch.evaluate --follow promotes is loaded while the old one goes on answering.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import jax
import prometheus_client as prometheus
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr
from starlette.exceptions import HTTPException

sys.path.insert(0, str(Path(__file__).parent))
from batching import Batcher, Busy  # noqa: E402
from middleware import LimitBody, Measure  # noqa: E402
from model import Model, Query, lists  # noqa: E402
from store import FAILURES, StoreError, open_store  # noqa: E402

from negflax.config import ConfigError  # noqa: E402
from negflax.serve import EventError, ListRules, ModelError  # noqa: E402
from negflax.serve.list_rules import REMEMBERED  # noqa: E402
from negflax.train.checkpoint import CheckpointError  # noqa: E402

LONGEST_BODY = 64 * 1024  # bytes
LARGEST_K, MOST_EXCLUDED = 200, 1_000
TIMEOUT = 2.0  # seconds
POLL = 5.0  # seconds between looks for a promoted checkpoint

Id = (
    Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)]
    | Annotated[StrictStr, Field(min_length=1, max_length=256)]
)
Milliseconds = Annotated[float, Field(ge=0, le=2**53)]


class RecommendRequest(BaseModel):
    """Whose list, and what is left out of it."""

    model_config = ConfigDict(extra="forbid")
    user_id: Id
    k: Annotated[StrictInt, Field(ge=1, le=LARGEST_K)] = 10
    exclude: Annotated[list[Id], Field(max_length=MOST_EXCLUDED)] = []
    exclude_seen: StrictBool = True
    drop_disliked: StrictBool = False
    block_creators: StrictBool = False
    cap_per_creator: Annotated[StrictInt, Field(ge=0, le=LARGEST_K)] = 0
    cap_per_cluster: Annotated[StrictInt, Field(ge=0, le=LARGEST_K)] = 0
    aversion: Annotated[float, Field(ge=0, le=1)] = 0.0
    recent: Annotated[StrictInt, Field(ge=0, le=REMEMBERED)] = 8
    explain: StrictBool = False


class FeedbackRequest(BaseModel):
    """What a user did with an item; null or missing is unknown."""

    model_config = ConfigDict(extra="forbid")
    user_id: Id
    item_id: Id
    like: StrictBool | None = None
    skip: StrictBool | None = None
    dislike: StrictBool | None = None
    dismissal: StrictBool | None = None
    dwell_ms: Milliseconds | None = None
    duration_ms: Milliseconds | None = None
    surface: Annotated[StrictInt, Field(ge=-(2**31), lt=2**31)] | None = None
    timestamp_ms: Annotated[StrictInt, Field(ge=0, le=2**53)] | None = None


class Item(BaseModel):
    """A line of a list; `rank` is null for what a rule left out, and `reason` says why."""

    rank: int | None
    item_id: Id
    score: float
    p: float | None = None
    reason: str | None = None
    title: str | None = None
    clusters: str | None = None


class RecommendResponse(BaseModel):
    """A list, and the step of the model that made it."""

    user_id: Id
    step: int
    items: list[Item]


class FeedbackResponse(BaseModel):
    """Whether the model knows the item, and how many events it has read of the user."""

    known: bool
    events: int


def create_app(
    workdir: str,
    store_path: str = "",
    *,
    lengths: tuple[int, ...] = (10,),
    timeout: float = TIMEOUT,
    poll: float = POLL,
) -> FastAPI:
    """The service over a run's folder; lists of these lengths are fast from the first one on."""
    model, store = Model(workdir, lengths), open_store(store_path)
    registry = prometheus.CollectorRegistry()
    counted = prometheus.Counter(
        "requests", "Requests by path and status.", ["path", "status"], registry=registry
    )
    took = prometheus.Histogram(
        "request_seconds",
        "Time to answer.",
        ["path"],
        registry=registry,
        buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
    )
    step = prometheus.Gauge("model_step", "Step of the checkpoint.", registry=registry)
    step.set_function(lambda: model.now.step)
    failed = prometheus.Gauge("failed_reloads", "Checkpoints not loaded.", registry=registry)
    failed.set_function(lambda: model.failed_reloads)
    locks = [asyncio.Lock() for _ in range(256)]  # a user's feedback is read in order

    @contextlib.asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        async def watch() -> None:
            while True:
                await asyncio.sleep(poll)
                await asyncio.to_thread(model.reload_if_promoted)

        app.state.batcher = Batcher(lists)
        watching = asyncio.create_task(watch())
        yield
        watching.cancel()
        await app.state.batcher.close()
        store.close()

    app = FastAPI(title="negflax", docs_url=None, redoc_url=None, lifespan=running)
    app.state.model = model

    def tell(path: str, status: int, seconds: float) -> None:
        counted.labels(path, status).inc()
        took.labels(path).observe(seconds)

    app.add_middleware(LimitBody, longest=LONGEST_BODY)
    app.add_middleware(Measure, tell=tell)

    def refused(status: int, message: str, field: str = "") -> JSONResponse:
        return JSONResponse({"field": field, "message": message}, status)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = [str(part) for part in first["loc"] if part != "body"]
        return refused(422, first["msg"], place[0] if place else "body")

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        return refused(error.status_code, str(error.detail), "body" * (error.status_code == 400))

    @app.exception_handler(EventError)
    async def bad_event(request: Request, error: EventError) -> JSONResponse:
        return refused(422, str(error), error.field)

    @app.exception_handler(ConfigError)
    async def bad_setting(request: Request, error: ConfigError) -> JSONResponse:
        return refused(422, str(error), str(error).split(" = ")[0])

    async def no_store(request: Request, error: Exception) -> JSONResponse:
        logging.error("the store: %s", error)
        return refused(503, "the store of users does not answer: try again")

    for failure in FAILURES:
        app.add_exception_handler(failure, no_store)

    @app.exception_handler(Busy)
    @app.exception_handler(TimeoutError)
    async def busy(request: Request, error: Exception) -> JSONResponse:
        answer = refused(503, "too many requests at once, or a slow one: try again")
        answer.headers["Retry-After"] = "1"
        return answer

    @app.post("/recommend", response_model=RecommendResponse)
    async def recommend(asked: RecommendRequest) -> Response:
        """The k best items for a user, by all the feedback so far."""
        loaded, user = model.now, str(asked.user_id)
        rules = asked.model_dump(exclude={"user_id", "k", "explain"})
        rules["exclude"] = tuple(rules["exclude"])
        query = Query(loaded, asked.k, ListRules(**rules), asked.explain)
        loaded.recommender.lists.check_k(asked.k)
        async with asyncio.timeout(timeout):
            session = model.session(loaded, user, store.get(user))
            items = await app.state.batcher.ask(query, session)
        answer = {"user_id": asked.user_id, "step": loaded.step, "items": items}
        # As it is: checking a hundred items that we made costs more than finding them.
        return Response(json.dumps(answer), media_type="application/json")

    @app.post("/feedback")
    async def feedback(asked: FeedbackRequest) -> FeedbackResponse:
        """Reads what a user did; the next list of the user knows it."""
        user = str(asked.user_id)
        event = asked.model_dump(exclude={"user_id"}, exclude_none=True)

        def read() -> FeedbackResponse:
            kept = store.get(user)
            session = model.session(model.now, user, kept)
            known = session.add(event)
            store.put(user, session.to_bytes(), [*(kept[1] if kept else []), event])
            return FeedbackResponse(known=known, events=session.events)

        async with asyncio.timeout(timeout), locks[hash(user) % len(locks)]:
            return await asyncio.to_thread(read)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Whether the service answers, and by which model."""
        loaded = model.now
        return {
            "status": "ok",
            "step": loaded.step,
            "model": loaded.recommender.fingerprint,
            "items": loaded.recommender.trained.catalogue.num_rows - 1,
        }

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        """Counters for Prometheus."""
        text = prometheus.generate_latest(registry)
        return PlainTextResponse(text, media_type=prometheus.CONTENT_TYPE_LATEST)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> str:
        return (Path(__file__).parent / "page.html").read_text(encoding="utf-8")

    return app


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workdir", required=True, help="a run, or the `best` of --follow")
    parser.add_argument("--store", default="", help="an SQLite file or redis://…; default: memory")
    parser.add_argument("--k", type=int, nargs="*", default=[10, 60], help="lengths to compile for")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    # What was compiled once is read from the run's folder by the next start, and after a reload.
    cache = Path(given.workdir).resolve() / "compilation_cache"
    jax.config.update("jax_compilation_cache_dir", str(cache))
    try:
        app = create_app(given.workdir, given.store, lengths=tuple(given.k))
    except (CheckpointError, ConfigError, ModelError, StoreError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    uvicorn.run(
        app,
        host=given.host,
        port=given.port,
        log_level="warning",
        limit_concurrency=2_000,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
