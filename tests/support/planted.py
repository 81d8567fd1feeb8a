"""Traffic with a secret in every field that may hold somebody's data, and in every extra.

Of every event type of the log: as it should be, with each field of another kind, twice, with other
bytes under the same number or id, ahead of its turn, and as what blocks a stream until an operator,
whose words are secrets too, lets it go on.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from typing import Any, get_args

import msgspec
from scripts.make_golden_payloads import sample
from tests.support.events import (
    Sent,
    dismissed,
    envelope,
    event,
    instrument,
    mark,
    opened,
    raw,
    retried,
    voided,
)

from psm.contracts import codec, events, registry
from psm.contracts.control_events import CONTROL_SUBJECTS

_LOG = tuple(kind.__name__ for kind in get_args(events.AccountEvent))
_TABLES = {"MarkPriceUpdated": "marks", "InstrumentDefined": "instruments"}
STREAMS = ("acc_001", "acc_002")
_SECRET = re.compile(rb"ZqSecret[0-9a-f]*")
_IDS = ("order_id", "fill_id", "transfer_id", "reference", "reversal_reference")


class Planted:
    """Makes messages, and remembers the secrets that it planted."""

    def __init__(self, seed: int) -> None:
        self.secrets: list[str] = []
        self._dice = random.Random(seed)
        self._numbers = dict.fromkeys(STREAMS, 0)
        self._schemas = registry.schemas()

    def found_in(self, data: bytes) -> list[str]:
        """Return the secrets that stand in bytes."""
        return [found.decode() for found in _SECRET.findall(data)]

    def secret(self) -> str:
        """Return a text that stands nowhere else."""
        self.secrets.append(f"ZqSecret{self._dice.getrandbits(64):016x}")
        return self.secrets[-1]

    def messages(self) -> Iterator[Sent]:
        """Yield the traffic; numbers are those of a stream that takes all that is due."""
        for stream in STREAMS:
            yield opened(self._next(stream), stream=stream)
        yield instrument(1, "BTC-PERP")
        for event_type in self._dice.sample(_LOG, len(_LOG)):
            yield from self._of_type(event_type)
        yield from self._reports()
        for event_type, head in _TABLES.items():
            for number, payload in enumerate(self._payloads(event_type), 2):
                yield self._table(event_type, f"{head}.BTC-PERP", number, payload)
        for event_type, subject in CONTROL_SUBJECTS.items():
            if event_type != "RulesEnabled":
                for payload in self._payloads(event_type):
                    yield self._table(event_type, subject, None, payload)
        yield self._table("RulesEnabled", "control.rules", None, self._payload("RulesEnabled"))
        yield mark(2**40, "43000")

    def _reports(self) -> Iterator[Sent]:
        """Yield statements of others, answered or rejected; they have no number."""
        whole = {"as_of": "2025-12-12T10:30:00Z", "assets": {"USDT": "1"}, "positions": []}
        for stream in (*STREAMS, "acc_nobody"):
            for payload in (whole, {**whole, "positions": {"x": self.secret()}}):
                told = {**payload, "source": self.secret(), "desk": self.secret()}
                yield self._event("AccountReported", told, None, stream)
            for payload in self._payloads("AccountReported"):
                yield self._event("AccountReported", payload, None, stream)

    def _of_type(self, event_type: str) -> Iterator[Sent]:
        stream = self._dice.choice(STREAMS)
        for payload in self._payloads(event_type):
            number = self._next(stream)
            sent = self._event(event_type, payload, number, stream)
            yield sent
            yield from self._dice.sample([*self._repeats(sent, number, stream)], 2)
        yield from self._stopped(stream)

    def _repeats(self, sent: Sent, number: int, stream: str) -> Iterator[Sent]:
        """Yield what is in conflict with an event that took its place, or no event at all."""
        fields = msgspec.json.decode(sent.data)
        yield sent
        other = {**fields, "more": self.secret()}
        yield msgspec.structs.replace(sent, data=codec.encode(other))
        yield self._event("CashDeposited", self._payload("CashDeposited"), number, stream)
        far = self._event("CashAdjusted", self._payload("CashAdjusted"), number + 10**6, stream)
        yield far
        for name in ("event_id", "timestamp", "schema_version", "payload", "user_id"):
            broken = {**other, name: {"x": self.secret()} if name != "payload" else self.secret()}
            yield msgspec.structs.replace(sent, data=codec.encode(broken))
        del other["timestamp"]
        yield msgspec.structs.replace(sent, data=codec.encode(other))
        yield raw(json.dumps(other).encode()[:-1], stream=stream)
        yield raw(json.dumps([other]).encode(), stream=stream)

    def _stopped(self, stream: str) -> Iterator[Sent]:
        """Yield what stops a stream, and an operator's events that let it go on, or do not."""
        first = self._next(stream)
        who = {"actor": self.secret(), "reason": self.secret(), "stream": stream}
        later = self._event("CashAdjusted", self._payload("CashAdjusted"), first + 1, stream)
        salt = {"salt": str(first)}
        if self._dice.random() < 0.5:  # a gap
            yield later
            yield dismissed(1, **who, **salt)
            yield voided(first, first, **who, **salt)
            self._next(stream)
            return
        yield self._event("MoonPhaseChanged", {"reason": self.secret()}, first, stream)
        yield later
        yield retried(**who, **salt)
        at = self._dice.randrange(1, 10**6)  # the driver puts the right position there
        yield dismissed(at, **who, **salt)
        self._next(stream)

    def _payloads(self, event_type: str) -> Iterator[dict[str, Any]]:
        schema = self._schemas[f"{event_type}/1.0.0.json"]
        yield self._payload(event_type)
        yield self._payload(event_type, full=False)
        for name, field in schema["properties"].items():
            payload = self._payload(event_type)
            payload[name] = {"x": self.secret()}
            yield payload
            if "x-psm-pii" in field:
                payload = self._payload(event_type)
                payload[name] = self.secret() * 400
                yield payload
        for name in schema.get("required", ()):
            payload = self._payload(event_type)
            del payload[name]
            yield payload

    def _payload(self, event_type: str, *, full: bool = True) -> dict[str, Any]:
        """Return a payload with a secret in each personal field, and in extras beside them."""
        schema = self._schemas[f"{event_type}/1.0.0.json"]
        payload = sample(schema, schema.get("$defs", {}), full=full)
        for name, field in schema["properties"].items():
            if "x-psm-pii" in field:
                payload[name] = self.secret()
            elif name in _IDS and name in payload:
                payload[name] = f"id-{self._dice.getrandbits(32):x}"
        if event_type not in ("InstrumentDefined", "MarkPriceUpdated"):
            payload |= {"symbol": "BTC-PERP"} if "symbol" in payload else {}
        if event_type == "RulesEnabled":
            payload["rules_version"] = 1
        return {**payload, "desk": self.secret(), "people": [{"name": self.secret()}]}

    def _event(
        self, event_type: str, payload: dict[str, Any], number: int | None, stream: str
    ) -> Sent:
        return event(event_type, payload, number, stream=stream, **self._extras())

    def _table(
        self, event_type: str, subject: str, number: int | None, payload: dict[str, Any]
    ) -> Sent:
        token = subject.rpartition(".")[2]
        if payload.get("symbol") == "BTC-PERP" and self._dice.random() < 0.2:
            payload["symbol"] = self.secret()
        body = envelope(event_type, payload, number, stream=token, **self._extras())
        return Sent(subject=subject, data=codec.encode(body))

    def _extras(self) -> dict[str, Any]:
        """Return fields of an envelope that hold somebody's data, and an id that is new."""
        return {
            "user_id": self.secret(),
            "metadata": {"operator": self.secret(), "deep": {"er": [self.secret()]}},
            "note": self.secret(),
            "salt": str(self._dice.getrandbits(64)),
        }

    def _next(self, stream: str) -> int:
        self._numbers[stream] += 1
        return self._numbers[stream]
