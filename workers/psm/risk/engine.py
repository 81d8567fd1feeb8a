"""One loop of the risk engine: the state of its groups, what changes it, and its decisions.

A `Slot` is a fold: the same inputs in the same order give the same outputs, byte for byte. It
reads no clock, does no I/O, and knows no other slot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from psm.contracts.feed import FeedInput
from psm.risk.messages import Output, Stored

if TYPE_CHECKING:
    from psm.risk.rulebook import Rulebook

ENGINE = "1.0.0"
"""Version of the rules of decisions; in each of them."""


class Slot:
    """The state of one loop, and everything that its groups decide.

    Args:
        number: of the slot, 0 to 63; groups whose name falls into it are its own.

    Attributes:
        number: of the slot.
        n: number of its last record, 0 before the first; contiguous.
        previous: hash of its last record's bytes, hex; of the first SHA-256 of the slot's name.
    """

    number: int
    n: int
    previous: str

    def __init__(self, number: int) -> None: ...

    @property
    def consumed(self) -> Mapping[str, int]:
        """Positions up to which `ORDERS`, `RULEBOOK` and `TRADES` (its marks) were taken."""
        raise NotImplementedError

    def members(self) -> tuple[str, ...]:
        """Return the accounts whose groups are this slot's, ascending: what must be fed."""
        raise NotImplementedError

    def take_rulebook(self, rulebook: Rulebook, at: int) -> list[Output]:
        """Take the rulebook as it stands now, `at` being the time of its last event, us."""
        raise NotImplementedError

    def enter(self, account_id: str, document: bytes, log_sequence: int) -> list[Output]:
        """Take a member's whole state document, as of one input of the log."""
        raise NotImplementedError

    def take_input(self, found: FeedInput) -> list[Output]:
        """Take a member's updates of one input; other accounts' are left alone."""
        raise NotImplementedError

    def lose(self, account_id: str) -> list[Output]:
        """Take a member as unknown: its group's decisions fail closed until it entered again."""
        raise NotImplementedError

    def take_market(self, message: Stored) -> list[Output]:
        """Take a message of `marks.*` or `instruments.*` of TRADES; older ones are left alone."""
        raise NotImplementedError

    def take_clock(self, time: int) -> list[Output]:
        """Take a time that TRADES has passed, us: days, latches and reservations end by it."""
        raise NotImplementedError

    def decide(self, command: Stored, *, dry_run: bool = False) -> list[Output]:
        """Answer a message of `orders.command.*`; the decision is the last output.

        Args:
            command: an `order_request`, `replace_request` or `cancel_request`.
            dry_run: change nothing; the record is then `n` 0 and stored by nobody.
        """
        raise NotImplementedError

    def take_recorded(self, record: Output | Stored) -> None:
        """Take a record of this slot that was stored after the checkpoint.

        Raises:
            InvariantError: it is not the one after the last: a hole, or another chain.
        """
        raise NotImplementedError

    def checkpoint(self) -> bytes:
        """Return the complete path state, canonical JSON with its own hash."""
        raise NotImplementedError

    @classmethod
    def restored(cls, checkpoint: bytes) -> Slot:
        """Return the slot of a checkpoint; members enter again, path state is complete.

        Raises:
            InvariantError: the bytes are not what `checkpoint` wrote.
        """
        raise NotImplementedError

    def state_hash(self) -> str:
        """Return SHA-256 of the path state, hex."""
        raise NotImplementedError
