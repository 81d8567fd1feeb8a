"""What the demo shows of risk: how many orders passed, the last ones, and what is latched."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from psm.contracts import subjects

_DECISIONS, _HALTS = "psm.risk.decision.", "psm.risk.halt.*"
_VERDICTS = ("approved", "reduced", "rejected")
Line = tuple[str, str]
"""A text and its style."""


class RiskLines:
    """The decisions on one account, and the latches, as they are republished once stored."""

    def __init__(self, nc: Client, account_id: str) -> None:
        self._nc = nc
        self._account_id = account_id
        self._counts: Counter[str] = Counter()
        self._last: dict[str, dict[str, Any]] = {}  # by verdict and side
        self._latches: dict[str, str] = {}

    async def start(self) -> None:
        """Listen from now on."""
        token = subjects.encode_token(self._account_id)
        await self._nc.subscribe(f"{_DECISIONS}{token}", cb=self._decided)
        await self._nc.subscribe(_HALTS, cb=self._halted)

    def lines(self) -> list[Line]:
        """Return what there is to say."""
        found: list[Line] = []
        if self._counts:
            counted = ", ".join(f"{self._counts[verdict]} {verdict}" for verdict in _VERDICTS)
            found.append((f"Orders of {self._account_id}: {counted}", "bold"))
        found += [_of(payload) for _, payload in sorted(self._last.items())]
        found += [(text, "bold red") for text in self._latches.values()]
        return found

    async def _decided(self, message: Msg) -> None:
        event = msgspec.json.decode(message.data)
        if event["event_type"] != "risk_decision":
            return
        payload = event["payload"]
        self._counts[payload["decision"]] += 1
        self._last[f"{payload['decision']} {payload.get('side')}"] = payload
        if payload.get("mode") == "active":
            self._latches = {}  # they ended, or were lifted

    async def _halted(self, message: Msg) -> None:
        event = msgspec.json.decode(message.data)
        payload = event["payload"]
        told: str = payload["scope"]
        if event["event_type"] == "LatchSet":
            name = hashlib.sha256(message.data).hexdigest()
            told += (
                f" {payload['mode']}: {payload['code']} "
                f"{payload['value']} (limit {payload['limit']}); LATCH {name}"
            )
        elif event["event_type"] == "cancel_all":
            told += (
                f" halted by {payload['actor']}: cancel what is open; HALT {payload['halt_hash']}"
            )
        else:
            return
        self._latches = {payload["scope"]: told}


def _of(payload: dict[str, Any]) -> Line:
    """Return a decision in a line: what failed of how many checks, with value and limit."""
    failed = [check for check in payload["checks"] if not check["passed"]]
    asked = f"{payload.get('side')} {payload.get('quantity')} {payload.get('symbol')}"
    told = ", ".join(
        f"{check['name']} {check.get('value', '-')} (limit {check.get('limit', '-')})"
        for check in failed[:3]
    )
    verdict, count = payload["decision"], len(payload["checks"])
    if verdict == "approved":
        told = f"closes, although {told}" if told else "all pass"
    text = f"  {verdict} {asked}: {count} checks, {told}"
    return text, {"approved": "green", "reduced": "yellow"}.get(verdict, "red")
