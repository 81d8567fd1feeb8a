"""Write the golden logs of the corners: `python -m tests.support.make_golden_corners`.

What neither random traffic nor the log of rare things reaches, each message there for a line or two
of the domain. `next_rules` has events that only rules 2 know. Fingerprints are recorded by
`python -m scripts.mutation --record`. Only for a new log: one that is in git never changes.
"""

from __future__ import annotations

import gzip
import uuid
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from tests.support.events import (
    SECOND,
    START,
    Sent,
    changed,
    deposit,
    dismissed,
    event,
    fee,
    funding,
    instrument,
    mark,
    opened,
    raw,
    retried,
    rules,
    trade,
    unknown,
    voided,
    withdrawal,
)
from tests.support.make_golden_legs import inverse, random_accounts, splits
from tests.support.make_golden_rare import PATH as RARE
from tests.support.make_golden_rare import Story, bust

HUGE = "987654321987654321.123456789123456789"
"""As long as an amount may be: three of them do not multiply exactly in 100 digits."""
_STEPS = (1, 999, 400_000_000, SECOND, 2 * SECOND, 7)


def at_the_start(story: Story) -> None:
    """What waits for the first message of the log; names and numbers that are none."""
    story.tell(deposit(2, stream="s1"), deposit(1, stream="s1"))
    story.tell(deposit(5, stream="s1"), deposit(5, stream="s1", salt="other"))
    story.tell(
        deposit(4, "3", stream="s1", salt="5"), changed(deposit(5, stream="s1"), user_id="x")
    )
    story.tell(changed(deposit(3, stream="s1"), event_id=_id_of(deposit(5, stream="s1"))))
    story.tell(deposit(4, stream="s1"), deposit(3, stream="s1", correlation_id="trace-1"))
    story.tell(*[changed(deposit(6, stream="s1"), sequence_number=n) for n in (None, 100_007)])
    long = "a" * 65
    story.tell(Sent(subject=f"trades.{long}", data=deposit(1, stream=long).data))
    story.tell(changed(deposit(100_005, stream="s1"), salt="far"), raw(b"[]", stream="s1"))
    for sent in (mark(1, "10"), instrument(1)):
        story.tell(changed(sent, sequence_number=None), changed(sent, stream_id="Y"), sent, sent)
    story.tell(changed(rules(1), stream_id="other"), rules(1, number=3), rules(1, number=2))
    story.tell(Sent(subject="control.other", data=changed(rules(1), stream_id="other").data))
    story.tell(instrument(2, multiplier="3"), changed(instrument(3), payload={"symbol": "Y"}))
    story.tell(deposit(1, stream="s2"), deposit(10_004, stream="s2"))
    story.tell(voided(2, 10_002, stream="s2"), voided(2, 10_001, stream="s2"))
    story.tell(voided(10_002, 10_003, stream="s2"), deposit(9_748, stream="s2"))


def ids(story: Story) -> None:
    """Identities that are found across the border of two others, and only there."""
    one, two = (uuid.UUID(int=n << 64 | n + 7, version=4) for n in (0xA1B2C3D4E5, 0x5E4D3C2B1A))
    both = one.bytes + two.bytes
    for number, place in enumerate((16, 0, 8, 0), 1):
        name = uuid.UUID(bytes=both[place : place + 16])
        story.tell(changed(deposit(number, f"{number}", stream="i1"), event_id=str(name)))
    across = uuid.UUID(bytes=both[8:24])
    fresh = changed(deposit(4, stream="i2"), event_id=str(across))
    first = [
        changed(deposit(n + 1, stream="i2"), event_id=str(x)) for n, x in enumerate((one, two))
    ]
    story.tell(*first, deposit(3, stream="i2"), fresh, fresh, first[0])


def _id_of(sent: Sent) -> str:
    return str(msgspec.json.decode(sent.data)["event_id"])


