"""Messages that the log has and a consumer did not show.

A consumer on a damaged replica leaves out what it cannot read, and numbers the rest without a gap.
So before the effect of a message is committed whose number does not follow the last one, the leader
is asked what lies between. A producer may skip numbers; then the answer is: nothing.

Operators' events need no number, so one that was hidden shows in no other: the leader is asked for
them at each message of a stream that waits, at each message on `control.*`, and once a second for
all there were.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from psm.contracts.codec import decode_envelope
from psm.contracts.errors import ContractError, TransientError
from psm.contracts.subjects import decode_token, either_of_stream, partition_of
from psm.domain.books import Books
from psm.domain.delivery.rules import is_rejected
from psm.domain.messages import Folded, LogMessage, Outcome
from psm.workers.partition.ports import EventLog


class HiddenMessageError(TransientError):
    """The consumer did not show a message that the leader has: read again."""


class SeenBefore(NamedTuple):
    """What was known of a message's subject before it was folded.

    Of an account `at` is the log sequence of its last message, of a mark, a definition or a rule
    the last number; `waits`: the account's stream was in a gap or blocked.
    """

    at: int
    waits: bool = False


class _Place:
    """How far the messages on one subject are known to have been shown."""

    __slots__ = ("log_sequence", "number", "others")

    def __init__(self, number: int, log_sequence: int) -> None:
        self.number = number  # of the last message that was applied
        self.log_sequence = log_sequence  # up to there none was hidden
        self.others: set[int] = set()  # behind it, seen but not applied


_UNNUMBERED = ("repair", "control")


class HiddenMessages:
    """Notices what a partition was not shown."""

    def __init__(self, log: EventLog, books: Books) -> None:
        """Nothing is known yet; the books are those that the partition changes."""
        self._log = log
        self._books = books
        self._start = 0
        self._places: dict[str, _Place] = {}
        self._unnumbered: set[int] = set()  # shown, and not yet compared with the leader
        self._compared = 0  # up to there they were

    def start_behind(self, log_sequence: int) -> None:
        """Take the books as right up to a log sequence."""
        self._start = self._compared = log_sequence
        self._places = {}
        self._unnumbered = set()

    def seen_before(self, message: LogMessage) -> SeenBefore:
        """Return what `check` has to be told of the time before the message was folded."""
        if message.kind in _UNNUMBERED:
            self._unnumbered.add(message.log_sequence)
        if message.stream_id is not None:
            account = self._books.accounts.get(message.stream_id)
            if account is None:
                return SeenBefore(0)
            delivery = account.delivery
            return SeenBefore(delivery.last_log_sequence, not delivery.undisturbed)
        place = self._places.get(message.subject)
        return SeenBefore(place.number if place is not None else self._number_of(message))

    async def check(self, message: LogMessage, before: SeenBefore, folded: Folded) -> None:
        """Make sure that nothing was hidden in front of a message that was just folded.

        Raises:
            HiddenMessageError: the leader has one in between; the books are worthless, read again.
        """
        if message.kind == "control":
            await self._check_control(message)
        elif message.stream_id is None:
            await self._check_table(message, before.at, folded)
        elif folded.outcome is Outcome.SKIPPED:
            return  # it is in the snapshot, and was compared before that
        elif folded.outcome is Outcome.PARKED or before.waits:
            await self._check_gap(message, before.at)

    async def compare_unnumbered(self) -> None:
        """Make sure that no message of those without a number was hidden up to the books' position.

        Raises:
            HiddenMessageError: the leader has one that was not shown.
        """
        position = self._books.position
        for subject in (f"repair.{self._books.partition}.*", "control.*"):
            seen = self._compared
            while (found := await self._log.next_on(subject, seen + 1)) is not None:
                seen = found.log_sequence
                if seen > position:
                    break
                if seen not in self._unnumbered and _is_event(found):
                    raise _hidden(found.subject, seen)
        self._compared = position
        self._unnumbered = {at for at in self._unnumbered if at > position}

    async def _check_control(self, message: LogMessage) -> None:
        place = self._place(message.subject, 0)
        seen = place.log_sequence
        while (found := await self._log.next_on(message.subject, seen + 1)) is not None:
            seen = found.log_sequence
            if seen >= message.log_sequence:
                break
            if _is_event(found):
                raise _hidden(message.subject, seen)
        place.log_sequence = message.log_sequence

    async def _check_table(self, message: LogMessage, before: int, folded: Folded) -> None:
        number = folded.sequence_number
        if folded.outcome is not Outcome.APPLIED or number is None:
            # Without effect on the state. Only one with a higher number could be taken for hidden.
            if number is not None and number > before:
                self._place(message.subject, before).others.add(message.log_sequence)
            return
        place = self._place(message.subject, before)
        if number != before + 1:
            await self._compare(message, place, number)
        place.number, place.log_sequence = number, message.log_sequence
        place.others.clear()

    async def _compare(self, message: LogMessage, place: _Place, number: int) -> None:
        """Go through what the leader has on the subject since it was known to be whole."""
        seen = place.log_sequence
        while True:
            found = await self._log.next_on(message.subject, seen + 1)
            if found is None or found.log_sequence >= message.log_sequence:
                return
            seen = found.log_sequence
            if seen not in place.others and place.number < _number_in(found) < number:
                raise _hidden(message.subject, seen)

    async def _check_gap(self, message: LogMessage, seen: int) -> None:
        """A gap may be the producer's, or a damaged replica's that hides a message."""
        stream_id = message.token
        either = either_of_stream(stream_id, partition_of(stream_id, self._books.partitions))
        version = self._books.accounts[stream_id].delivery.version
        while True:
            found = await self._log.next_on(either, seen + 1)
            if found is None or found.log_sequence >= message.log_sequence:
                return
            if not is_rejected(found, stream_id, version):
                raise _hidden(stream_id, found.log_sequence)
            seen = found.log_sequence

    def _place(self, subject: str, before: int) -> _Place:
        place = self._places.get(subject)
        if place is None:
            place = self._places[subject] = _Place(before, self._start)
        return place

    def _number_of(self, message: LogMessage) -> int:
        """Return the last number on a subject that the books remember; 0 for none."""
        market = self._books.market
        if message.kind != "marks":
            return market.numbers.get(message.subject, 0)
        try:
            mark = market.marks.get(decode_token(message.token))
        except ValueError:
            return 0
        return mark.sequence_number if mark else 0


def gaps_between(
    shown: Iterable[LogMessage], market: Iterable[str], first: int, last: int
) -> list[tuple[str, int, int]]:
    """Return where subjects of the market may have messages that a consumer did not show.

    That is in front of each number that does not follow, and behind the last one. Subjects under a
    wildcard, which are of few messages, have no numbers in common: all of theirs may be missing.

    Args:
        shown: what it showed, in the order of the log.
        market: the subjects; `collateral.*` for all under it.
        first: log sequence that it was to begin with.
        last: that it was to end with.
    """
    gaps: list[tuple[str, int, int]] = []
    reached = dict.fromkeys(market, (first, 0))
    for message in shown:
        if message.subject not in reached:  # under a wildcard
            continue
        start, before = reached[message.subject]
        number = _number_in(message)
        if number != before + 1:
            gaps.append((message.subject, start, message.log_sequence - 1))
        reached[message.subject] = message.log_sequence + 1, max(number, before)
    gaps += [(subject, start, last) for subject, (start, _) in reached.items()]
    return [gap for gap in gaps if gap[1] <= gap[2]]


def _hidden(where: str, log_sequence: int) -> HiddenMessageError:
    return HiddenMessageError(f"{where}: log sequence {log_sequence} was not delivered")


def _is_event(message: LogMessage) -> bool:
    """Return whether a message could do anything at all."""
    try:
        decode_envelope(message.data)
    except ContractError:
        return False
    return True


def _number_in(message: LogMessage) -> int:
    """Return the number of a message; 0 if it has none that could be applied."""
    try:
        return decode_envelope(message.data).sequence_number or 0
    except ContractError:
        return 0
