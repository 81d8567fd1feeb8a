"""The account aggregate and its ledger hash."""
# Decimals are compared with plain numbers:
# mypy: disable-error-code="comparison-overlap"

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from tests.support.domain import given
from tests.support.events import deposit, fee, funding, mark, opened, trade, withdrawal

from psm.domain.account import Account
from psm.domain.delivery.parked import Blocked, Parked
from psm.domain.ledger.effect import Effect
from psm.domain.ledger.ledger import Ledger
from psm.domain.market.tables import Market
from psm.domain.money import ZERO


def parked(n: int) -> Parked:
    """Return a parked reference."""
    return Parked(identity=bytes([n]) * 16, event_hash=bytes([n]) * 32, log_sequence=n)


def blocked(reason: str = "unknown_event_type", **more: Any) -> Blocked:
    """Return a block by the message at log sequence 1."""
    return Blocked(
        reason=reason, log_sequence=1, event_hash=b"h" * 32, event_type="X", major=1, **more
    )


def test_status_follows_from_what_waits() -> None:
    """Open, in a gap, blocked."""
    account = Account("a", Market())
    assert account.delivery.status == "open"
    account.delivery.park(3, parked(3))
    assert account.delivery.status == "gap"
    account.delivery.block(blocked(reason="gap_overflow"))
    assert account.delivery.status == "blocked"


def test_places_are_taken_in_order() -> None:
    """A place out of order is a bug, not an event."""
    account = Account("a", Market())
    account.delivery.take_place(1, b"i" * 16, b"h" * 32)
    with pytest.raises(AssertionError):
        account.delivery.take_place(3, b"i" * 16, b"h" * 32)


def test_effect_that_does_not_compute_changes_nothing() -> None:
    """All sums are made before the first is stored."""
    account = Account("a", Market())
    account.ledger.commit(Effect(currency="USDT", cash=(("USDT", Decimal("1e60")),)))
    bad = Effect(
        currency="EUR",
        cash=(("BTC", Decimal(1)), ("USDT", Decimal("1e-60"))),
        totals=(("fees", Decimal(1)),),
    )
    before = account.ledger_hash()
    with pytest.raises(ArithmeticError):
        account.ledger.commit(bad)
    assert (account.ledger.cash, account.ledger.currency) == ({"USDT": Decimal("1e60")}, "USDT")
    assert account.ledger_hash() == before


def test_ledger_hash_ignores_how_numbers_are_written() -> None:
    """1.0 and 1.00 are the same amount; the order of currencies is not told either."""
    one, two = Account("a", Market()), Account("b", Market())
    one.ledger.commit(Effect(currency="USDT", cash=(("USDT", Decimal("1.0")), ("BTC", Decimal(2)))))
    two.ledger.commit(
        Effect(currency="USDT", cash=(("BTC", Decimal("2.00")), ("USDT", Decimal(1))))
    )
    assert one.ledger_hash() == two.ledger_hash()


def test_ledger_hash_ignores_delivery() -> None:
    """Log positions, duplicates, marks and rejected messages are not in it."""
    events = [opened(1), deposit(2), trade(3, "buy", "1", "100", commission="0.1")]
    plain = given(*events).hashes()
    noisy = given(
        deposit(1, stream="other"), events[0], events[0], events[1], mark(1, "5"), events[2]
    )
    assert noisy.hashes()["acc_001"] == plain["acc_001"]


def test_ledger_hash_tells_every_part_apart() -> None:
    """Each thing that the ledger holds changes the hash."""
    base = [opened(1), deposit(2), trade(3, "buy", "1", "100")]
    variants = [
        base,
        [*base, deposit(4)],
        [*base, withdrawal(4)],
        [*base, fee(4, "1")],
        [*base, funding(4, "1")],
        [*base, funding(4, "1", "ETH")],
        [*base, deposit(4, "0")],
        [*base, deposit(5)],
        [*base, deposit(6)],
        [*base[:2], trade(3, "sell", "1", "100")],
        [*base[:2], trade(3, "buy", "1", "100", "ETH")],
        [opened(1, leverage_limit="2"), *base[1:]],
        [opened(1, currency="EUR"), *base[1:]],
    ]
    hashes = [given(*events).hashes()["acc_001"] for events in variants]
    assert len(dict.fromkeys(hashes)) == len(variants)


def test_parts_of_the_hash_are_cached_truly() -> None:
    """The hash after each event equals that of an account that computed it only once."""
    events = [
        opened(1),
        deposit(2),
        trade(3, "buy", "1", "100"),
        trade(4, "sell", "2", "90"),
        funding(5, "1"),
        fee(6, "1", symbol="BTC-PERP"),
        trade(7, "buy", "1", "95", "ETH"),
    ]
    log = given()
    for n, sent in enumerate(events, 1):
        log.when(sent)
        assert log.account().ledger_hash() == given(*events[:n]).account().ledger_hash()


def test_totals_are_zero_before_anything_happened() -> None:
    """A new account has no history."""
    assert Ledger().total("fees") == ZERO
    assert Ledger().open_position_count() == 0


def test_held_messages_know_the_version_they_came_at() -> None:
    """Older ones by their own time, the rest by the current version."""
    held = blocked(held_from=5, came_at=((10, 1), (20, 7)))
    versions = [held.version_at(n, 9) for n in (5, 9, 10, 19, 20)]
    assert versions == [1, 1, 7, 7, 9]
