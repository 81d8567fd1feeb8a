"""A Prometheus that is asked: its alerts by name, and the series of an expression."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

from psm.adapters.http_client import answered
from psm.contracts.errors import ConfigError, TransientError
from psm.workers.doctor.verdict import CheckLine, Level

_TIMEOUT_S = 10.0
_BYTES_MAX = 32 * 1024 * 1024


class Prometheus:
    """The server at an address such as `http://prometheus:9090`."""

    def __init__(self, url: str) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ConfigError(f"{url} is no address of a Prometheus, such as http://host:9090")
        self._url = url.rstrip("/")

    async def series(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return labels and value of each series that an expression has now."""
        data = await self._ask("query", query=expression)
        return [(one["metric"], float(one["value"][1])) for one in data.get("result") or []]

    async def alert(self, name: str) -> CheckLine:
        """Return how an alert stands; UNKNOWN where there is no such rule.

        Raises:
            TransientError: nobody answers.
        """
        data = await self._ask("rules", type="alert")
        rules = [
            rule
            for group in data.get("groups") or []
            for rule in group.get("rules") or []
            if rule.get("name") == name
        ]
        if not rules:
            text = f"this Prometheus has no alert {name}"
            return CheckLine(check=name, level=Level.UNKNOWN, text=text)
        firing = [
            alert
            for rule in rules
            for alert in rule.get("alerts") or []
            if alert.get("state") == "firing"
        ]
        if not firing:
            return CheckLine(check=name, level=Level.OK, text="it does not fire", value=0)
        severe = any(alert["labels"].get("severity") == "critical" for alert in firing)
        summary = firing[0].get("annotations", {}).get("summary", "it fires")
        level = Level.CRITICAL if severe else Level.WARNING
        return CheckLine(check=name, level=level, text=summary, value=len(firing))

    async def _ask(self, what: str, **parameters: str) -> dict[str, Any]:
        url = f"{self._url}/api/v1/{what}?{urlencode(parameters)}"
        answer = await asyncio.to_thread(_get, url)
        try:
            return msgspec.json.decode(answer, type=dict[str, Any])["data"]  # type: ignore[no-any-return]
        except (msgspec.DecodeError, KeyError) as error:
            raise TransientError(f"{self._url} does not answer as a Prometheus does") from error


def _get(url: str) -> bytes:
    """Return what is there.

    Raises:
        TransientError: nobody answers, or not with what was asked for.
    """
    where = urlsplit(url).netloc.rpartition("@")[2]
    try:
        status, body = answered(url, timeout_s=_TIMEOUT_S, bytes_max=_BYTES_MAX)
    except (OSError, ValueError) as error:
        raise TransientError(f"{where} does not answer: {error}") from error
    if status != HTTPStatus.OK:
        raise TransientError(f"{where} answers {status}: {body[:200].decode(errors='replace')}")
    return body
