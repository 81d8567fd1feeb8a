"""Updates off the republished subjects, input by input, with every loss noticed.

Core NATS is fast and may lose messages. Each update says which of how many it is of its account's
updates of one input of the log, and which input moved that account before:

    Psm-Position: <log_sequence>/<n>/<N>
    Psm-Previous: <log_sequence of the account's previous updating input>, 0 for the first

So a subscriber of `psm.*.*` knows an account exactly, or knows that it does not. A message without
`Psm-Previous` is of no account: what came on a subject that nobody has opened, or a refused mark.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from psm.contracts.subjects import last_token

POSITION_HEADER = "Psm-Position"
PREVIOUS_HEADER = "Psm-Previous"
_STORED_SUBJECT = "Nats-Subject"
WAITING_MAX = 1024
"""Inputs of an unknown account that are kept until it is repaired; more of them drop them all."""
WAITING_IN_ALL_MAX = 16 * WAITING_MAX
"""The same of all of them: where there are as many, each keeps no more than its newest one."""


class FeedInput(msgspec.Struct, frozen=True, kw_only=True):
    """All updates of one account that one input of the log caused, in order.

    Attributes:
        account_id: whose; of what belongs to no account the token of its subject.
        log_sequence: of the input.
        previous: of the account's input before; None where there is no account.
        updates: their bytes.
    """

    account_id: str
    log_sequence: int
    previous: int | None
    updates: tuple[bytes, ...]


class _Place:
    """How far an account is known, and what arrived beyond it."""

    __slots__ = ("at", "last", "part", "waiting")

    def __init__(self, last: int | None) -> None:
        self.last = last  # None: unknown
        self.at = 0  # input that `part` is of
        self.part: list[bytes] = []
        self.waiting: list[FeedInput] = []

    def lose(self) -> None:
        self.last = None


class UpdateFeed:
    """Collects updates to inputs, and applies each account's only in an unbroken order.

    An account is unknown from the first update that is missing until `repaired` says as of which
    input its state was read elsewhere: `psm.get.state`, or the stream PSM. Decisions that need an
    unknown account must not be made.
    """

    def __init__(self) -> None:
        """No account is known; one whose first input comes here is known from then on."""
        self._places: dict[str, _Place] = {}
        self._waiting = 0  # inputs, of all places

    def is_known(self, account_id: str) -> bool:
        """Return whether all updates of an account up to its last input here were seen."""
        place = self._places.get(account_id)
        return place is not None and place.last is not None

    def last_input(self, account_id: str) -> int | None:
        """Return the log sequence up to which an account is known; None where it is not."""
        place = self._places.get(account_id)
        return place.last if place else None

    def unknown(self) -> list[str]:
        """Return the accounts that something was heard of and that are not known, by name."""
        return sorted(name for name, place in self._places.items() if place.last is None)

    def take(self, headers: Mapping[str, str] | None, data: bytes) -> list[FeedInput]:
        """Take one republished message; return the inputs that may be applied now: one, or none.

        A message that is no update of PSM is left alone.
        """
        headers = headers or {}
        position, subject = headers.get(POSITION_HEADER), headers.get(_STORED_SUBJECT)
        if position is None or subject is None:
            return []
        at, number, count = map(int, position.split("/"))
        account_id, before = last_token(subject), headers.get(PREVIOUS_HEADER)
        if before is None:
            return [_whole(account_id, at, None, (data,))]
        previous = int(before)
        place = self._places.get(account_id)
        if place is None:
            place = self._places[account_id] = _Place(None if previous else 0)
        updates = _joined(place, at, number, count, data)
        if updates is None:
            return []
        return self._apply(place, _whole(account_id, at, previous, updates))

    def repaired(self, account_id: str, log_sequence: int) -> list[FeedInput]:
        """Take an account as known up to a place; return what waited and goes on from there.

        Args:
            account_id: whose.
            log_sequence: of its last input that was read, or of any later place up to which it
                had none, such as that of a live document.
        """
        place = self._places.setdefault(account_id, _Place(None))
        if place.last is not None and place.last >= log_sequence:
            return []
        place.last = log_sequence
        if place.at <= log_sequence:
            place.part = []
        waiting = sorted(self._taken_from(place), key=lambda found: found.log_sequence)
        return [one for found in waiting for one in self._apply(place, found)]

    def lose(self, account_id: str) -> None:
        """Take an account as unknown: something of it may be missing that nothing here tells of."""
        self._places.setdefault(account_id, _Place(None)).lose()

    def forget(self, account_id: str) -> None:
        """Keep nothing of an account any more."""
        place = self._places.pop(account_id, None)
        if place is not None:
            self._taken_from(place)

    def _taken_from(self, place: _Place) -> list[FeedInput]:
        waiting, place.waiting = place.waiting, []
        self._waiting -= len(waiting)
        return waiting

    def _apply(self, place: _Place, found: FeedInput) -> list[FeedInput]:
        if place.last is not None and found.log_sequence <= place.last:
            return []
        # Before it may be the last one, or a place that the account was repaired up to behind that.
        if place.last is not None and found.previous is not None and found.previous <= place.last:
            place.last = found.log_sequence
            return [found]
        place.lose()
        if len(place.waiting) >= WAITING_MAX or self._waiting >= WAITING_IN_ALL_MAX:
            self._taken_from(place)
        # The newest one always waits: a repair that does not reach it must not look whole.
        place.waiting.append(found)
        self._waiting += 1
        return []


def _whole(account_id: str, at: int, previous: int | None, updates: tuple[bytes, ...]) -> FeedInput:
    return FeedInput(account_id=account_id, log_sequence=at, previous=previous, updates=updates)


def _joined(
    place: _Place, at: int, number: int, count: int, data: bytes
) -> tuple[bytes, ...] | None:
    """Add an update to those of its input; return them when all are there."""
    if place.last is not None and at <= place.last:
        return None  # seen before, or part of what the account was repaired with
    if place.at != at:
        if place.part:
            place.lose()  # the rest of the input before it is missing
        place.at, place.part = at, []
    if number <= len(place.part):
        return None  # a copy of what is here
    if number != len(place.part) + 1:
        place.lose()
        place.part = []
        return None
    place.part.append(data)
    if number < count:
        return None
    updates, place.part = tuple(place.part), []
    return updates
