"""The canonical bytes that ledger and state hash are taken over, form 1, letter by letter."""

from __future__ import annotations

import hashlib
from decimal import Decimal

import msgspec
from tests.support.domain import given
from tests.support.events import deposit, event, instrument, opened, trade

from psm.contracts.codec import canonical_bytes
from psm.domain.ledger.canonical import order_part, own_fill_part, parked_part, position_part
from psm.domain.ledger.ledger_hash import part_of

D = Decimal

POSITION = (
    '{"cost":"21050","cycle":1,"cycle_fees":"0","cycle_funding":"0","cycle_realized_pnl":"0",'
    '"defined":false,"fees":"0","funding":"0","home_cost":["0",false],"kind":"linear_perp","last_fill":"42100",'
    '"multiplier":"1","peak_size":"0.5","position_side":"net","realized_pnl":"0","settle":"USDT","size":"0.5","symbol":"BTC-\\"PERP"}'
)
ORDER = (
    '{"external":false,"filled_quantity":"0","filled_value":"0","inverse":false,'
    '"order_id":"o\\"1","position_side":null,"price":"41000","quantity":"2",'
    '"reduce_only":false,"side":"buy",'
    '"status":"submitted","stop_price":null,"strategy_id":null,'
    '"symbol":"BTC-\\"PERP","time_in_force":null,"type":"limit"}'
)
ACCOUNT = (
    '{"cash":{"USDT":"1000"},"costs":{},"currency":"USDT","leverage_limit":null,"leverages":{},'
    '"status":"open","totals":{"deposits":"1000"},"version":4}'
)
VALUATION = (
    '{"drawdown":"0","equity":"1000","flows":"1000","margin_initial":"21050",'
    '"margin_maintenance":"0","marks":{"BTC-\\"PERP":["42100","fill"]},"max_drawdown":"0",'
    '"nav":"1","nav_epoch":1,"peak_equity":"1000"}'
)


def test_parts_are_written_as_form_1_says() -> None:
    """Keys sorted, no blanks, decimals without exponent or trailing zeros; names escaped."""
    symbol = 'BTC-"PERP'
    order = {"order_id": 'o"1', "symbol": symbol, "side": "buy", "type": "limit"}
    log = given(
        opened(1),
        deposit(2, "1000.00"),
        trade(3, "buy", "0.50", "42100.0", symbol),
        event("OrderSubmitted", {**order, "quantity": "2.0", "price": "41000"}, 4),
    )
    account = log.account()
    position, placed = account.ledger.positions[symbol], account.ledger.orders.by_id['o"1']
    own = part_of(account.ledger, "", account.delivery.version, account.delivery.status)
    assert own is not None
    parts = [own, position_part(position), order_part(placed)]
    assert [part.decode() for part in parts] == [ACCOUNT, POSITION, ORDER]
    for part in parts:
        assert canonical_bytes(msgspec.json.decode(part)) == part
    digests = sorted(hashlib.sha256(part).digest() for part in parts)
    ledger_hash = hashlib.sha256(b"".join(digests)).digest()
    assert account.ledger_hash() == ledger_hash
    hashed = account.valuation.hash(ledger_hash, account.value())
    assert hashed == hashlib.sha256(ledger_hash + VALUATION.encode()).digest()


def test_what_waits_is_a_part_of_its_own() -> None:
    """Numbers and event hashes of the parked events, ascending."""
    log = given(opened(1), deposit(4), deposit(3))
    account = log.account()
    waiting = ",".join(f'[{n},"{account.delivery.parked[n].event_hash.hex()}"]' for n in (3, 4))
    assert parked_part(account.delivery.parked).decode() == f'{{"parked":[{waiting}]}}'


def test_the_last_fill_in_a_spot_pair_is_a_part_of_its_own() -> None:
    """With a number that tells whose fill was later."""
    spot = instrument(1, "AB", kind="spot", base="A", quote="B", settle="B")
    log = given(spot, opened(1), trade(2, "buy", "1", "2.50", "AB"))
    (fill,) = log.account().ledger.own_fills.values()
    part = own_fill_part("AB", fill)
    assert part.decode() == '{"own_fill":1,"price":"2.5","symbol":"AB"}'
    assert canonical_bytes(msgspec.json.decode(part)) == part
