"""Write the golden log of what is rare: `python -m tests.support.make_golden_rare`.

What random traffic never meets: operator events, blocked and overflowing streams, corrections that
name nothing, figures that do not compute. Its fingerprints are recorded by
`python -m scripts.mutation --record`. Only for a new log: one that is in git never changes.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.events import (
    Sent,
    changed,
    deposit,
    dismissed,
    event,
    funding,
    instrument,
    mark,
    opened,
    raw,
    report,
    retried,
    rules,
    trade,
    unknown,
    voided,
)
from tests.support.golden import FOLDER
from tests.support.make_golden import written

from psm.domain.delivery.parked import PARKED_MAX

PATH = FOLDER / "written" / "rare.jsonl.gz"


class Story:
    """Messages one after the other; the place of the last one is its log sequence."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []

    def tell(self, *sent: Sent) -> int:
        """Append messages; return the log sequence of the last."""
        self.sent += sent
        return len(self.sent)


def bust(number: int, stream: str, verb: str = "Busted", **payload: Any) -> Sent:
    """Return a correction."""
    return event(f"Trade{verb}", {**payload, "reason": "erroneous"}, number, stream=stream)


def order(number: int, stream: str, order_id: str, symbol: str = "BTC-PERP") -> Sent:
    """Return an order."""
    payload = {"order_id": order_id, "symbol": symbol, "side": "buy", "type": "limit"}
    fields = {**payload, "price": "100", "quantity": "2"}
    return event("OrderSubmitted", fields, number, stream=stream)


def blocked(story: Story) -> None:
    """Dismissals, retries and what they are refused for."""
    for stream in ("b1", "b2"):
        at = story.tell(deposit(1, stream=stream), unknown(2, stream=stream))
        held = [trade(3, "buy", "2", "10", stream=stream), deposit(3, "8", stream=stream)]
        story.tell(*held, raw(b"junk", stream=stream), deposit(1, stream=stream))
        again = story.tell(unknown(5, stream=stream), deposit(7, "3", stream=stream))
        story.tell(deposit(4, stream=stream), mark(at, "11"), voided(2, 2, stream=stream))
        wrong = dismissed(at + 1, stream=stream)
        story.tell(wrong, wrong, changed(wrong, timestamp="2026-01-01T00:00:00Z"))
        story.tell(retried(stream=stream), dismissed(at, stream=stream, actor=""))
        repair = dismissed(at, stream=stream, salt="2")
        story.tell(repair, repair, changed(repair, correlation_id="x"))
        story.tell(dismissed(again, stream=stream), deposit(6, stream=stream))
        story.tell(dismissed(again, stream=stream, salt="3"), retried(stream=stream, salt="4"))
    at = story.tell(deposit(1, stream="b3"), unknown(3, stream="b3"), deposit(2, stream="b3"))
    fill = trade(4, "buy", "1", "50", stream="b3", fill_id="f4")
    story.tell(fill, bust(5, "b3", fill_id="f4"), rules(1))
    story.tell(dismissed(at - 1, stream="b3"), deposit(6, stream="b3"))
    story.tell(rules(1, salt="again"), rules(1, number=1, salt="old"))


def gaps(story: Story) -> None:
    """Voids, and what they are refused for."""
    story.tell(voided(1, 1, stream="g1"), deposit(4, stream="g1"), voided(1, 3, stream="g1"))
    story.tell(voided(5, 5, stream="g1"), deposit(9, stream="g1"))
    for first, last in ((6, 6), (4, 5), (5, 4), (5, 9), (5, 10_005)):
        story.tell(voided(first, last, stream="g1"))
    story.tell(retried(stream="g1"), dismissed(3, stream="g1"))
    story.tell(voided(5, 6, stream="g1"), deposit(6, stream="g1"), voided(7, 8, stream="g1"))
    story.tell(deposit(7, stream="g1"), deposit(271, stream="g1"), voided(10, 270, stream="g1"))
    story.tell(deposit(11, stream="g1"), deposit(4, stream="g1"), deposit(272, stream="g1"))


