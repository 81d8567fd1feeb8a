"""Reason codes: why an event was refused or rejected, or stopped its stream. Only added to."""

from __future__ import annotations

from typing import Literal

import msgspec

Judge = Literal[
    "codec", "sequence rules", "books", "operator events", "doors", "readers", "rulebook"
]
"""Part of PSM that gives a reason."""


class Reason(msgspec.Struct, frozen=True):
    """Meaning of a reason code, in one line, and the parts of PSM that give it."""

    meaning: str
    judges: tuple[Judge, ...]


REASONS: dict[str, Reason] = {
    # The envelope cannot be read: rejected, no place is taken.
    "invalid_json": Reason("the body is not one JSON object in UTF-8", ("codec", "doors")),
    "missing_field": Reason("a required field of the envelope is missing", ("codec", "doors")),
    "malformed_field": Reason(
        "a field of the envelope has a value it cannot have", ("codec", "sequence rules", "doors")
    ),
    "stream_mismatch": Reason(
        "the event belongs to another stream than its subject says", ("sequence rules", "doors")
    ),
    "invalid_subject": Reason(
        "the last token of the subject names no stream and no symbol", ("sequence rules", "doors")
    ),
    "operators_only": Reason(
        "the event is an operator's and came where others publish, or the reverse",
        ("sequence rules", "doors"),
    ),
    "sequence_missing": Reason(
        "the event has no sequence number, and its subject needs one", ("sequence rules", "codec")
    ),
    "sequence_too_far": Reason(
        "the sequence number is too far ahead of its stream", ("sequence rules",)
    ),
    # The event is known, or another one is in its place: nothing changes.
    "event_id_conflict": Reason(
        "the event_id was used before for other bytes", ("sequence rules", "operator events")
    ),
    "sequence_conflict": Reason(
        "another event has this sequence number; the first in the log wins", ("sequence rules",)
    ),
    "sequence_voided": Reason(
        "an operator declared that this sequence number will not come", ("sequence rules",)
    ),
    "stale_unverified": Reason(
        "the number is older than the places remembered: a repeat, or not", ("sequence rules",)
    ),
    # The stream waits or stops.
    "sequence_gap": Reason("a number before this event is missing", ("sequence rules",)),
    "gap_overflow": Reason(
        "too many events wait for a missing number; later ones are held", ("sequence rules",)
    ),
    "unknown_event_type": Reason(
        "the rules of the log do not know this event type on its subject", ("books", "doors")
    ),
    "unknown_schema_version": Reason(
        "the rules of the log do not know this major schema version", ("books", "doors")
    ),
    "state_too_large": Reason(
        "the account's state has no room for the event; it is kept until other rules", ("books",)
    ),
    # The event keeps its place and changes nothing else: refused.
    "invalid_payload": Reason(
        "the payload is not valid, or contradicts the books", ("books", "rulebook")
    ),
    "arithmetic": Reason("the event does not compute exactly in 100 digits", ("books",)),
    "duplicate_fill": Reason("the fill was booked before under another event_id", ("books",)),
    "duplicate_transfer": Reason(
        "the transfer was booked before under another event_id", ("books",)
    ),
    "duplicate_reference": Reason(
        "the venue's reference was booked before under another event_id", ("books",)
    ),
    "unknown_trade": Reason("no booked trade has this name, or it was busted", ("books",)),
    "unknown_event": Reason("no booked event has this id, or it was reversed", ("books",)),
    "ambiguous_target": Reason("several booked trades have this name", ("books",)),
    "unknown_order": Reason("the account has no order with this id", ("books",)),
    "unknown_side": Reason("the side is none that a draft may have", ("codec",)),
    "instrument_conflict": Reason(
        "the definition contradicts the symbol's first definition", ("books",)
    ),
    "dismissed": Reason("an operator dismissed the event that blocked", ("operator events",)),
    # A report is not compared; it is answered all the same.
    "through_not_last": Reason(
        "the last fact that the report contains is not booked yet, or later ones are", ("books",)
    ),
    # An operator's event does nothing.
    "not_blocking": Reason("no message blocks the stream, or another one", ("operator events",)),
    "void_invalid": Reason("these are not the numbers that are missing", ("operator events",)),
    # An event of the rulebook has no effect; it counts in its hash all the same.
    "unknown_key": Reason("no key of this id is defined", ("rulebook",)),
    "void_key": Reason("the key was made void", ("rulebook",)),
    "wrong_holder": Reason("the key is somebody else's than the actor's", ("rulebook",)),
    "bad_signature": Reason("the key did not sign this", ("rulebook",)),
    "no_right": Reason("the key may not do this", ("rulebook",)),
    "four_eyes": Reason("another person, with another key, must agree", ("rulebook",)),
    "repeated": Reason("an event with this id was taken before", ("rulebook",)),
    "unknown_limit": Reason("there is no limit of this name", ("rulebook",)),
    "wrong_version": Reason("the version is not the last one plus one", ("rulebook",)),
    "stale_proposal": Reason("the proposal is not the newest of its scope", ("rulebook",)),
    "expired": Reason("it would have no effect at this time any more", ("rulebook",)),
    "nothing_to_revoke": Reason("the scope has no limits", ("rulebook",)),
    "nothing_to_lift": Reason("it was lifted, or halts another scope", ("rulebook",)),
    "invalid_parent": Reason("the group cannot stand below this one", ("rulebook",)),
    "budget_exceeded": Reason("the groups of a parent would have more than it has", ("rulebook",)),
    # What PSM wrote itself cannot be read; no event of a producer.
    "bad_snapshot": Reason("a snapshot or checkpoint cannot be used", ("readers",)),
    "bad_anchor": Reason("an anchor cannot be read", ("readers",)),
    "not_a_member": Reason("a key of the fleet is no member", ("readers",)),
}
"""Reason code -> its meaning."""
