"""The tables of `delivery.states` are what the fold does, after every message of random logs."""

from __future__ import annotations

import random
from collections import Counter
from unittest.mock import patch

import pytest
from tests.support.domain import Log, Seen
from tests.support.events import ACCOUNT, Sent, changed, deposit, unknown, voided
from tests.support.simulator.operators import Operators

from psm.contracts.codec import decode_envelope
from psm.contracts.envelope import Envelope, event_hash
from psm.contracts.errors import ContractError
from psm.contracts.sequencing import OPERATOR_EVENTS
from psm.domain import windows
from psm.domain.delivery.states import LEADS_TO, REACTIONS, REPAIRS, Arrival, Reaction, State
from psm.domain.folding import stream as stream_fold
from psm.domain.messages import LogMessage, Outcome

WINDOW = 6
PARKED_MAX = 2
SEEDS, MESSAGES = 60, 300
_REACTION_SEEN = {
    Outcome.APPLIED: Reaction.TAKE,
    Outcome.REFUSED: Reaction.TAKE,
    Outcome.PARKED: Reaction.PARK,
    Outcome.HELD: Reaction.HOLD,
    Outcome.DUPLICATE: Reaction.IGNORE,
    Outcome.CONFLICT: Reaction.REPORT,
    Outcome.STALE: Reaction.REPORT,
}
_met: Counter[tuple[Arrival, State]] = Counter()
_led: Counter[tuple[Reaction, State, State]] = Counter()
_repaired: Counter[tuple[str, State]] = Counter()


class Stream:
    """What a reader of the placements remembers of one stream, without asking the fold."""

    def __init__(self) -> None:
        self.places: list[tuple[int, str, bytes]] = []  # number, event id, hash; the last ones
        self.version = 0

    def remember(self, seen: Seen) -> None:
        """Note what took a place."""
        for placed in seen.result.placements:
            numbers = range(self.version + 1, placed.number + 1)
            if placed.event_type == "SequenceVoided":
                self.places += [(number, "", b"") for number in numbers]
            elif placed.event_type not in OPERATOR_EVENTS:
                self.places.append((placed.number, placed.event_id, placed.event_hash))
            self.version = max(self.version, placed.number)
        del self.places[:-WINDOW]


def state_seen(log: Log, stream: str) -> State:
    """Return the state as an onlooker names it."""
    account = log.books.accounts.get(stream)
    if account is None:
        return State.OPEN
    delivery = account.delivery
    if delivery.blocked is not None:
        overflow = delivery.blocked.reason == "gap_overflow"
        return State.OVERFLOW if overflow else State.BLOCKED
    return State.GAP if delivery.parked else State.OPEN


def arrival_seen(log: Log, known: Stream, stream: str, event: Envelope, data: bytes) -> Arrival:
    """Return what the event is to its stream, from the texts of what came before."""
    number, hashed = event.sequence_number, event_hash(data)
    assert number is not None
    account = log.books.accounts.get(stream)
    parked = dict(account.delivery.parked) if account else {}
    came = [(i, h) for _, i, h in known.places]
    came += [
        (decode_envelope(log.messages[p.log_sequence].data).event_id, p.event_hash)
        for p in parked.values()
    ]
    used = any(i == event.event_id and h != hashed for i, h in came)
    if number <= known.version:
        if used:
            return Arrival.TAKEN_ID_USED
        taken = [(i, h) for n, i, h in known.places if n == number]
        if not taken:
            return Arrival.FORGOTTEN
        if taken == [("", b"")]:
            return Arrival.VOIDED
        return Arrival.TAKEN_SAME if taken[0][1] == hashed else Arrival.TAKEN_OTHER
    if number == known.version + 1:
        if used:
            return Arrival.NEXT_ID_USED
        return Arrival.NEXT_UNKNOWN if event.event_type == "MoonPhaseChanged" else Arrival.NEXT
    if used:
        return Arrival.AHEAD_ID_USED
    if number not in parked:
        return Arrival.AHEAD
    same = parked[number].event_hash == hashed
    return Arrival.PARKED_SAME if same else Arrival.PARKED_OTHER


