"""Builds the updates of one log message: deterministic ids, order and bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from msgspec import UNSET, UnsetType

from psm.contracts import updates
from psm.contracts.codec import encode
from psm.contracts.envelope import Envelope
from psm.contracts.errors import ContractError
from psm.contracts.subjects import partition_of
from psm.contracts.updates import KINDS, Cause, Level, UpdateEnvelope, UpdatePayload
from psm.domain import valuation as valuing
from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.messages import LogMessage, Update
from psm.domain.money import ZERO, absolute, figure_sum, negate, published_text
from psm.domain.orders import Order, average_price
from psm.domain.positions import Position, Step, break_even_price, entry_price
from psm.domain.valuation import PositionValue, Valuation, position_value

NAMESPACE = bytes.fromhex("c5b1b0f6f3a75bb29f0b6a6f3d1c7e55")
"""The PSM namespace of UUIDv5, for the ids of updates."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def update_id(log_sequence: int, stream_id: str, ordinal: int) -> str:
    """Return UUIDv5(PSM namespace, `<log_sequence>/<stream_id>/<ordinal>`)."""
    name = f"{log_sequence}/{stream_id}/{ordinal}".encode()
    raw = bytearray(hashlib.sha1(NAMESPACE + name, usedforsecurity=False).digest()[:16])
    raw[6] = raw[6] & 0x0F | 0x50
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def log_time(time_ns: int) -> str:
    """Return a log time as RFC 3339 in UTC with microseconds."""
    moment = _EPOCH + timedelta(microseconds=time_ns // 1000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + f".{moment.microsecond:06d}Z"


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
        self._timestamp = log_time(message.time)
        self.updates: list[Update] = []

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
        valuation = self._books.valuation(account)
        common = self._common(account, valuation, flags)
        for order in sorted(orders, key=lambda order: order.order_id):
            updated = updates.OrderUpdated(**common, **order_figures(order))
            self._emit(account.stream_id, account.version, updated)
        marked = [
            Step(position=account.positions[symbol], change="marked")
            for symbol in account.unpublished
            if symbol in account.positions and account.positions[symbol].size
        ]
        own = [step.position.symbol for step in steps]
        moved = [*steps, *(step for step in marked if step.position.symbol not in own)]
        for step in sorted(moved, key=lambda step: step.position.symbol):
            self._position(common, account, step)
        margin = margin_figures(valuation, account.leverage_limit)
        if tuple(margin.values()) != account.margin_published:
            account.margin_published = tuple(margin.values())
            self._emit(
                account.stream_id, account.version, updates.MarginUpdated(**common, **margin)
            )
        self.warnings(account, crossed, common, margin)
        if refusal is not None:
            self.refusal(account.stream_id, account, "refused", *refusal)
        self._emit(
            account.stream_id,
            account.version,
            updates.StateUpdated(**common, **state_figures(account, valuation)),
        )
        account.unpublished = {}
        self._books.unpublished.pop(account.stream_id, None)

    def warnings(
        self,
        account: Account,
        crossed: Sequence[Level],
        common: dict[str, Any] | None = None,
        margin: dict[str, Any] | None = None,
    ) -> None:
        """Publish one `MarginWarning` per level crossed upwards, ascending."""
        if not crossed:
            return
        valuation = self._books.valuation(account)
        common = common or self._common(account, valuation, ())
        margin = margin or margin_figures(valuation, account.leverage_limit)
        for level in crossed:
            warning = updates.MarginWarning(**common, **margin, level=level)
            self._emit(account.stream_id, account.version, warning)

    def refusal(
        self,
        stream_id: str,
        account: Account | None,
        outcome: str,
        envelope: Envelope | None,
        error: ContractError,
    ) -> None:
        """Publish an event that changed nothing, and why."""
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
        payload = updates.StreamBlocked(
            **self._common(account, self._books.valuation(account), ()),
            reason=reason,
            expected_sequence=account.version + 1,
            detail=detail,
        )
        self._emit(account.stream_id, account.version, payload)

    def resumed(self, account: Account, first: int) -> None:
        """Publish that a stream goes on; `first` is the number that released it."""
        payload = updates.StreamResumed(
            **self._common(account, self._books.valuation(account), ()),
            from_sequence=first,
            to_sequence=account.version,
        )
        self._emit(account.stream_id, account.version, payload)

    def _position(self, common: dict[str, Any], account: Account, step: Step) -> None:
        position = step.position
        figures = position_figures(self._books, account, position)
        payload = updates.PositionUpdated(**common, **figures, change=step.change)
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
            "flags": tuple(sorted(dict.fromkeys((*valuation.flags, *flags)))),
        }

    def _emit(self, stream_id: str, version: int, payload: UpdatePayload) -> None:
        ordinal = self._ordinals.get(stream_id, 0)
        self._ordinals[stream_id] = ordinal + 1
        sequence = self._message.log_sequence
        event_id = update_id(sequence, stream_id, ordinal)
        envelope = UpdateEnvelope(
            event_id=event_id,
            event_type=type(payload).__name__,
            stream_id=stream_id,
            sequence_number=version,
            timestamp=self._timestamp,
            correlation_id=self._correlation,
            causation_id=self._causation,
            payload=payload,
        )
        self.updates.append(
            Update(
                kind=KINDS[type(payload)],
                stream_id=stream_id,
                partition=partition_of(stream_id, self._books.partitions),
                event_id=event_id,
                data=encode(envelope),
                log_sequence=sequence,
            )
        )


