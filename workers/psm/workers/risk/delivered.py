"""What the feed of a risk engine gives, besides inputs of accounts and messages of the market."""

from __future__ import annotations

import msgspec

from psm.contracts.feed import FeedInput
from psm.risk.engine import Slot
from psm.risk.messages import RiskOutput, Stored


class Entered(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An account as a whole; what was known of it before counts no more.

    It comes first for every account that is followed, and again where a loss could not be repaired
    input by input.

    Attributes:
        account_id: whose.
        document: of `psm.get.live`, read `state`.
        log_sequence: up to which the account's log is in it.
    """

    account_id: str
    document: bytes
    log_sequence: int


class Lost(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Something of an account is missing, or may be: unknown until it is regained or entered.

    What is known of it is kept: inputs that were missing may follow, each next to the one before.
    """

    account_id: str


class Regained(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A lost account is known again: what was missing came before this, or nothing was."""

    account_id: str


class Unfolded(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """PSM has not folded an input of an account that the log holds, although it was asked to.

    It comes with every comparison until the input is folded, and then once with `since` None.

    Attributes:
        account_id: whose.
        log_sequence: of the first such input.
        since: when the log stored it, us; None: it is folded now.
    """

    account_id: str
    log_sequence: int
    since: int | None


class OrdersTold(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What PSM told of an account's orders before it was entered, in order: updates as stored."""

    account_id: str
    updates: tuple[bytes, ...]


class Reached(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """TRADES has no other mark or instrument up to here: M, without a message."""

    log_sequence: int


Delivered = Entered | FeedInput | Lost | Regained | Unfolded | OrdersTold | Stored | Reached
"""What the feed gives. Of one account, and of the market, always in the order of the log."""


def take_delivered(slot: Slot, delivered: Delivered) -> list[RiskOutput]:
    """Give a slot what the feed gives; return its records."""
    match delivered:
        case FeedInput():
            return slot.take_input(delivered)
        case Stored():
            return slot.take_market(delivered)
        case Entered():
            return slot.enter(delivered.account_id, delivered.document, delivered.log_sequence)
        case Lost():
            return slot.lose(delivered.account_id)
        case Regained():
            return slot.regain(delivered.account_id)
        case Unfolded():
            return slot.unfolded(delivered.account_id, delivered.log_sequence, delivered.since)
        case OrdersTold():
            return slot.take_told(delivered.account_id, delivered.updates)
        case Reached():
            return slot.reach(delivered.log_sequence)
