"""The fleet as one worker sees it, put together from the keys, the news and the probes.

Only the broker's revisions decide which of two facts about a member is the newer one. A key that
is missing makes its member a suspect, not a dead one: the broker's clock may have jumped.
"""

from __future__ import annotations

from collections.abc import Collection

from psm.workers.fleet.members import Member, MemberEntry


class FleetView:
    """What is known of the other members."""

    def __init__(self, me: str, settle_s: float, settle_max_s: float) -> None:
        """Nothing is known yet.

        Args:
            me: this worker's id.
            settle_s: the membership is quiet when nobody came for so long ...
            settle_max_s: ... or after this long of coming and coming.
        """
        self._me = me
        self._settle_s = settle_s
        self._settle_max_s = settle_max_s
        self._known: dict[str, MemberEntry] = {}
        self._suspects: set[str] = set()
        self._arrived_at: float | None = None
        self._first_arrived_at = 0.0

    def arrive(self, now: float) -> None:
        """Note that somebody came."""
        if self.settled(now):
            self._first_arrived_at = now
        self._arrived_at = now

    def settled(self, now: float) -> bool:
        """Return whether the membership is quiet enough to hand partitions over."""
        if self._arrived_at is None:
            return True
        return (
            now - self._arrived_at >= self._settle_s
            or now - self._first_arrived_at >= self._settle_max_s
        )

    def others(self) -> dict[str, Member]:
        """Return the other members that are thought alive, by id."""
        return {
            member: entry.member
            for member, entry in sorted(self._known.items())
            if entry.member is not None
        }

    def revision(self, member_id: str) -> int:
        """Return the newest revision known of a member's key; 0 if there is none."""
        known = self._known.get(member_id)
        return known.revision if known else 0

    def is_deleted(self, member_id: str) -> bool:
        """Return whether the member's key was deleted, as far as is known."""
        known = self._known.get(member_id)
        return known is not None and known.member is None

    @property
    def suspects(self) -> frozenset[str]:
        """Members whose key was missing when the keys were read last."""
        return frozenset(self._suspects)

    def learn(self, entry: MemberEntry, now: float) -> bool:
        """Take in one key; return whether it was news."""
        if entry.id == self._me or entry.revision <= self.revision(entry.id):
            return False
        before = self._known.get(entry.id)
        self._known[entry.id] = entry
        self._suspects.discard(entry.id)
        if entry.member is not None and (before is None or before.member is None):
            self.arrive(now)
        return True

    def compare(self, listed: Collection[str]) -> None:
        """Note whose key was missing when all keys were read."""
        for member, entry in list(self._known.items()):
            if member in listed:
                self._suspects.discard(member)
            elif entry.member is None:
                del self._known[member]  # the deletion itself has aged out
            else:
                self._suspects.add(member)

    def forget(self, member_id: str) -> None:
        """A suspect did not answer either: it is gone."""
        self._known.pop(member_id, None)
        self._suspects.discard(member_id)
