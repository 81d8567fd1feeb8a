"""What is published because of marks follows from each account alone, and nothing is lost by it."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.domain import Log, stored
from tests.support.events import SECOND, START, Sent, mark
from tests.support.market import Market
from tests.support.marks_traffic import MarksTraffic
from tests.support.strategies import Story, disturbed, stories

from psm.contracts import subjects
from psm.domain.books import Books
from psm.domain.market.slots import MINUTE, ValuationSlots
from psm.domain.messages import LogMessage
from psm.domain.publication.asset_figures import AssetStep, asset_update
from psm.domain.publication.figures import position_figures
from psm.domain.publication.log_times import log_time
from psm.domain.snapshot import dump_account, dump_checkpoint, load_account, load_checkpoint

SLOTS = ValuationSlots(fast_ms=500, mid_ms=1_000, slow_ms=4_000)
Essence = list[tuple[int, bytes]]
FEWER = settings(max_examples=max(1, settings().max_examples // 4))
"""Every example folds its log once for each account, or writes it by folding it."""

seeds = st.integers(0, 2**32)
logs: st.SearchStrategy[list[Sent]] = st.one_of(
    st.builds(lambda one, seed: disturbed(one.messages(), seed), stories(accounts=3), seeds),
    st.builds(lambda seed: MarksTraffic(seed, 80, accounts=3).messages(), seeds),
    st.builds(lambda seed: Market(seed=seed, length=90, accounts=3).author().sent, seeds),
)
"""What is refused and comes twice; accounts near liquidation; all instruments, and corrections."""


def told(messages: list[Sent]) -> list[Sent]:
    """Return a log with a silence at its end, which `psm marks` fills with marks."""
    at = max(sent.at or START for sent in messages) + len(messages) * SECOND
    idle = [mark(n, "1", "IDLE", at=at + n * 30 * SECOND) for n in range(1, 12)]
    return [*messages, *idle]


def whole(messages: list[Sent]) -> Log:
    """Return the log of messages, with a silence at its end."""
    log = Log(slots=SLOTS)
    log.when(*told(messages))
    return log


def essence(log: Log, stream: str) -> Essence:
    """Return the updates of one account."""
    return [(u.log_sequence, u.data) for u in log.updates if u.stream_id == stream]


def concerning(log: Log, stream: str) -> list[LogMessage]:
    """Return the messages that a partition with this account alone would see."""
    own = [stored(f"{kind}.{stream}", log.books.partitions) for kind in ("trades", "repair")]
    return [m for m in log.messages.values() if m.stream_id is None or m.subject in own]


@FEWER
@given(logs)
def test_neighbours_do_not_matter(messages: list[Sent]) -> None:
    """An account folded without its neighbours publishes the same bytes."""
    together = whole(messages)
    for stream in together.books.accounts:
        alone = Log(slots=SLOTS)
        for message in concerning(together, stream):
            alone.take(message)
        assert essence(alone, stream) == essence(together, stream)


@FEWER
@given(logs, st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_snapshots_of_unlike_age_do_not_matter(messages: list[Sent], parts: list[float]) -> None:
    """Accounts saved at any places behind the checkpoint publish on as if nothing had happened."""
    full = whole(messages)
    count = len(full.messages)
    places = sorted(int(part * count) for part in parts)
    kept: dict[str, tuple[int, bytes]] = {}
    begun, checkpoint = Log(slots=SLOTS), b""
    if places[0] == 0:
        checkpoint = dump_checkpoint(begun.books, 0, None)
    for sequence, message in full.messages.items():
        begun.take(message)
        if sequence == places[0]:
            checkpoint = dump_checkpoint(begun.books, sequence, b"")
        for number, stream in enumerate(begun.books.accounts):
            if sequence == places[number % len(places)] or sequence == places[0]:
                kept[stream] = sequence, dump_account(begun.books.accounts[stream], sequence, b"")
    again = Log(books=Books(partitions=16, slots=SLOTS))
    again.books.market.restore(load_checkpoint(checkpoint).tables)
    again.books.advance(places[0])
    for _, data in kept.values():
        again.books.restore(load_account(data)[0])
    for sequence, message in full.messages.items():
        again.messages[sequence] = message
        if sequence > places[0]:
            again.take(message)
    for stream in full.books.accounts:
        since = max(kept[stream][0] if stream in kept else 0, places[0])
        expected = [one for one in essence(full, stream) if one[0] > since]
        assert [one for one in essence(again, stream) if one[0] > since] == expected
    assert again.end() == full.end()


@example(Story(seed=37, length=18, accounts=1, symbols=1, pace=10), 633)
@example(Story(seed=37, length=18, accounts=1, symbols=1, pace=10), 572)
@example(Story(seed=103, length=22, accounts=3, symbols=1, pace=5), 992)
@given(stories(), st.integers(0, 2**32))
def test_closes_are_those_of_looking_at_every_moment(story: Story, seed: int) -> None:
    """What is told of a minute is what the account was at its end; what is not told is as before.

    The reference looks at every account after every message.
    """
    log, seen = Log(slots=SLOTS), defaultdict[str, list[tuple[int, Any, Any]]](list)
    latest: dict[str, int] = {}
    market = 0
    for sent in told(disturbed(story.messages(), seed)):
        message, before = log.message(sent), len(log.updates)
        log.take(message)
        kind = message.kind
        market = max(market, message.time) if kind == "marks" else market
        updates = [one for one in log.updates[before:] if "state.updated" in one.subject]
        told_of = {update.stream_id for update in updates}
        for stream, account in log.books.accounts.items():
            touched = message.stream_id == stream and stream in told_of  # not by what is refused
            own = message.time if touched or kind == "instruments" else 0
            at = latest[stream] = max(latest.get(stream, 0), own, market)
            if not at:
                continue  # nothing was booked yet
            state = log.state(stream)
            open_ones = [s for s, p in account.ledger.positions.items() if p.size]
            held = {symbol: state["positions"][symbol]["unrealized_pnl"] for symbol in open_ones}
            figures = [state[name] for name in ("equity", "nav", "flows", "max_drawdown")]
            seen[stream].append((at, figures, held))
    through = log.books.market.closed_through
    assert through is not None
    for stream, moments in seen.items():
        check_closes(log, stream, moments, through)


def check_closes(log: Log, stream: str, moments: list[tuple[int, Any, Any]], through: int) -> None:
    said: dict[str, list[Any]] = {}
    positions: dict[str, dict[str, Any]] = defaultdict(dict)
    for payload in payloads(log, stream):
        for close in payload.get("closed", ()):
            if "nav" in close:
                names = ("equity", "nav", "flows", "max_drawdown")
                said[close["bucket_end"]] = [close[name] for name in names]
            else:
                positions[payload["symbol"]][close["bucket_end"]] = close["unrealized_pnl"]
    last: list[Any] = ["0", None, "0", None]
    lasts: dict[str, Any] = {}
    for end in range(moments[0][0] // MINUTE * MINUTE + MINUTE, through + 1, MINUTE):
        at_end = [moment for moment in moments if moment[0] < end]
        last = said.get(log_time(end), last)
        assert last == at_end[-1][1], f"{stream} at {log_time(end)}"
        for symbol, unrealized in at_end[-1][2].items():
            lasts[symbol] = positions[symbol].get(log_time(end), lasts.get(symbol))
            assert lasts[symbol] == unrealized, f"{stream} {symbol} at {log_time(end)}"


def payloads(log: Log, stream: str) -> list[dict[str, Any]]:
    """Return the payloads of an account's updates."""
    found = [u.data for u in log.updates if u.stream_id == stream]
    return [msgspec.json.decode(data)["payload"] for data in found]


