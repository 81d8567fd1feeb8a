"""Write the golden log of borders: `python -m tests.support.make_golden_borders`.

Reports that are almost right, equity at a reporter's own prices, tiers at which a leg changes its
terms, names that are one too many: each just on this side and just on the other. Fingerprints are
recorded by `python -m scripts.mutation --record`. Only for a new log: one in git never changes.
"""

from __future__ import annotations

from copy import deepcopy
from decimal import Decimal
from itertools import count
from typing import Any

from tests.support.domain import Log
from tests.support.events import (
    Sent,
    changed,
    collateral,
    deposit,
    dismissed,
    event,
    instrument,
    mark,
    opened,
    report,
)
from tests.support.make_golden_corners import lines, write
from tests.support.make_golden_rare import PATH as RARE
from tests.support.make_golden_rare import Story

from psm.domain.reconciliation import holdings_of, report_of

AS_OF = "2025-12-12T10:30:00Z"
PRICES = {"BTC": "40000", "EUR": "1.125", "ASML": "770.5", "XYZ": "3"}
MARKS = {"BTC-PERP": "41000", "ETH-PERP": "2000.5", "SAP": "121", "BTC-INV": "40100", "CL": "-2"}


class House:
    """Writes the events of one account, folding them, so that reports can be of what it has."""

    def __init__(self, story: Story, stream: str, **more: Any) -> None:
        self._story, self._stream, self._numbers = story, stream, count(2)
        self._salts = count()
        self.log = Log()
        self.log.when(*story.sent, opened(1, stream=stream, **more))
        story.tell(opened(1, stream=stream, **more))

    def __call__(self, event_type: str, **payload: Any) -> None:
        """Tell the next event."""
        self.tell(event(event_type, payload, next(self._numbers), stream=self._stream))

    def fill(self, symbol: str, signed: str, price: str, **more: Any) -> None:
        """Tell a fill; the quantity is below zero for one that sells."""
        side = "sell" if signed.startswith("-") else "buy"
        named = {"symbol": symbol, "side": side, "quantity": signed.lstrip("-"), "price": price}
        self("TradeExecuted", **named, **more)

    def tell(self, *sent: Sent) -> None:
        """Tell messages."""
        self._story.tell(*sent)
        self.log.when(*sent)

    def held(self) -> dict[str, Any]:
        """Return the fields of a report that says what we have."""
        own = report_of(holdings_of(self.log.account(self._stream)), source="venue", as_of=AS_OF)
        return deepcopy(own)

    def reported(self, **fields: Any) -> None:
        """Tell a report of what we have, with other fields."""
        said = {**self.held(), **fields}
        assets, positions = said.pop("assets"), said.pop("positions")
        salt = f"r{next(self._salts)}"
        self.tell(report(assets, *positions, stream=self._stream, salt=salt, **said))


def market(story: Story) -> None:
    """What the accounts below trade."""
    inverse = {"kind": "inverse_perp", "quote": "USD", "settle": "BTC", "multiplier": "100"}
    shares = {"kind": "equity", "quote": "EUR", "settle": "EUR"}
    story.tell(
        instrument(), instrument(1, "ETH-PERP", base="ETH", multiplier="10"),
        instrument(1, "BTC-INV", **inverse), instrument(1, "SAP", base="SAP", **shares),
        instrument(1, "ASML", base="ASML", multiplier="2", **shares),
        instrument(1, "HOME", kind="equity", base="HOME"),
        instrument(1, "BTCUSDT", kind="spot"), instrument(1, "EURUSDT", kind="spot", base="EUR"),
        instrument(1, "XYZUSDT", kind="spot", base="XYZ"),
        instrument(1, "CL", kind="linear_future", base="CL", signed_price=True),
        mark(1, "39000", "BTCUSDT"), mark(1, "1.1", "EURUSDT"), mark(1, "2", "XYZUSDT"),
        collateral(1, "BTC", "0.1", borrow_maintenance_rate="0.05"), collateral(1, "XYZ", "0.5"),
    )  # fmt: skip


def rich(story: Story, stream: str) -> House:
    """Return an account that has something of everything."""
    say = House(story, stream)
    say("CashDeposited", amount="100000.25")
    say("CashDeposited", amount="3.5", currency="BTC")
    say("CashDeposited", amount="900", currency="EUR")
    say("PositionModeChanged", mode="hedge", symbol="ETH-PERP")
    say.fill("BTC-PERP", "1.5", "40000")
    for leg, signed in (("long", "3"), ("short", "-2")):
        say.fill("ETH-PERP", signed, "1900", position_side=leg)
    say("MarginModeChanged", symbol="ETH-PERP", mode="isolated", position_side="long", amount="50")
    say("MarginTransferred", symbol="ETH-PERP", position_side="short", amount="0.25")
    say.fill("SAP", "7", "120.125")
    say.fill("ASML", "-2", "700")
    say.fill("HOME", "4", "10")
    say.fill("BTC-INV", "-20", "40000")
    say.fill("CL", "2", "-1.5")
    say("BorrowChanged", asset="XYZ", amount="5")
    return say


