"""Write the golden log of issuers and options: `python -m tests.support.make_golden_actions`.

Symbol changes, spin-offs, mergers, deliveries and what they are refused for, with marks between
them and corrections after them. Fingerprints are recorded by `python -m scripts.mutation --record`.
"""

from __future__ import annotations

from typing import Any

from tests.support.events import Sent, event, instrument, mark, opened, trade
from tests.support.make_golden_corners import lines, write
from tests.support.make_golden_rare import PATH as RARE
from tests.support.make_golden_rare import Story, bust
from tests.support.shares import OPTION, SYMBOLS, Shares

_MARKED = (*SYMBOLS, OPTION, "ZZZ")


def random_shares(story: Story) -> None:
    """Six accounts that issuers act on at random, with marks; a fill of each is busted."""
    for seed in range(6):
        author = Shares(seed, length=40, stream=f"i{seed}")
        for place, sent in enumerate(author.sent):
            story.tell(sent)
            if place % 3 == 2:
                symbol = _MARKED[(place + seed) % len(_MARKED)]
                story.tell(mark(100 * seed + place, f"{20 + (place * 7) % 50}", symbol))
        number = author.number + 1
        for fill in author.fills[1::4]:
            story.tell(bust(number, f"i{seed}", fill_id=fill))
            number += 1


def symbols(story: Story) -> None:
    """Names that lead on, back and to another thing; keys, orders, leverage and marks with them."""
    s = "n1"
    order = {"order_id": "o", "symbol": "OLD", "side": "buy", "type": "limit", "price": "9"}
    story.tell(instrument(1, "OLD", kind="equity", base="OLD"), opened(1, stream=s))
    story.tell(mark(1, "12", "OLD"), trade(2, "buy", "30", "10", "OLD", stream=s, fill_id="f"))
    story.tell(_event("OrderSubmitted", {**order, "quantity": "4"}, 3, s))
    story.tell(_event("LeverageChanged", {"symbol": "OLD", "leverage": "5"}, 4, s))
    story.tell(_event("DividendPaid", {"symbol": "OLD", "amount": "3", "reference": "d"}, 5, s))
    story.tell(_changed("OLD", "MID", 6, s, reference="c"), mark(2, "30", "OLD"))
    story.tell(trade(7, "sell", "2", "14", "OLD", stream=s, fill_id="f"))
    story.tell(trade(8, "buy", "30", "10", "MID", stream=s, fill_id="f"))
    story.tell(_event("DividendPaid", {"symbol": "MID", "amount": "3", "reference": "d"}, 9, s))
    story.tell(_event("SplitApplied", {"symbol": "OLD", "ratio": "3"}, 10, s))
    story.tell(_changed("MID", "NEW", 11, s), mark(1, "5", "NEW"), _changed("OLD", "OLD", 12, s))
    story.tell(trade(13, "buy", "7", "2", "OLD", stream=s, fill_id="f"))
    story.tell(trade(14, "buy", "7", "2", "OLD", stream=s, fill_id="f"))
    story.tell(_changed("NEW", "OLD", 15, s), _changed("MID", "OLD", 16, s))
    story.tell(instrument(1, "FUT", kind="linear_future"), _changed("OLD", "FUT", 17, s))
    story.tell(bust(18, s, fill_id="f", symbol="OLD", side="sell"), mark(3, "6", "OLD"))
    story.tell(_changed("FLAT", "FLATTER", 19, s), trade(20, "buy", "1", "1", "FLAT", stream=s))
    story.tell(_changed("FLATTER", "FUT", 21, s), trade(22, "sell", "3", "2", "FLAT", stream=s))


def sides(story: Story) -> None:
    """Two positions that are one by now: on one side, and on two; contracts pay each other."""
    for number, (first, second) in enumerate((("2", "3"), ("2", "-5"), ("-4", "4"), ("-4", "1"))):
        s = f"m{number}"
        story.tell(_fill("X", first, "10", 1, s), _fill("Y", second, "14", 2, s))
        story.tell(mark(10 + number, "11", "X"), _changed("X", "Y", 3, s))
        story.tell(mark(20 + number, "12", "Y"), _fill("X", "1", "13", 4, s))


def refusals(story: Story) -> None:
    """What issuers' events are refused for, and what a flat account is paid."""
    s = "q1"
    units = {"new_symbol": "NEW", "numerator": "1", "denominator": "2"}
    story.tell(opened(1, stream=s), trade(2, "buy", "5", "10", "OLD", stream=s))
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("SpinOff", {**units}),
        ("SpinOff", {**units, "cost": "1", "cost_share": "0.5"}),
        ("SpinOff", {**units, "cost_share": "1.5"}),
        ("SpinOff", {**units, "cost": "1", "new_symbol": "OLD"}),
        ("SpinOff", {**units, "cost": "1", "cash_in_lieu": "1"}),
        ("Merged", {"new_symbol": "NEW"}),
        ("Merged", {**units, "new_symbol": "OLD"}),
        ("Merged", {**units, "cash_in_lieu": "1"}),
        ("PositionSettled", {"settlement_price": "1", "kind": "expiry", "fill_id": "f"}),
    ]
    for number, (kind, payload) in enumerate(wrong, 3):
        story.tell(_event(kind, {"symbol": "OLD", **payload}, number, s))
    after = len(wrong) + 3
    paid = {**units, "quantity_after": "0", "cash_in_lieu": "2.5", "currency": "EUR"}
    story.tell(_event("SpinOff", {"symbol": "NONE", **paid, "cost": "1"}, after, s))
    story.tell(_event("Merged", {"symbol": "NONE", **paid, "cash": "1"}, after + 1, s))


def _fill(symbol: str, signed: str, price: str, number: int, stream: str) -> Sent:
    side = "sell" if signed.startswith("-") else "buy"
    return trade(number, side, signed.lstrip("-"), price, symbol, stream=stream)


def _event(kind: str, payload: dict[str, Any], number: int, stream: str) -> Sent:
    return event(kind, payload, number, stream=stream)


def _changed(old: str, new: str, number: int, stream: str, **more: Any) -> Sent:
    return _event("SymbolChanged", {"symbol": old, "new_symbol": new, **more}, number, stream)


if __name__ == "__main__":
    write(RARE.parent / "actions.jsonl.gz", lines(random_shares, symbols, sides, refusals))
