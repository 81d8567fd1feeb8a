"""Builds the updates of one log message: deterministic ids, order and bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from msgspec import UNSET, UnsetType

from psm.contracts import updates
from psm.contracts.codec import encode, encode_fields, json_text
from psm.contracts.envelope import Envelope
from psm.contracts.errors import ContractError
from psm.contracts.subjects import partition_of
from psm.contracts.updates import KINDS, Cause, Level, UpdateEnvelope, UpdatePayload
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.figures import (
    margin_figures,
    order_figures,
    position_update,
    published_margin,
    state_document,
    state_figures,
)
from psm.domain.messages import LogMessage, StateHashes, Update
from psm.domain.orders import Order
from psm.domain.positions import Step
from psm.domain.valuation import FAILED, Valuation, state_hash

__all__ = ["Emitter", "log_time", "margin_figures", "order_figures", "state_document", "update_id"]

NAMESPACE = bytes.fromhex("c5b1b0f6f3a75bb29f0b6a6f3d1c7e55")
"""The PSM namespace of UUIDv5, for the ids of updates."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def update_id(log_sequence: int, stream_id: str, ordinal: int) -> str:
    """Return UUIDv5(PSM namespace, `<log_sequence>/<stream_id>/<ordinal>`)."""
    name = f"{log_sequence}/{stream_id}/{ordinal}".encode()
    text = hashlib.sha1(NAMESPACE + name, usedforsecurity=False).hexdigest()
    variant = _VARIANT[text[16]]
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{variant}{text[17:20]}-{text[20:32]}"


_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
"""The two bits that say which kind of UUID it is, as hex digits."""


def log_time(time_ns: int) -> str:
    """Return a log time as RFC 3339 in UTC with microseconds."""
    return f"{_second(time_ns // 1_000_000_000)}.{time_ns // 1000 % 1_000_000:06d}Z"


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


