"""What of an account marks changed and no update says yet, and the closes of minutes.

An account's figures at the end of a minute are noted before the first message of a later one
changes them, or at its first slow slot after it; a position's likewise. Nobody goes through all
accounts at the end of a minute: what no message touched is what it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from psm.domain.market.slots import ValuationSlots, phase_of
from psm.domain.money import absolute, multiply_wide, plain, subtract_wide
from psm.domain.valuation.performance import Performance

_BPS = Decimal(10_000)


class AccountClose(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An account at the end of a minute, which is counted from the epoch."""

    minute: int
    equity: Decimal | None
    performance: Performance

    def plain(self) -> AccountClose:
        """Return the same with plain figures."""
        return AccountClose(
            minute=self.minute, equity=plain(self.equity), performance=self.performance.plain()
        )


class PositionClose(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An open position at the end of a minute; nulls where it did not compute."""

    minute: int
    unrealized: Decimal | None
    price: Decimal | None

    def plain(self) -> PositionClose:
        """Return the same with plain figures."""
        return PositionClose(
            minute=self.minute, unrealized=plain(self.unrealized), price=plain(self.price)
        )


class SavedUnpublished(msgspec.Struct, frozen=True, kw_only=True):
    """What waits to be published of one account, as its snapshot keeps it; see `Unpublished`."""

    changed: bool
    positions: list[str]
    assets: list[str]
    equity: Decimal | None
    minute: int | None
    minutes: dict[str, int]
    closes: tuple[AccountClose, ...]
    position_closes: dict[str, tuple[PositionClose, ...]]


class Unpublished:
    """What waits to be published of one account.

    Attributes:
        changed: whether a mark changed the account since its last `StateUpdated`.
        positions: keys of open ones whose mark changed since their own last update.
        assets: likewise those whose rate changed.
        equity: as the last `StateUpdated` said it.
        minute: the one whose close is not noted yet; None where nothing changed since.
        minutes: likewise, by key of the open positions.
        closes: of minutes that are over, not told yet.
        position_closes: likewise, by key of the position.
        slot: of the clock at which the account is looked at next; None if nothing waits. It
            follows from all the others and is in no snapshot.
    """

    __slots__ = (
        "_phase",
        "assets",
        "changed",
        "closes",
        "equity",
        "minute",
        "minutes",
        "position_closes",
        "positions",
        "slot",
    )

    def __init__(self, stream_id: str) -> None:
        self._phase = phase_of(stream_id)
        self.changed = False
        self.positions: dict[str, None] = {}
        self.assets: dict[str, None] = {}
        self.equity: Decimal | None = None
        self.minute: int | None = None
        self.minutes: dict[str, int] = {}
        self.closes: tuple[AccountClose, ...] = ()
        self.position_closes: dict[str, tuple[PositionClose, ...]] = {}
        self.slot: int | None = None

    @classmethod
    def restored(cls, stream_id: str, saved: SavedUnpublished) -> Unpublished:
        """Return what a snapshot says."""
        waiting = cls(stream_id)
        waiting.changed = saved.changed
        waiting.positions = dict.fromkeys(saved.positions)
        waiting.assets = dict.fromkeys(saved.assets)
        waiting.equity = saved.equity
        waiting.minute = saved.minute
        waiting.minutes = saved.minutes
        waiting.closes = saved.closes
        waiting.position_closes = saved.position_closes
        return waiting

    def saved(self) -> SavedUnpublished:
        """Return what a snapshot keeps, as it is whatever way the figures were computed."""
        return SavedUnpublished(
            changed=self.changed,
            positions=sorted(self.positions),
            assets=sorted(self.assets),
            equity=plain(self.equity),
            minute=self.minute,
            minutes=dict(sorted(self.minutes.items())),
            closes=tuple(close.plain() for close in self.closes),
            position_closes={
                key: tuple(close.plain() for close in closes)
                for key, closes in sorted(self.position_closes.items())
            },
        )

    @property
    def anything(self) -> bool:
        """Whether something waits for a slot: a change, a close, or a minute that is not over."""
        return bool(
            self.changed
            or self.positions
            or self.assets
            or self.closes
            or self.position_closes
            or self.minute is not None
            or self.minutes
        )

    @property
    def tellable(self) -> bool:
        """Whether there is something to publish now."""
        waits = self.changed or self.positions or self.assets
        return bool(waits or self.closes or self.position_closes)

    def note_change(self, keys: Iterable[str], assets: Iterable[str]) -> None:
        """Note that a mark changed the account, its open positions with these keys, and assets."""
        self.changed = True
        for key in keys:
            self.positions[key] = None
        for asset in assets:
            self.assets[asset] = None

    def open_minute(self, minute: int) -> None:
        """Note that the account is about to change within a minute, the first time in it."""
        self.minute = minute

    def open_position_minute(self, key: str, minute: int) -> None:
        """Note that a position is about to change within a minute that the account has open."""
        self.minutes[key] = minute

    def close(self, equity: Decimal | None, performance: Performance) -> None:
        """Note the account at the end of its open minute."""
        assert self.minute is not None, "it has changed"
        noted = AccountClose(minute=self.minute + 1, equity=equity, performance=performance)
        self.closes = (*self.closes, noted)
        self.minute = None

    def close_position(self, key: str, unrealized: Decimal | None, price: Decimal | None) -> None:
        """Note a position at the end of its open minute."""
        minute = self.minutes.pop(key) + 1
        noted = PositionClose(minute=minute, unrealized=unrealized, price=price)
        self.position_closes[key] = (*self.position_closes.get(key, ()), noted)

    def published(self, equity: Decimal | None) -> None:
        """Note that a `StateUpdated` said everything of the account but its positions."""
        self.changed = False
        self.equity = equity
        self.closes = ()

    def published_asset(self, asset: str) -> None:
        """Note that an update said everything of an asset."""
        self.assets.pop(asset, None)

    def published_position(self, key: str, *, held: bool) -> None:
        """Note that an update said everything of a position; a flat one has no close."""
        self.positions.pop(key, None)
        self.position_closes.pop(key, None)
        if not held:
            self.minutes.pop(key, None)

    def is_away(self, equity: Decimal | None, slots: ValuationSlots) -> bool:
        """Return whether equity is so far from the published one that the middle slot counts."""
        said = self.equity
        if said is None or equity is None:
            return said is not equity
        if not said:
            return bool(equity)
        moved = absolute(subtract_wide(equity, said))
        return multiply_wide(moved, _BPS) >= multiply_wide(absolute(said), Decimal(slots.move_bps))

    def next_slot(self, period: int, clock: int) -> int:
        """Return the first slot of a period behind a time of the clock; all in ns."""
        return clock + period - (clock - self._phase) % period

    def reaches(self, period: int, before: int, clock: int) -> bool:
        """Return whether a step of the clock reaches a slot of a period; all in ns."""
        return (clock - self._phase) // period > (before - self._phase) // period

    def look_at(self, slot: int | None) -> None:
        """Note where on the agenda the account stands."""
        self.slot = slot
