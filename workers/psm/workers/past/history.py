"""How figures of a ledger came about: every event that moved one, and by exactly how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, get_args

import msgspec
from nats.aio.client import Client

from psm.contracts.codec import decode_untyped
from psm.domain.account import Account
from psm.domain.effect import TotalName
from psm.domain.money import ZERO, subtract_wide
from psm.domain.positions import Position
from psm.workers.past.places import Ledger, LogShape, Place
from psm.workers.replay import Progress, Replayed, refold_stream

TOTALS: tuple[TotalName, ...] = get_args(TotalName)
POSITION_SUMS = ("size", "cost", "realized_pnl", "fees", "funding")


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """What one message of the log added to a figure.

    Attributes:
        places: that the message folded; several where it closed a gap.
        payload: of the event; None where there are several.
        change: exact, in the figure's unit.
        before: the position of the event's symbol before it; None where there was none.
        after: likewise, after it.
    """

    places: tuple[Place, ...]
    payload: Mapping[str, Any] | None
    change: Decimal
    before: Position | None
    after: Position | None


class History(msgspec.Struct, frozen=True, kw_only=True):
    """A figure's value and everything that moved it, in log order; the changes add up to it."""

    figure: str
    value: Decimal
    moves: list[Move]


def ledger_value(account: Account, figure: str) -> Decimal:
    """Return an exact figure of the ledger, 0 where it has none.

    `figure` is `cash.<currency>`, a total such as `fees`, or `positions.<symbol>.<sum>`.
    """
    if figure.startswith("cash."):
        return account.cash.get(figure.removeprefix("cash."), ZERO)
    if figure.startswith("positions."):
        symbol, _, name = figure.removeprefix("positions.").rpartition(".")
        position = account.positions.get(symbol)
        return ZERO if position is None else Decimal(getattr(position, name))
    name = next(total for total in TOTALS if total == figure)
    return account.total(name)


async def read_histories(
    nc: Client,
    shape: LogShape,
    ledger: Ledger,
    last: int,
    figures: Sequence[str],
    *,
    progress: Progress | None = None,
) -> dict[str, History]:
    """Fold a stream without marks up to log sequence `last` and note what moved each figure."""
    books = shape.books()
    books.publishing = "nothing"
    places: dict[int, list[Place]] = {}
    for place in ledger.places:
        places.setdefault(place.folded_at, []).append(place)
    values = dict.fromkeys(figures, ZERO)
    moves: dict[str, list[Move]] = {figure: [] for figure in figures}
    positions: dict[str, Position] = {}
    async for replayed in refold_stream(
        nc, books, ledger.stream_id, last, marks=(), progress=progress
    ):
        account = books.accounts.get(ledger.stream_id)
        folded = places.get(replayed.message.log_sequence)
        if account is None or folded is None:
            continue
        payload = _payload(replayed) if len(folded) == 1 else None
        symbol = str(payload.get("symbol", "")) if payload else ""
        for figure in figures:
            value = ledger_value(account, figure)
            if value != values[figure]:
                moves[figure].append(
                    Move(
                        places=tuple(folded),
                        payload=payload,
                        change=subtract_wide(value, values[figure]),
                        before=positions.get(symbol),
                        after=account.positions.get(symbol),
                    )
                )
                values[figure] = value
        positions = dict(account.positions)
    return {
        figure: History(figure=figure, value=values[figure], moves=moves[figure])
        for figure in figures
    }


def _payload(replayed: Replayed) -> Mapping[str, Any] | None:
    found = decode_untyped(replayed.message.data).get("payload")
    return found if isinstance(found, Mapping) else None
