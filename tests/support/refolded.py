"""What a log would have said without corrected events: the ones that took effect, folded anew."""

from __future__ import annotations

from typing import Any

import msgspec
from tests.support.events import Sent

from psm.analytics.lots import ClosedLot
from psm.analytics.trades import Trade
from psm.contracts import codec
from psm.domain.messages import Folded, LogMessage, Outcome
from psm.domain.publication.log_times import log_time
from psm.workers.replay.figures import FigureFolder
from psm.workers.replay.lines import LineFolder

_TRADES = ("TradeBusted", "TradeAmended")
_CORRECTIONS = (*_TRADES, "EventReversed")
_AMENDABLE = (
    "quantity", "price", "side", "commission", "commission_currency", "liquidation_fee", "rates",
    "position_side", "isolated_margin",
)  # fmt: skip
Told = dict[str, tuple[list[Trade], list[tuple[str, ClosedLot]]]]
"""Trades and lots, by account."""


def of_a_file(sent: list[Sent]) -> Told:
    """Return what `psm fold --metrics` and `psm lots` say of messages."""
    return _told([_line(one.subject, one.at, one.data) for one in sent])


def as_corrected(sent: list[Sent]) -> Told:
    """Return what they say of the same messages with corrected events as they are corrected."""
    folder = _Noting(partitions=1)
    for one in sent:
        folder.take(_line(one.subject, one.at, one.data))
    lines = []
    for message, time in folder.events:
        body = _corrected(message, folder.corrections)
        if body is not None:
            stream = message.stream_id
            subject = message.subject if stream is None else f"trades.{stream}"
            lines.append(_line(subject, time, msgspec.json.encode(body)))
    return _told(lines)


def _line(subject: str, time: int | None, data: bytes) -> bytes:
    assert time is not None
    document = {"subject": subject, "time": log_time(time), "data": msgspec.Raw(data)}
    return msgspec.json.encode(document)


def _told(lines: list[bytes]) -> Told:
    folder = FigureFolder(periods=365, partitions=1)
    for line in lines:
        folder.take(line)
    found: Told = {figures.account_id: (figures.trades, []) for figures in folder.accounts()}
    for account_id, lot in folder.lots():
        found[account_id][1].append((account_id, lot))
    for _, lots in found.values():
        lots.sort(key=lambda one: msgspec.json.encode(one[1]))
    return found


class _Noting(LineFolder):
    """Notes messages of the market and of events that took effect, and what was corrected."""

    def __init__(self, partitions: int) -> None:
        super().__init__(partitions=partitions)
        self.events: list[tuple[LogMessage, int]] = []
        self.corrections: dict[str, list[dict[str, Any]]] = {}

    def _fold(self, message: LogMessage) -> Folded:
        result = super()._fold(message)
        if message.stream_id is None:
            self.events.append((message, message.time))
        for placement in result.placements:
            if placement.outcome is Outcome.APPLIED:
                event = self.message_at(placement.stream_id, placement.log_sequence)
                self.events.append((event, message.time))
                body = codec.decode_untyped(event.data)
                if body["event_type"] in _CORRECTIONS:
                    correction = {**body["payload"], "event_type": body["event_type"]}
                    self.corrections.setdefault(body["stream_id"], []).append(correction)
        return result


def _corrected(message: LogMessage, corrections: dict[str, list[dict[str, Any]]]) -> Any:
    """Return a message as it would stand in a log without corrected fills; None for no place."""
    event = codec.decode_untyped(message.data)
    if message.stream_id is not None:
        event.pop("sequence_number", None)  # a stale mark stays one
    if event.get("event_type") in _CORRECTIONS:
        return None
    payload = event.get("payload") or {}
    for correction in corrections.get(str(event.get("stream_id")), ()):
        if _names(correction, event, payload):
            if correction["event_type"] != "TradeAmended":
                return None
            said = {name: correction[name] for name in _AMENDABLE if correction.get(name)}
            payload = event["payload"] = {**payload, **said}
    return event


def _names(correction: dict[str, Any], event: dict[str, Any], payload: dict[str, Any]) -> bool:
    if correction["event_type"] in _TRADES and event.get("event_type") != "TradeExecuted":
        return False
    if correction.get("event_id") is not None:
        return str(correction["event_id"]).lower() == event.get("event_id")
    return bool(correction.get("fill_id") == payload.get("fill_id"))
