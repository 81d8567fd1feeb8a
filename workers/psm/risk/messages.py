"""What the engine takes and gives: messages of streams, and the records that it stores."""

from __future__ import annotations

from typing import Literal

import msgspec

OutputKind = Literal["decision", "alert", "halt", "release"]


class Stored(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message of a stream as the engine reads it.

    Attributes:
        sequence: in its stream.
        time: when the stream stored it, microseconds since 1970, UTC; the only clock there is.
        subject: as stored.
        data: its bytes.
    """

    sequence: int
    time: int
    subject: str
    data: bytes


class RiskOutput(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One record that the engine wants stored in `RISK` before it takes anything else.

    Attributes:
        kind: of the record.
        key: last token of its subject: an account, a severity, a scope.
        data: canonical bytes; `n` and `previous` of the slot's chain are in it.
    """

    kind: OutputKind
    key: str
    data: bytes
