"""Making anchors: read what the log has new, extend the tree, sign, append."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.aio.client import Client

from psm.adapters.jetstream import StoredMessage
from psm.adapters.wall_clock import now_text
from psm.contracts.errors import LogDamagedError
from psm.contracts.merkle import HASH_BYTES, Frontier
from psm.contracts.subjects import TRADES
from psm.domain.publication.log_times import log_time
from psm.workers.log.reader import log_info, read_stored, stored_at
from psm.workers.ops.keys import Keyring, key_id
from psm.workers.proof.anchors.anchor import Anchor, digest_of, leaf_of, read_anchor
from psm.workers.proof.anchors.risk_heads import read_heads
from psm.workers.proof.anchors.store import AnchorStore
from psm.workers.risk.rulebook import RulebookReader

Reached = Callable[[int, int], None]
"""Told (log sequence reached, last log sequence)."""

_HINT = "run psm anchor verify"


class Anchorer:
    """Extends the anchors of a store; keeps the tree's frontier between calls.

    Attributes:
        last: the newest anchor, None before the first.
    """

    def __init__(self, nc: Client, store: AnchorStore, key: Ed25519PrivateKey) -> None:
        """Read what the store has.

        Raises:
            LogDamagedError: its leaves are not what its last anchor signs, or that is not signed by
                this key.
        """
        self._nc = nc
        self._store = store
        self._key = key
        self._tree = Frontier()
        self._tail = b""  # the last leaf
        self._rulebook = RulebookReader(nc)
        self._previous: str | None = None
        self.last: Anchor | None = None
        lines = store.lines()
        if lines:
            self._load(lines[-1])

    async def extend(
        self, *, dry_run: bool = False, reached: Reached | None = None
    ) -> Anchor | None:
        """Sign an anchor over all of the log and append it; None where nothing is new.

        It says how far the rulebook and the records of risk are, too; that these moved is new.

        Args:
            dry_run: sign, but append nothing.
            reached: told how far the log was read.

        Raises:
            LogDamagedError: the log is not a continuation of what the last anchor covers, or has a
                hole; nothing is signed.
        """
        info = await log_info(self._nc)
        first = self.last.first_sequence if self.last else max(1, info.first_sequence)
        start = first + self._tree.size
        if self.last is not None:
            await self._check_tail(self.last, info.last_sequence)
        risk = await read_heads(self._nc, self._rulebook)
        is_new = info.last_sequence >= start
        if not is_new and (self.last is None or self.last.risk == risk):
            return None
        leaves, time = bytearray(), "" if self.last is None else self.last.log_time
        if is_new:
            async for message in self._contiguous(start, info.last_sequence, reached):
                leaves += leaf_of(message.subject, message.data)
                time = log_time(message.time_ns)
        size, tree = self._tree.size, self._tree.copy()
        for offset in range(0, len(leaves), HASH_BYTES):
            tree.append(bytes(leaves[offset : offset + HASH_BYTES]))
        anchor = Anchor(
            log=TRADES,
            first_sequence=first,
            size=tree.size,
            root=tree.root().hex(),
            log_time=time,
            created_at=now_text(),
            previous=self._previous,
            risk=risk,
            key_id="",
        ).signed(self._key)
        if not dry_run:
            line = anchor.line()
            self._store.append(size, bytes(leaves), line)
            self.last, self._previous = anchor, digest_of(line)
            self._tree, self._tail = tree, bytes(leaves[-HASH_BYTES:]) or self._tail
        return anchor

    def _load(self, line: bytes) -> None:
        last = read_anchor(line)
        own = self._key.public_key()
        if last.key_id == key_id(own) and not last.is_signed_by(Keyring([own])):
            raise LogDamagedError(f"the last anchor's signature is wrong; {_HINT}")
        leaves = self._store.leaves(last.size)
        for offset in range(0, len(leaves), HASH_BYTES):
            self._tree.append(leaves[offset : offset + HASH_BYTES])
        if self._tree.size != last.size or self._tree.root().hex() != last.root:
            raise LogDamagedError(f"the leaves kept are not those the last anchor signs; {_HINT}")
        self.last, self._previous = last, digest_of(line)
        self._tail = leaves[-HASH_BYTES:]

    async def _check_tail(self, last: Anchor, log_end: int) -> None:
        """Refuse to build on a log that visibly is not the one that was anchored."""
        if log_end < last.last_sequence:
            raise LogDamagedError(
                f"the log ends at log sequence {log_end}, but the anchor of {last.created_at} "
                f"covers up to {last.last_sequence}; {_HINT}"
            )
        message = await stored_at(self._nc, last.last_sequence)
        if message is None or leaf_of(message.subject, message.data) != self._tail:
            raise LogDamagedError(
                f"log sequence {last.last_sequence} is not the message that was anchored at "
                f"{last.created_at}; {_HINT}"
            )

    async def _contiguous(
        self, start: int, end: int, reached: Reached | None
    ) -> AsyncIterator[StoredMessage]:
        wanted = start
        async for batch in read_stored(self._nc, [">"], start, end):
            for message in batch:
                if message.sequence != wanted:
                    break
                yield message
                wanted += 1
            if reached is not None:
                reached(wanted - 1, end)
            if batch[-1].sequence != wanted - 1:
                break
        if wanted <= end:
            raise LogDamagedError(
                f"log sequence {wanted} is missing: the log lost a message; run psm audit"
            )
