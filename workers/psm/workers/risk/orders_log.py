"""Places in ORDERS: which messages matter to risk, whose they are, and from where to read."""

from __future__ import annotations

import contextlib

from nats.aio.client import Client

from psm.adapters.jetstream import last_for, next_for, stream_info
from psm.contracts.subjects import ORDERS, decode_token, last_token

COMMANDS, ENDS = "orders.command.*", "orders.status.*"


async def newest_order_message(nc: Client) -> int:
    """Return the sequence of the newest command or result, as the leader has it; 0 for none.

    Raises:
        TransientError: the broker does not answer.
    """
    found = [await last_for(nc, ORDERS, pattern) for pattern in (COMMANDS, ENDS)]
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
