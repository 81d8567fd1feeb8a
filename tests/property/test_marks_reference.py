"""What marks do to accounts, and what is published of it, against the rules written a second time.

The reference values everything and looks at everybody after each message; the fold is lazy.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.domain import Log, Seen, restarted
from tests.support.events import SECOND, Sent, mark
from tests.support.leg_reference import Leg
from tests.support.marks_publisher import NaivePublisher
from tests.support.marks_reference import MS, Told
from tests.support.marks_traffic import MarksTraffic

from psm.domain.market.slots import ValuationSlots
from psm.domain.messages import Outcome
from psm.domain.publication.log_times import log_time

FEWER = settings(max_examples=max(1, settings().max_examples // 4))
seeds = st.integers(0, 2**32)
slots = st.sampled_from(
    [
        ValuationSlots(),
        ValuationSlots(fast_ms=500, mid_ms=1_000, slow_ms=4_000),
        ValuationSlots(fast_ms=1_000, mid_ms=5_000, slow_ms=20_000, move_bps=0),
        ValuationSlots(fast_ms=200, mid_ms=1_000, slow_ms=20_000, move_bps=3_000),
    ]
)
ROUNDING = Fraction(1, 10**15)
ORDER = ("PositionUpdated", "MarginUpdated", "MarginWarning", "StateUpdated")


def silence(messages: list[Sent], periods: ValuationSlots) -> list[Sent]:
    """Return the newest mark as `psm marks` sends it again, a slow and a middle period long."""
    newest, latest = messages[-1], max(sent.at or 0 for sent in messages)
    sent = [one for one in messages if one.subject.startswith("marks.")]
    newest = sent[-1] if sent else mark(1, "1", "IDLE")
    step = max(periods.mid_ms * MS, 30 * SECOND)  # a minute ends in it, too
    return [
        newest.later(latest + n * step) for n in range(1, periods.slow_ms // periods.mid_ms + 2)
    ]


class Compared:
    """The fold and the reference, one message after the other."""

    def __init__(self, periods: ValuationSlots) -> None:
        self.log = Log(slots=periods)
        self.naive = NaivePublisher(periods)
        self.near: dict[tuple[str, Leg | None], int] = {}
        """Accounts (None) and legs near liquidation with something unsaid: the clock of then."""

    def when(self, sent: Sent) -> list[Any]:
        """Let both take a message; fail where they say different things. Returns the updates."""
        message = self.log.message(sent)
        books = self.log.books
        most = len(books.holders.get(message.token, {})) + books.count_due(message.time, 0)
        seen = self.log.take(message)
        if message.kind == "marks":
            assert len(seen.payloads("StateUpdated")) <= most, "a batch is asked to hold these"
            self.check_mark(seen, self.naive.mark(message.data, message.time))
            self.check_ages()
            return seen.updates
        body = msgspec.json.decode(message.data)
        if message.kind == "instruments":
            self.naive.define(body["payload"])
            return seen.updates
        assert seen.outcome is Outcome.APPLIED, seen.reason
        touched = dict.fromkeys(leg_of(p) for p in seen.payloads("PositionUpdated"))
        stream = message.stream_id or ""
        told = self.naive.event(stream, body["event_type"], body["payload"], message.time, touched)
        self.check_figures(seen.payload("StateUpdated"), told)
        crossed = sorted(warned(p) for p in seen.payloads("MarginWarning"))
        assert crossed == sorted(
            (("", "net") if leg is None else leg, level) for leg, level in self.naive.crossed
        )
        return seen.updates

    def restart(self) -> None:
        """Go on with books from a checkpoint and snapshots."""
        self.log = restarted(self.log)

    def check_mark(self, seen: Seen, expected: dict[str, list[Told]]) -> None:
        """A mark makes everybody publish what the rules say, in their order, and no more."""
        found: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
        for update in seen.updates:
            kind, payload = update["event_type"], update["payload"]
            if kind == "EventRefused":
                continue
            name = ""
            if kind == "PositionUpdated":
                assert payload["change"] == "marked"
                name = key(*leg_of(payload))
            elif kind == "MarginWarning":
                (symbol, side), name = warned(payload)
                name = f"{key(symbol, side)} {name}" if symbol else name
            found.setdefault(update["stream_id"], []).append((kind, name, payload))
        shapes = {s: [(kind, name) for kind, name, _ in one] for s, one in found.items()}
        assert shapes == {s: [(kind, name) for kind, name, _ in o] for s, o in expected.items()}
        for stream, updates in found.items():
            for (_, _, payload), (_, _, told) in zip(updates, expected[stream], strict=True):
                self.check_figures(payload, told)

    def check_figures(self, payload: dict[str, Any], told: dict[str, Any]) -> None:
        """Figures are those of the reference; closes are told where it has them."""
        for name, figure in told.items():
            if name == "closed":
                closes = payload.get(name, [])
                assert [c["bucket_end"] for c in closes] == [
                    log_time(int(one["bucket_end"])) for one in figure
                ]
                for close, one in zip(closes, figure, strict=True):
                    self.check_figures(
                        close, {n: one[n] for n in one if n in close} | {"bucket_end": None}
                    )
            elif name != "bucket_end":
                same(payload[name], figure, name)

    def check_ages(self) -> None:
        """While an account is near nothing waits a fast period; nothing ever waits a slow one."""
        naive = self.naive
        for stream, waiting in naive.unsaid.items():
            account = naive.accounts[stream]
            near: dict[Leg | None, bool] = {
                None: account.near,
                **dict.fromkeys(account.near_legs(), True),
            }
            ages: dict[Leg | None, int] = dict(waiting.legs.items())
            if waiting.changed:
                ages[None] = waiting.since
            for leg, since in ages.items():
                assert naive.clock - since < naive.slots.slow_ms * MS
                if near.get(leg):
                    began = self.near.setdefault((stream, leg), naive.clock)
                    assert naive.clock - max(since, began) < naive.slots.fast_ms * MS
            for known in [k for k in self.near if k[0] == stream and not near.get(k[1])]:
                del self.near[known]

    def check_end(self) -> None:
        """All that the books say now is what the reference says now."""
        for stream, account in self.naive.accounts.items():
            state = self.log.state(stream)
            self.check_figures(state, account.state())
            own = self.log.account(stream).valuation
            levels = {"": account.warned.get(None, [])}
            levels |= {key(*leg): found for leg, found in account.warned.items() if leg and found}
            assert {
                "": list(own.warned),
                **{k: list(v) for k, v in own.warned_positions.items()},
            } == levels
            for leg, cycle in account.cycles.items():
                row = state["positions"][key(*leg)]
                same(row["cycle_mae"], cycle.worst, "cycle_mae")
                same(row["cycle_mfe"], cycle.best, "cycle_mfe")


def same(text: str | None, figure: Fraction | None, name: str) -> None:
    if text is None or figure is None:
        assert (text is None) == (figure is None), name
        return
    assert abs(Fraction(text) - figure) <= ROUNDING * (1 + abs(figure)), name


def leg_of(payload: dict[str, Any]) -> Leg:
    return payload["symbol"], payload["position_side"]


def warned(payload: dict[str, Any]) -> tuple[Leg, str]:
    return (payload.get("symbol", ""), payload.get("position_side", "net")), payload["level"]


def key(symbol: str, side: str) -> str:
    return symbol if side == "net" else f"{symbol}#{side}"


@FEWER
@given(seeds, slots, st.integers(1, 3), st.sampled_from([0, 1, 7, 40]))
def test_the_fold_is_one_that_looks_at_everything(
    seed: int, periods: ValuationSlots, accounts: int, restarts: int
) -> None:
    """Warnings, peak, nav, excursions and closes, and which updates there are, in order.

    Ages are bounded after every mark, restarts change nothing, and not more is published than
    a partition expects; after the silence nothing waits.
    """
    both = Compared(periods)
    messages = MarksTraffic(seed, accounts=accounts).messages()
    for place, sent in enumerate(messages + silence(messages, periods), 1):
        both.when(sent)
        if restarts and place % restarts == 0:
            both.restart()
    both.check_end()
    for account in both.log.books.accounts.values():
        assert not account.unpublished.anything


def test_the_traffic_gets_everywhere() -> None:
    """Near, by a wallet of its own, in hedge mode, ruined, below zero, with closes and leaps."""
    reached = dict[str, int]()
    for seed in range(10):
        both = Compared(ValuationSlots(fast_ms=500, mid_ms=1_000, slow_ms=4_000))
        for sent in MarksTraffic(seed, accounts=3).messages():
            updates = both.when(sent)
            found = ["closes"] if any("closed" in u["payload"] for u in updates) else []
            found += [u["payload"]["level"] for u in updates if u["event_type"] == "MarginWarning"]
            for account in both.naive.accounts.values():
                found += ["near"] if account.near else []
                found += ["below zero"] if account.worth < 0 else []
                found += [f"near {side}" for _, side in account.near_legs()]
                found += ["ruined" for name in account.warned.get(None, []) if name == "1.0"]
            for name in found:
                reached[name] = reached.get(name, 0) + 1
    expected = {"closes", "near", "near net", "near long", "near short", "below zero", "ruined"}
    assert expected | {"0.5", "0.8", "1.0"} == {*reached}
    assert min(reached.values()) > 1, reached
