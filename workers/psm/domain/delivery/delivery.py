"""Delivery of one stream: its places, its hash chain, what it remembers, and what waits.

Nothing here knows what an event does to money. The sequence rules (`rules`) read it; `folding`
moves it on, one method per step.
"""

from __future__ import annotations

from collections.abc import Iterable

from psm.contracts.envelope import chain_next, chain_start
from psm.contracts.update_fields import Status
from psm.domain.delivery.parked import Blocked, Parked
from psm.domain.windows import IdentityWindow

_ID = 16  # bytes of an event id


class Delivery:
    """Delivery state of one stream.

    Attributes:
        stream_id: whose.
        version: sequence number of the last event that took a place.
        event_hash: of the last event in the chain; None before the first.
        chain_hash: of all events that entered the chain.
        identities: event ids and hashes of the last 256 places.
        operators: those of the last 256 operator events; None before the first.
        reports: those of the last 256 reports that were answered; None before the first.
        last_fact: event id and the venue's name of the last event that moved money or quantity,
            packed; empty before the first.
        refused: places whose event changed nothing; corrections need to know them.
        parked: events that wait for a gap to close, by sequence number.
        blocked: why the stream stopped, or None.
        too_large: log sequence of each event that blocked because the state would have been too
            large -> newest rules under which it did; corrections need to know them.
        as_of: log sequence that the loaded snapshot includes; lower messages are skipped.
        last_log_sequence: of the last message on the stream's subject, whatever its outcome.
        updated_at: log sequence of the last message that published anything of the account.
    """

    __slots__ = (
        "as_of",
        "blocked",
        "chain_hash",
        "event_hash",
        "identities",
        "last_fact",
        "last_log_sequence",
        "operators",
        "parked",
        "refused",
        "reports",
        "stream_id",
        "too_large",
        "updated_at",
        "version",
    )

    def __init__(self, stream_id: str) -> None:
        self.stream_id = stream_id
        self.version = 0
        self.event_hash: bytes | None = None
        self.chain_hash = chain_start(stream_id)
        self.identities = IdentityWindow()
        self.operators: IdentityWindow | None = None
        self.reports: IdentityWindow | None = None
        self.last_fact = b""
        self.refused: list[int] = []
        self.parked: dict[int, Parked] = {}
        self.blocked: Blocked | None = None
        self.too_large: dict[int, int] = {}
        self.as_of = 0
        self.last_log_sequence = 0
        self.updated_at = 0

    @classmethod
    def restored(
        cls,
        stream_id: str,
        *,
        version: int,
        event_hash: bytes | None,
        chain_hash: bytes,
        identities: IdentityWindow,
        operators: IdentityWindow | None,
        reports: IdentityWindow | None,
        last_fact: bytes,
        refused: list[int],
        parked: Iterable[tuple[int, Parked]],
        blocked: Blocked | None,
        too_large: Iterable[tuple[int, int]],
        as_of: int,
        last_log_sequence: int,
        updated_at: int,
    ) -> Delivery:
        """Return the delivery state that a snapshot holds."""
        delivery = cls(stream_id)
        delivery.version = version
        delivery.event_hash = event_hash
        delivery.chain_hash = chain_hash
        delivery.identities = identities
        delivery.operators = operators
        delivery.reports = reports
        delivery.last_fact = last_fact
        delivery.refused = refused
        delivery.parked = dict(parked)
        delivery.blocked = blocked
        delivery.too_large = dict(too_large)
        delivery.as_of = as_of
        delivery.last_log_sequence = last_log_sequence
        delivery.updated_at = updated_at
        return delivery

    @property
    def status(self) -> Status:
        """`open`, in a `gap`, or `blocked`."""
        if self.blocked is not None:
            return "blocked"
        return "gap" if self.parked else "open"

    @property
    def undisturbed(self) -> bool:
        """True if nothing of the stream waits for a gap to close or for a block to end."""
        return not self.parked and self.blocked is None

    def take_place(self, number: int, identity: bytes, event_hash: bytes) -> None:
        """Give an event the next place: version, hash chain and identity."""
        assert number == self.version + 1, f"{self.stream_id}: place {number} after {self.version}"
        self.version = number
        self.event_hash = event_hash
        self.chain_hash = chain_next(self.chain_hash, event_hash)
        self.identities.add(identity, event_hash)

    def refuse_place(self, number: int, identity: bytes, event_hash: bytes) -> None:
        """Give a refused event the next place, and remember that it changed nothing."""
        self.refused.append(number)
        self.take_place(number, identity, event_hash)

    def take_operator(self, identity: bytes, event_hash: bytes) -> None:
        """Give an operator event its place in the hash chain; it has no number."""
        self.event_hash = event_hash
        self.chain_hash = chain_next(self.chain_hash, event_hash)
        if self.operators is None:
            self.operators = IdentityWindow()
        self.operators.add(identity, event_hash)

    def answer_report(self, identity: bytes, event_hash: bytes) -> None:
        """Remember a report: it takes no place, and is answered once."""
        if self.reports is None:
            self.reports = IdentityWindow()
        self.reports.add(identity, event_hash)

    def note_fact(self, identity: bytes, name: str | None) -> None:
        """Note the last event that moved money or quantity, and what its venue calls it."""
        self.last_fact = identity if name is None else identity + name.encode()

    def is_last_fact(self, name: str) -> bool:
        """Return whether this is the venue's name of the last fact, or its event id."""
        return is_named(self.last_fact, name)

    def void(self, last: int, event_hash: bytes) -> None:
        """Pass over the numbers up to `last`: the operator event with this hash voided them."""
        self.identities.add_voided(last - self.version, event_hash)
        self.version = last

    def park(self, number: int, parked: Parked) -> None:
        """Remember an event beyond a gap."""
        self.parked[number] = parked

    def unpark(self, number: int) -> Parked:
        """Forget a parked event: its turn has come."""
        return self.parked.pop(number)

    def block(self, blocked: Blocked | None) -> None:
        """Stop the stream, or let it go on."""
        self.blocked = blocked

    def note_too_large(self, log_sequence: int, rules: int) -> None:
        """Note that the state has no room for an event under these rules."""
        self.too_large[log_sequence] = rules

    def seen_at(self, log_sequence: int) -> None:
        """Note the last message on the stream's subject."""
        self.last_log_sequence = log_sequence

    def note_update(self, log_sequence: int) -> int:
        """Note a message that publishes something of the account; return the one before it."""
        before, self.updated_at = self.updated_at, log_sequence
        return before


def is_named(fact: bytes, name: str) -> bool:
    """Return whether a packed fact has this name, the venue's or its event id."""
    if not fact:
        return False
    return name.encode() == fact[_ID:] or name.lower().replace("-", "") == fact[:_ID].hex()
