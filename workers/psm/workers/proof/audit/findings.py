"""What an audit finds: each with its place, what was expected, what is there, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from psm.contracts.subjects import TRADES

KEPT_MAX = 200
"""Findings kept of one code; all are counted."""

_NEXT = {
    "head_missing": "restore the stream from a backup",
    "missing": "restore the stream from a backup; `psm audit --replica all` tells whether another "
    "server still has it",
    "tail_missing": "restore the newer log; without one, `psm recover log --from-archive`",
    "hidden": "rebuild this server's replica: remove it from the stream and let it copy anew",
    "replicas_differ": "compare each replica with a backup; rebuild the one that is wrong",
    "misplaced": "the subject transform was changed; restore the stream's configuration",
    "principal_forged": "its principal is not proven; who may publish to this subject over NATS?",
    "message_altered": "restore the stream from a backup",
    "update_altered": "decide with a backup which is right, the log or PSM",
    "update_missing": "PSM lost it: restore PSM from a backup",
    "update_unexplained": "the log lost or altered the event it came from: restore the log",
    "updates_lost": "restore the newer PSM; without one, `psm recover partition`",
    "commit_broken": "PSM lost messages: restore PSM from a backup",
    "closes_differ": "whoever waits for complete minutes was misled; does a worker of another "
    "release run? Restore PSM from a backup",
    "refold_failed": "repair the log first, then audit again",
    "consumer_hides": "a replica is damaged: `psm audit --replica all` names it",
    "log_head_differs": "PostgreSQL or the log was restored; see 'A damaged log' in "
    "docs/runbook.md",
    "chain_head_differs": "PostgreSQL or the log was restored; see 'A damaged log' in "
    "docs/runbook.md",
    "chain_head_ahead": "the log lost events: restore the newer log",
    "stale_differs": "another event came late under a used number: an incident of the producer",
    "view_differs": "if the log is right: `psm views rebuild --accept-differences`",
    "view_stale": "PostgreSQL cannot hold a row: mend the column, then `psm views retry`",
    "not_committed": "does a worker run? `psm fleet` and its log say; then audit again",
    "view_diverged": "restore the newer log, or accept this one: `psm views rebuild "
    "--accept-differences`",
    "view_not_compared": "repair what the text names, then audit again",
}
"""Stable code -> what to do next."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is not as it should be.

    Attributes:
        code: stable, `snake_case`.
        stream: JetStream stream, or table, that it concerns.
        sequence: place in that stream; of the log for everything but PSM's own messages.
        last: end of a range of such places, included.
        partition: of the log.
        stream_id, sequence_number: account and event, where known.
        server: whose copy was read.
        expected, found: what should be there, and what is; None is nothing.
        next: what to do.
    """

    code: str
    stream: str
    sequence: int | None = None
    last: int | None = None
    partition: int | None = None
    stream_id: str | None = None
    sequence_number: int | None = None
    server: str | None = None
    expected: str | None = None
    found: str | None = None
    next: str = ""


class AuditReport(msgspec.Struct, kw_only=True):
    """What an audit read and found.

    Attributes:
        first, last: range of the log, both included; 0 for an empty log.
        messages, events: of the log, each counted once, read by sequence; those of streams.
        folded: messages that were folded again, those of the market once for each partition.
        vouched: events that came over HTTP, by whom a service of ours signed.
        claimed: events that name a principal for whom no service of ours signed.
        updates: of PSM, equal byte for byte to what the log folds to.
        older_updates: folded again, but no longer in PSM.
        heads: of streams and partitions in PostgreSQL that agree.
        stale_confirmed: `stale_unverified` messages that are repeats indeed.
        rows_differ: rows of the views, None where they were not compared.
        counts: findings by code.
        findings: the first of each code, by place.
        notes: what was not looked at, and why.
    """

    first: int = 0
    last: int = 0
    messages: int = 0
    events: int = 0
    folded: int = 0
    vouched: int = 0
    claimed: int = 0
    partitions: int = 0
    accounts: int = 0
    updates: int = 0
    older_updates: int = 0
    heads: int = 0
    stale_confirmed: int = 0
    rows_differ: int | None = None
    counts: dict[str, int] = msgspec.field(default_factory=dict)
    findings: list[Finding] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)


class Findings:
    """Collects findings; of each code the first are kept and all counted."""

    def __init__(self) -> None:
        self._kept: list[Finding] = []
        self._counts: Counter[str] = Counter()

    def add(self, finding: Finding, count: int = 1) -> None:
        """Take a finding that stands for `count` places."""
        if self._counts[finding.code] < KEPT_MAX:
            advice = msgspec.structs.replace(finding, next=_NEXT[finding.code])
            self._kept.append(advice)
        self._counts[finding.code] += count

    def take(self, other: Findings) -> None:
        """Take all findings of another collection."""
        for finding in other._kept:
            self.add(finding, 0)
        self._counts += other._counts

    def counts(self) -> dict[str, int]:
        """Return how many there are, by code."""
        return dict(sorted(self._counts.items()))

    def ordered(self) -> list[Finding]:
        """Return what was kept: the log's own damage first, each group by place."""
        return sorted(self._kept, key=lambda f: (f.stream != TRADES, f.sequence or 0, f.code))


def short(hashed: str | None) -> str | None:
    """Return enough of a hash to tell it from another."""
    return None if hashed is None else hashed[:16]


def ranges(places: Iterable[int]) -> list[tuple[int, int]]:
    """Return ascending places as ranges, both ends included."""
    found: list[tuple[int, int]] = []
    for place in places:
        if found and found[-1][1] == place - 1:
            found[-1] = (found[-1][0], place)
        else:
            found.append((place, place))
    return found
