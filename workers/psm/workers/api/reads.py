"""The reads behind HTTP, NATS request-reply and the CLI: one statement, one snapshot, one answer.

Documents are JSON bytes made by PostgreSQL from the views (see `queries/reads.sql`); decimals are
strings in canonical form. Every answer carries the account's versions and hashes.
"""

from __future__ import annotations

import asyncio
from typing import Literal

import msgspec

from psm.adapters import postgres
from psm.contracts.errors import PSMError
from psm.contracts.subjects import STREAM_ID_RULE, is_stream_id
from psm.projections.sql import load

WAIT_DEFAULT_S = 5.0
WAIT_MAX_S = 30.0
_POLL_FIRST_S = 0.01
_POLL_MAX_S = 0.1

ReadName = Literal["state", "positions", "margin", "orders"]
READS: tuple[ReadName, ...] = ("state", "positions", "margin", "orders")


class MalformedAccountError(PSMError):
    """What was given cannot be the id of any account."""


class UnknownAccountError(PSMError):
    """No event of this account is in the view."""


class NotReachedError(PSMError):
    """The view did not reach the wanted version in time.

    Attributes:
        reached: the version it has; 0 for none.
    """

    def __init__(self, account_id: str, wanted: int, reached: int) -> None:
        super().__init__(f"{account_id}: the view has version {reached}, not yet {wanted}")
        self.reached = reached


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One read's result.

    Attributes:
        body: the document's JSON bytes.
        etag: quoted; changes whenever the document's money or status does.
    """

    body: bytes
    etag: str


class _Identity(msgspec.Struct, frozen=True):
    sequence_number: int
    state_hash: str | None
    status: str


_identity = msgspec.json.Decoder(_Identity)


class Reads:
    """Answers reads from the views of `current_state`."""

    def __init__(self, pool: postgres.Pool) -> None:
        self._pool = pool

    async def get(
        self,
        name: ReadName,
        account_id: str,
        *,
        min_sequence: int | None = None,
        timeout_s: float = WAIT_DEFAULT_S,
    ) -> Answer:
        """Return one document.

        Args:
            name: which one.
            account_id: whose.
            min_sequence: wait until the view has this version of the account.
            timeout_s: how long to wait at most; no more than `WAIT_MAX_S`.

        Raises:
            MalformedAccountError: `account_id` cannot exist.
            UnknownAccountError: the view has no such account.
            NotReachedError: the version did not come in time.
            TransientError: PostgreSQL is away.
        """
        if not is_stream_id(account_id):
            raise MalformedAccountError(f"an account id is {STREAM_ID_RULE}")
        if min_sequence is not None:
            await self._wait(account_id, min_sequence, min(timeout_s, WAIT_MAX_S))
        async with postgres.acquired(self._pool) as connection:
            text = await connection.fetchval(load("reads")[name], account_id)
        if text is None:
            raise UnknownAccountError(f"no event of account {account_id} is known")
        body = text.encode()
        return Answer(body=body, etag=_etag(_identity.decode(body)))

    async def _wait(self, account_id: str, wanted: int, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        delay = _POLL_FIRST_S
        while True:
            async with postgres.acquired(self._pool) as connection:
                reached = await connection.fetchval(load("reads")["sequence_number"], account_id)
            if reached is not None and reached >= wanted:
                return
            left = deadline - loop.time()
            if left <= 0:
                raise NotReachedError(account_id, wanted, reached or 0)
            await asyncio.sleep(min(delay, left))
            delay = min(delay * 2, _POLL_MAX_S)


def _etag(identity: _Identity) -> str:
    # A stream that is blocked keeps its version and hashes, but the document tells of it.
    status = "" if identity.status == "open" else f"-{identity.status}"
    return f'"{identity.sequence_number}-{identity.state_hash or "none"}{status}"'