def equity(story: Story) -> None:
    """Equity at the reporter's prices: right, off, with a price that is missing or is none."""
    say = rich(story, "eq_1")
    prices = {**PRICES, "HOME": "11"}
    marked = [{**one, **_mark(one["symbol"])} for one in say.held()["positions"]]
    say.reported(positions=marked, rates=prices, equity="250000")
    say.reported(positions=marked, rates={**prices, "SAP": "140", "HOME": None}, equity="0")
    say.reported(positions=marked, rates=prices, equity="1", tolerance={"equity": "9999999"})
    for missing in prices:
        left = {name: rate for name, rate in prices.items() if name != missing}
        say.reported(positions=marked, rates=left, equity="1")
    for number, one in enumerate(marked):
        other = {name: said for name, said in one.items() if name != "mark_price"}
        said = [*marked[:number], other, *marked[number + 1 :]]
        say.reported(positions=said, rates=prices, equity="2")
        for price in ("0", "-1"):
            said = [*marked[:number], {**one, "mark_price": price}, *marked[number + 1 :]]
            say.reported(positions=said, rates=prices, equity="2")
    say.reported(positions=marked, equity="3")
    say.reported(rates=prices, equity="3")
    say.reported(positions=[{**one, "unrealized_pnl": "1"} for one in marked], rates=prices)
    say.reported(assets={"USDT": "1"}, positions=marked, rates=prices, equity="4")
    say.tell(report({"USDT": "0"}, stream="eq_none", equity="0"))
    say.tell(report({"USDT": "7"}, stream="eq_none", equity="1", rates={"USDT": "2"}))
    coin = House(story, "eq_2", currency="BTC")
    coin("CashDeposited", amount="2")
    coin.fill("BTC-INV", "30", "40000")
    marked = [{**one, "mark_price": "39000"} for one in coin.held()["positions"]]
    coin.reported(positions=marked, equity="2", rates={"BTC": "5"})
    coin.reported(positions=marked, equity="1.997692307692307692")


def _mark(symbol: str) -> dict[str, str]:
    return {"mark_price": MARKS[symbol]} if symbol in MARKS else {}


def reports(story: Story) -> None:
    """Modes, prices, sides, names, debts and wallets that are almost ours, in any order."""
    say = rich(story, "rp_1")
    own = say.held()
    positions = own["positions"]
    say.reported(positions=positions[::-1], wallets=own["wallets"][::-1])
    say.reported(assets=dict(reversed(own["assets"].items())))
    for number, one in enumerate(positions):
        for more in (
            *({"margin_mode": mode} for mode in ("isolated", "cross")),
            {"margin_mode": "isolated", "symbol": "NOT-PERP"},
            *({"entry_price": "1", "currency": name} for name in ("USDT", "EUR", "USD", "BTC")),
            {"entry_price": "1"}, {"size": "0", "entry_price": "1"}, {"position_side": "long"},
            {"unrealized_pnl": "0"},
        ):  # fmt: skip
            said = [*positions[:number], {**one, **more}, *positions[number + 1 :]]
            say.reported(positions=said)
        said = [*positions[:number], *positions[number + 1 :]]
        say.reported(positions=said)
        bare = {name: one[name] for name in ("symbol", "position_side", "size")}
        say.reported(positions=[*said, bare], cost_method="fifo")
        say.reported(positions=[*said, {**bare, "entry_price": "2"}], cost_method="fifo")
    for wallets in ([], own["wallets"][:1], [*own["wallets"], {"symbol": "CL", "amount": "0"}],
                    [{"symbol": "ETH-PERP", "position_side": "short", "amount": "1"}]):  # fmt: skip
        say.reported(wallets=wallets)
    for parts in ("5", {"quantity": "-5"}, {"quantity": "-5", "borrowed": "4.5"},
                  {"free": "0", "borrowed": "5"}, {"locked": "1", "borrowed": "5", "interest": "1"},
                  {"quantity": "-5", "borrowed": "0"},
                  {"free": "-5", "unsettled": "1"}):  # fmt: skip
        for basis in ("trade", "settle"):
            say.reported(assets={**own["assets"], "XYZ": parts}, basis=basis)
    say.reported(assets={"USDT": "1", "NEW": {"quantity": "0", "borrowed": "3"}})
    for tolerance in ("0.5", "0.499999999999999999", {"assets.EUR": "0.5"}, {"assets.BTC": "1"}):
        for amount in ("0.5", "-0.5"):
            shifted = {**own["assets"], "EUR": _plus(own["assets"]["EUR"], amount)}
            say.reported(assets=shifted, tolerance=tolerance)
    for pair, asset in (("BTCUSDT", "BTC"), ("EURUSDT", "EUR"), ("NONE", "BTC")):
        left = {name: said for name, said in own["assets"].items() if name != asset}
        for assets in (left, own["assets"]):
            said = [*positions, {"symbol": pair, "size": "3.5", "entry_price": "1"}]
            say.reported(assets=assets, positions=said)
    say("SymbolChanged", symbol="SAP", new_symbol="SAPN")
    say("SymbolChanged", symbol="ETH-PERP", new_symbol="ETHX")
    say("SymbolChanged", symbol="XYZ", new_symbol="ABC")
    own = say.held()
    say.reported()
    say.reported(positions=positions)
    say.reported(assets={**own["assets"], "XYZ": "1"}, wallets=[])
    say.reported(positions=[*own["positions"], positions[-1]])
    for name in ("SAP", "ETH-PERP", "XYZ"):
        say.reported(positions=[*own["positions"], {"symbol": name, "size": "0"}])
    say("MarginModeChanged", symbol="ETHX", mode="cross")
    say("BorrowChanged", asset="XYZ", amount="-5")
    say.reported(wallets=[{"symbol": "ETHX", "amount": "0"}])
    say.reported(assets={**say.held()["assets"], "BTC": {"quantity": "3.5", "borrowed": "0"}})


