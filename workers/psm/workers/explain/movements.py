"""How figures of a ledger came about: every event that moved one, and by exactly how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, get_args

import msgspec
from nats.aio.client import Client

from psm.contracts.codec import decode_untyped
from psm.domain.account import Account
from psm.domain.ledger.effect import TotalName
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.positions import Position
from psm.domain.money import ZERO, subtract_wide
from psm.workers.history.timeline import Place, StreamHistory
from psm.workers.log.refold import Progress, Replayed, refold_stream
from psm.workers.log.shape import LogShape

TOTALS: tuple[TotalName, ...] = get_args(TotalName)
POSITION_SUMS = ("size", "cost", "realized_pnl", "fees", "funding")


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """What one message of the log added to a figure.

    Attributes:
        places: that the message folded; several where it closed a gap.
        payload: of the event; None where there are several.
        change: exact, in the figure's unit.
        before: the position that the event moved, before it; None where there was none.
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

    `figure` is `cash.<currency>`, `borrowed.<asset>`, a total such as `fees`, or
    `positions.<key>.<sum>`.
    """
    if figure.startswith("cash."):
        return account.ledger.cash.get(figure.removeprefix("cash."), ZERO)
    if figure.startswith("borrowed."):
        return account.ledger.borrowed.get(figure.removeprefix("borrowed."), ZERO)
    if figure.startswith("positions."):
        key, _, name = figure.removeprefix("positions.").rpartition(".")
        position = account.ledger.positions.get(key)
        return ZERO if position is None else Decimal(getattr(position, name))
    if figure.startswith("assets."):
        asset, _, name = figure.removeprefix("assets.").rpartition(".")
        assert name == "cost", "all else of an asset is its cash, or is valued"
        return account.ledger.holding(asset).cost.amount
    name = next(total for total in TOTALS if total == figure)
    return account.ledger.total(name)


async def read_histories(
    nc: Client,
    shape: LogShape,
    ledger: StreamHistory,
    last: int,
    figures: Sequence[str],
    *,
    progress: Progress | None = None,
) -> dict[str, History]:
    """Fold a stream up to log sequence `last` and note what moved each figure."""
    books = shape.books()
    places: dict[int, list[Place]] = {}
    for place in ledger.places:
        places.setdefault(place.folded_at, []).append(place)
    values = dict.fromkeys(figures, ZERO)
    moves: dict[str, list[Move]] = {figure: [] for figure in figures}
    positions: dict[str, Position] = {}
    async for replayed in refold_stream(
        nc, books, ledger.stream_id, last, marks=ledger.booked_by, emit="nothing", progress=progress
    ):
        account = books.accounts.get(ledger.stream_id)
        folded = places.get(replayed.message.log_sequence)
        if account is None or folded is None:
            continue
        payload = _payload(replayed) if len(folded) == 1 else None
        symbol = str(payload.get("symbol", "")) if payload else ""
        key = _moved(symbol, positions, account.ledger)
        for figure in figures:
            value = ledger_value(account, figure)
            if value != values[figure]:
                moves[figure].append(
                    Move(
                        places=tuple(folded),
                        payload=payload,
                        change=subtract_wide(value, values[figure]),
                        before=positions.get(key),
                        after=account.ledger.positions.get(key),
                    )
                )
                values[figure] = value
        positions = dict(account.ledger.positions)
    return {
        figure: History(figure=figure, value=values[figure], moves=moves[figure])
        for figure in figures
    }


def _moved(symbol: str, before: Mapping[str, Position], after: Ledger) -> str:
    """Return the key of the position that an event on a symbol moved: the net one, or a leg."""
    keys = after.keys_of(symbol)
    moved = [key for key in keys if before.get(key) is not after.positions.get(key)]
    return (*moved, *keys)[0]


def _payload(replayed: Replayed) -> Mapping[str, Any] | None:
    found = decode_untyped(replayed.message.data).get("payload")
    return found if isinstance(found, Mapping) else None