def releases(story: Story) -> None:
    """Streams that stop again on their way, with all kinds of messages held meanwhile."""
    for stream in ("h1", "h2"):
        fill = trade(2, "buy", "1", "50", stream=stream, fill_id="f")
        story.tell(deposit(1, stream=stream), fill)
        blocks = [story.tell(unknown(3, stream=stream))]
        for number in (5, 8):
            story.tell(deposit(number - 1, f"{number}", stream=stream))
            blocks.append(story.tell(unknown(number, stream=stream)))
            story.tell(deposit(number - 1, "77", stream=stream, salt="again"))
            story.tell(deposit(number + 2, "1", stream=stream), deposit(1, stream=stream))
            if stream == "h1":
                story.tell(raw(b"junk", stream=stream), bust(number + 1, stream, fill_id="f"))
            story.tell(changed(deposit(100_009, stream=stream), salt="far"))
        story.tell(unknown(12, stream=stream), mark(story.tell(), "51"))
        for place in blocks[:2]:
            story.tell(dismissed(place, stream=stream), deposit(6, "4", stream=stream))
            story.tell(dismissed(place, stream=stream, salt="again"), fill)
            story.tell(deposit(7, "9", stream=stream, salt=f"{place}"), deposit(20, stream=stream))
        story.tell(voided(9, 9, stream=stream), dismissed(blocks[2], stream=stream))
        story.tell(deposit(9, stream=stream), deposit(11, stream=stream), retried(stream=stream))
        story.tell(voided(13, 19, stream=stream), deposit(21, stream=stream))


def gap_behind(story: Story) -> None:
    """A gap that shows when what blocked is gone; a run that stops in its middle."""
    s = "q1"
    story.tell(deposit(1, stream=s), deposit(4, stream=s), deposit(6, stream=s))
    at = story.tell(unknown(2, stream=s))
    story.tell(dismissed(at, stream=s, correlation_id="repair"), deposit(3, stream=s))
    story.tell(deposit(5, stream=s))
    s = "q2"
    story.tell(deposit(1, stream=s), deposit(4, stream=s), deposit(5, stream=s))
    at = story.tell(unknown(3, stream=s))
    story.tell(deposit(8, stream=s), deposit(7, stream=s), deposit(2, stream=s))
    story.tell(deposit(9, stream=s), deposit(10, "2", stream=s), dismissed(at, stream=s))
    story.tell(deposit(6, stream=s))
    s = "q3"
    fill = trade(1, "buy", "2", "50", stream=s, fill_id="f")
    story.tell(fill, bust(4, s, fill_id="f"), trade(5, "sell", "1", "60", stream=s))
    story.tell(trade(3, "buy", "1", "40", stream=s, fill_id="g"), deposit(2, stream=s))
    story.tell(bust(6, s, event_id=_id_of(fill).upper()), bust(7, s, "Amended", fill_id="g"))
    story.tell(bust(8, s, "Amended", fill_id="g", quantity="2", price="41", commission="0.5"))


def orders(story: Story) -> None:
    """Orders whose past changes; what they reserve without a mark or a rate."""
    s = "d1"
    at: dict[str, Any] = {"side": "buy", "type": "limit", "price": "10", "quantity": "4"}
    story.tell(
        opened(1, stream=s),
        _order(2, s, "a", symbol="BTC-PERP", **at),
        event("TradeExecuted", _filled("a", "a1", "2"), 3, stream=s),
        _order(4, s, "a", "Cancelled"),
        bust(5, s, "Amended", fill_id="a1", quantity="4"),
        _order(6, s, "b", symbol="EUR-PERP", **{**at, "side": "sell"}),
        _order(7, s, "c", symbol="EUR-PERP", **{**at, "price": None, "type": "market"}),
        instrument(1, "EUR-PERP", settle="EUR", quote="EUR"),
        _order(8, s, "d", symbol="EUR-PERP", **{**at, "type": "stop", "price": None}),
        mark(1, "12", "EUR-PERP"),
        instrument(1, "EURUSDT", kind="spot", base="EUR"),
        _order(9, s, "e", symbol="EUR-PERP", **{**at, "reduce_only": True}),
        mark(1, "1.25", "EURUSDT"),
        _order(10, s, "b", "Accepted"),
        mark(2, "1.5", "EURUSDT"),
        _order(11, s, "b", "Replaced", quantity="6"),
        _order(12, s, "b", "Expired"),
        _order(13, s, "c", "Rejected"),
        trade(14, "sell", "3", "11", "EUR-PERP", stream=s),
        _order(15, s, "f", symbol="NEW-PERP", **{**at, "price": None, "type": "market"}),
        trade(16, "buy", "3", "7", "NEW-PERP", stream=s),
        _order(17, s, "g", symbol="NEW-PERP", **{**at, "price": None, "type": "market"}),
        mark(1, "8", "NEW-PERP"),
        bust(18, s, event_id=_id_of(trade(16, "buy", "3", "7", "NEW-PERP", stream=s))),
        event("TradeExecuted", _filled("x", "x1", "1"), 19, stream=s),
        bust(20, s, fill_id="x1"),
        event("TradeExecuted", _filled("x", "x2", "1"), 21, stream=s),
        _order(22, s, "x", symbol="BTC-PERP", **at),
        bust(23, s, "Amended", fill_id="x2", quantity="4"),
        event("SplitApplied", {"symbol": "NEW-PERP", "ratio": "2"}, 24, stream=s),
        event("SplitApplied", {"symbol": "NEW-PERP", "ratio": "3"}, 25, stream=s),
        mark(2, "8", "NEW-PERP"),
        event("LeverageChanged", {"leverage": "4"}, 26, stream=s),
        event("LeverageChanged", {"leverage": "2", "symbol": "NEW-PERP"}, 27, stream=s),
        *[_order(28 + n, s, x, "Cancelled") for n, x in enumerate("fgde")],
    )


