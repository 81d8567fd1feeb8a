"""Comparing the log with its anchors: everything that was changed behind their back is named."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterator, Callable

import msgspec
from nats.aio.client import Client

from psm.adapters import postgres
from psm.contracts.codec import decode_untyped
from psm.contracts.errors import ContractError
from psm.contracts.merkle import HASH_BYTES, Frontier
from psm.contracts.subjects import published
from psm.workers.log.reader import last_log_sequence, read_stored, stored_at
from psm.workers.ops.keys import Keyring
from psm.workers.proof.anchors.anchor import Anchor, digest_of, leaf_of, read_anchor
from psm.workers.proof.anchors.differences import LogDifference, differences
from psm.workers.proof.anchors.risk_heads import compare_heads
from psm.workers.proof.anchors.store import AnchorStore
from psm.workers.proof.risk.streams import RecordedStreams

FINDINGS_MAX = 20
_IS = {
    "altered": "is not the message that was anchored",
    "deleted": "was deleted: what follows it in the anchors stands in its place",
    "missing": "is missing: the log has a hole there",
    "inserted": "was inserted: no anchor covers it, and what does follows it",
    "swapped": "was swapped with another",
    "truncated": "is gone: the log ends before it (cut off, or rolled back)",
}


class AnchorFinding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong.

    Attributes:
        kind: a kind of difference, `anchor` for an anchor itself, `leaves` for the leaves kept,
            `rulebook` and `risk` for what it says of those.
        log_sequence, to_log_sequence: the range concerned; as anchored, for `inserted` as found.
        subject, event_id: of the message that stands there now.
        anchored_at: when the first anchor that covers the place was made.
    """

    kind: str
    detail: str
    log_sequence: int | None = None
    to_log_sequence: int | None = None
    subject: str | None = None
    event_id: str | None = None
    anchored_at: str | None = None


class AnchorReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found.

    Attributes:
        anchors: how many there are.
        covered: messages that they cover.
        unanchored: messages of the log behind the last anchor.
        risk_heads: ends of RULEBOOK and of slots that were compared.
        risk_heads_aged: those that RISK holds no more, nor the archive if one was given.
        found: how many things are wrong; `findings` are the first of them.
    """

    ok: bool
    anchors: int
    covered: int
    root: str | None
    anchored_at: str | None
    unanchored: int
    risk_heads: int
    risk_heads_aged: int
    found: int
    findings: list[AnchorFinding]


async def verify(
    nc: Client,
    store: AnchorStore,
    keys: Keyring,
    reached: Callable[[int, int], None] | None = None,
    *,
    archive: postgres.Pool | None = None,
) -> AnchorReport:
    """Check the anchors by themselves, then all that they cover: the log, the ends of risk.

    Raises:
        ConfigError: there are no anchors.
    """
    anchors, findings = read_anchors(store, keys)
    last = anchors[-1] if anchors else None
    log_end = await last_log_sequence(nc)
    if last is not None:
        known = store.leaves(last.size)
        bad = _leaves_findings(known, anchors)
        if bad:
            findings += bad
            findings += await _by_roots(nc, anchors, reached)
        else:
            findings += await _by_leaves(nc, known, anchors, reached)
    told = [(one.created_at, one.risk) for one in anchors if one.risk is not None]
    heads = await compare_heads(nc, told, RecordedStreams(nc, archive))
    findings += [
        AnchorFinding(kind=one.kind, detail=one.detail, anchored_at=one.anchored_at)
        for one in heads.findings
    ]
    return AnchorReport(
        ok=not findings,
        anchors=len(anchors),
        covered=last.size if last else 0,
        root=last.root if last else None,
        anchored_at=last.created_at if last else None,
        unanchored=max(0, log_end - (last.last_sequence if last else 0)),
        risk_heads=heads.compared,
        risk_heads_aged=heads.aged,
        found=len(findings),
        findings=findings[:FINDINGS_MAX],
    )


def read_anchors(store: AnchorStore, keys: Keyring) -> tuple[list[Anchor], list[AnchorFinding]]:
    """Return the anchors that are good by themselves, and what is wrong with the others."""
    anchors: list[Anchor] = []
    findings: list[AnchorFinding] = []
    previous: str | None = None
    for number, line in enumerate(store.lines(), 1):
        wrong, anchor = None, None
        try:
            anchor = read_anchor(line)
        except ContractError as error:
            wrong = error.detail
        if anchor is not None:
            if not anchor.is_signed_by(keys):
                wrong = f"not signed by a known key (it names {anchor.key_id})"
            elif anchor.previous != previous:
                wrong = "it does not continue the anchor before it: one was removed or changed"
            elif anchors and anchor.size < anchors[-1].size:
                wrong = f"it covers {anchor.size} messages, the one before it {anchors[-1].size}"
        previous = digest_of(line)
        if wrong is None and anchor is not None:
            anchors.append(anchor)
        else:
            findings.append(AnchorFinding(kind="anchor", detail=f"anchor {number}: {wrong}"))
    return anchors, findings


def _leaves_findings(known: bytes, anchors: list[Anchor]) -> list[AnchorFinding]:
    """Return the first anchor whose root does not follow from the leaves kept."""
    tree = Frontier()
    for anchor in anchors:
        for offset in range(tree.size * HASH_BYTES, anchor.size * HASH_BYTES, HASH_BYTES):
            tree.append(known[offset : offset + HASH_BYTES])
        if len(known) < anchor.size * HASH_BYTES or tree.root().hex() != anchor.root:
            text = (
                f"the leaves kept do not give the root of the anchor of {anchor.created_at}; "
                "changes of the log are only told to lie between two anchors"
            )
            return [AnchorFinding(kind="leaves", detail=text, anchored_at=anchor.created_at)]
    return []


async def _leaves(
    nc: Client, first: int, end: int, reached: Callable[[int, int], None] | None
) -> AsyncIterator[bytes | None]:
    """Yield the leaf of every log sequence up to the log's last one; None for a hole."""
    wanted = first
    async for batch in read_stored(nc, [">"], first, end):
        for message in batch:
            while wanted < message.sequence:
                yield None
                wanted += 1
            yield leaf_of(message.subject, message.data)
            wanted += 1
        if reached is not None:
            reached(wanted - 1, end)