def overflows(story: Story) -> None:
    """More parked than may be; the missing number is voided."""
    for stream in ("o1",):
        story.tell(deposit(1, stream=stream))
        story.tell(*[deposit(2 + n, "1", stream=stream) for n in range(1, PARKED_MAX + 4)])
        story.tell(unknown(PARKED_MAX + 6, stream=stream))
        story.tell(deposit(PARKED_MAX + 7, stream=stream), deposit(3, "9", stream=stream))
        story.tell(retried(stream=stream), dismissed(2, stream=stream))
    story.tell(voided(2, 2, stream="o1"))


def refusals(story: Story) -> None:
    """Corrections, orders, adjustments and funding that contradict the books."""
    s = "r1"
    trades = [trade(n, "buy", "1", f"{n}0", stream=s, fill_id=f"f{n}") for n in (2, 3)]
    other = trade(4, "buy", "1", "7", "ETH-PERP", stream=s, fill_id="f2")
    story.tell(opened(1, stream=s, leverage_limit="3"), *trades, other)
    story.tell(
        bust(5, s, fill_id="f2"),
        bust(6, s),
        bust(7, s, "Amended", fill_id="f3"),
        bust(8, s, fill_id="f3"),
        bust(9, s, fill_id="f3"),
        bust(10, s, "Amended", fill_id="f3", price="5"),
        bust(11, s, fill_id="nothing"),
        order(12, s, "a"),
        order(13, s, "a"),
        event("TradeExecuted", _fill("x"), 14, stream=s),
        order(15, s, "x", "ETH-PERP"),
        order(16, s, "x"),
    )
    adjusted = {"symbol": "BTC-PERP", "quantity": "0", "price": "1", "reason": "r", "actor": "a"}
    story.tell(event("PositionAdjusted", adjusted, 17, stream=s))
    story.tell(event("PositionAdjusted", {**adjusted, "quantity": "-2"}, 18, stream=s))
    story.tell(*[funding(n, "1", stream=s, reference="same") for n in (19, 20)])
    story.tell(event("FeeCharged", {"amount": "1", "currency": "EUR"}, 21, stream=s))
    story.tell(changed(deposit(22, stream=s), stream_id="r2"))
    story.tell(changed(deposit(22, stream=s), stream_id="bad id"))
    story.tell(deposit(22, stream=s))
    for number in range(23, 543, 2):  # more ended orders than an account keeps
        name = f"e{number}"
        story.tell(order(number, s, name))
        story.tell(event("OrderCancelled", {"order_id": name}, number + 1, stream=s))
    story.tell(changed(mark(90, "12"), stream_id="ETH-PERP"), changed(mark(91, "12"), payload={}))
    story.tell(changed(mark(92, "12"), payload={"symbol": "X", "price": "1"}))
    story.tell(changed(mark(93, "12"), event_type="Other"), changed(mark(94, "12.5")))
    story.tell(changed(mark(95, "12"), sequence_number=None))


def _fill(order_id: str) -> dict[str, str]:
    fill = {"symbol": "BTC-PERP", "side": "buy", "quantity": "1", "price": "9"}
    return {**fill, "order_id": order_id}


def figures(story: Story) -> None:
    """Arithmetic that does not compute, rates that are missing, an account that is ruined."""
    story.tell(instrument(1, "INV", kind="inverse_perp", base="BTC", quote="USD", settle="BTC"))
    tiny, huge = "0.000000000000000001", "9" * 18
    story.tell(
        opened(1, stream="v1", currency="BTC"),
        trade(2, "buy", tiny, "300000000000000000", "INV", stream="v1"),
        trade(3, "buy", huge, tiny, "INV", stream="v1"),
        deposit(4, "0.5", stream="v1", currency="BTC"),
    )
    story.tell(mark(1, tiny, "INV"), mark(2, huge, "INV"), mark(3, "1", "INV"))
    story.tell(
        opened(1, stream="v2", leverage_limit="2"),
        deposit(2, "100", stream="v2"),
        order(3, "v2", "inv", "INV"),
        trade(4, "buy", "1", "3", "INV", stream="v2"),
        trade(5, "buy", "4", "50", "LIN", stream="v2"),
        mark(1, "50", "LIN"),
        mark(2, "49", "LIN"),
        mark(3, "25", "LIN"),
        mark(4, "24.9", "LIN"),
        deposit(6, "300", stream="v2"),
        event("CashWithdrawn", {"amount": "300"}, 7, stream="v2"),
        mark(5, "1", "LIN"),
        event("CashWithdrawn", {"amount": "1"}, 8, stream="v2"),
        deposit(9, "500", stream="v2"),
        event("InterestAccrued", {"amount": "-400"}, 10, stream="v2"),
        mark(6, "100", "LIN"),
    )


