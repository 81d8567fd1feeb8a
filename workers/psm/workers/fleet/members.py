"""What a worker tells about itself: its key in the bucket `psm-fleet`.

Times in here are for people. No decision compares them: clocks of two machines may be hours apart.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
from typing import Literal

import msgspec

from psm.adapters.wall_clock import now_text
from psm.contracts.codec import encode
from psm.contracts.errors import ContractError

HoldingState = Literal["recovering", "live", "draining", "stopped"]

_HOST_CHARS_MAX = 40
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """A partition that a worker has, from its claim until it let go.

    Attributes:
        partition: number.
        state: `recovering` until it commits; `stopped` when it must not go on.
        position: log sequence of the last message folded.
        lag: log sequences between that and the partition's last message; 0 when caught up.
    """

    partition: int
    state: HoldingState
    position: int = 0
    lag: int = 0


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One worker process.

    Attributes:
        id: unique for ever, also after a restart on the same host; one subject token.
        host: where it runs.
        pid: its process there.
        version: of PSM.
        started_at: RFC 3339, by its own clock.
        leaving: it hands over what it holds and takes nothing more.
        pinned: partitions it was told to run whatever the others do; None takes its share.
        holdings: what it has, by ascending partition.
    """

    id: str
    host: str
    pid: int
    version: str
    started_at: str
    leaving: bool = False
    pinned: tuple[int, ...] | None = None
    holdings: tuple[Holding, ...] = ()

    @property
    def holds(self) -> frozenset[int]:
        """Numbers of the partitions it has."""
        return frozenset(holding.partition for holding in self.holdings)


class MemberEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A key as the bucket has it.

    Attributes:
        id: of the member.
        revision: grows with every change of any key; given by the broker.
        member: None when the key was deleted.
    """

    id: str
    revision: int
    member: Member | None


_decoder = msgspec.json.Decoder(Member)


def this_member(version: str, pinned: tuple[int, ...] | None) -> Member:
    """Return this process as a member that holds nothing yet."""
    host = socket.gethostname()
    short = _UNSAFE.sub("-", host)[:_HOST_CHARS_MAX]
    return Member(
        id=f"{short}-{secrets.token_hex(4)}",
        host=host,
        pid=os.getpid(),
        version=version,
        started_at=now_text("seconds"),
        pinned=pinned,
    )


def dump_member(member: Member) -> bytes:
    """Return the bytes of a member's key."""
    return encode(member)


def load_member(data: bytes) -> Member:
    """Return the member in a key; fields that a newer version adds are ignored.

    Raises:
        ContractError: the key holds something else.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ContractError("not_a_member", str(error)) from error
