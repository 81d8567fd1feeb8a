"""Metrics of each request."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from psm.adapters.metrics import Metrics


class Measured:
    """Records route, status and duration of each request; pure ASGI, so streaming is untouched."""

    def __init__(self, app: ASGIApp, metrics: Metrics, patterns: dict[int, str]) -> None:
        self._app = app
        self._metrics = metrics
        self._patterns = patterns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
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
            self._metrics.requested(route, status, time.perf_counter() - started)