def reports(story: Story) -> None:
    """Reports in every state of a stream: right, wrong, early, late, repeated, and none at all."""
    s = "p1"
    nothing = report({}, stream=s)
    story.tell(nothing, nothing, report({"USDT": "5"}, stream=s))
    story.tell(opened(1, stream=s), deposit(2, "100", stream=s, reference="d2"), nothing)
    held = {"symbol": "BTC-PERP", "size": "2", "entry_price": "30", "currency": "USDT"}
    right = report({"USDT": "100"}, held, stream=s, through="f3", cost_method="average")
    fill = trade(3, "buy", "2", "30", stream=s, fill_id="f3")
    story.tell(right, fill, changed(right, correlation_id="x"), right)
    again = report({"USDT": "100"}, held, stream=s, through="f3", cost_method="average", salt="2")
    story.tell(again, again, changed(again, correlation_id="x"))
    other = {**held, "entry_price": "31.5", "mark_price": "1", "unrealized_pnl": "1"}
    parts = {"free": "90", "locked": "10.5", "borrowed": "0.5", "interest": "0.25"}
    odd: tuple[dict[str, Any], ...] = (
        {"tolerance": "0.25", "cost_method": "average"},
        {"tolerance": {"assets.USDT": "0.25"}, "cost_method": "average", "equity": "1"},
        {"tolerance": "1.5", "cost_method": "average", "rates": {"BTC": "9"}},
        {"cost_method": "fifo", "basis": "settle"},
        {"wallets": [{"symbol": "BTC-PERP", "amount": "3"}]},
    )
    for number, more in enumerate(odd):
        story.tell(report({"USDT": parts}, other, stream=s, salt=f"p{number}", **more))
    legs = [{"symbol": "BTC-PERP", "position_side": side, "size": "1"} for side in ("long", "net")]
    story.tell(report({"BTC": {"quantity": "1", "unsettled": "2"}}, *legs, stream=s))
    story.tell(report({"BTC": {"quantity": "1", "unsettled": "2"}}, basis="settle", stream=s))
    story.tell(report({"BTC": {"borrowed": "1"}}, stream=s), report({}, held, held, stream=s))
    story.tell(changed(again, sequence_number=4), changed(again, schema_version="2.0.0"))
    story.tell(changed(nothing, payload={}), report({"USDT": "x"}, stream=s))
    story.tell(bust(4, s, fill_id="f3"), report({"USDT": "100"}, stream=s, through="f3"))
    story.tell(report({"USDT": "100"}, stream=s, salt="bust"), deposit(6, stream=s))
    story.tell(report({"USDT": "100"}, stream=s, salt="gap"), deposit(5, stream=s))
    at = story.tell(unknown(7, stream=s))
    story.tell(deposit(8, stream=s), report({"USDT": "2100"}, stream=s, salt="blocked"))
    story.tell(dismissed(at, stream=s), report({"USDT": "3100"}, stream=s, salt="open"))


def messages() -> Iterator[Sent]:
    """Yield the log."""
    story = Story()
    story.tell(rules(1), instrument(1))
    for part in (blocked, gaps, refusals, figures, reports, overflows):
        part(story)
    yield from story.sent


def write(path: Path) -> None:
    """Write the log; the sequences of the lines are the places in the story."""
    lines = [line.partition(b',"subject"')[2] for line in written(messages(), 7)]
    numbered = [b'{"log_sequence":%d,"subject"%s' % (n, x) for n, x in enumerate(lines, 1)]
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(b"".join(numbered))


if __name__ == "__main__":
    write(PATH)
