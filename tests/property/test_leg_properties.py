"""Properties of hedge mode and isolated margin on random logs, and an independent reference."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from tests.support.domain import Log
from tests.support.domain import given as log_of
from tests.support.events import ACCOUNT, Sent, changed, event
from tests.support.leg_reference import LegReference, decoded
from tests.support.leg_traffic import TIERS, LegTraffic
from tests.support.market import Market

from psm.contracts.position_keys import position_key, symbol_of
from psm.domain.account import Account
from psm.domain.booking.legs import open_legs
from psm.domain.ledger.wallets import Wallets
from psm.domain.snapshot import dump_account, load_account
from psm.domain.valuation.isolated import is_isolated, isolated_margin
from psm.domain.valuation.liquidation import isolated_liquidation_price, liquidation_price

seeds = st.integers(0, 2**32)
ROUNDING = Fraction(1, 10**26)
"""34 significant digits of amounts below 10^8."""


@given(seeds)
def test_reference_agrees_on_legs_and_wallets(seed: int) -> None:
    """Fractions and the rules as they are written give the same account."""
    messages = LegTraffic(seed).messages()
    account, theirs = log_of(*messages).account(), LegReference(messages)
    ledger, valuation = account.ledger, account.value()
    assert not account.delivery.refused
    keys = {position_key(symbol, side): (symbol, side) for symbol, side in theirs.legs}  # type: ignore[arg-type]
    assert keys.keys() == ledger.positions.keys()
    for key, leg in keys.items():
        assert Fraction(ledger.positions[key].size) == theirs.legs[leg].size
        assert abs(Fraction(ledger.wallets.of(key)) - theirs.wallets.get(leg, 0)) <= ROUNDING
    shared = valuation.collateral
    assert valuation.equity is not None
    assert shared is not None
    pairs = [
        (ledger.cash["USDT"], theirs.cash[ACCOUNT]),
        (ledger.total("realized_pnl"), sum(h.realized for h in theirs.legs.values())),
        (valuation.equity, theirs.whole(ACCOUNT)),
        (shared, theirs.shared(ACCOUNT)),
    ]
    rates = [(Fraction(t["notional_floor"]), Fraction(t["maintenance_rate"])) for t in TIERS]
    initial, maintenance = theirs.margins(rates)
    assert valuation.margin_initial is not None
    assert valuation.margin_maintenance is not None
    pairs += [(valuation.margin_initial, initial), (valuation.margin_maintenance, maintenance)]
    for ours, expected in pairs:
        assert abs(Fraction(ours) - expected) <= ROUNDING
    assert ("margin_unknown" in valuation.flags) == bool(theirs.older)


@given(seeds)
def test_legs_netted_are_the_net_position(seed: int) -> None:
    """The same fills in net mode: the same size, and the same realized + unrealized."""
    messages = LegTraffic(seed, modes=False, wallets=False).messages()
    hedged = [sent for sent in messages if not sent.subject.startswith("trades.")]
    hedged += _renumbered(messages)
    net, legs = log_of(*messages).account(), log_of(*hedged).account()
    for symbol in {p.symbol: None for p in net.ledger.positions.values()}:
        found = [legs.ledger.positions.get(key) for key in legs.ledger.keys_of(symbol)]
        sizes = sum(Fraction(p.size) for p in found if p is not None)
        assert sizes == Fraction(net.ledger.positions[symbol].size)
    totals = [
        Fraction(account.ledger.total("realized_pnl"))
        + Fraction(account.value().unrealized_pnl or 0)
        for account in (net, legs)
    ]
    assert abs(totals[0] - totals[1]) <= Fraction(1, 10**25)
    assert net.ledger.total("fees") == legs.ledger.total("fees")


def _renumbered(messages: list[Sent]) -> list[Sent]:
    """Return the account's events with hedge mode asked for after the deposit."""
    own = [sent for sent in messages if sent.subject.startswith("trades.")]
    asked = event("PositionModeChanged", {"mode": "hedge"}, 3)
    later = [changed(s, sequence_number=decoded(s)["sequence_number"] + 1) for s in own[2:]]
    return [*own[:2], asked, *later]


@given(seeds)
def test_wallets_and_what_is_shared_are_the_whole(seed: int) -> None:
    """On logs of every event type: were all of it cross, it would be collateral once."""
    log = Market(seed=seed, length=150).author().log
    for account in log.books.accounts.values():
        if account.value().equity is None:
            continue
        again, _ = load_account(dump_account(account, log.books.position, b"hash"))
        again.ledger.wallets = Wallets()
        again.enter(log.books.market)
        whole, apart = Fraction(again.value().collateral), _apart(account)
        shared = Fraction(account.value().collateral)
        assert abs(whole - shared - apart) <= ROUNDING * (abs(whole) + 1)


