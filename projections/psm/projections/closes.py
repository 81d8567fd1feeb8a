"""How far minutes are complete, as an update among the others: no account's, a partition's."""

from __future__ import annotations

import msgspec

from psm.contracts.errors import InvariantError
from psm.contracts.updates_read import ReadUpdate

MINUTES_CLOSED = "minutes.closed"
"""Kind of the update."""


class _Closed(msgspec.Struct, frozen=True, gc=False):
    closed_through: int


_decoder = msgspec.json.Decoder(_Closed)


def minutes_closed(partition: int, closed_through: int) -> ReadUpdate:
    """Return the update that says so.

    Args:
        partition: of the log.
        closed_through: end of the last minute of which all closes are told by the updates before
            this one, nanoseconds of log time.
    """
    data = msgspec.json.encode(_Closed(closed_through))
    return ReadUpdate(kind=MINUTES_CLOSED, data=data, partition=partition)


def closed_through_of(update: ReadUpdate) -> int:
    """Return the end of the last complete minute, nanoseconds of log time.

    Raises:
        InvariantError: it is no such update.
    """
    try:
        return _decoder.decode(update.data).closed_through
    except msgspec.DecodeError as error:
        raise InvariantError(f"a {update.kind} update cannot be read: {error}") from error