@FEWER
@given(logs, st.sampled_from([1, 7, 64]))
def test_partitions_do_not_matter(messages: list[Sent], partitions: int) -> None:
    """With any number of them each account publishes the same but for the subject."""
    together = whole(messages)
    logs = {p: Log(partitions=partitions, partition=p, slots=SLOTS) for p in range(partitions)}
    for stream in together.books.accounts:
        log = logs[subjects.partition_of(stream, partitions)]
        if not log.messages:
            for message in together.messages.values():
                head, *rest = message.subject.split(".")
                own = head not in ("trades", "repair")
                if own or subjects.partition_of(rest[-1], partitions) == log.books.partition:
                    subject = message.subject if own else stored(f"{head}.{rest[-1]}", partitions)
                    log.take(
                        LogMessage(
                            log_sequence=message.log_sequence,
                            subject=subject,
                            time=message.time,
                            data=message.data,
                        )
                    )
        assert essence(log, stream) == essence(together, stream)


AS_PUBLISHED = ("change", "closed", "liquidation_price")
"""What is not of the position alone: the last follows from all of its account."""


@FEWER
@given(logs, seeds)
def test_rows_are_what_is_true_after_a_silence(messages: list[Sent], seed: int) -> None:
    """Every account told all that it is; every position and asset, too, whatever moved its rate."""
    rng, log = random.Random(seed), whole(messages)
    rates = [s for s in ("BTCUSDT", "USDUSDT", "BTC-PERP") if s in log.books.market.instruments]
    if rates:
        changed = [mark(9_000, rng.choice(["0", "1.5", "41000"]), s) for s in rng.sample(rates, 1)]
        log.when(*told([one.later(log.books.market.latest + SECOND) for one in changed]))
    for stream, account in log.books.accounts.items():
        assert not account.unpublished.anything
        said = payloads(log, stream)
        states = [p for p in said if "nav_epoch" in p]
        rows = {(p["class"], p["symbol"], p["position_side"]): p for p in said if "change" in p}
        if states:
            assert states[-1]["state_hash"] == log.state(stream)["state_hash"]
        now = [position_figures(account, p) for p in account.ledger.positions.values() if p.size]
        held = [(a, q) for a, q in account.ledger.cash.items() if a != account.ledger.currency]
        now += [asset_update(account, AssetStep(asset, "marked")) for asset, q in held if q]
        for figures in now:
            row = rows[figures["class"], figures["symbol"], figures["position_side"]]
            for name in [name for name in figures if name not in AS_PUBLISHED]:
                assert row[name] == figures[name], f"{name} of {figures['symbol']}"