def _order(number: int, stream: str, order_id: str, verb: str = "Submitted", **more: Any) -> Sent:
    fields = {name: value for name, value in more.items() if value is not None}
    if fields.get("type") == "stop":
        fields["stop_price"] = "9"
    return event(f"Order{verb}", {"order_id": order_id, **fields}, number, stream=stream)


def _filled(order_id: str, fill_id: str, quantity: str) -> dict[str, str]:
    fill = {"symbol": "BTC-PERP", "side": "buy", "quantity": quantity, "price": "10"}
    return {**fill, "order_id": order_id, "fill_id": fill_id}


def failures(story: Story) -> None:
    """Figures that fail and compute again."""
    s = "x1"
    order: dict[str, Any] = {
        "symbol": "HUGE",
        "side": "buy",
        "type": "limit",
        "price": HUGE,
        "quantity": HUGE,
    }
    story.tell(
        instrument(1, "HUGE", multiplier=HUGE),
        opened(1, stream=s, leverage_limit="5"),
        deposit(2, "5", stream=s),
        mark(1, "3", "HUGE"),
        trade(3, "buy", HUGE, "4", "HUGE", stream=s),
        deposit(4, "7", stream=s),
        mark(2, HUGE, "HUGE"),
        deposit(5, "8", stream=s),
        withdrawal(6, "1", stream=s),
        funding(7, "1", "HUGE", stream=s, funding_rate="0.123456789123456789"),
        trade(8, "buy", "1", "2", stream=s),
        mark(3, "5", "HUGE"),
        _order(9, s, "h", **order),
        deposit(10, "9", stream=s),
        mark(4, "6", "HUGE"),
        _order(11, s, "h", "Cancelled"),
        deposit(12, "9", stream=s),
        mark(5, HUGE, "HUGE"),
        trade(13, "sell", HUGE, "4", "HUGE", stream=s),
        deposit(14, "9", stream=s),
        trade(15, "sell", HUGE, HUGE, "HUGE", stream=s),
        trade(16, "buy", "1", HUGE, "HUGE", stream=s),
    )


def rates(story: Story) -> None:
    """Amounts in other currencies; a symbol that is a position and a rate at once."""
    s, tiers = "c1", [{"notional_floor": "0", "maintenance_rate": "0.9"}]
    story.tell(
        opened(1, stream=s, leverage_limit="1"),
        deposit(2, "100", stream=s),
        mark(1, "2", "GBPUSDT"),
        instrument(1, "G-PERP", settle="GBP", quote="GBP", margin_tiers=tiers),
        trade(3, "buy", "3", "20", "G-PERP", stream=s),
        mark(1, "20", "G-PERP"),
        instrument(1, "GBPUSDT", kind="spot", base="GBP"),
        deposit(4, "5", stream=s, currency="GBP"),
        withdrawal(5, "9", stream=s, currency="GBP"),
        deposit(6, "9", stream=s, currency="CHF"),
        trade(7, "buy", "4", "1.1", "CHFUSDT", stream=s),
        mark(1, "1.2", "CHFUSDT"),
        instrument(1, "CHFUSDT", kind="spot", base="CHF"),
        mark(2, "1.3", "CHFUSDT"),
        trade(8, "sell", "7", "1.1", "CHFUSDT", stream=s, fill_id="flip", commission="0.7"),
        trade(9, "sell", "1", "1.2", "CHFUSDT", stream=s, commission="0.1", liquidation_fee="0.2"),
        mark(3, "1.4", "CHFUSDT"),
        bust(10, s, fill_id="flip"),
        trade(11, "sell", "3", "1.1", "CHFUSDT", stream=s),
        trade(12, "buy", "3", "21", "G-PERP", stream=s, commission="1", commission_currency="CHF"),
        trade(13, "sell", "6", "22", "G-PERP", stream=s),
        mark(3, "2.5", "GBPUSDT"),
        event("FeeCharged", {"amount": "1", "symbol": "G-PERP", "currency": "GBP"}, 14, stream=s),
        funding(15, "0.5", "G-PERP", stream=s, currency="GBP"),
        withdrawal(16, "9", stream=s, currency="CHF"),
        mark(4, "1.5", "CHFUSDT"),
    )
    s = "c2"
    story.tell(
        instrument(1, "EURUSD", kind="linear_perp", base="EUR", quote="USD", settle="USD"),
        opened(1, stream=s, currency="USD"),
        deposit(2, "100", stream=s, currency="EUR"),
        deposit(3, "100", stream=s),
        trade(4, "buy", "10", "1.5", "EURUSD", stream=s),
        mark(1, "1.6", "EURUSD"),
        trade(5, "sell", "300", "1.5", "EURUSD", stream=s),
        fee(6, "2", stream=s),
        mark(2, "1.9", "EURUSD"),
        withdrawal(7, "100", stream=s, currency="EUR"),
        mark(3, "1.5", "EURUSD"),
    )


