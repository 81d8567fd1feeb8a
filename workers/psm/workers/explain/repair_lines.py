"""Events that would make the books say what a report says: printed for a person, never booked.

Ids and references follow from the report, so that publishing the same lines twice books them once.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from psm.contracts import codec
from psm.contracts.fields import PositionSide
from psm.contracts.reconciliation import Difference
from psm.contracts.reports import AccountReported, PositionReport
from psm.contracts.subjects import stored_trades
from psm.domain.books import Books
from psm.domain.fold import fold
from psm.domain.messages import Folded, LogMessage, Outcome
from psm.domain.money import negate, published_text
from psm.domain.publication.update_ids import NAMESPACE
from psm.domain.reconciliation import Comparison, HeldPosition, Holdings, compare, holdings_of

_REFERENCE = "reconciliation"


def repair_lines(
    account: str,
    report: AccountReported,
    comparison: Comparison,
    holdings: Holdings,
    *,
    report_id: str,
    timestamp: str,
    actor: str,
) -> list[dict[str, Any]]:
    """Return the events that repair every difference, in the order in which they are to be booked.

    They have no number: whoever publishes them assigns it. A size whose price nobody states gets no
    line. Wallets, margin modes, debts and equity have none either: they are moved at the venue, or
    follow from the rest.

    Args:
        account: whose.
        report: what was compared.
        comparison: with what result.
        holdings: what the account has.
        report_id: event id of the report.
        timestamp: of the events.
        actor: in whose name they would be booked.
    """
    reason = f"reconciliation with report {report_id}"
    lines = []
    for ordinal, (event_type, payload) in enumerate(_repairs(report, comparison, holdings), 1):
        event_id = uuid.uuid5(uuid.UUID(bytes=NAMESPACE), f"{_REFERENCE}/{report_id}/{ordinal}")
        by = {"reason": reason, "actor": actor, "reference": f"{_REFERENCE}:{event_id}"}
        lines.append(
            {
                "event_id": str(event_id),
                "event_type": event_type,
                "stream_id": account,
                "timestamp": timestamp,
                "schema_version": "1.0.0",
                "payload": {**payload, **by},
            }
        )
    return lines


def repairs_all(
    books: Books, account: str, lines: Sequence[dict[str, Any]], report: AccountReported
) -> bool:
    """Return whether the report matches once these lines are folded into the books.

    Args:
        books: as they were compared; changed.
        account: whose.
        lines: of `repair_lines`.
        report: to match.
    """
    for line in lines:
        known = books.accounts.get(account)
        number = known.delivery.version + 1 if known else 1
        message = LogMessage(
            log_sequence=books.position + 1,
            subject=stored_trades(account, books.partitions),
            time=0,
            data=codec.encode({**line, "sequence_number": number}),
        )
        folded = fold(books, message, emit="nothing")
        if not isinstance(folded, Folded) or folded.outcome is not Outcome.APPLIED:
            return False
    held = books.accounts.get(account)
    if held is None:
        return False
    return compare(report, holdings_of(held), books.market.instruments).matches


def _repairs(
    report: AccountReported, comparison: Comparison, holdings: Holdings
) -> Iterator[tuple[str, dict[str, str]]]:
    told = {(said.symbol, said.position_side): said for said in report.positions}
    restated = {
        (found.symbol, found.position_side)
        for found in comparison.differences
        if found.what.endswith(".entry_price")
    }
    for found in comparison.differences:
        if found.what == f"assets.{found.symbol}":
            yield "CashAdjusted", {"amount": found.difference, "currency": found.symbol}
            continue
        if found.position_side is None:
            continue
        key = (found.symbol, found.position_side)
        if found.what.endswith(".entry_price"):
            yield from _restated(told[key], holdings.positions[key])
        elif found.what.endswith(".size") and key not in restated:
            yield from _resized(found, told.get(key), holdings.positions.get(key))


def _restated(said: PositionReport, held: HeldPosition) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield what takes all of a position out and puts it in again at the reported price."""
    assert said.entry_price is not None
    for quantity in (negate(held.size), said.size):
        yield _adjusted(said.symbol, said.position_side, quantity, said.entry_price)


def _resized(
    found: Difference, said: PositionReport | None, held: HeldPosition | None
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield what adds or takes away the difference in size, at the best price that is known."""
    assert found.position_side is not None
    known = (
        said.entry_price if said and said.size else None,
        held.entry_price if held else None,
        said.mark_price if said else None,
    )
    price = next((price for price in known if price is not None), None)
    if price is not None:
        yield _adjusted(found.symbol, found.position_side, Decimal(found.difference), price)


def _adjusted(
    symbol: str, side: PositionSide, quantity: Decimal, price: Decimal
) -> tuple[str, dict[str, str]]:
    where = {"symbol": symbol} if side == "net" else {"symbol": symbol, "position_side": side}
    figures = {"quantity": published_text(quantity), "price": published_text(price)}
    return "PositionAdjusted", {**where, **figures}
