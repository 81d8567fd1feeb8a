"""Positions from flat to flat, and the lots of their fills, while a file is folded."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from psm.analytics.lots import ClosedLot, LotBook
from psm.analytics.trades import Trade
from psm.contracts.position_keys import position_key
from psm.domain.account import Account
from psm.domain.ledger.positions import Position
from psm.domain.money import ONE, add, negate, subtract
from psm.workers.replay.watched import FoldedStep


class Cycles:
    """Trades, which are the cycles that the fold has closed, and the lots of their fills.

    Attributes:
        trades: closed cycles by account, in the order in which they closed.
        lots: closed lots by account, likewise.
    """

    def __init__(self) -> None:
        self.trades: dict[str, list[Trade]] = {}
        self.lots: dict[str, list[ClosedLot]] = {}
        self._opened: dict[tuple[str, str], tuple[str, int]] = {}
        self._books: dict[tuple[str, str], LotBook] = {}

    def see(self, step: FoldedStep) -> None:
        """Take what one message did."""
        for event in step.applied:
            account = step.books.accounts[event["stream_id"]]
            self._lot(account, event, step.message.time)
        for published in step.result.payloads:
            if published.kind == "position.updated":
                self._position(published.stream_id, published.payload, step.message.time)

    def _position(self, stream_id: str, payload: Mapping[str, Any], time: int) -> None:
        """Note when and on which side a cycle opened; take its figures where it closed."""
        key = (stream_id, position_key(payload["symbol"], payload["position_side"]))
        if payload["change"] == "closed":
            side, opened = self._opened.pop(key)
            gross, fees, funding = (
                Decimal(payload[name])
                for name in ("cycle_realized_pnl", "cycle_fees", "cycle_funding")
            )
            trade = Trade(
                symbol=payload["symbol"],
                side=side,
                opened=opened,
                closed=time,
                peak_size=Decimal(payload["peak_size"]),
                gross=gross,
                fees=fees,
                funding=funding,
                net=add(subtract(gross, fees), funding),
                mae=_number(payload["cycle_mae"]),
                mfe=_number(payload["cycle_mfe"]),
            )
            self.trades.setdefault(stream_id, []).append(trade)
        elif payload["side"] != "flat":
            self._opened.setdefault(key, (payload["side"], time))

    def _lot(self, account: Account, event: Mapping[str, Any], time: int) -> None:
        """Book what an event that took effect did to the lots of its symbol, of each leg apart."""
        symbol = (event.get("payload") or {}).get("symbol")
        keys = account.ledger.keys_of(symbol) if isinstance(symbol, str) else ()
        for key in keys:
            position = account.ledger.positions.get(key)
            if position is not None:
                self._lot_of(account, position, event, time)

    def _lot_of(
        self, account: Account, position: Position, event: Mapping[str, Any], time: int
    ) -> None:
        payload = event["payload"]
        key = (account.stream_id, position.key)
        book = self._books.get(key)
        if book is None:
            instrument = position.instrument
            book = LotBook(position.symbol, instrument.multiplier, inverse=instrument.inverse)
            self._books[key] = book
        if event["event_type"] == "SplitApplied":
            book.split(*_ratio(payload))
        alone = len(account.ledger.keys_of(position.symbol)) == 1
        moved = _moved(event, payload, book, position, alone=alone)
        price = _price(payload, position, account)
        if moved and price is not None:
            closed = book.fill(moved, price, time)
            self.lots.setdefault(account.stream_id, []).extend(closed)


def _moved(
    event: Mapping[str, Any],
    payload: Mapping[str, Any],
    book: LotBook,
    position: Position,
    *,
    alone: bool,
) -> Decimal:
    """Return by how much an event moved a position: its fill, or what its lots lack since."""
    if alone and event["event_type"] == "TradeExecuted":
        quantity = Decimal(payload["quantity"])
        return quantity if payload["side"] == "buy" else negate(quantity)
    moved = position.size
    for lot in book.open_lots:
        moved = subtract(moved, lot.size)
    return moved


def _price(payload: Mapping[str, Any], position: Position, account: Account) -> Decimal | None:
    for name in ("price", "settlement_price", "entry_price"):
        if payload.get(name) is not None:
            return Decimal(payload[name])
    mark = account.prices.mark(position.symbol)
    return position.last_fill if mark is None else mark


def _number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _ratio(payload: Mapping[str, Any]) -> tuple[Decimal, Decimal]:
    if payload.get("ratio") is not None:
        return Decimal(payload["ratio"]), ONE
    return Decimal(payload["numerator"]), Decimal(payload["denominator"])