def settlements(story: Story) -> None:
    """Expiries, sessions and splits with fees, gains before them and fractions."""
    tiers = [
        {"notional_floor": "0", "maintenance_rate": "0.1"},
        {"notional_floor": "1000", "maintenance_rate": "1", "maintenance_amount": "0"},
    ]
    story.tell(
        instrument(1, "FUT", kind="linear_future", multiplier="10", margin_tiers=tiers),
        instrument(1, "STOCK", kind="equity", base="STOCK"),
        instrument(1, "COIN", kind="inverse_future", settle="BTC", quote="USD"),
    )
    number = 1
    s = "e1"
    story.tell(opened(1, stream=s, leverage_limit="4"), deposit(2, "500", stream=s))
    number = 3
    for symbol, side, other in (
        *(("FUT", "buy", "sell"), ("FUT", "sell", "buy")),
        *(("STOCK", "buy", "sell"), ("STOCK", "sell", "buy"), ("COIN", "sell", "buy")),
    ):
        story.tell(trade(number, side, "3.5", "20", symbol, stream=s, commission="0.3"))
        story.tell(trade(number + 1, other, "1.25", "22", symbol, stream=s, commission="0.1"))
        story.tell(mark(number, "23", symbol), mark(number + 1, "17", symbol))
        settle = {"symbol": symbol, "settlement_price": "21", "fee": "0.25"}
        split = {"symbol": symbol, "ratio": "1.5"}
        for more, kind in (
            ({**settle, "kind": "session"}, "PositionSettled"),
            (split, "SplitApplied"),
            ({**split, "ratio": "0.5", "cash_in_lieu": "4"}, "SplitApplied"),
            ({**split, "ratio": "3", "cash_in_lieu": "2"}, "SplitApplied"),
            ({**settle, "kind": "expiry"}, "PositionSettled"),
            ({**settle, "kind": "expiry"}, "PositionSettled"),
            ({**settle, "kind": "session", "symbol": f"{symbol}-2"}, "PositionSettled"),
        ):
            story.tell(event(kind, more, number + 2, stream=s))
            number += 1
        dividend = {"symbol": symbol, "amount": "-1.5"}
        story.tell(event("DividendPaid", dividend, number + 2, stream=s))
        number += 3
        story.tell(mark(number, "16", symbol))
    for name in ("In", "Out", "In"):
        sent = {"amount": "50", "transfer_id": f"t{name}"}
        story.tell(event(f"Transferred{name}", sent, number, stream=s))
        number += 1
    story.tell(trade(number, "buy", "4", "30", "FUT", stream=s))
    for n, price in enumerate(("29", "26", "24", "22", "25", "19", "18.5", "18", "17", "40")):
        story.tell(mark(900 + n, price, "FUT"))


