"""Route, status and duration of each request, as metrics."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from psm.adapters.logs import get_logger
from psm.adapters.metrics import Metrics

SLOW_S = 0.1
"""A request that takes longer is said to a debug log; streams are among them."""

_log = get_logger()


class RequestMeter:
    """Records route, status and duration of each request; pure ASGI, so streaming is untouched."""

    def __init__(self, app: ASGIApp, metrics: Metrics, patterns: dict[int, str]) -> None:
        self._app = app
        self._metrics = metrics
        self._patterns = patterns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, and record what became of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            route = self._patterns.get(id(scope.get("endpoint")), "unmatched")
            seconds = time.perf_counter() - started
            self._metrics.requested(route, status, seconds)
            if seconds > SLOW_S:
                _log.debug(
                    "http.request_slow", route=route, status=status, seconds=round(seconds, 3)
                )