def _apart(account: Account) -> Fraction:
    """Return what isolated positions have for themselves, in the account currency."""
    ledger, apart = account.ledger, Fraction(0)
    wallets: dict[str, Fraction] = {}
    for key, amount in ledger.wallets.amounts.items():
        settle = account.prices.instrument(symbol_of(key)).settle
        if key in ledger.positions:
            settle = ledger.positions[key].instrument.settle
        wallets[settle] = wallets.get(settle, Fraction(0)) + Fraction(amount)
    for asset, whole in wallets.items():
        held, secures = Fraction(ledger.cash.get(asset, 0)), Fraction(account.prices.secures(asset))
        # What is held secures by its haircut, what the wallets take beyond it is owed in full.
        counted = [part * (secures if part > 0 else 1) for part in (held, held - whole)]
        apart += (counted[0] - counted[1]) * Fraction(account.prices.rate(asset) or 0)
    for key, value in account.value().positions.items():
        made = ledger.positions[key].instrument
        if made.symbol in ledger.wallets.symbols and not made.full_notional:
            rate = Fraction(account.prices.rate(made.settle) or 0)
            apart += Fraction(value.unrealized) * rate
    return apart


@given(seeds, st.integers(0, 10_000))
def test_a_bust_is_the_log_without_the_fill(seed: int, place: int) -> None:
    """Legs, modes that waited and wallets are rebooked as if it had never been."""
    messages = LegTraffic(seed).messages()
    own = [sent for sent in messages if sent.subject.startswith("trades.")]
    fills = [sent for sent in own if b'"TradeExecuted"' in sent.data]
    if not fills:
        return
    chosen = fills[place % len(fills)]
    named = {"event_id": decoded(chosen)["event_id"], "reason": "?"}
    full = log_of(*messages)
    full.when(event("TradeBusted", named, decoded(own[-1])["sequence_number"] + 1))
    without, number = Log(), 0
    for sent in messages:
        if sent is chosen:
            continue
        if sent.subject.startswith("trades."):
            number += 1
            sent = changed(sent, sequence_number=number)
        without.when(sent)
    assert _figures(full) == _figures(without)


def _figures(log: Log) -> dict[str, Any]:
    out = (
        "sequence_number", "log_sequence", "event_hash", "chain_hash", "ledger_hash", "state_hash",
    )  # fmt: skip
    account, document = log.account(), log.state()
    figures = {name: value for name, value in document.items() if name not in out}
    for position in figures["positions"].values():
        position.pop("mark_log_sequence")
        position.pop("cycle_opened_at")
        position.pop("mark_time")
    return {
        **figures,
        "warned": (account.valuation.warned, account.valuation.warned_positions),
        "wallets": dict(sorted(account.ledger.wallets.amounts.items())),
        "modes": (account.ledger.modes.own, account.ledger.modes.waiting),
    }


@given(seeds, st.floats(0, 1))
def test_snapshots_keep_legs_and_wallets(seed: int, part: float) -> None:
    """A snapshot and the rest of the log are the whole log, byte for byte."""
    messages = LegTraffic(seed).messages()
    whole, restarted = Log(), Log()
    for place, sent in enumerate(messages):
        whole.when(sent)
        seen = restarted.when(sent)
        if place == int(part * len(messages)) and ACCOUNT in restarted.books.accounts:
            data = dump_account(restarted.account(), restarted.books.position, b"hash")
            restarted.books.restore(load_account(data)[0])
    assert [u.data for u in whole.updates] == [u.data for u in restarted.updates]
    assert whole.end() == restarted.end()
    assert seen.outcome
    assert msgspec.json.decode(whole.end())


@given(seeds)
def test_margins_are_covered_exactly_at_the_liquidation_price(seed: int) -> None:
    """Of a wallet by its leg alone, of what is shared by all other positions; legs have one."""
    account = log_of(*LegTraffic(seed).messages()).account()
    valuation, rates = account.value(), account.valuation.rates
    for key, value in valuation.positions.items():
        position = account.ledger.positions[key]
        alone = is_isolated(account.ledger, position)
        if alone:
            margin = isolated_margin(account.ledger, position, value)
            price = isolated_liquidation_price(position, margin)
            left = Fraction(margin.equity)
            legs = [position]
        else:
            price = liquidation_price(account.ledger, position, valuation, account.prices, rates)
            left = Fraction(valuation.collateral) - Fraction(valuation.margin_maintenance or 0)
            legs = open_legs(account.ledger, position.symbol)
            left += sum(Fraction(valuation.positions[leg.key].margin_maintenance) for leg in legs)
        if price is None:
            continue
        for leg in legs:
            units = Fraction(leg.size) * Fraction(leg.instrument.multiplier)
            left += units * (Fraction(price) - Fraction(value.price))
            said = leg.margin
            needed = _maintenance(abs(units) * Fraction(price))
            left -= needed if said is None else Fraction(said.maintenance)
        assert abs(left) <= Fraction(1, 10**20) * (1 + abs(Fraction(price)))


def _maintenance(notional: Fraction) -> Fraction:
    below, above = (Fraction(tier["maintenance_rate"]) for tier in TIERS)
    border = Fraction(TIERS[1]["notional_floor"])
    return min(notional, border) * below + max(Fraction(0), notional - border) * above
