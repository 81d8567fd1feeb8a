"""Write the golden log of fields: `python -m tests.support.make_golden_fields`.

Every event type with every field that it may have, stated rates (numbers, and that there is none)
above all. Whoever adds a field adds it here: a test asks. Fingerprints are recorded by
`python -m scripts.mutation --record`. Only for a new log: one that is in git never changes.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import msgspec
from tests.support.events import (
    Sent,
    changed,
    collateral,
    control,
    event,
    event_id,
    instrument,
    mark,
    opened,
    report,
    trade,
)
from tests.support.make_golden_corners import lines, write
from tests.support.make_golden_rare import PATH as RARE
from tests.support.make_golden_rare import Story, bust

PATH = RARE.parent / "fields.jsonl.gz"
RATES = {"BTC": "41000.5", "EUR": "1.0875", "SAP": "130.25", "XYZ": None}
WHEN = "2025-11-30T16:00:00Z"
STATED: dict[str, Any] = {"rates": RATES, "effective_at": WHEN}
BY_HAND = {"reason": "late", "actor": "ann"}


def tables(story: Story) -> None:
    """Instruments, marks and terms with all that may be said of them; the log itself."""
    of_venue = {"price_increment": "0.01", "quantity_increment": "0.001"}
    of_venue |= {"asset_class": "crypto", "venue": "binance"}
    for symbol, more in (
        ("BTCUSDT", {"kind": "spot"}),
        ("EURUSDT", {"kind": "spot", "base": "EUR"}),
        ("SAP", {"kind": "equity", "base": "SAP", "quote": "EUR", "settle": "EUR"}),
        ("ABC", {"kind": "equity", "base": "ABC", "quote": "EUR", "settle": "EUR"}),
        ("CL", {"kind": "linear_future", "base": "CL", "signed_price": True}),
    ):
        sent = instrument(1, symbol, **more)
        payload = {**msgspec.json.decode(sent.data)["payload"], **of_venue}
        story.tell(changed(sent, payload=payload))
    for number, (symbol, price) in enumerate((("BTCUSDT", "40000"), ("SAP", "120")), 1):
        sent = mark(number, price, symbol, index_price="40010.5")
        payload = {**msgspec.json.decode(sent.data)["payload"], "delta": "0.5", "source": "venue"}
        story.tell(changed(sent, payload=payload))
    story.tell(mark(3, "1.1", "EURUSDT"), mark(4, "55", "ABC"), mark(5, "-3.5", "CL"))
    trimmed = {"through": 3, "certificate": "ab" * 32, "actor": "ann", "approval": "a-1"}
    promoted = {"epoch": 1, "region": "b", "fork_sequence": 7, "previous_hash": "cd" * 32}
    story.tell(control("LogTrimmed", trimmed, 1), control("LogRestored", {"through": 3}, 2))
    story.tell(control("LogRestored", {"through": 3}, 2), control("RegionPromoted", promoted, 1))


def money(story: Story) -> None:
    """Coins and foreign money come, go, earn and cost at rates that their events state."""
    say = _Account(story, "money")
    for number, asset in enumerate(("BTC", "EUR", "XYZ"), 1):
        coin = {"currency": asset, **STATED}
        named = {"counterparty": "desk 7", "transfer_id": f"t{number}"}
        say("CashDeposited", amount="3", cost="900", reference=f"d{number}", **coin)
        say("CashWithdrawn", amount="1.5", reference=f"w{number}", **coin)
        say("CashWithdrawn", amount="2.5", reference=f"x{number}", **coin)
        say("TransferredIn", amount="5", cost="700", **named, **coin)
        say("TransferredOut", amount="1", **{**named, "transfer_id": f"o{number}"}, **coin)
        back = {"direction": "out", "cost": "120", **coin}
        say("TransferReversed", transfer_id=f"o{number}", amount="0.5", **back)
        say("CashReversed", reference=f"w{number}", amount="0.5", **back)
        say("CashAdjusted", amount="-0.25", reference=f"a{number}", **BY_HAND, **coin)
        say("InterestAccrued", amount="0.125", reference=f"i{number}", **coin)
        fee = {"reason": "market data", "reference": f"f{number}", "symbol": "BTCUSDT"}
        say("FeeCharged", amount="0.0625", **fee, **coin)
        tax = {"kind": "withholding", "reference": f"y{number}", "symbol": "SAP"}
        say("TaxCharged", amount="0.5", position_side="net", **tax, **coin)
        owed = {"asset": asset, "amount": "0.5", "reference": f"b{number}"}
        say("BorrowChanged", **owed, **STATED)
        exchanged = {"from": asset, "from_amount": "0.5", "to": "USDT", "to_amount": "77"}
        exchanged |= {"fee": "0.01", "fee_currency": "BNB", "reference": f"e{number}"}
        say("AssetsExchanged", **exchanged, **STATED)
        for haircut in ("1", "0.05", "0.5"):
            number = story.tell() + 1
            story.tell(collateral(number, asset, haircut, borrow_maintenance_rate="0.1"))
    story.tell(mark(story.tell() + 1, "39000", "BTCUSDT"), mark(story.tell() + 1, "1.2", "EURUSDT"))
    story.tell(collateral(story.tell() + 1, "USDT", "0", borrow_maintenance_rate="0.2"))
    say("CashWithdrawn", amount="90000")


def contracts(story: Story) -> None:
    """Orders, fills and costs of contracts, and corrections that name them in every way."""
    say = _Account(story, "contracts")
    say("CashDeposited", amount="50000")
    say("PositionModeChanged", mode="hedge", symbol="CL", effective_at=WHEN)
    order = {"symbol": "CL", "side": "buy", "type": "limit", "quantity": "9", "price": "-2"}
    named = {"order_id": "o1", "strategy_id": "s1"}
    leg = {"position_side": "long"}
    say("OrderSubmitted", time_in_force="gtc", **named, **order, **leg)
    say("OrderAccepted", order_id="o1", reason="new")
    say("OrderReplaced", order_id="o1", price="-1.5", quantity="8")
    fill = {"symbol": "CL", "side": "buy", "quantity": "2", "price": "-1.75"}
    more = {"commission": "0.5", "commission_currency": "EUR", "liquidity": "maker", **STATED}
    say("TradeExecuted", fill_id="f", **named, **fill, **leg, **more)
    say("TradeExecuted", fill_id="f", **fill, **leg, order_id="o2", liquidation_fee="0.25")
    say("TradeExecuted", fill_id="g", **fill, **leg, commission="0.1", commission_currency="EUR")
    amended = {"fill_id": "g", "symbol": "CL", "reason": "fee", "rates": RATES}
    say("TradeAmended", **amended, commission_currency="BTC")
    say("TradeAmended", fill_id="f", order_id="o1", price="-1.5", reason="price")
    say("TradeBusted", fill_id="f", order_id="o2", reason="never was")
    for verb, name in (("Rejected", "r"), ("Cancelled", "c"), ("Expired", "e")):
        say("OrderSubmitted", order_id=name, **order)
        say(f"Order{verb}", order_id=name, reason="venue")
    say("MarginModeChanged", symbol="CL", mode="isolated", amount="20", isolated_margin="25",
        effective_at=WHEN, **leg)  # fmt: skip
    say("MarginTransferred", symbol="CL", amount="5", reference="m", effective_at=WHEN, **leg)
    say("MarginReported", symbol="CL", initial="6", maintenance="3.5", reference="v",
        effective_at=WHEN, **leg)  # fmt: skip
    say("LeverageChanged", symbol="CL", leverage="5", isolated_margin="1.5", **leg)
    cost = {"symbol": "CL", **leg, **STATED}
    say("FundingApplied", funding_payment="-0.5", currency="EUR", reference="n", **cost)
    say("LossCovered", amount="3", currency="EUR", reference="l", **cost)
    say("PositionAdjusted", quantity="1", price="-2", reference="j", **BY_HAND, **cost)
    moved = {"quantity": "1", "entry_price": "-1", "counterparty": "desk 8", **cost}
    say("PositionTransferredIn", transfer_id="in", side="long", **moved)
    say("PositionTransferredOut", transfer_id="out", side="long", **moved)
    back = {"symbol": "CL", "quantity": "1", "entry_price": "-1", "direction": "out", **leg}
    say("TransferReversed", transfer_id="out", reversal_reference="z", **back, **STATED)
    say("PositionSettled", kind="expiry", settlement_price="-1", reference="p", fee="0.1",
        settlement_currency="EUR", underlying_price="2", **cost)  # fmt: skip


def issuers(story: Story) -> None:
    """What issuers do to shares quoted in foreign money, at rates that their events state."""
    say = _Account(story, "issuers")
    say("CashDeposited", amount="10000", currency="EUR", **STATED)
    say("TradeExecuted", symbol="SAP", side="buy", quantity="31", price="120", **STATED)
    cash = {"symbol": "SAP", "currency": "EUR", "position_side": "net", **STATED}
    paid = {"gross": "11", "tax": "1", "per_share": "0.35", "ex_date": "2025-11-28"}
    say("DividendPaid", amount="10", kind="ordinary", reference="a", **paid, **cash)
    third = {"numerator": "1", "denominator": "3", "cash_in_lieu": "2.5"}
    say("SplitApplied", quantity_after="10", mark_adjusted=True, reference="b", **third, **cash)
    say("StockDividend", quantity_after="13", mark_adjusted=True, reference="c", **third, **cash)
    say("ReturnOfCapital", amount="20", reference="d", **cash)
    spun = {"new_symbol": "SPUN", "quantity_after": "4", "cost_share": "0.1", "reference": "e"}
    say("SpinOff", **spun, **third, **cash)
    say("SymbolChanged", symbol="SAP", new_symbol="SAPN", reference="f", **STATED)
    merged = {"new_symbol": "ABC", "quantity_after": "4", "cash": "30", "reference": "g"}
    say("Merged", **{**merged, **third, **cash, "symbol": "SAPN"})
    wrong = event_id("ReturnOfCapital", "issuers", 7, "")
    say("EventReversed", event_id=wrong, **BY_HAND)
    say("PeakReset", peak_nav="2.5", max_drawdown="0.25", **BY_HAND)
    bought = trade(13, "buy", "1", "9", "ABC", stream="issuers")
    story.tell(mark(story.tell() + 1, "56", "ABC"), bought)
    story.tell(bust(14, "issuers", event_id=event_id("TradeExecuted", "issuers", 13, "")))
    held = {"symbol": "ABC", "size": "5", "mark_price": "56", "unrealized_pnl": "1"}
    told = {"through": "g", "basis": "settle", "equity": "9", "rates": RATES, "tolerance": "0.5"}
    wallets = [{"symbol": "CL", "amount": "1"}]
    story.tell(
        report({"EUR": "5"}, held, stream="issuers", cost_method="average", wallets=wallets, **told)
    )


class _Account:
    """Writes the events of one account in their order."""

    def __init__(self, story: Story, stream: str) -> None:
        self._story, self._stream, self._numbers = story, stream, count(2)
        story.tell(opened(1, stream=stream, margin_mode="cross"))

    def __call__(self, event_type: str, **payload: Any) -> None:
        self._story.tell(event(event_type, payload, next(self._numbers), stream=self._stream))


def messages() -> list[Sent]:
    """Return the log."""
    story = Story()
    for part in (tables, money, contracts, issuers):
        part(story)
    return story.sent


if __name__ == "__main__":
    write(PATH, lines(tables, money, contracts, issuers))
