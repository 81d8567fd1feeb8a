"""Which number comes next in a stream: its head, and its messages after that in log order.

Pure. The owner of a subject gives its head (`adopt`); without an owner everything is read from the
log. A message takes a place only as the fold would give it one: junk, repeats, conflicts and
operator events have no number of their own, `SequenceVoided` takes places without an event. The
tracker also remembers the identities of the last places, so a repeated event is found again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import msgspec

from psm.contracts import registry
from psm.contracts.codec import decode_envelope
from psm.contracts.envelope import Envelope, event_hash
from psm.contracts.errors import ConflictError, ContractError
from psm.contracts.events import SequenceVoided
from psm.contracts.heads import HASH_DIGITS, SubjectHead
from psm.contracts.sequencing import (
    OPERATOR_EVENTS,
    SEQUENCE_AHEAD_MAX,
    SEQUENCE_VOIDED,
    UNNUMBERED,
    VOID_MAX,
)

REMEMBERED = 256
"""Places whose event ids are remembered, the same number as in an account's state."""


class NumberedPlace(msgspec.Struct, frozen=True, gc=False):
    """Where an event is: its number (None for an operator event) and its log position."""

    event_id: str
    number: int | None
    log_sequence: int
    event_hash: bytes


class RisingNumbers:
    """Numbers that need only rise: marks, instruments and control events.

    Attributes:
        last: the highest number seen.
        log_sequence: position of the last message seen, whatever it was; 0 if none.
    """

    def __init__(self, remember: int = REMEMBERED) -> None:
        """Start before the first message.

        Args:
            remember: how many events `find` knows, at least 256.
        """
        self.last = 0
        self.log_sequence = 0
        self.remember = max(remember, REMEMBERED)
        self._places: OrderedDict[str, NumberedPlace] = OrderedDict()

    def feed(self, log_sequence: int, data: bytes, stream_id: str, kind: str = "trades") -> bool:
        """Take the next message; return whether it took a place.

        Args:
            log_sequence: where it is.
            data: its body.
            stream_id: whose it must be.
            kind: first token of its subject; of a stream's messages, which of its two doors.
        """
        self.log_sequence = log_sequence
        try:
            envelope = decode_envelope(data)
        except ContractError:
            return False
        if envelope.stream_id != stream_id or not self._may_come(envelope, kind):
            return False
        return self._take(envelope, log_sequence, data)

    def find(self, event_id: str) -> NumberedPlace | None:
        """Return where an event is, if it is among those remembered."""
        return self._places.get(event_id)

    def next_number(self) -> int:
        """Return the number to assign."""
        return self.last + 1

    def check(self, number: int, *, allow_gap: bool) -> None:
        """Make sure that a number assigned elsewhere may be appended; here any may."""
        del number, allow_gap

    def has_parked(self, numbers: Iterable[int]) -> bool:
        """Return whether the events that wait under these numbers are known."""
        return not list(numbers)

    def adopt(self, head: SubjectHead) -> None:
        """Take from the subject's owner what is true as of its log sequence.

        To be called when the messages up to there, as many as are wanted, have been fed.
        """
        self.last = max(self.last, head.last)

    @property
    def complete(self) -> bool:
        """Return whether every number up to `last` was seen."""
        return False

    @property
    def remembers_enough(self) -> bool:
        """Return whether as many events are remembered as may be."""
        return len(self._places) >= self.remember

    def _may_come(self, envelope: Envelope, kind: str) -> bool:
        """Return whether an event may come through the door that it came through."""
        del envelope, kind
        return True

    def _take(self, envelope: Envelope, log_sequence: int, data: bytes) -> bool:
        if envelope.sequence_number is None:
            return False
        self.last = max(self.last, envelope.sequence_number)
        if envelope.event_id in self._places:
            return False
        return self._remember(_place(envelope, log_sequence, data))

    def _remember(self, place: NumberedPlace) -> bool:
        self._places[place.event_id] = place
        self._places.move_to_end(place.event_id)
        while len(self._places) > self.remember:
            self._places.popitem(last=False)
        return True


