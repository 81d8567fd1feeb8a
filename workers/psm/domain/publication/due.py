"""Whose valuation is published when: at slots of the valuation clock, each account by itself."""

from __future__ import annotations

import msgspec

from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.ledger.positions import PositionStep
from psm.domain.messages import LogMessage


class DueUpdates(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What of an account is due at a slot beside its state and margin.

    Attributes:
        positions: by their keys.
        assets: by their names.
    """

    positions: tuple[str, ...] = ()
    assets: tuple[str, ...] = ()

    def steps(self, account: Account) -> list[PositionStep]:
        """Return the positions as they are now."""
        held = account.ledger.positions
        return [PositionStep(position=held[key], change="marked") for key in self.positions]


_FIGURES_ALONE = DueUpdates()


def due_for_publication(books: Books, message: LogMessage) -> dict[str, DueUpdates]:
    """Move the valuation clock at a mark; return what is due of which account."""
    if not books.publishing:
        return {}
    before = books.market.clock
    books.market.advance_clock(message.time, books.slots)
    due: dict[str, DueUpdates] = {}
    for account in books.reached(books.market.clock):
        found = None
        if message.log_sequence > account.delivery.as_of:
            found = _due_of(books, account, before)
        if found is None:
            books.schedule(account)
        else:
            due[account.stream_id] = found
    return due


def _due_of(books: Books, account: Account, before: int) -> DueUpdates | None:
    """Return what is due of an account at the slots between two times of the clock."""
    waiting, slots, clock = account.unpublished, books.slots, books.market.clock
    if waiting.reaches(slots.slow, before, clock):
        account.end_minute(books.market.minute(0))
        return everything_due(account) if waiting.tellable else None
    near = account.near_unpublished()
    is_near = bool(near) or (waiting.changed and account.valuation.is_near)
    if is_near and waiting.reaches(slots.fast, before, clock):
        return DueUpdates(positions=tuple(near))
    if waiting.changed and waiting.reaches(slots.mid, before, clock):
        return _FIGURES_ALONE if waiting.is_away(account.equity(), slots) else None
    return None


def everything_due(account: Account) -> DueUpdates:
    """Return all that marks changed since its own last update."""
    waiting, cash = account.unpublished, account.ledger.cash
    return DueUpdates(
        positions=tuple(sorted({**waiting.positions, **waiting.position_closes})),
        assets=tuple(asset for asset in sorted(waiting.assets) if cash.get(asset)),
    )
