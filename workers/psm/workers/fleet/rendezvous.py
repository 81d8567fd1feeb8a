"""Who should own which partition, computed alike by every worker.

Rendezvous hashing with a bound on the load: each pair of member and partition has a score, and the
highest scores win as long as their member has room. Shares differ by one at most, and a member that
comes or goes moves little beyond its own share. Pure; nothing here depends on a process, a Python
version or the order of the arguments.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection

_SCORE_BYTES = 8


def score(member: str, partition: int) -> int:
    """Return how strongly a member is drawn to a partition; the same everywhere, for ever."""
    text = f"{member}/{partition}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=_SCORE_BYTES).digest(), "big")


def shares(partitions: Collection[int], members: Collection[str]) -> dict[int, str]:
    """Return the owner of each partition; empty without members.

    Args:
        partitions: numbers to share out.
        members: ids of those that share, each once.
    """
    if not members:
        return {}
    fair, over = divmod(len(partitions), len(members))  # so many have one more than the others
    # Ties are as likely as a broken hash; the names make even them the same everywhere.
    pairs = sorted(
        ((score(member, number), member, number) for member in members for number in partitions),
        reverse=True,
    )
    owners: dict[int, str] = {}
    load: Counter[str] = Counter()
    for _, member, number in pairs:
        if number in owners or load[member] > fair or (load[member] == fair and not over):
            continue
        over -= load[member] == fair
        owners[number] = member
        load[member] += 1
    return owners
