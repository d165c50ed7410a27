"""What wraps every request: a bound on its size, whether declared or not, and its metrics."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any


class LimitBody:
    """ASGI middleware: answers 413 to a body above `longest` bytes, and reads no further."""

    def __init__(self, app: Any, longest: int):
        """The app behind it, and the bound."""
        self.app, self.longest = app, longest

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See the class."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        messages, read, more = [], 0, True
        while more and read <= self.longest:
            message = await receive()
            messages.append(message)
            read += len(message.get("body", b""))
            more = message["type"] == "http.request" and message.get("more_body", False)
        if read > self.longest:
            said = {"field": "body", "message": f"more than {self.longest} bytes"}
            headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": 413, "headers": headers})
            await send({"type": "http.response.body", "body": json.dumps(said).encode()})
            return

        async def replay() -> Any:
            return messages.pop(0) if messages else await receive()

        await self.app(scope, replay, send)


class Measure:
    """ASGI middleware: tells path, status and seconds of every request."""

    def __init__(self, app: Any, tell: Callable[[str, int, float], None]):
        """The app behind it, and whom to tell."""
        self.app, self.tell = app, tell

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See the class."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def watched(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            route = scope.get("route")  # a path of the interface, not what the caller made up
            self.tell(route.path if route else "other", status, time.perf_counter() - began)
