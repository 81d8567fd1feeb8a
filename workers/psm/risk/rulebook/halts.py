"""Halts: set by one, lifted by two, over when their time has come."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from psm.contracts.rulebook_events import HaltLifted, HaltMode, HaltSet
from psm.risk.rulebook.answers import Lift, RefusedError, Ruling, scope_text
from psm.risk.rulebook.times import moment

ACTIVE = Ruling(mode="active", scope="firm", code="", hash="")


class Halt(msgspec.Struct, frozen=True, kw_only=True):
    """A halt of a scope; `until` None: until it is lifted."""

    scope: str
    mode: HaltMode
    code: str
    hash: str
    actor: str
    reason: str
    until: int | None

    def holds(self, clock: int) -> bool:
        """Return whether it is not over."""
        return self.until is None or clock < self.until


class Halts:
    """Every halt that was set and not lifted.

    Attributes:
        of: by scope, then by hash, in the order in which they were set.
        lifted: by the hash of what was lifted.
    """

    def __init__(self) -> None:
        self.of: dict[str, dict[str, Halt]] = {}
        self.lifted: dict[str, Lift] = {}

    def put(self, event: HaltSet, hashed: str, clock: int) -> None:
        """Halt a scope.

        Raises:
            RefusedError: it would be over already.
        """
        until = None if event.until is None else moment(event.until, "until")
        halt = Halt(
            scope=scope_text(event.scope, event.id),
            mode=event.mode,
            code=event.code,
            hash=hashed,
            actor=event.actor,
            reason=event.reason,
            until=until,
        )
        if not halt.holds(clock):
            raise RefusedError("expired", f"until {event.until} has passed")
        self.of.setdefault(halt.scope, {})[hashed] = halt

    def require_liftable(self, event: HaltLifted) -> None:
        """Make sure that what is to be lifted was not, and is of that scope, if it is known here.

        Raises:
            RefusedError: it was, or is not.
        """
        scope, named = scope_text(event.scope, event.id), event.halt_hash
        if named in self.lifted:
            raise RefusedError("nothing_to_lift", f"{named} was lifted")
        for other, halts in self.of.items():
            if named in halts and other != scope:
                raise RefusedError("nothing_to_lift", f"{named} halts {other}, not {scope}")

    def lift(self, event: HaltLifted, sequence: int) -> None:
        """Let a scope go on, as far as this halt goes."""
        self.of.get(scope_text(event.scope, event.id), {}).pop(event.halt_hash, None)
        self.lifted[event.halt_hash] = Lift(sequence=sequence, rebase_peak=event.rebase_peak)

    def halting(self, clock: int) -> list[Halt]:
        """Return the halts that leave nothing but cancels, by scope, the oldest first."""
        found = (halt for _, halts in sorted(self.of.items()) for halt in halts.values())
        return [halt for halt in found if halt.mode == "halted" and halt.holds(clock)]

    def ruling(self, scopes: Iterable[str], clock: int) -> Ruling:
        """Return the tightest halt of some scopes; of equal ones the first scope's, the oldest."""
        found = ACTIVE
        for scope in scopes if self.of else ():
            for halt in self.of.get(scope, {}).values():
                if not halt.holds(clock) or _RANK[halt.mode] <= _RANK[found.mode]:
                    continue
                found = Ruling(mode=halt.mode, scope=scope, code=halt.code, hash=halt.hash)
        return found


_RANK = {"active": 0, "reducing": 1, "halted": 2}