def _plus(text: str, amount: str) -> str:
    return str(Decimal(text) + Decimal(amount))


def tiers(story: Story) -> None:
    """Legs whose sizes put the borders of their tiers apart, at marks on both sides of each."""
    steps = [
        ("0", "0.01", None),
        ("1000", "0.05", "40"),
        ("3000", "0.2", None),
        ("9000", "0.5", None),
    ]
    terms = [
        {
            "notional_floor": floor,
            "maintenance_rate": rate,
            **({"maintenance_amount": amount} if amount else {}),
        }
        for floor, rate, amount in steps
    ]
    inverse = {"kind": "inverse_perp", "base": "BTC", "quote": "USD", "settle": "BTC"}
    few = [
        {"notional_floor": "0", "maintenance_rate": "0.02"},
        {"notional_floor": "2", "maintenance_rate": "0.1"},
    ]
    story.tell(
        instrument(1, "TIER", base="T", multiplier="3", margin_tiers=terms),
        instrument(1, "INV", margin_tiers=few, **inverse),
        instrument(1, "OTHER", base="O", margin_tiers=terms[:2]),
    )
    for number, (long, short, cash) in enumerate(
        (("9", "-7", "300"), ("7", "-9", "900"), ("30", "-29", "60"), ("3", "-33", "4000"),
         ("11", "-11", "100"), ("100", "-1", "2500"))
    ):  # fmt: skip
        say = House(story, f"tier_{number}", leverage_limit="20")
        say("CashDeposited", amount=cash)
        say("CashDeposited", amount="0.75", currency="BTC")
        say("PositionModeChanged", mode="hedge")
        for symbol, price in (("TIER", "37"), ("INV", "40")):
            say.fill(symbol, long, price, position_side="long")
            say.fill(symbol, short, price, position_side="short")
        say.fill("OTHER", "5", "80", position_side="long")
        for place, price in enumerate(("37", "47.619", "30.3", "111.111111", "142.857143", "13")):
            at = 10 * number + place + 1
            say.tell(mark(at, price, "TIER"), mark(at, price, "INV"), mark(at, price, "OTHER"))
        say.fill("TIER", f"-{long}", "20", position_side="long")
        say.fill("INV", short.lstrip("-"), "20", position_side="short")


