"""Places in ORDERS: which messages matter to risk, whose they are, and from where to read."""

from __future__ import annotations

import contextlib

from nats.aio.client import Client

from psm.adapters.jetstream import last_for, next_for, read_range, stream_info
from psm.contracts.errors import TransientError
from psm.contracts.subjects import ORDERS, decode_token, last_token, order_command
from psm.risk.engine.results import read_end
from psm.risk.messages import Stored
from psm.workers.risk.ports import stored_of

SAID = COMMANDS, ENDS = "orders.command.*", "orders.status.*"


def is_end(subject: str) -> bool:
    """Return whether a message says what became of an order; else it asks for something."""
    return subject.startswith(ENDS.removesuffix("*"))


async def said_of(nc: Client, account_id: str, behind: int) -> tuple[list[Stored], int]:
    """Return what was asked for an account, and told of its orders, and up to where that is all.

    Args:
        nc: connection.
        account_id: whose.
        behind: sequence of ORDERS after which it is wanted.

    Raises:
        TransientError: it cannot be read now, or a replica does not show all of it.
    """
    asked = order_command(account_id)
    until = await newest_order_message(nc)
    newest = await last_for(nc, ORDERS, asked)
    found: list[Stored] = []
    async for messages in read_range(nc, ORDERS, [asked, ENDS], behind + 1, until):
        found += [stored_of(one) for one in messages]
    last = max((one.sequence for one in found if not is_end(one.subject)), default=behind)
    if newest is not None and last < min(newest.sequence, until):
        raise TransientError(f"ORDERS shows requests of {account_id} up to {last}, and not all")
    own = [one for one in found if not is_end(one.subject) or _is_of(one, account_id)]
    return own, until


def _is_of(message: Stored, account_id: str) -> bool:
    end = read_end(message)
    return end is not None and end.account_id == account_id


async def newest_order_message(nc: Client) -> int:
    """Return the sequence of the newest command or result, as the leader has it; 0 for none.

    Raises:
        TransientError: the broker does not answer.
    """
    found = [await last_for(nc, ORDERS, pattern) for pattern in SAID]
    return max((one.sequence for one in found if one is not None), default=0)


def account_of(subject: str) -> str | None:
    """Return the account of a command's subject; None where its last token is no text's."""
    with contextlib.suppress(ValueError):
        return decode_token(last_token(subject))
    return None


async def first_at(nc: Client, stream: str, pattern: str, since_us: int) -> int:
    """Return the sequence of the first message that was stored at or after a time, or would be.

    Args:
        nc: connection.
        stream: its name.
        pattern: of the subjects.
        since_us: microseconds since 1970.
    """
    info = await stream_info(nc, stream)
    low, high = info.first_sequence, info.last_sequence + 1
    while low < high:
        middle = (low + high) // 2
        found = await next_for(nc, stream, pattern, middle)
        if found is None or found.sequence >= high or found.time_ns // 1000 >= since_us:
            high = middle
        else:
            low = found.sequence + 1
    return max(low, 1)
