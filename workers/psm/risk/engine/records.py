"""The records of a slot: numbered, chained, and each with what changed in the slot's memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from psm.contracts import codec
from psm.contracts.errors import InvariantError
from psm.domain.publication.log_times import log_time
from psm.domain.publication.update_ids import update_id
from psm.risk.engine.path import Path
from psm.risk.messages import OutputKind, RiskOutput

RECORD_MAX = 16 * 1024
"""Bytes of a record at most."""
PAYLOAD_MAX = RECORD_MAX // 2
"""Bytes of a decision without its place in the chain, and without changed memory."""
PATH_MAX = 3 * 1024
"""Bytes of changed memory in one record; what is beyond goes before it, in records of its own."""


UNTOLD_MAX = 32
"""Entries of the memory that wait to be told with the next record, and microseconds."""
UNTOLD_FOR = 60_000_000


@lru_cache(maxsize=256)
def moment_text(clock: int) -> str:
    """Return microseconds since 1970 as RFC 3339."""
    return log_time(clock * 1000)


def first_link(slot: int) -> str:
    """Return what the first record of a slot follows, hex."""
    return hashlib.sha256(f"psm:risk:{slot}".encode()).hexdigest()


class Chain:
    """The chain of a slot's records.

    Attributes:
        n: number of the last one; 0 before the first.
        previous: SHA-256 of its bytes, hex.
    """

    def __init__(self, slot: int, path: Path) -> None:
        self.slot, self.n, self.previous = slot, 0, first_link(slot)
        self._path = path
        self._told = 0

    def record(
        self,
        kind: OutputKind,
        key: str,
        event_type: str,
        payload: Mapping[str, Any],
        clock: int,
        links: Mapping[str, str] | None = None,
    ) -> list[RiskOutput]:
        """Return a record with what of the memory no record has told, others before it if need be.

        Args:
            kind: of the record.
            key: last token of its subject.
            event_type: of the event that it is.
            payload: of the event, without what every record has.
            clock: risk clock, us.
            links: fields of its envelope that lead to what it answers.
        """
        before, path = self._crowded(clock)
        return [*before, self._link(kind, key, event_type, payload, path, clock, links)]

    def flush(self, clock: int) -> list[RiskOutput]:
        """Return records of memory alone, if much of it waits to be told, or some for a minute."""
        count = self._path.untold_count
        if not count or (count < UNTOLD_MAX and clock - self._told < UNTOLD_FOR):
            return []
        return self.tell(clock)

    def tell(self, clock: int) -> list[RiskOutput]:
        """Return records of memory alone, of all that waits to be told."""
        before, path = self._crowded(clock)
        return [*before, self._memory(path, clock)] if path else before

    def preview(
        self, event_type: str, payload: Mapping[str, Any], clock: int, links: Mapping[str, str]
    ) -> bytes:
        """Return the bytes of a record that is stored by nobody: number 0, no memory."""
        return fitted(event_type, payload, {"slot": self.slot}, clock, 0, self.slot, links)

    def is_repeated(self, data: bytes) -> bool:
        """Return whether a record is the last one once more, byte for byte: stored twice."""
        return hashlib.sha256(data).hexdigest() == self.previous

    def take(self, data: bytes) -> tuple[str, str, dict[str, Any]]:
        """Take a record that was stored; return event type, time and payload.

        Raises:
            InvariantError: it is not the one after the last.
        """
        fields = codec.decode_untyped(data)
        payload = fields["payload"]
        if payload.get("n") != self.n + 1 or payload.get("previous") != self.previous:
            raise InvariantError(
                f"slot {self.slot}: record {payload.get('n')} after {self.n}: "
                "one is missing, or it is of another chain"
            )
        self.n, self.previous = payload["n"], hashlib.sha256(data).hexdigest()
        return fields["event_type"], fields["timestamp"], payload

    def _crowded(self, clock: int) -> tuple[list[RiskOutput], dict[str, Any]]:
        """Return the records that tell most of the memory, and what is left to tell."""
        records: list[RiskOutput] = []
        part: dict[str, Any] = {}
        count = 0
        for name, value in [*self._path.untold()]:
            more = len(codec.canonical_bytes({name: value}))
            if part and count + more > PATH_MAX:
                records.append(self._memory(part, clock))
                part, count = {}, 0
            part[name] = value
            count += more
            self._path.told(name)
        return records, part

    def _memory(self, path: Mapping[str, Any], clock: int) -> RiskOutput:
        payload = {
            "severity": "info",
            "code": "memory",
            "message": "what the engine remembers",
        }
        return self._link("alert", "info", "alert", payload, path, clock)

    def _link(
        self,
        kind: OutputKind,
        key: str,
        event_type: str,
        payload: Mapping[str, Any],
        path: Mapping[str, Any],
        clock: int,
        links: Mapping[str, str] | None = None,
    ) -> RiskOutput:
        number, self._told = self.n + 1, clock
        place: dict[str, Any] = {"slot": self.slot, "n": number, "previous": self.previous}
        if path:
            place["path"] = path
        data = fitted(event_type, payload, place, clock, number, self.slot, links)
        self.n, self.previous = number, hashlib.sha256(data).hexdigest()
        return RiskOutput(kind=kind, key=key, data=data)


def fitting(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a payload that fits into a record: passed checks by name alone, if they must."""
    if "checks" not in payload or len(codec.canonical_bytes(payload)) <= PAYLOAD_MAX:
        return payload
    told = [one for one in payload["checks"] if not one.passed or one.binding]
    passed = [f"{one.name}@{one.scope}" for one in payload["checks"] if one not in told]
    return {**payload, "checks": told, "passed_checks": passed}


def fitted(
    event_type: str,
    payload: Mapping[str, Any],
    place: Mapping[str, Any],
    clock: int,
    number: int,
    slot: int,
    links: Mapping[str, str] | None = None,
) -> bytes:
    """Return the bytes of a record whose payload fits, with its place in the chain and memory."""
    data = encoded(event_type, {**payload, **place}, clock, number, slot, links)
    if len(data) <= PAYLOAD_MAX:  # then so is the payload, which is a part of it
        return data
    return encoded(event_type, {**fitting(payload), **place}, clock, number, slot, links)


def encoded(
    event_type: str,
    payload: Mapping[str, Any],
    clock: int,
    number: int,
    slot: int,
    links: Mapping[str, str] | None = None,
) -> bytes:
    """Return the bytes of a record.

    Args:
        event_type: of the event that it is.
        payload: with `slot`, `n` and `previous`, and the memory that it tells.
        clock: risk clock, us.
        number: `n`.
        slot: whose.
        links: fields of the envelope that lead to what it answers.
    """
    return codec.canonical_bytes(
        {
            **(links or {}),
            "event_id": update_id(number, f"risk.{slot}", 0),
            "event_type": event_type,
            "payload": payload,
            "schema_version": "1.0.0",
            "source_service": "psm-risk",
            "timestamp": moment_text(clock),
        }
    )
