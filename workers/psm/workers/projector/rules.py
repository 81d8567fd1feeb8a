"""The rulebook as entries of views: a fold of the stream RULEBOOK, from its start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from psm.contracts.rulebook_codec import decode_signed
from psm.contracts.rulebook_events import (
    GroupDefined,
    HaltLifted,
    HaltSet,
    LimitsApproved,
    LimitsProposed,
    LimitsRevoked,
    RulebookEvent,
)
from psm.contracts.updates_read import ReadUpdate
from psm.projections.risk import GROUPED, HALT, LIMITS
from psm.projections.risk.entries import (
    GroupEntry,
    HaltEntry,
    LimitsEntry,
    LimitsStatus,
    update_of,
)
from psm.risk.messages import Stored
from psm.risk.rulebook import Rulebook, Verify

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OF_LIMITS = (LimitsProposed, LimitsApproved, LimitsRevoked)


class RulebookEntries:
    """The versions of limits and the halts, as they are after each event."""

    def __init__(self, verify: Verify) -> None:
        """Nothing was said yet.

        Args:
            verify: checks a signature.
        """
        self._rulebook = Rulebook(verify)
        self._limits: dict[str, dict[int, LimitsEntry]] = {}
        self._halts: dict[tuple[str, str], HaltEntry] = {}

    def take(self, stored: Stored) -> list[ReadUpdate]:
        """Fold the next event; return the rows that it changes.

        Raises:
            LogDamagedError: an event before it is missing.
        """
        ruled = self._rulebook.take(stored)
        if ruled.outcome == "refused":
            return []
        event = decode_signed(stored.subject, stored.data).event
        scope = "firm" if event.place()[0] == "firm" else ":".join(event.place())
        at = _moment(stored.time)
        if isinstance(event, LimitsProposed):
            proposed = _proposed(scope, event, ruled.hash, stored.sequence)
            self._limits.setdefault(scope, {})[event.version] = proposed
        if isinstance(event, _OF_LIMITS):
            changed = self._changed(scope, event, stored.sequence)
            return [update_of(LIMITS, at, entry) for entry in changed]
        if isinstance(event, GroupDefined):
            return [update_of(GROUPED, at, entry) for entry in self._grouped(stored.sequence)]
        halt = self._halted(scope, event, ruled.hash, stored.sequence, at)
        if halt is None:
            return []
        self._halts[scope, halt.halt_hash] = halt
        return [update_of(HALT, at, halt)]

    def _grouped(self, sequence: int) -> list[GroupEntry]:
        """Return the groups that an event changed: its own, and those that lost a member."""
        return [
            GroupEntry(
                group_name=group.name,
                members=list(group.members),
                currency=group.currency,
                parent=group.parent,
                rulebook_sequence=sequence,
            )
            for group in self._rulebook.groups.values()
            if group.sequence == sequence
        ]

    def _halted(
        self, scope: str, event: RulebookEvent, hashed: str, sequence: int, at: str
    ) -> HaltEntry | None:
        """Return the halt that an event set or lifted; None for another event."""
        if isinstance(event, HaltSet):
            return HaltEntry(
                scope=scope,
                halt_hash=hashed,
                mode=event.mode,
                code=event.code,
                until=event.until,
                set_by=event.actor,
                set_because=event.reason,
                set_sequence=sequence,
                since=at,
                rulebook_sequence=sequence,
            )
        if not isinstance(event, HaltLifted) or event.halt_hash not in self._rulebook.lifted:
            return None
        known = self._halts.get((scope, event.halt_hash))
        if known is None:  # a latch of the engine
            return None
        return replace(
            known, lifted_by=event.actor, lifted_sequence=sequence, rulebook_sequence=sequence
        )

    def _changed(
        self,
        scope: str,
        event: LimitsProposed | LimitsApproved | LimitsRevoked,
        sequence: int,
    ) -> list[LimitsEntry]:
        """Return the versions of a scope that are no longer what they were, ascending."""
        changed: list[LimitsEntry] = []
        versions = self._limits.get(scope, {})
        for version, entry in versions.items():
            status = self._status(scope, entry, event)
            if status == entry.status and entry.rulebook_sequence:
                continue
            agreed = status == "agreed"
            versions[version] = replace(
                entry,
                status=status,
                rulebook_sequence=sequence,
                approved_by=(
                    event.actor
                    if agreed and isinstance(event, LimitsApproved)
                    else entry.approved_by
                ),
                agreed_sequence=sequence if agreed else entry.agreed_sequence,
            )
            changed.append(versions[version])
        return changed

    def _status(self, scope: str, entry: LimitsEntry, event: object) -> LimitsStatus:
        """Return what has become of a version, as the rulebook has it."""
        documents = self._rulebook.documents
        waiting = documents.proposed.get(scope)
        if waiting is not None and waiting.version == entry.version:
            return "proposed"
        if any(one.version == entry.version for one in documents.agreed.get(scope, ())):
            return "agreed"
        if entry.status == "agreed":
            return "revoked"
        if entry.status != "proposed":
            return entry.status
        return "withdrawn" if isinstance(event, LimitsRevoked) else "superseded"


def _proposed(scope: str, event: LimitsProposed, hashed: str, sequence: int) -> LimitsEntry:
    return LimitsEntry(
        scope=scope,
        version=event.version,
        status="proposed",
        limits=event.limits,
        valid_from=event.valid_from,
        valid_until=event.valid_until,
        proposal_hash=hashed,
        proposed_by=event.actor,
        proposed_because=event.reason,
        proposed_sequence=sequence,
        rulebook_sequence=0,  # of its status: set with it
    )


def _moment(time: int) -> str:
    """Return microseconds since 1970 as RFC 3339."""
    return f"{_EPOCH + timedelta(microseconds=time):%Y-%m-%dT%H:%M:%S.%fZ}"
