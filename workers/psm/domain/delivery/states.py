"""The states of a stream, what may arrive in each, and what the stream does then: one table.

A stream is a list of places, numbered from 1. The log brings events in any order, some twice, some
never, some changed; the places are filled in order, each once, and what filled a place never
changes. That needs four states:

    OPEN      the next number may come; nothing waits.
    GAP       a number is missing. Events beyond it are parked: the state keeps their number and
              hash, the log their bytes. When the number comes they are taken in order.
    OVERFLOW  a number is missing and 1 000 events are parked. Later ones are held: they stay in the
              log, the state keeps the position of the first. Only the missing number helps.
    BLOCKED   the next event came, and the rules do not know its type or version, or the state has
              no room for it (`ledger.bounds`). It is never guessed and never dropped; everything
              from here on is held, whatever it is.

`Delivery` has no field for its state: it follows from what is parked and what blocks, so the two
cannot disagree (`state_of`).

What arrives is judged by two questions only. Where is its number: before the version, at the next
place, or ahead? And is it what the stream remembers there: the same event, another one, or one with
an `event_id` that was used before for other bytes? The last 256 places and everything parked are
remembered, each by (event id, hash), so the answer does not depend on what the log still has.

`REACTIONS` is the whole of the sequence rules. A row is an arrival, a column a state:

  * A number that is taken changes nothing, in any state: the same event is ignored (`IGNORE`),
    another is reported (`REPORT`): the first in the log wins, for ever.
  * In BLOCKED all other arrivals are held (`HOLD`), an event with a used id too: it is judged when
    the stream goes on, as of the place it had when it came.
  * In OVERFLOW that holds for what is ahead; the missing number itself is welcome (`TAKE`).
  * TAKE in a state in which something waits is a release: what was parked without a gap after the
    number follows in the same input, then what was held, each judged by this table again.

An event that is taken and finds no room in the state blocks like one of an unknown type; that is
not seen here, because it follows from what the event does (`folding.stream`).

`LEADS_TO` says which states a reaction may lead to. Tests compare both tables with the fold after
every message of random logs, so neither can rot.

Operators have three events, which take no number and enter the hash chain; `REPAIRS` says in which
state each settles something. In any other it is refused, and that is recorded, too. New rules that
know the event which blocks settle it as `StreamRetried` would.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from psm.domain.delivery.delivery import Delivery


class State(StrEnum):
    """State of a stream."""

    OPEN = "open"
    GAP = "gap"
    BLOCKED = "blocked"
    OVERFLOW = "overflow"


class Arrival(StrEnum):
    """An event as the stream sees it."""

    NEXT = "next"
    NEXT_UNKNOWN = "next, of a type or version that the rules do not know"
    NEXT_ID_USED = "next, with an event_id of other bytes"
    AHEAD = "ahead of the next number"
    AHEAD_ID_USED = "ahead, with an event_id of other bytes"
    PARKED_SAME = "ahead, and parked already"
    PARKED_OTHER = "ahead, where another event is parked"
    TAKEN_SAME = "the event that took this number"
    TAKEN_OTHER = "another event than the one that took this number"
    TAKEN_ID_USED = "at a number that is taken, with an event_id of other bytes"
    VOIDED = "at a number that an operator voided"
    FORGOTTEN = "at a number older than what is remembered"


class Reaction(StrEnum):
    """Reaction of a stream to an arrival."""

    TAKE = "give it its place, and release what waited for it"
    PARK = "remember it until the numbers before it came"
    BLOCK = "stop the stream"
    HOLD = "leave it in the log until the stream goes on"
    IGNORE = "nothing"
    REPORT = "nothing, and publish that it changed nothing"


_STATES = (State.OPEN, State.GAP, State.BLOCKED, State.OVERFLOW)
_TAKE, _PARK, _BLOCK = Reaction.TAKE, Reaction.PARK, Reaction.BLOCK
_HOLD, _IGNORE, _REPORT = Reaction.HOLD, Reaction.IGNORE, Reaction.REPORT

REACTIONS: Mapping[Arrival, Mapping[State, Reaction]] = {
    arrival: dict(zip(_STATES, row, strict=True))
    for arrival, row in {
        #                        OPEN     GAP      BLOCKED  OVERFLOW
        Arrival.NEXT:          (_TAKE,   _TAKE,   _HOLD,   _TAKE),
        Arrival.NEXT_UNKNOWN:  (_BLOCK,  _BLOCK,  _HOLD,   _BLOCK),
        Arrival.NEXT_ID_USED:  (_REPORT, _REPORT, _HOLD,   _REPORT),
        Arrival.AHEAD:         (_PARK,   _PARK,   _HOLD,   _HOLD),
        Arrival.AHEAD_ID_USED: (_REPORT, _REPORT, _HOLD,   _HOLD),
        Arrival.PARKED_SAME:   (_IGNORE, _IGNORE, _HOLD,   _HOLD),
        Arrival.PARKED_OTHER:  (_REPORT, _REPORT, _HOLD,   _HOLD),
        Arrival.TAKEN_SAME:    (_IGNORE, _IGNORE, _IGNORE, _IGNORE),
        Arrival.TAKEN_OTHER:   (_REPORT, _REPORT, _REPORT, _REPORT),
        Arrival.TAKEN_ID_USED: (_REPORT, _REPORT, _REPORT, _REPORT),
        Arrival.VOIDED:        (_REPORT, _REPORT, _REPORT, _REPORT),
        Arrival.FORGOTTEN:     (_REPORT, _REPORT, _REPORT, _REPORT),
    }.items()
}  # fmt: skip
"""Arrival -> state -> reaction."""

LEADS_TO: Mapping[Reaction, Mapping[State, tuple[State, ...]]] = {
    Reaction.TAKE: {
        State.OPEN: (State.OPEN,),
        State.GAP: (State.OPEN, State.GAP, State.BLOCKED),
        State.OVERFLOW: _STATES,
    },
    Reaction.PARK: {State.OPEN: (State.GAP,), State.GAP: (State.GAP, State.OVERFLOW)},
    Reaction.BLOCK: dict.fromkeys((State.OPEN, State.GAP, State.OVERFLOW), (State.BLOCKED,)),
    Reaction.HOLD: {state: (state,) for state in (State.BLOCKED, State.OVERFLOW)},
    Reaction.IGNORE: {state: (state,) for state in _STATES},
    Reaction.REPORT: {state: (state,) for state in _STATES},
}
"""Reaction -> state before -> states that may follow."""

REPAIRS: Mapping[str, tuple[State, ...]] = {
    "SequenceVoided": (State.GAP, State.OVERFLOW),
    "EventDismissed": (State.BLOCKED,),
    "StreamRetried": (State.BLOCKED,),
}
"""Operator event -> states in which it may settle a number; anywhere else it is refused."""


def state_of(delivery: Delivery) -> State:
    """Return the state that what waits amounts to."""
    blocked = delivery.blocked
    if blocked is not None:
        return State.BLOCKED if blocked.is_next else State.OVERFLOW
    return State.GAP if delivery.parked else State.OPEN