def next_rules(story: Story) -> None:
    """Streams blocked by what rules 2 know, each in another state when these come."""
    moon = _moon
    for stream in ("n1", "n2"):
        fill = trade(2, "buy", "2", "50", stream=stream, fill_id="f")
        story.tell(deposit(1, stream=stream), fill, moon(3, stream=stream))
        story.tell(deposit(4, "4", stream=stream), mark(story.tell(), "52"))
    later = trade(6, "sell", "1", "55", stream="n2")
    story.tell(moon(5, stream="n2"), later, bust(7, "n2", fill_id="f"), deposit(9, stream="n2"))
    story.tell(trade(1, "buy", "1", "50", stream="n3", fill_id="f"), deposit(2, stream="n3"))
    story.tell(changed(bust(3, "n3", fill_id="f"), schema_version="2.0.0"), deposit(4, stream="n3"))
    story.tell(deposit(1, stream="n4"), unknown(3, stream="n4"), deposit(4, stream="n4"))
    story.tell(changed(unknown(2, stream="n4"), event_type="Eclipse"))
    story.tell(deposit(1, stream="n5"), moon(4, stream="n5"), moon(2, stream="n5"))
    story.tell(retried(stream="n5"), rules(1), rules(2, number=1))
    story.tell(bust(5, "n1", fill_id="f"), moon(6, stream="n1"), deposit(3, stream="n5"))
    story.tell(deposit(8, stream="n2"), mark(story.tell(), "53"), rules(1, number=2))
    story.tell(moon(7, stream="n1"), deposit(8, stream="n1"), moon(5, stream="n5"))
    story.tell(retried(stream="n1"), rules(2, number=2), rules(2, number=3))
    story.tell(bust(9, "n1", fill_id="f"), bust(10, "n2", "Amended", fill_id="f", price="49"))
    story.tell(dismissed(1, stream="n4"), retried(stream="n4"), deposit(6, stream="n5"))


def details(story: Story) -> None:
    """One thing at a time, where another would hide it."""
    s = "k1"
    story.tell(trade(1, "buy", "2", "50", stream=s, fill_id="f"))
    at = story.tell(unknown(2, stream=s))
    story.tell(bust(3, s, fill_id="f"), dismissed(at, stream=s), deposit(4, stream=s))
    s = "k2"
    at = story.tell(deposit(1, stream=s), unknown(2, stream=s))
    story.tell(deposit(2, "7", stream=s), dismissed(at, stream=s), deposit(3, stream=s))
    s = "k3"
    for number, rate in enumerate(("0.1", "0.2"), 1):
        tiers = [{"notional_floor": "0", "maintenance_rate": rate}]
        story.tell(instrument(number, "TIERED", margin_tiers=tiers))
        for place in (2 * number, 2 * number + 1):
            fill = {"fill_id": f"f{place}", "stream": s}
            story.tell(trade(place - 1, "buy", f"{place}", f"{place}0", "TIERED", **fill))
    story.tell(bust(5, s, fill_id="f3"), deposit(6, stream=s), bust(7, s, fill_id="f2"))
    story.tell(trade(8, "sell", "20", "40", "TIERED", stream=s, fill_id="flip"))
    story.tell(bust(9, s, "Amended", fill_id="f4", price="41"), mark(1, "39", "TIERED"))
    s = "k4"
    limit: dict[str, Any] = {
        "symbol": "LATER",
        "side": "sell",
        "type": "limit",
        "price": "9",
        "quantity": "5",
    }
    story.tell(trade(1, "buy", "3", "8", "LATER", stream=s), _order(2, s, "a", **limit))
    story.tell(mark(1, "12", "LATER"))
    story.tell(event("SplitApplied", {"symbol": "LATER", "ratio": "4"}, 3, stream=s))
    story.tell(instrument(1, "LATER", multiplier="2"), deposit(4, stream=s))
    story.tell(mark(2, "12", "LATER"), trade(5, "sell", "20", "3", "LATER", stream=s))
    s = "k5"
    story.tell(deposit(3, stream=s), bust(2, s, fill_id="f"))
    story.tell(trade(1, "buy", "2", "50", stream=s, fill_id="f"), retried(stream=s))


def _moon(number: int, **more: Any) -> Sent:
    return event("MoonPhaseChanged", {"amount": f"-{number}.5"}, number, **more)


def lines(*parts: Callable[[Story], None]) -> bytes:
    """Return a log as it is exported: the bytes of each message are what they are."""
    story = Story()
    for part in parts:
        part(story)
    time, found = START, []
    for number, sent in enumerate(story.sent, 1):
        time += _STEPS[number % len(_STEPS)]
        head = {"log_sequence": number, "subject": sent.subject, "time": time}
        found.append({**head, "data_base64": b64encode(sent.data).decode()})
    return b"".join(msgspec.json.encode(line) + b"\n" for line in found)


def write(path: Path, log: bytes) -> None:
    """Write a log, the same bytes every time."""
    with path.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(log)


if __name__ == "__main__":
    write(RARE.parent / "next_rules.jsonl.gz", lines(next_rules))
    write(RARE.parent / "details.jsonl.gz", lines(details))
    corners = (at_the_start, ids, releases, gap_behind, orders, failures, rates, settlements)
    write(RARE.parent / "corners.jsonl.gz", lines(*corners))
    write(RARE.parent / "legs.jsonl.gz", lines(random_accounts, inverse, splits))