def homes(story: Story) -> None:
    """Events about a pair or coin that is the account currency itself, and what they are told."""
    say = House(story, "home_1", currency="BTC")
    say("CashDeposited", amount="10")
    say("CashDeposited", amount="8", currency="XYZ")
    by_hand = {"reason": "late", "actor": "ann"}
    say("PositionAdjusted", symbol="BTCUSDT", quantity="2", price="39000", **by_hand)
    say("PositionAdjusted", symbol="XYZUSDT", quantity="-2", price="0", **by_hand)
    say("PositionAdjusted", symbol="XYZUSDT", quantity="3", price="2.5", **by_hand)
    two = {"numerator": "2", "denominator": "1"}
    say("SplitApplied", symbol="BTCUSDT", **two)
    say("SplitApplied", symbol="XYZUSDT", quantity_after="17", cash_in_lieu="1", **two)
    say("Merged", symbol="BTC", cash="1")
    say("Merged", symbol="XYZ", cash="1", currency="XYZ")
    say("SpinOff", symbol="BTC", new_symbol="BTCX", cost="0", **two)
    say("SpinOff", symbol="BTC", new_symbol="BTCY", cost="1", **two)
    say("SpinOff", symbol="XYZ", new_symbol="XYZ2", cost_share="0", **two)
    say(
        "SpinOff",
        symbol="XYZ",
        new_symbol="XYZ3",
        cost="0.0001",
        quantity_after="0",
        cash_in_lieu="0.5",
        **two,
    )
    say("SpinOff", symbol="XYZ", new_symbol="XYZ4", cost="99999", **two)
    say("Merged", symbol="XYZ2", new_symbol="ZED", quantity_after="0", cash_in_lieu="2", **two)
    say("Merged", symbol="XYZ4", new_symbol="ZED", cash="1", currency="EUR", **two)
    say("SymbolChanged", symbol="ZED", new_symbol="BTC")
    say("SymbolChanged", symbol="BTC", new_symbol="ZED")
    say("SymbolChanged", symbol="ZED", new_symbol="SAP")
    say(
        "PositionTransferredIn",
        symbol="BTCUSDT",
        side="long",
        quantity="1",
        transfer_id="a",
        entry_price="1",
    )
    say(
        "PositionTransferredIn",
        symbol="BTC-PERP",
        side="long",
        quantity="1",
        transfer_id="b",
        cost="5",
    )
    say("PositionTransferredOut", symbol="XYZUSDT", quantity="1", transfer_id="c")
    say("TransferReversed", symbol="XYZUSDT", transfer_id="c", quantity="1", direction="out")
    rates = {"SAP": "0.003", "EUR": "0.00003"}
    say(
        "PositionTransferredIn",
        symbol="SAP",
        side="long",
        quantity="3",
        transfer_id="d",
        rates=rates,
    )
    say(
        "PositionTransferredIn",
        symbol="ASML",
        side="short",
        quantity="3",
        transfer_id="e",
        rates=rates,
        entry_price="600",
    )
    say("SpinOff", symbol="SAP", new_symbol="SUN", cost_share="0.25", rates=rates, **two)
    say("Merged", symbol="SUN", cash="3", currency="USD", rates=rates)
    say("Merged", symbol="SAP", cash="1", currency="BTC", rates=rates)
    say("ReturnOfCapital", symbol="ASML", amount="1200", rates=rates)
    say("ReturnOfCapital", symbol="ASML", amount="-9000", rates=rates)
    wallet = House(story, "home_2")
    wallet("CashDeposited", amount="500")
    wallet("MarginModeChanged", symbol="BTC-PERP", mode="isolated")
    wallet("MarginTransferred", symbol="BTC-PERP", amount="20")
    wallet("SymbolChanged", symbol="BTC-PERP", new_symbol="BTC-NEXT")
    wallet.fill("BTC-NEXT", "0.01", "40000")
    wallet.fill("BTC-NEXT", "-0.01", "40100")


def doors(story: Story) -> None:
    """Events on subjects of others, reports with numbers, names and texts that are none."""
    repair, own = dismissed(1, stream="w1"), deposit(1, stream="w1")
    story.tell(Sent(subject="trades.w1", data=repair.data), own)
    story.tell(Sent(subject="repair.w1", data=own.data))
    story.tell(Sent(subject="repair.w1", data=report({}, stream="w1").data))
    story.tell(changed(report({}, stream="w1"), sequence_number=2))
    story.tell(changed(deposit(2, stream="w1"), stream_id="bad id"))
    story.tell(changed(mark(9, "1", "XYZUSDT"), stream_id="BTCUSDT"), mark(9, "2.5", "XYZUSDT"))
    story.tell(mark(10, "2.75", "XYZUSDT", index_price="1"), mark(10, "3", "XYZUSDT"))
    story.tell(mark(9, "4", "XYZUSDT"), mark(12, "5", "XYZUSDT"), mark(11, "6", "XYZUSDT"))


if __name__ == "__main__":
    write(RARE.parent / "borders.jsonl.gz", lines(market, equity, reports, tiers, homes, doors))
