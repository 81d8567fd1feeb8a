"""Lets somebody who kept a ledger hash prove that PSM still agrees with it."""

from __future__ import annotations

import re

import msgspec
from nats.aio.client import Client

from psm.adapters.logs import get_logger
from psm.workers.history.timeline import beyond, read_ledger
from psm.workers.log.shape import LogShape

_log = get_logger()
_HASH = re.compile(r"[0-9a-fA-F]{64}")


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to "was this my ledger hash at that number?".

    Attributes:
        account_id: whose ledger.
        sequence_number: after which event.
        log_sequence: of that event.
        agrees: whether the hash given is the one that the log gives.
        given: the hash asked about.
        ledger_hash: what the log gives.
        chain_hash: of all events up to that number.
    """

    account_id: str
    sequence_number: int
    log_sequence: int
    agrees: bool
    given: str
    ledger_hash: str
    chain_hash: str


def is_hash(text: str) -> bool:
    """Return whether a text can be a hash: the 64 hex digits of a SHA-256, in either case."""
    return _HASH.fullmatch(text) is not None


async def verify(
    nc: Client, shape: LogShape, stream_id: str, sequence: int, ledger_hash: str
) -> Verification:
    """Fold an account's events again and compare; a deviation is logged as an incident.

    Raises:
        UnknownStreamError: the stream does not exist.
        NoSuchPlaceError: it has not come to that number.
    """
    ledger = await read_ledger(nc, shape, stream_id, enough=beyond(sequence), hashed=True)
    # After one number there may have been several ledgers: an operator's event may take none.
    places = ledger.places_of(sequence)
    same = [place for place in places if place.ledger_hash == ledger_hash.lower()]
    place = (same or places)[-1]
    answer = Verification(
        account_id=stream_id,
        sequence_number=sequence,
        log_sequence=place.log_sequence,
        agrees=bool(same),
        given=ledger_hash.lower(),
        ledger_hash=place.ledger_hash,
        chain_hash=place.chain_hash,
    )
    if not answer.agrees:
        _log.error(
            "verify.deviation",
            stream_id=stream_id,
            sequence_number=sequence,
            given=answer.given,
            ledger_hash=answer.ledger_hash,
        )
    return answer
