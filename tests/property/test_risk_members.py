"""Members of a group follow logs of every event type, by their updates alone."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.domain import Log
from tests.support.leg_traffic import LegTraffic
from tests.support.market import Market
from tests.support.rules import Rules

from psm.contracts import codec
from psm.contracts.feed import FeedInput
from psm.domain.messages import LogMessage, Update
from psm.domain.publication.figures import state_document
from psm.risk.engine import Slot
from psm.risk.messages import Stored
from psm.risk.rulebook import slot_of

FEWER = settings(max_examples=10)
GROUP, HOME = "desk", "USDT"
seeds = st.integers(0, 2**32)


def followed(messages: list[LogMessage], partitions: int = 16) -> tuple[Log, Slot]:
    """Return books that folded messages, and a slot that was fed from half of them on."""
    whole = Log(partitions=partitions)
    for message in messages:
        whole.take(message)
    rules = Rules()
    names = sorted(name for name in whole.books.accounts if len(name) < 40)
    rules.both("GroupDefined", group=GROUP, members=names, currency=HOME)
    log, slot = Log(partitions=partitions), Slot(slot_of(GROUP))
    slot.take_rulebook(rules.book, rules.clock)
    for place, message in enumerate(messages):
        result = log.take(message).result
        slot.take_market(stored(message))
        slot.reach(message.log_sequence)
        if place == len(messages) // 2:
            for name in names:
                if name in log.books.accounts:
                    enter(log, slot, name)
        elif place > len(messages) // 2:
            feed(slot, list(result.updates))
    return log, slot


def enter(log: Log, slot: Slot, name: str) -> None:
    """Let a slot read an account as a whole."""
    document = codec.encode(state_document(log.books, log.account(name)))
    slot.enter(name, document, log.books.position)


def feed(slot: Slot, updates: list[Update]) -> None:
    """Give a slot the updates of one input, account by account."""
    by_account: dict[str, list[Update]] = {}
    for update in updates:
        if update.previous is not None:
            by_account.setdefault(update.stream_id, []).append(update)
    for name, found in by_account.items():
        slot.take_input(
            FeedInput(
                account_id=name,
                log_sequence=found[0].log_sequence,
                previous=found[0].previous,
                updates=tuple(update.data for update in found),
            )
        )


def stored(message: LogMessage) -> Stored:
    return Stored(
        sequence=message.log_sequence,
        time=message.time // 1000,
        subject=message.subject,
        data=message.data,
    )


def compared(log: Log, slot: Slot) -> int:
    """Compare equity, positions and open orders of all members; return how many have equity."""
    state, valued = slot._members.groups[GROUP], 0
    for name, member in sorted(state.members.items()):
        if not member.known:
            continue
        account = log.account(name)
        assert sorted(member.orders) == sorted(o.order_id for o in account.ledger.orders.all_open())
        for key, position in account.ledger.positions.items():
            line = member.held(key, slot._market)
            assert line.size == Decimal(round(position.size, 18)), key
        live = account.equity()
        restated = [name for name in account.ledger.splits if name in account.valuation.rates]
        if live is not None and member.equity is not None and not restated:
            valued += 1
            assert abs(member.equity - live) <= Decimal("1e-9") * max(Decimal(1), abs(live))
    return valued


@FEWER
@given(seeds)
def test_members_are_worth_what_the_fold_says(seed: int) -> None:
    """On logs of every event type: contracts, shares, options, assets, other currencies."""
    sent = Market(seed=seed, length=80).author().sent
    writer = Log()
    messages = []
    for one in sent:
        message = writer.message(one)
        writer.take(message)
        messages.append(message)
    compared(*followed(messages))


@FEWER
@given(seeds)
def test_members_with_legs_and_wallets(seed: int) -> None:
    """Hedge mode and isolated margin."""
    writer, messages = Log(), []
    for one in LegTraffic(seed).messages():
        message = writer.message(one)
        writer.take(message)
        messages.append(message)
    compared(*followed(messages))