def state_document(books: Books, account: Account) -> dict[str, Any]:
    """Return what `GET /psm/state/{account_id}` answers, as of now."""
    valuation = books.valuation(account)
    positions = {
        symbol: position_figures(books, account, position)
        for symbol, position in sorted(account.positions.items())
    }
    return {
        "account_id": account.stream_id,
        "sequence_number": account.version,
        "log_sequence": books.position,
        "event_hash": account.event_hash.hex() if account.event_hash else None,
        "chain_hash": account.chain_hash.hex(),
        "flags": list(valuation.flags),
        **state_figures(account, valuation),
        "positions": positions,
        "orders": {order.order_id: order_figures(order) for order in account.open_orders()},
    }


def state_figures(account: Account, valuation: Valuation) -> dict[str, Any]:
    """Return the fields of `StateUpdated` that are not common to every update."""
    ledger_hash = account.ledger_hash()
    hashed = valuing.state_hash(account, ledger_hash, valuation)
    gross, fees = account.total("realized_pnl"), account.total("fees")
    funding = account.total("funding")
    return {
        "status": account.status,
        "currency": account.currency,
        "cash": {c: published_text(amount) for c, amount in sorted(account.cash.items())},
        "equity": _text(valuation.equity),
        "unrealized_pnl": _text(valuation.unrealized_pnl),
        "realized_pnl": published_text(gross),
        "realized_pnl_net": published_text(figure_sum(gross, negate(fees), funding)),
        "fees": published_text(fees),
        "funding": published_text(funding),
        "deposits": published_text(account.total("deposits")),
        "withdrawals": published_text(account.total("withdrawals")),
        "exposure_gross": _text(valuation.exposure_gross),
        "exposure_net": _text(valuation.exposure_net),
        "margin_initial": _text(valuation.margin_initial),
        "margin_maintenance": _text(valuation.margin_maintenance),
        "margin_available": _text(valuation.margin_available),
        "withdrawable": _text(valuation.withdrawable),
        "leverage": _text(valuation.leverage),
        "leverage_limit": _text(account.leverage_limit),
        "peak_equity": _text(account.peak_equity),
        "drawdown": _text(valuing.drawdown(account.peak_equity, valuation.equity)),
        "open_positions": account.open_position_count(),
        "open_orders": account.open_order_count,
        "ledger_hash": ledger_hash.hex(),
        "state_hash": hashed.hex(),
    }


def order_figures(order: Order) -> dict[str, Any]:
    """Return an order's own figures."""
    return {
        "order_id": order.order_id,
        "symbol": order.symbol,
        "side": order.side,
        "type": order.type,
        "quantity": published_text(order.quantity),
        "filled_quantity": published_text(order.filled_quantity),
        "average_price": _text(average_price(order)),
        "status": order.status,
    }


def margin_figures(valuation: Valuation, leverage_limit: Decimal | None) -> dict[str, Any]:
    """Return the fields of `MarginUpdated` that are not common to every update."""
    return {
        "equity": _text(valuation.equity),
        "margin_initial": _text(valuation.margin_initial),
        "margin_maintenance": _text(valuation.margin_maintenance),
        "margin_available": _text(valuation.margin_available),
        "margin_ratio": _text(valuation.margin_ratio),
        "leverage": _text(valuation.leverage),
        "leverage_limit": _text(leverage_limit),
    }


def position_figures(books: Books, account: Account, position: Position) -> dict[str, Any]:
    """Return a position's own figures; null where it is flat or does not compute."""
    value = _value_of(books, account, position)
    liquidation = None
    if value is not None:
        rates = partial(books.rate, account)
        valuation = books.valuation(account)
        liquidation = valuing.liquidation_price(account, position, valuation, rates)
    net = figure_sum(position.realized_pnl, negate(position.fees), position.funding)
    return {
        "symbol": position.symbol,
        "side": position.side,
        "size": published_text(absolute(position.size)),
        "entry_price": _text(entry_price(position)),
        "break_even_price": _text(break_even_price(position)),
        "mark_price": _text(value.price if value else None),
        "mark_source": value.source if value else None,
        "notional": _text(value.notional if value else None if position.size else ZERO),
        "unrealized_pnl": _text(value.unrealized if value else None if position.size else ZERO),
        "realized_pnl": published_text(position.realized_pnl),
        "realized_pnl_net": published_text(net),
        "fees": published_text(position.fees),
        "funding": published_text(position.funding),
        "cycle": position.cycle,
        "cycle_realized_pnl": published_text(position.cycle_realized_pnl),
        "liquidation_price": _text(liquidation),
    }


def _value_of(books: Books, account: Account, position: Position) -> PositionValue | None:
    """Return the value of an open position, also where the account as a whole does not compute."""
    if not position.size:
        return None
    value = books.valuation(account).positions.get(position.symbol)
    if value is not None:
        return value
    try:
        price = valuing.price_of(account, position, books.marks.get(position.symbol))
        return position_value(position, price, account.leverage_of(position.symbol))
    except ArithmeticError:
        return None


def _text(value: Decimal | None) -> str | None:
    return None if value is None else published_text(value)


def _or_unset(value: int | None) -> int | UnsetType:
    return UNSET if value is None else value
