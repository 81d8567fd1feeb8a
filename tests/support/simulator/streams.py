"""JetStream's streams in memory: what is stored, what is refused, and who may see it when.

Only what PSM relies on, and that as the real broker does it: see the suite that runs on both.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from psm.adapters.jetstream import StoredMessage
from psm.adapters.jetstream.streams import PARTITIONS_KEY, LogSettings, desired
from psm.contracts import subjects

NS = 1_000_000_000
WRONG_LAST, INCOMPLETE, IN_FLIGHT, NO_MESSAGE, DUPLICATE = 10071, 10176, 10164, 10037, 10201
_MESSAGE_ID = "Nats-Msg-Id"
COMMIT = "Nats-Batch-Commit"
EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_OF_SUBJECT = f"{EXPECTED}-Subject"
_BATCH_ID, _BATCH_SEQUENCE = "Nats-Batch-Id", "Nats-Batch-Sequence"
_BATCH_S = 10.0
GARBAGE = b"garbage"
"""What the swarm stores in place of a snapshot."""

Headers = Mapping[str, str]
Answer = dict[str, Any]


class MemoryStream:
    """One stream; everything ever stored is kept, and only shown while it would be there."""

    def __init__(self, config: dict[str, Any], now_ns: Callable[[], int]) -> None:
        self.config = config
        self.name: str = config["name"]
        self.last = 0
        self.stored: dict[int, StoredMessage] = {}
        self._now_ns = now_ns
        self._of_subject: dict[str, list[int]] = {}
        self._ids: dict[str, tuple[int, int]] = {}
        self._staged: dict[str, tuple[int, list[tuple[str, bytes, Headers]]]] = {}

    # --- writing --------------------------------------------------------------------------------

    def takes(self, subject: str) -> bool:
        """Return whether messages on this subject belong here."""
        return any(matches(pattern, subject) for pattern in self.config["subjects"])

    def publish(self, subject: str, data: bytes, headers: Headers) -> Answer | None:
        """Store or stage a message; return the answer, None where there is none."""
        if _BATCH_ID in headers:
            return self._stage(subject, data, headers)
        known = self._known(headers.get(_MESSAGE_ID))
        if known is not None:
            return {"stream": self.name, "seq": known, "duplicate": True}
        refused = self._refused(subject, headers)
        if refused is not None:
            return refused
        sequence = self._append(subject, data, headers)
        return {"stream": self.name, "seq": sequence}

    def _known(self, message_id: str | None) -> int | None:
        sequence, at = self._ids.get(message_id or "", (0, 0))
        window = self.config.get("duplicate_window", 120 * NS)
        return sequence if sequence and self._now_ns() - at < window else None

    def _refused(self, subject: str, headers: Headers) -> Answer | None:
        expected = headers.get(EXPECTED)
        if expected is None:
            return None
        last = self.last_of(headers.get(_OF_SUBJECT) or self.transformed(subject))
        at = last.sequence if last else 0
        if at != int(expected):
            return error(400, WRONG_LAST, f"wrong last sequence: {at}")
        return None

    def _stage(self, subject: str, data: bytes, headers: Headers) -> Answer | None:
        batch_id, place = headers[_BATCH_ID], int(headers[_BATCH_SEQUENCE])
        at, staged = self._staged.pop(batch_id, (self._now_ns(), []))
        fresh = 0 <= self._now_ns() - at < _BATCH_S * NS
        if place == len(staged) + 1 and fresh:
            staged.append((subject, data, headers))
        else:
            staged = []  # whatever else comes of this batch is refused
        if COMMIT not in headers:
            if staged:
                self._staged[batch_id] = self._now_ns(), staged
            return None
        if not staged:
            return error(400, INCOMPLETE, "batch publish is incomplete and was abandoned")
        for name, _, own in staged:
            refused = self._refused(name, own)
            if refused is not None:
                return refused
        if any(self._known(own.get(_MESSAGE_ID)) is not None for _, _, own in staged):
            return error(400, DUPLICATE, "atomic publish batch contains duplicate message id")
        for name, body, own in staged:
            last = self._append(name, body, own)
        return {"stream": self.name, "seq": last, "batch": batch_id, "count": len(staged)}

    def _append(self, subject: str, data: bytes, headers: Headers) -> int:
        self.last += 1
        message = StoredMessage(
            subject=self.transformed(subject),
            sequence=self.last,
            time_ns=self._now_ns(),
            data=data,
            headers=dict(headers) or None,
        )
        self.stored[self.last] = message
        if _MESSAGE_ID in headers:
            self._ids[headers[_MESSAGE_ID]] = self.last, self._now_ns()
        self._of_subject.setdefault(message.subject, []).append(self.last)
        return self.last

    def transformed(self, subject: str) -> str:
        """Return the subject as it is stored."""
        transform = self.config.get("subject_transform")
        if transform is None or not matches(transform["src"], subject):
            return subject
        if transform["src"].startswith("_"):
            return subject.removeprefix("_")
        partitions = int(self.config["metadata"][PARTITIONS_KEY])
        return subjects.stored_trades(subject.removeprefix("trades."), partitions)

    # --- reading --------------------------------------------------------------------------------

    def get(self, sequence: int, as_of: int | None = None) -> StoredMessage | None:
        """Return a message if it is still there, or was when `as_of` was the last one."""
        message = self.stored.get(sequence)
        if message is None or (as_of is not None and sequence > as_of):
            return None
        age = self.config["max_age"]
        if age and self._now_ns() - message.time_ns >= age:
            return None
        kept = self.config["max_msgs_per_subject"]
        own = self._of_subject[message.subject]
        end = len(own) if as_of is None else bisect_right(own, as_of)
        if kept > 0 and bisect_left(own, sequence) < end - kept:
            return None
        return message

    def matching(self, pattern: str) -> list[str]:
        """Return the subjects that were ever stored and match."""
        if pattern in self._of_subject:
            return [pattern]
        return [subject for subject in self._of_subject if matches(pattern, subject)]

    def last_of(self, pattern: str, as_of: int | None = None) -> StoredMessage | None:
        """Return the newest message that matches."""
        found = [self._last_on(subject, as_of) for subject in self.matching(pattern)]
        return max((m for m in found if m), key=lambda m: m.sequence, default=None)

    def last_each(self, pattern: str, as_of: int | None = None) -> list[StoredMessage]:
        """Return the newest message of every matching subject, by sequence."""
        found = [self._last_on(subject, as_of) for subject in self.matching(pattern)]
        return sorted((m for m in found if m), key=lambda m: m.sequence)

    def _last_on(self, subject: str, as_of: int | None) -> StoredMessage | None:
        own = self._of_subject[subject]
        end = len(own) if as_of is None else bisect_right(own, as_of)
        return self.get(own[end - 1], as_of) if end else None

    def next_of(self, patterns: tuple[str, ...], start: int) -> StoredMessage | None:
        """Return the first message at or after a sequence that matches any of the patterns."""
        best: StoredMessage | None = None
        for subject in (s for pattern in patterns for s in self.matching(pattern)):
            own = self._of_subject[subject]
            for sequence in own[bisect_left(own, start) :]:
                if best is not None and sequence > best.sequence:
                    break
                message = self.get(sequence)
                if message is not None:
                    best = message
                    break
        return best

    def count_from(self, patterns: tuple[str, ...], start: int, end: int) -> int:
        """Return how many messages match in a range, both included."""
        own = (self._of_subject[s] for pattern in patterns for s in self.matching(pattern))
        return sum(bisect_right(places, end) - bisect_left(places, start) for places in own)

    def info(self) -> Answer:
        """Return what `STREAM.INFO` says."""
        there = [sequence for sequence in self.stored if self.get(sequence)]
        first = there[0] if there else self.last + 1
        return {
            "config": self.config,
            "state": {
                "messages": len(there),
                "bytes": sum(len(self.stored[sequence].data) for sequence in there),
                "first_seq": first if self.last else 0,
                "last_seq": self.last,
                "num_deleted": self.last - first + 1 - len(there),
            },
        }


def make_streams(settings: LogSettings, now_ns: Callable[[], int]) -> dict[str, MemoryStream]:
    """Return the streams that `psm streams apply` would create, empty."""
    return {config["name"]: MemoryStream(config, now_ns) for config in desired(settings)}


def error(code: int, err_code: int, description: str) -> Answer:
    """Return an error as the broker says it."""
    return {"error": {"code": code, "err_code": err_code, "description": description}}


@lru_cache(maxsize=100_000)
def matches(pattern: str, subject: str) -> bool:
    """Return whether a subject matches a pattern with wildcards."""
    wanted, tokens = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(tokens) <= len(wanted):
            return False
        tokens = tokens[: len(wanted)]
    return len(wanted) == len(tokens) and all(
        one in ("*", other) for one, other in zip(wanted, tokens, strict=True)
    )