class Emitter:
    """Collects the updates of one log message.

    `caused_by` names the event whose effect follows: the message's own, or one it released.
    """

    def __init__(self, books: Books, message: LogMessage, cause: Cause) -> None:
        self._books = books
        self._message = message
        self._cause = cause
        self._ordinals: dict[str, int] = {}
        self._causation: str | UnsetType = UNSET
        self._correlation: str | UnsetType = UNSET
        self._event_log_sequence: int | UnsetType = UNSET
        self.updates: list[Update] = []
        self.hashes: list[StateHashes] = []
        self._silent = books.publishing != "updates"

    def caused_by(self, envelope: Envelope | None, event_log_sequence: int | None = None) -> None:
        """Name the event whose effect is emitted next, and where it stood if that was earlier."""
        self._causation = UNSET if envelope is None else envelope.event_id
        correlation = None if envelope is None else envelope.correlation_id
        self._correlation = UNSET if correlation is None else correlation
        self._event_log_sequence = UNSET if event_log_sequence is None else event_log_sequence

    def account(
        self,
        account: Account,
        *,
        orders: Sequence[Order] = (),
        steps: Sequence[Step] = (),
        crossed: Sequence[Level] = (),
        flags: tuple[str, ...] = (),
        refusal: tuple[Envelope, ContractError] | None = None,
    ) -> None:
        """Publish an account fully: orders, positions, margin, warnings, refusal, state."""
        books = self._books
        if self._silent:
            self._note(account)
            return
        valuation = books.valuation(account)
        head = self._head(account, valuation, flags)
        for order in sorted(orders, key=_order_id) if len(orders) > 1 else orders:
            self._put(account, head, "OrderUpdated", order_figures(order))
        for step in _moved(account, steps):
            fields = position_update(books, account, step.position, step.change)
            self._put(account, head, "PositionUpdated", fields)
        margin = margin_figures(valuation, account.leverage_limit)
        published = tuple(margin.values())
        if published != published_margin(account):
            account.margin_published = published
            self._put(account, head, "MarginUpdated", margin)
        for level in crossed:
            self._put(account, head, "MarginWarning", {**margin, "level": level})
        if refusal is not None:
            self.refusal(account.stream_id, account, "refused", *refusal)
        self._put(account, head, "StateUpdated", state_figures(account, valuation, margin))
        self._told(account)

    def _note(self, account: Account) -> None:
        """Leave what a publication leaves, for the next one, without writing anything."""
        books, worths = self._books, account.worths
        if worths.cash is None or worths.stale:
            books.equity(account)  # it was not valued since it was opened
        account.margin_in_worths = worths.cash is not None and not worths.failed
        account.margin_unwritten = None if account.margin_in_worths else FAILED
        if books.publishing == "hashes":
            valuation = books.valuation(account)
            ledger_hash = account.ledger_hash()
            self.hashes.append(
                StateHashes(
                    stream_id=account.stream_id,
                    sequence_number=account.version,
                    ledger_hash=ledger_hash,
                    state_hash=state_hash(account, ledger_hash, valuation),
                )
            )
        self._told(account)

    def _told(self, account: Account) -> None:
        if account.unpublished:
            account.unpublished = {}
            self._books.unpublished.pop(account.stream_id, None)

    def warnings(self, account: Account, crossed: Sequence[Level]) -> None:
        """Publish one `MarginWarning` per level crossed upwards, ascending."""
        if not crossed or self._silent:
            return
        valuation = self._books.valuation(account)
        head = self._head(account, valuation, ())
        margin = margin_figures(valuation, account.leverage_limit)
        for level in crossed:
            self._put(account, head, "MarginWarning", {**margin, "level": level})

    def refusal(
        self,
        stream_id: str,
        account: Account | None,
        outcome: str,
        envelope: Envelope | None,
        error: ContractError,
    ) -> None:
        """Publish an event that changed nothing, and why."""
        if self._silent:
            return
        hashed = account.event_hash if account else None
        payload = updates.EventRefused(
            account_id=stream_id,
            log_sequence=self._message.log_sequence,
            event_log_sequence=self._event_log_sequence,
            cause=self._cause,
            event_hash=hashed.hex() if hashed else None,
            chain_hash=account.chain_hash.hex() if account else None,
            flags=(),
            outcome=outcome,  # type: ignore[arg-type]
            reason=error.reason,
            detail=error.detail,
            field=error.field if error.field is not None else UNSET,
            event_id=envelope.event_id if envelope else UNSET,
            event_type=envelope.event_type if envelope else UNSET,
            sequence_number=_or_unset(envelope.sequence_number) if envelope else UNSET,
        )
        self._emit(stream_id, account.version if account else 0, payload)

    def blocked(self, account: Account, reason: str, detail: str) -> None:
        """Publish that a stream waits."""
        if self._silent:
            return
        payload = updates.StreamBlocked(
            **self._common(account, self._books.valuation(account), ()),
            reason=reason,
            expected_sequence=account.version + 1,
            detail=detail,
        )
        self._emit(account.stream_id, account.version, payload)

    def resumed(self, account: Account, first: int) -> None:
        """Publish that a stream goes on; `first` is the number that released it."""
        if self._silent:
            return
        payload = updates.StreamResumed(
            **self._common(account, self._books.valuation(account), ()),
            from_sequence=first,
            to_sequence=account.version,
        )
        self._emit(account.stream_id, account.version, payload)

    def _common(
        self, account: Account, valuation: Valuation, flags: tuple[str, ...]
    ) -> dict[str, Any]:
        return {
            "account_id": account.stream_id,
            "sequence_number": account.version,
            "log_sequence": self._message.log_sequence,
            "event_log_sequence": self._event_log_sequence,
            "cause": self._cause,
            "event_hash": account.event_hash.hex() if account.event_hash else None,
            "chain_hash": account.chain_hash.hex(),
            "flags": _all_flags(valuation, flags),
        }

    def _head(self, account: Account, valuation: Valuation, flags: tuple[str, ...]) -> str:
        """Return what all updates of an account have in common, from `stream_id` on, as JSON."""
        stream_id, version = account.stream_id, account.version
        correlation = causation = original = ""
        if self._correlation is not UNSET:
            correlation = f',"correlation_id":{json_text(self._correlation)}'
        if self._causation is not UNSET:
            causation = f',"causation_id":"{self._causation}"'
        if self._event_log_sequence is not UNSET:
            original = f',"event_log_sequence":{self._event_log_sequence}'
        event_hash = f'"{account.event_hash.hex()}"' if account.event_hash else "null"
        told = _all_flags(valuation, flags)
        return (
            f'","stream_id":"{stream_id}","sequence_number":{version}'
            f',"timestamp":"{log_time(self._message.time)}"'
            f',"schema_version":"{updates.SCHEMA_VERSION}"'
            f',"source_service":"psm","user_id":"psm"{correlation}{causation}'
            f',"payload":{{"account_id":"{stream_id}","sequence_number":{version}'
            f',"log_sequence":{self._message.log_sequence}{original}'
            f',"cause":"{self._cause}","event_hash":{event_hash}'
            f',"chain_hash":"{account.chain_hash.hex()}"'
            f',"flags":{encode(told).decode() if told else "[]"},'
        )

    def _put(self, account: Account, head: str, event_type: str, fields: dict[str, Any]) -> None:
        """Add an update whose bytes are written out: a struct would be filled and read again."""
        event_id = self._next_id(account.stream_id)
        start = f'{{"event_id":"{event_id}","event_type":"{event_type}{head}'
        data = b"".join((start.encode(), encode_fields(fields)[1:], b"}"))
        self._append(_KINDS[event_type], account.stream_id, event_id, data)

    def _emit(self, stream_id: str, version: int, payload: UpdatePayload) -> None:
        event_id = self._next_id(stream_id)
        envelope = UpdateEnvelope(
            event_id=event_id,
            event_type=type(payload).__name__,
            stream_id=stream_id,
            sequence_number=version,
            timestamp=log_time(self._message.time),
            correlation_id=self._correlation,
            causation_id=self._causation,
            payload=payload,
        )
        self._append(KINDS[type(payload)], stream_id, event_id, encode(envelope))

    def _next_id(self, stream_id: str) -> str:
        ordinal = self._ordinals.get(stream_id, 0)
        self._ordinals[stream_id] = ordinal + 1
        return update_id(self._message.log_sequence, stream_id, ordinal)

    def _append(self, kind: str, stream_id: str, event_id: str, data: bytes) -> None:
        self.updates.append(
            Update(
                kind=kind,
                stream_id=stream_id,
                partition=partition_of(stream_id, self._books.partitions),
                event_id=event_id,
                data=data,
                log_sequence=self._message.log_sequence,
            )
        )


_KINDS = {payload.__name__: kind for payload, kind in KINDS.items()}


def _all_flags(valuation: Valuation, flags: tuple[str, ...]) -> tuple[str, ...]:
    state = valuation.flags
    return tuple(sorted(dict.fromkeys((*state, *flags)))) if flags else state


def _order_id(order: Order) -> str:
    return order.order_id


def _symbol(step: Step) -> str:
    return step.position.instrument.symbol


def _moved(account: Account, steps: Sequence[Step]) -> Sequence[Step]:
    """Return the event's own steps and those of marks since the last publication, by symbol."""
    if not account.unpublished:
        return sorted(steps, key=_symbol) if len(steps) > 1 else steps
    own = [_symbol(step) for step in steps]
    moved = list(steps)
    for symbol in account.unpublished:
        position = account.positions.get(symbol)
        if position is not None and position.size and symbol not in own:
            moved.append(Step(position=position, change="marked"))
    return sorted(moved, key=_symbol)


def _or_unset(value: int | None) -> int | UnsetType:
    return UNSET if value is None else value
