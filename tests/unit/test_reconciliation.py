"""Two books compared: what counts, how closely, and what is left out."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from psm.contracts.payload_codec import PayloadCodec
from psm.contracts.reports import AccountReported
from psm.domain.ledger.positions import Position
from psm.domain.market.instrument import Instrument
from psm.domain.reconciliation import Comparison, HeldPosition, Holdings, report_of
from psm.domain.reconciliation import compare as compare_with

D = Decimal
ETHUSDT = Instrument(symbol="ETHUSDT", kind="spot", base="ETH", quote="USDT", settle="USDT")
HELD = HeldPosition(size=D("-3"), entry_price=D("100.5"), currency="USDT")
OURS = Holdings(assets={"USDT": D("1000"), "BTC": D("-0.5")}, positions={("X", "short"): HELD})


def compare(report: AccountReported, holdings: Holdings) -> Comparison:
    """Compare where one spot pair is defined."""
    return compare_with(report, holdings, {"ETHUSDT": ETHUSDT})


def said(**fields: Any) -> AccountReported:
    """Return a report of `OURS`, with other fields."""
    payload = {**report_of(OURS, source="v", as_of="now"), **fields}
    report = PayloadCodec(AccountReported).decode(msgspec.json.encode(payload))
    assert isinstance(report, AccountReported)
    return report


def whats(comparison: Comparison) -> list[str]:
    """Return what differs."""
    return [difference.what for difference in comparison.differences]


def position(**fields: Any) -> list[dict[str, Any]]:
    """Return our position as a report says it, with other fields."""
    own = {"symbol": "X", "position_side": "short", "size": "-3", "entry_price": "100.5"}
    return [{**own, **fields}]


def test_what_we_say_of_ourselves_matches() -> None:
    """The payload that is made of holdings is compared as equal, and all of it."""
    assert compare(said(), OURS) == Comparison(differences=(), not_compared=())


def test_debts_are_compared_where_both_sides_have_any() -> None:
    """What the report leaves out is none; what it states without a debt is not known."""
    owing = msgspec.structs.replace(OURS, borrowed={"BTC": D("0.5")})
    told = {"USDT": "1000", "BTC": {"quantity": "-0.5", "borrowed": "0.5"}}
    assert compare(said(assets=told), owing) == Comparison(differences=(), not_compared=())
    assert compare(said(assets=told), OURS).not_compared == ("assets.borrowed",)
    told["BTC"] = {"quantity": "-0.5", "borrowed": "0.4"}
    (found,) = compare(said(assets=told), owing).differences
    assert (found.what, found.expected, found.reported) == ("assets.BTC.borrowed", "0.5", "0.4")
    unknown = {"USDT": {"quantity": "1000", "borrowed": "3"}, "BTC": "-0.5"}
    assert whats(compare(said(assets=unknown), owing)) == ["assets.USDT.borrowed"]
    left_out = {"USDT": {"quantity": "1000", "borrowed": "0"}}
    assert whats(compare(said(assets=left_out), owing)) == ["assets.BTC", "assets.BTC.borrowed"]


def test_margin_modes_are_compared() -> None:
    """1 stands for isolated, 0 for cross; what has none is not compared."""
    held = msgspec.structs.replace(HELD, margin_mode="isolated")
    ours = msgspec.structs.replace(OURS, positions={("X", "short"): held})
    assert compare(said(positions=position(margin_mode="isolated")), ours).matches
    (found,) = compare(said(positions=position(margin_mode="cross")), ours).differences
    assert (found.what, found.difference) == ("positions.X#short.margin_mode", "-1")
    result = compare(said(positions=position(margin_mode="cross")), OURS)
    assert (result.matches, result.not_compared) == (True, ("positions.margin_mode",))


PERP = Instrument(symbol="X", kind="linear_perp", base="X", quote="USDT", settle="USDT")
SHARE = Instrument(symbol="S", kind="equity", base="S", quote="EUR", settle="EUR")


def priced() -> Holdings:
    """Return our holdings with positions that can be valued: a short contract, foreign shares."""
    contract = Position(instrument=PERP, size=D("-3"), cost=D("301.5"), last_fill=D("1"))
    shares = Position(instrument=SHARE, size=D("4"), cost=D("40"), last_fill=D("1"))
    held = {
        ("X", "short"): msgspec.structs.replace(HELD, position=contract),
        ("S", "net"): HeldPosition(size=D("4"), position=shares),
    }
    return msgspec.structs.replace(OURS, positions=held, currency="USDT")


@pytest.mark.parametrize(
    ("mark", "rates", "equity"),
    [
        ("90", {"BTC": "200", "EUR": "2"}, "1011.5"),  # 1000 - 100 + 31.5 + 4 x 10 x 2
        (None, {"BTC": "200", "S": "25"}, "1031.5"),  # a rate of a share is over its mark
    ],
)
def test_equity_is_compared_at_the_prices_of_the_report(
    mark: str | None, rates: dict[str, str], equity: str
) -> None:
    """Ours at their rates and marks; no moment of a mark decides it."""
    shares = {"symbol": "S", "size": "4"} | ({"mark_price": "10"} if mark else {})
    positions = [*position(mark_price="90"), shares]
    stated = {"positions": positions, "rates": rates, "equity": equity}
    assert compare(said(**stated), priced()) == Comparison(differences=(), not_compared=())
    (found,) = compare(said(**{**stated, "equity": "1"}), priced()).differences
    assert (found.what, found.symbol, found.expected) == ("equity", "USDT", equity)


@pytest.mark.parametrize(
    "fields",
    [
        {"rates": {"EUR": "2"}},
        {"rates": {"BTC": "200"}},
        {"rates": {"BTC": None, "EUR": "2"}},
        {"positions": [*position(), {"symbol": "S", "size": "4", "mark_price": "10"}]},
        {"assets": {"USDT": "999", "BTC": "-0.5"}},
    ],
)
def test_equity_is_not_compared_where_a_price_is_missing_or_the_rest_differs(
    fields: dict[str, Any],
) -> None:
    """Nor is it a difference of its own then."""
    positions = [*position(mark_price="90"), {"symbol": "S", "size": "4", "mark_price": "10"}]
    whole = {"positions": positions, "rates": {"BTC": "200", "EUR": "2"}, "equity": "5"}
    result = compare(said(**{**whole, **fields}), priced())
    assert "equity" not in whats(result)
    assert "equity" in result.not_compared


@pytest.mark.parametrize(
    ("parts", "basis", "quantity"),
    [
        ("7", "trade", "7"),
        ({"quantity": "7", "free": "1"}, "trade", "7"),
        ({"free": "5", "locked": "3"}, "trade", "8"),
        ({"free": "5", "locked": "3", "borrowed": "2", "interest": "0.5"}, "trade", "5.5"),
        ({"locked": "1", "unsettled": "4"}, "trade", "1"),
        ({"locked": "1", "unsettled": "-4"}, "settle", "-3"),
        ({"quantity": "7", "unsettled": "4"}, "settle", "11"),
    ],
)
def test_quantity_is_what_its_parts_make(parts: Any, basis: str, quantity: str) -> None:
    """Net of what was borrowed, as of trade dates, as the books are."""
    ours = msgspec.structs.replace(OURS, assets={"BTC": D(quantity)})
    assert compare(said(assets={"BTC": parts}, basis=basis), ours).matches


def test_flat_is_as_good_as_left_out() -> None:
    """Zero of something and no word of it are the same, on both sides."""
    assets = {"USDT": "1000", "BTC": "-0.5", "ETH": "0", "DOGE": {"free": "0"}}
    flat = {"symbol": "Y", "size": "0", "entry_price": "9"}
    assert compare(said(assets=assets, positions=[*position(), flat]), OURS).matches


def test_legs_are_told_apart() -> None:
    """A short leg is no net position, however large."""
    found = compare(said(positions=position(position_side="net")), OURS)
    assert whats(found) == ["positions.X#short.size", "positions.X.size"]


@pytest.mark.parametrize("difference", ["0.01", "-0.01"])
def test_tolerance_is_inclusive(difference: str) -> None:
    """Of all figures, or of the named ones; the others are exact."""
    assets = {"USDT": str(1000 + D(difference)), "BTC": "-0.5"}
    assert whats(compare(said(assets=assets), OURS)) == ["assets.USDT"]
    assert compare(said(assets=assets, tolerance="0.01"), OURS).matches
    assert not compare(said(assets=assets, tolerance="0.009"), OURS).matches
    assert compare(said(assets=assets, tolerance={"assets.USDT": "0.01"}), OURS).matches
    assert not compare(said(assets=assets, tolerance={"assets.BTC": "0.01"}), OURS).matches


def test_both_sides_are_rounded_to_eighteen_decimals() -> None:
    """Half to even: what no report can say is no difference."""
    one, two = f"1.{'0' * 18}5", f"1.{'0' * 17}15"
    for size, reported in ((one, "1"), (two, f"1.{'0' * 17}2")):
        ours = msgspec.structs.replace(OURS, assets={"BTC": D(size)})
        assert compare(said(assets={"BTC": reported}), ours).matches
    third = msgspec.structs.replace(HELD, entry_price=D(100) / 3)
    ours = msgspec.structs.replace(OURS, positions={("X", "short"): third})
    assert compare(said(positions=position(entry_price="33." + "3" * 18)), ours).matches
    assert not compare(said(positions=position(entry_price="33.33")), ours).matches


@pytest.mark.parametrize(
    ("fields", "compared"),
    [
        ({"cost_method": "average"}, True),
        ({"cost_method": "average", "currency": "USDT"}, True),
        ({"cost_method": "average", "currency": "USD"}, False),
        ({"cost_method": "fifo"}, False),
        ({"cost_method": None}, False),
    ],
)
def test_prices_are_compared_where_both_are_averages(fields: Any, compared: bool) -> None:
    """Another method or currency is no difference; the answer says that it was left out."""
    method = fields.pop("cost_method")
    found = compare(said(cost_method=method, positions=position(entry_price="7", **fields)), OURS)
    assert whats(found) == (["positions.X#short.entry_price"] if compared else [])
    assert found.not_compared == (() if compared else ("positions.entry_price",))


def test_what_nothing_answers_to_is_named() -> None:
    """Marks and gains are of a moment, wallets are ours only where there are any."""
    marked = position(mark_price="1", unrealized_pnl="2", margin_mode="isolated")
    assets = {"USDT": {"free": "1000", "borrowed": "0"}, "BTC": "-0.5"}
    wallets = [{"symbol": "X", "position_side": "short", "amount": "5"}]
    report = said(assets=assets, positions=marked, wallets=wallets, equity="1", rates={"BTC": "2"})
    found = compare(report, OURS)
    assert found.matches
    assert found.not_compared == (
        "assets.borrowed",
        "positions.margin_mode",
        "positions.mark_price",
        "positions.unrealized_pnl",
        "wallets",
        "equity",
        "rates",
    )
    ours = msgspec.structs.replace(OURS, wallets={("X", "short"): D(4)})
    assert whats(compare(report, ours)) == ["wallets.X#short"]
    assert "wallets" not in compare(report, ours).not_compared


def test_what_no_sum_holds_is_compared_all_the_same() -> None:
    """Figures of any size and length: a report never fails on arithmetic."""
    huge = msgspec.structs.replace(OURS, assets={"BTC": D("1e80")})
    (found,) = compare(said(assets={"BTC": "0.000000000000000001"}), huge).differences
    assert found.difference == f"-{'9' * 80}.{'9' * 18}"


def test_spot_pair_named_as_a_position_means_its_base() -> None:
    """Unless the account holds something of that name, or the base is named itself."""
    pair = {"symbol": "ETHUSDT", "size": "2", "entry_price": "9"}
    ours = msgspec.structs.replace(OURS, assets={**OURS.assets, "ETH": D(2)})
    assert compare(said(positions=[*position(), pair]), ours).matches
    assert whats(compare(said(positions=[*position(), pair]), OURS)) == ["assets.ETH"]
    twice = {**report_of(ours, source="v", as_of="now")["assets"]}
    told = compare(said(assets=twice, positions=[*position(), pair]), ours)
    assert whats(told) == ["positions.ETHUSDT.size"]
    own = HeldPosition(size=D(2))
    held = msgspec.structs.replace(OURS, positions={**OURS.positions, ("ETHUSDT", "net"): own})
    assert compare(said(positions=[*position(), pair]), held).matches


def test_former_symbol_means_the_one_of_now() -> None:
    """Of positions, assets and wallets, unless the report names both."""
    ours = msgspec.structs.replace(OURS, aliases={"OLD": "X", "XBT": "BTC"})
    assets = {"USDT": "1000", "XBT": "-0.5"}
    assert compare(said(assets=assets, positions=position(symbol="OLD")), ours).matches
    both = [*position(), *position(symbol="OLD")]
    assert whats(compare(said(positions=both), ours)) == ["positions.OLD#short.size"]