class StreamNumbers(RisingNumbers):
    """Numbers of an account's events: contiguous, the first in the log wins.

    A number after a gap waits (`parked`) until the gap closes. What is assigned comes after
    every number that was seen, so it never takes the place of an event that is only late: a gap
    is a missing event, and stays visible as one.

    Attributes:
        last: every place up to here is taken.
        parked: events after a gap, by number.
    """

    def __init__(self, remember: int = REMEMBERED) -> None:
        """Start before the first message; `remember` as for every subject."""
        super().__init__(remember)
        self._without_number: OrderedDict[str, NumberedPlace] = OrderedDict()
        self.parked: dict[int, NumberedPlace] = {}

    def next_number(self) -> int:
        """Return the number to assign: one more than the highest seen, parked ones included.

        Raises:
            ConflictError: it would be too far after a gap; the fold would reject it.
        """
        number = max(self.parked, default=self.last) + 1
        if number > self.last + SEQUENCE_AHEAD_MAX:
            raise ConflictError(
                f"number {self.last + 1} is missing and {number - 1} is parked: "
                "close the gap before anything is appended"
            )
        return number

    def check(self, number: int, *, allow_gap: bool) -> None:
        """Make sure that `number` is free, and next unless a gap is allowed.

        Raises:
            ConflictError: it is not.
        """
        expected = self.next_number()
        if number <= self.last or number in self.parked:
            raise ConflictError(
                f"sequence_number {number} belongs to another event; next is {expected}"
            )
        if not allow_gap and number != self.last + 1:
            raise ConflictError(
                f"sequence_number {number} would leave a gap; next is {self.last + 1}"
            )

    def has_parked(self, numbers: Iterable[int]) -> bool:
        """Return whether the events that wait under these numbers are known."""
        return self.parked.keys() >= set(numbers)

    def adopt(self, head: SubjectHead) -> None:
        """Take last number and parked ones from the owner, and forget what took no place."""
        taken = {event.number: event.event_hash for event in head.events}
        from_first = self.last > 0  # then each place was given as the fold gave it
        known = [*self._places.values(), *self.parked.values()]
        self._places.clear()
        for place in sorted(known, key=lambda place: place.number or 0):
            number = place.number or 0
            own = place.event_hash.hex()[:HASH_DIGITS]
            forgotten = number <= head.last - REMEMBERED
            if taken.get(number) == own or (from_first and forgotten):
                self._remember(place)
        waiting = {place.number: place for place in known}
        self.parked = {
            number: waiting.get(number) or NumberedPlace("", number, 0, b"")
            for number in head.parked
        }
        self.last = head.last

    @property
    def complete(self) -> bool:
        """Return whether every number up to `last` is there, and none waits after a gap."""
        return not self.parked

    def trust(self, log_sequence: int, data: bytes) -> None:
        """Take an event whose writer knew every place up to the event's own number."""
        self.log_sequence = log_sequence
        place = _place(decode_envelope(data), log_sequence, data)
        assert place.number is not None
        self.parked.clear()
        self.last = place.number
        self._remember(place)

    def _may_come(self, envelope: Envelope, kind: str) -> bool:
        return (envelope.event_type in OPERATOR_EVENTS) == (kind == "repair")

    def _take(self, envelope: Envelope, log_sequence: int, data: bytes) -> bool:
        place = _place(envelope, log_sequence, data)
        if envelope.event_type in UNNUMBERED:
            return self._unnumbered(envelope, place)
        number = place.number
        if number is None or number > self.last + SEQUENCE_AHEAD_MAX:
            return False
        known = self._places.get(place.event_id)
        if known is not None and (known.number or 0) <= self.last - REMEMBERED:
            known = None  # the fold has forgotten it
        known = known or self._parked_under(place.event_id)
        taken = number <= self.last or number in self.parked
        # The same event id with other bytes is a conflict even under a free number.
        if taken or (known is not None and known.event_hash != place.event_hash):
            return False
        self.parked[number] = place
        self._close_gap()
        return True

    def find(self, event_id: str) -> NumberedPlace | None:
        """Return where an event is, if it is among those remembered or parked."""
        found = self._places.get(event_id) or self._without_number.get(event_id)
        return found or self._parked_under(event_id)

    def _parked_under(self, event_id: str) -> NumberedPlace | None:
        return next((p for p in self.parked.values() if p.event_id == event_id), None)

    def _unnumbered(self, envelope: Envelope, place: NumberedPlace) -> bool:
        if place.event_id in self._without_number:
            return False
        self._without_number[place.event_id] = place
        while len(self._without_number) > self.remember:
            self._without_number.popitem(last=False)
        if envelope.event_type == SEQUENCE_VOIDED:
            self._void(envelope)
        return True

    def _void(self, envelope: Envelope) -> None:
        try:
            event = registry.codec_for(envelope).decode(envelope.payload)
        except ContractError:
            return
        assert isinstance(event, SequenceVoided)
        first, last = event.first, event.last
        lowest = min(self.parked, default=0)  # where nothing waits, no number is missing
        if first == self.last + 1 <= last < lowest and last - first < VOID_MAX:
            self.last = last
            self._close_gap()

    def _close_gap(self) -> None:
        while (place := self.parked.pop(self.last + 1, None)) is not None:
            self.last += 1
            self._remember(place)


def _place(envelope: Envelope, log_sequence: int, data: bytes) -> NumberedPlace:
    number = None if envelope.event_type in UNNUMBERED else envelope.sequence_number
    return NumberedPlace(envelope.event_id, number, log_sequence, event_hash(data))