class Watched:
    """A log folded under the eyes of the tables."""

    def __init__(self) -> None:
        self.log = Log()
        self._known: dict[str, Stream] = {}

    def take(self, sent: Sent) -> None:
        """Append a message; its reaction and the next state must be in the tables."""
        message = self.log.message(sent)
        stream = message.stream_id
        if stream is None:
            self._remember(self.log.take(message, emit="nothing"))
            return
        before = state_seen(self.log, stream)
        known = self._known.setdefault(stream, Stream())
        try:
            event = decode_envelope(message.data)
        except ContractError:
            event = None
        if event is None or event.stream_id != stream:
            assert self.log.take(message, emit="nothing").outcome is Outcome.REJECTED
            assert state_seen(self.log, stream) is before
        elif event.event_type in OPERATOR_EVENTS:
            self._operate(message, event, before)
        else:
            self._react(message, event, before, known)

    def _react(self, message: LogMessage, event: Envelope, before: State, known: Stream) -> None:
        stream = event.stream_id
        arrival = arrival_seen(self.log, known, stream, event, message.data)
        expected = REACTIONS[arrival][before]
        seen = self.log.take(message, emit="nothing")
        if seen.outcome is Outcome.REJECTED:
            return
        after = state_seen(self.log, stream)
        if seen.outcome is Outcome.BLOCKED:
            reaction = Reaction.PARK if seen.reason == "gap_overflow" else Reaction.BLOCK
        else:
            reaction = _REACTION_SEEN[seen.outcome]
        assert reaction is expected, (arrival, before, seen.outcome)
        assert after in LEADS_TO[reaction][before], (arrival, reaction, before, after)
        _met[arrival, before] += 1
        _led[reaction, before, after] += 1
        self._remember(seen)

    def _operate(self, message: LogMessage, event: Envelope, before: State) -> None:
        seen = self.log.take(message, emit="nothing")
        if seen.outcome in {Outcome.APPLIED, Outcome.BLOCKED}:
            assert before in REPAIRS[event.event_type]
            _repaired[event.event_type, before] += 1
        else:
            assert seen.outcome in {Outcome.REFUSED, Outcome.DUPLICATE, Outcome.CONFLICT}
            assert state_seen(self.log, event.stream_id) is before
        self._remember(seen)

    def _remember(self, seen: Seen) -> None:
        for stream in {placed.stream_id: None for placed in seen.result.placements}:
            self._known.setdefault(stream, Stream()).remember(seen)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_tables_say_what_the_fold_does(seed: int) -> None:
    """Repeats, gaps, unknown types, other bytes under a known id, operators, a full park."""
    dice = random.Random(seed)
    watched = Watched()
    operators = Operators(dice)
    with (
        patch.object(windows, "WINDOW", WINDOW),
        patch.object(stream_fold, "PARKED_MAX", PARKED_MAX),
    ):
        for _ in range(MESSAGES):
            watched.take(_event(dice, watched.log))
            if dice.random() < 0.12:
                repair = operators.attempt([watched.log.books])
                if repair is not None and repair.subject != "control.rules":
                    watched.take(repair)


def _event(dice: random.Random, log: Log) -> Sent:
    """Return an event near the version, what came before once more, or other bytes under its id."""
    account = log.books.accounts.get(ACCOUNT)
    version = account.delivery.version if account else 0
    number = max(1, version + dice.choice([-WINDOW - 1, -1, 0, 1, 2, 3, 4, 5, 6, 7]))
    earlier = [m.data for m in log.messages.values() if b"actor" not in m.data]
    match dice.choice(["new", "new", "unknown", "repeated", "id used", "voided"]):
        case "unknown" if dice.random() < 0.5:
            return unknown(number)
        case "repeated" if earlier:
            return Sent(subject=f"trades.{ACCOUNT}", data=dice.choice(earlier[-12:]))
        case "id used" if earlier:
            again = Sent(subject=f"trades.{ACCOUNT}", data=dice.choice(earlier[-12:]))
            return changed(again, sequence_number=number)
        case "voided" if account is not None and dice.random() < 0.3:
            missing = version + 1
            lowest = min(account.delivery.parked, default=missing + 1)
            return voided(missing, max(missing, lowest - 1), salt=f"v{dice.random()}")
    return deposit(number, str(dice.randint(1, 9)))


def test_every_cell_of_the_tables_was_met() -> None:
    """A cell that no log reaches would say what it likes."""
    cells = {(arrival, state) for arrival, row in REACTIONS.items() for state in row}
    # Nothing is parked in a stream that is open.
    cells -= {(Arrival.PARKED_SAME, State.OPEN), (Arrival.PARKED_OTHER, State.OPEN)}
    assert cells - set(_met) == set()
    wanted = {
        (reaction, before, after)
        for reaction, row in LEADS_TO.items()
        for before, following in row.items()
        for after in following
    }
    assert wanted - set(_led) == set()
    repairs = {(kind, state) for kind, states in REPAIRS.items() for state in states}
    assert repairs - set(_repaired) == set()