async def _by_leaves(
    nc: Client,
    known: bytes,
    anchors: list[Anchor],
    reached: Callable[[int, int], None] | None,
) -> list[AnchorFinding]:
    first, last = anchors[-1].first_sequence, anchors[-1].last_sequence
    end = max(last, await last_log_sequence(nc))
    index, parted = 0, False
    rest: list[bytes | None] = []
    async for leaf in _leaves(nc, first, end, reached):
        if parted:
            rest.append(leaf)  # all of it: what was moved must be found again
        elif index * HASH_BYTES == len(known):
            break  # beyond the last anchor
        elif leaf == known[index * HASH_BYTES : (index + 1) * HASH_BYTES]:
            index += 1
        else:
            parted = True
            rest.append(leaf)
    found = differences(known, rest, index)
    return [await _finding(nc, difference, anchors) for difference in found]


async def _finding(nc: Client, difference: LogDifference, anchors: list[Anchor]) -> AnchorFinding:
    first = anchors[-1].first_sequence
    sequence, to = first + difference.first, first + difference.last
    covering = bisect_left(anchors, difference.first + 1, key=lambda anchor: anchor.size)
    at = None if difference.found_at is None else first + difference.found_at
    message = None if at is None else await stored_at(nc, at)
    subject, event_id = None, None
    if message is not None:
        subject = published(message.subject)
        try:
            event_id = str(decode_untyped(message.data).get("event_id"))
        except ContractError:
            event_id = None
    span = f"log sequence {sequence}" + (f" to {to}" if to != sequence else "")
    text = f"{span} {_IS[difference.kind]}"
    if difference.kind == "swapped":
        text = f"log sequences {sequence} and {to} were swapped"
    return AnchorFinding(
        kind=difference.kind,
        detail=text,
        log_sequence=sequence,
        to_log_sequence=to,
        subject=subject,
        event_id=event_id,
        anchored_at=anchors[min(covering, len(anchors) - 1)].created_at,
    )


async def _by_roots(
    nc: Client, anchors: list[Anchor], reached: Callable[[int, int], None] | None
) -> list[AnchorFinding]:
    """Compare the log with the signed roots alone: names the first anchor it does not give."""
    first, last = anchors[-1].first_sequence, anchors[-1].last_sequence
    tree, place, before = Frontier(), 0, 0
    async for leaf in _leaves(nc, first, last, reached):
        tree.append(leaf or bytes(HASH_BYTES))
        while place < len(anchors) and anchors[place].size == tree.size:
            if tree.root().hex() != anchors[place].root:
                return [_between(before, anchors[place])]
            before, place = tree.size, place + 1
    return [_between(before, anchors[place])] if place < len(anchors) else []


def _between(before: int, anchor: Anchor) -> AnchorFinding:
    sequence, to = anchor.first_sequence + before, anchor.last_sequence
    return AnchorFinding(
        kind="altered",
        detail=f"something in log sequence {sequence} to {to} is not what was anchored",
        log_sequence=sequence,
        to_log_sequence=to,
        anchored_at=anchor.created_at,
    )
