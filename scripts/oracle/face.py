"""The fold of one tree behind a pipe: cases in, observations out. Run by `scripts.oracle`.

The process of another commit runs that commit's own version of this module, so what is compared
may be named and split in any way.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from contextlib import ExitStack
from typing import Any

import msgspec
from tests.support.simulator.traffic import small_limits

from psm.domain.account import Account
from psm.domain.books import Books, is_idle
from psm.domain.fold import fold
from psm.domain.messages import Emit, LogMessage, NeedHistory
from psm.domain.publication.figures import state_document
from psm.domain.snapshot import dump_account, dump_checkpoint, load_account, load_checkpoint


class Face:
    """Books and what a worker keeps beside them, moved on by the steps of a case."""

    def __init__(self, case: dict[str, Any]) -> None:
        self._case = case
        self._books = self._empty()
        self._log: dict[int, LogMessage] = {}
        self._shelf: dict[str, bytes] = {}  # evicted accounts
        self._saved: dict[str, bytes] = {}  # newest snapshot of each account
        self._checkpoint = dump_checkpoint(self._books, 0, None)
        self._tail: list[LogMessage] = []

    def _empty(self) -> Books:
        return Books(
            partitions=self._case["partitions"],
            partition=self._case["partition"],
        )

    def observe(self, step: list[Any]) -> Any:
        """Take one step; return everything that may be seen of it."""
        act, emit, chosen, log_sequence, subject, time, data = step
        if act == "fold":
            message = LogMessage(log_sequence=log_sequence, subject=subject, time=time, data=data)
            self._log[log_sequence] = message
            self._tail.append(message)
            return self._fold(message, emit)
        if act == "look":
            return self._look()
        if act == "evict":
            return self._evict()
        if act == "checkpoint":
            self._save(lambda _: True)
            self._checkpoint = dump_checkpoint(self._books, self._books.position, self._hash())
            self._tail.clear()
            return [self._checkpoint, sorted(self._saved.items())]
        if act == "save":
            return self._save(lambda place: place % 2 == chosen)
        return self._crash()

    def _hash(self) -> bytes:
        at = self._log.get(self._books.position)
        return hashlib.sha256(at.data if at else b"").digest()

    def _fold(self, message: LogMessage, emit: Emit) -> Any:
        books, history = self._books, dict[int, LogMessage]()
        token = message.subject.rpartition(".")[2]
        if message.stream_id is not None and token in self._shelf:
            books.restore(load_account(self._shelf.pop(token))[0])
        wanted: list[Any] = []
        result = fold(books, message, emit=emit)
        while isinstance(result, NeedHistory):
            wanted.append([result.stream_id, result.from_log_sequence, result.to_log_sequence])
            history |= {
                at: m for at, m in self._log.items() if result.holds(m, self._books.partitions)
            }
            result = fold(books, message, history, emit=emit)
        return [
            wanted,
            [result.outcome.value, result.reason, result.stream_id, result.sequence_number],
            [[u.subject, u.event_id, u.log_sequence, u.data, _headers(u)] for u in result.updates],
            [[h.stream_id, h.sequence_number, h.ledger_hash, h.state_hash] for h in result.hashes],
            self._lists(),
        ]

    def _lists(self) -> Any:
        books = self._books
        return [
            sorted(books.dirty.items()),
            sorted(books.applied.items()),
            sorted((symbol, sorted(held)) for symbol, held in books.holders.items() if held),
            sorted(
                stream_id
                for stream_id, account in books.accounts.items()
                if account.unpublished.tellable
            ),
            books.market.clock,
            books.position,
            sorted(books.accounts),
        ]

    def _dumped(self, account: Account) -> bytes:
        return dump_account(account, self._books.position, self._hash())

    def _look(self) -> Any:
        books = self._books
        return [
            [self._dumped(account) for _, account in sorted(books.accounts.items())],
            dump_checkpoint(books, books.position, self._hash()),
            [state_document(books, account) for _, account in sorted(books.accounts.items())],
            [account.delivery.status for _, account in sorted(books.accounts.items())],
        ]

    def _evict(self) -> Any:
        books = self._books
        for name, account in sorted(books.accounts.items()):
            if is_idle(account):
                self._saved[name] = self._shelf[name] = self._dumped(account)
                books.saved(name)
                books.evict(name)
        return [sorted(self._shelf.items()), self._lists()]

    def _save(self, chosen: Any) -> Any:
        books = self._books
        for place, name in enumerate(sorted(books.dirty)):
            if chosen(place):
                self._saved[name] = self._dumped(books.accounts[name])
                books.saved(name)
        return sorted(self._saved.items())

    def _crash(self) -> Any:
        checkpoint = load_checkpoint(self._checkpoint)
        self._books = self._empty()
        self._books.market.restore(checkpoint.tables)
        self._books.advance(checkpoint.log_sequence)
        self._shelf = {}
        for saved in self._saved.values():
            self._books.restore(load_account(saved)[0])
        return [self._fold(message, "nothing") for message in self._tail]


def answer(case: dict[str, Any], *, whole: bool) -> list[Any]:
    """Return what each step of a case shows: a digest, or all of it."""
    found = []
    with ExitStack() as stack:
        stack.enter_context(small_limits(lambda choices: choices[0 if case["small"] else -1]))
        face = Face(case)
        for step in case["steps"]:
            try:
                seen = msgspec.msgpack.encode(face.observe(step))
            except Exception as error:  # noqa: BLE001 - whatever it raises is what is compared
                found.append(f"raised {type(error).__name__}: {error}".encode())
                continue
            found.append(seen if whole else hashlib.sha256(seen).digest()[:12])
    return found


def main() -> None:
    """Answer cases until the pipe ends."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while head := source.read(4):
        (size,) = struct.unpack(">I", head)
        question = msgspec.msgpack.decode(source.read(size))
        data = msgspec.msgpack.encode(answer(question["case"], whole=question["whole"]))
        sink.write(struct.pack(">I", len(data)) + data)
        sink.flush()


if __name__ == "__main__":
    main()


def _headers(update: Any) -> Any:
    """Return an update's headers; commits of before they were there have none."""
    return getattr(update, "headers", None)
