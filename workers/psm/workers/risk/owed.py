"""What was asked for an account while it moved: read back, for the slot that has it now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import msgspec
from nats.aio.client import Client

from psm.adapters.logs import get_logger
from psm.contracts.errors import TransientError
from psm.risk.messages import Stored
from psm.workers.risk.orders_log import said_of
from psm.workers.risk.ports import Decider

_AGAIN_S = 0.05
_log = get_logger()


class Owed(msgspec.Struct, frozen=True, kw_only=True):
    """What a loop is owed of an account.

    Attributes:
        loop: that has it now.
        account_id: which moved there.
        behind: sequence of ORDERS up to which everything was answered.
        said: since, and up to `until`, once it was read.
    """

    loop: Decider
    account_id: str
    behind: int
    said: Sequence[Stored] = ()
    until: int = 0


def next_owed(loops: Iterable[Decider | None]) -> Owed | None:
    """Return what some loop is owed; None: nothing."""
    for loop in loops:
        for account_id, behind in loop.owed.items() if loop is not None else ():
            assert loop is not None
            return Owed(loop=loop, account_id=account_id, behind=behind)
    return None


async def read_owed(nc: Client, owed: Owed) -> Owed:
    """Return it with what was said; again and again until that can be read."""
    while True:
        try:
            said, until = await said_of(nc, owed.account_id, owed.behind)
            return msgspec.structs.replace(owed, said=said, until=until)
        except TransientError as error:
            _log.info("risk.owed_not_read", account_id=owed.account_id, detail=str(error))
            await asyncio.sleep(_AGAIN_S)
