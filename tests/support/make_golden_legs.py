"""The golden log of legs and wallets, which `make_golden_corners` writes.

Hedge mode and isolated margin in every combination that random traffic of a few accounts meets, and
the corners that it does not: corrections, splits, settlements, inverse contracts.
"""

from __future__ import annotations

from typing import Any

import msgspec
from tests.support.events import changed, deposit, event, instrument, mark, opened
from tests.support.leg_traffic import TIERS, LegTraffic
from tests.support.make_golden_rare import Story

_SEEDS = range(12)


def random_accounts(story: Story) -> None:
    """Accounts of their own traffic, all on the same two contracts."""
    numbers: dict[str, int] = {}
    for seed in _SEEDS:
        for sent in LegTraffic(seed, 90).messages():
            if sent.subject.startswith("instruments.") and seed:
                continue
            if sent.subject.startswith("trades."):
                stream = f"legs_{seed}"
                story.tell(
                    msgspec.structs.replace(
                        changed(sent, stream_id=stream), subject=f"trades.{stream}"
                    )
                )
                continue
            body: dict[str, Any] = msgspec.json.decode(sent.data)
            token = f"{sent.subject}/{body['event_type']}"
            numbers[token] = numbers.get(token, 0) + 1
            story.tell(changed(sent, sequence_number=numbers[token]))


class _Account:
    """Writes the events of one account in their order."""

    def __init__(self, story: Story, stream: str, currency: str = "USDT") -> None:
        self._story, self._stream, self._number = story, stream, 1
        story.tell(opened(1, stream=stream, currency=currency))

    def tell(self, event_type: str, **payload: Any) -> None:
        """Write the next event."""
        self._number += 1
        self._story.tell(event(event_type, payload, self._number, stream=self._stream))

    def fill(self, side: str, quantity: str, price: str, leg: str = "", **more: Any) -> None:
        """Write a fill of the inverse contract, of a leg if one is named."""
        if leg:
            more["position_side"] = leg
        fields = {"symbol": "INV", "side": side, "quantity": quantity, "price": price}
        self.tell("TradeExecuted", **fields, **more)


def inverse(story: Story) -> None:
    """Legs and wallets that settle in a coin, corrected, split, settled and moved in kind."""
    story.tell(
        instrument(1, "INV", kind="inverse_perp", quote="USD", settle="BTC", margin_tiers=TIERS),
        instrument(1, "BTCUSDT", kind="spot"), mark(1, "100", "BTCUSDT"), mark(1, "100", "INV"),
    )  # fmt: skip
    for stream, currency in (("inv_coin", "BTC"), ("inv_home", "USDT")):
        account = _Account(story, stream, currency)
        account.tell("CashDeposited", amount="9", currency="BTC")
        account.tell("PositionModeChanged", mode="hedge", symbol="INV")
        account.fill("buy", "300", "100", "long", fill_id="a")
        account.fill("sell", "200", "110", "short", fill_id="b")
        account.tell("MarginModeChanged", symbol="INV", mode="isolated", position_side="long",
                     amount="1.5")  # fmt: skip
        account.tell("MarginTransferred", symbol="INV", position_side="short", amount="0.2")
        story.tell(mark(2, "83", "INV"), mark(3, "81.5", "INV"), mark(4, "70", "INV"))
        account.fill("buy", "250", "72", "short", fill_id="c")
        account.fill("sell", "5", "72", fill_id="d")
        account.tell("TradeAmended", fill_id="d", reason="leg", position_side="long")
        account.tell("TradeBusted", fill_id="c", reason="none")
        account.tell("PositionTransferredIn", symbol="INV", side="long", position_side="long",
                     quantity="10", entry_price="80", transfer_id="in")  # fmt: skip
        account.tell("PositionTransferredOut", symbol="INV", position_side="short",
                     quantity="20", transfer_id="out")  # fmt: skip
        account.tell("MarginModeChanged", symbol="INV", mode="cross")
        account.tell("PositionSettled", symbol="INV", settlement_price="75", kind="session")
        account.tell("PositionSettled", symbol="INV", settlement_price="76", kind="expiry",
                     fee="0.001")  # fmt: skip


def splits(story: Story) -> None:
    """A contract on a share splits: both legs, the wallet of one that is left with nothing."""
    story.tell(instrument(1, "CFD", base="X", margin_tiers=TIERS), mark(1, "50", "CFD"))
    account = _Account(story, "cfd")
    account.tell("CashDeposited", amount="1000")
    account.tell("PositionModeChanged", mode="hedge")
    account.tell("MarginModeChanged", symbol="CFD", mode="isolated")
    for side, leg, quantity in (("buy", "long", "3"), ("sell", "short", "0.4")):
        account.tell("TradeExecuted", symbol="CFD", side=side, quantity=quantity, price="50",
                     position_side=leg)  # fmt: skip
    for extra in ({}, {"position_side": "short"}):
        account.tell("SplitApplied", symbol="CFD", numerator="1", denominator="3",
                     quantity_after="0", cash_in_lieu="2", **extra)  # fmt: skip
    account.tell("PositionAdjusted", symbol="CFD", quantity="-2", price="40", reason="late",
                 actor="ann")  # fmt: skip
    account.tell("FeeCharged", symbol="CFD", amount="1", position_side="long")
    account.tell("LeverageChanged", symbol="CFD", leverage="5", position_side="long",
                 isolated_margin="-7")  # fmt: skip
    story.tell(mark(2, "60", "CFD"), deposit(99, stream="cfd"))
