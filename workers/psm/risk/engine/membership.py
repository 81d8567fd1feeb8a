"""Which accounts a slot decides for: who joins its groups, who leaves, and what goes with them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from psm.contracts import codec
from psm.risk.engine.group import GroupState
from psm.risk.engine.ids import AnsweredRequests
from psm.risk.engine.member import GroupMember
from psm.risk.engine.path import Flag, Membership, Path
from psm.risk.engine.records import Chain, moment_text
from psm.risk.engine.vector import Vector
from psm.risk.engine.watch import LossWatch
from psm.risk.market import MarketView
from psm.risk.messages import RiskOutput, Stored
from psm.risk.rulebook import Left, Rulebook, slot_of


class Memberships:
    """The groups of a slot.

    Attributes:
        groups: by name.
        of: name of the group, by account.
        owed: accounts that came, with requests that wait; up to where others were answered.
    """

    def __init__(
        self,
        chain: Chain,
        market: MarketView,
        path: Path,
        vector: Vector,
        remembered: AnsweredRequests,
        watch: LossWatch,
    ) -> None:
        self.groups: dict[str, GroupState] = {}
        self.of: dict[str, str] = {}
        self.owed: dict[str, int] = {}
        self._chain, self._market, self._path = chain, market, path
        self._vector, self._remembered, self._watch = vector, remembered, watch

    def states(self) -> list[GroupState]:
        """Return the groups, ascending by name."""
        return [state for _, state in sorted(self.groups.items())]

    def by_account(self) -> dict[str, GroupState]:
        """Return the group of each account."""
        return {account_id: self.groups[name] for account_id, name in self.of.items()}

    def find(self, account_id: str) -> tuple[GroupState, GroupMember] | None:
        """Return an account and its group; None of one that is not here."""
        name = self.of.get(account_id)
        if name is None:
            return None
        state = self.groups[name]
        return state, state.members[account_id]

    def regroup(self, rulebook: Rulebook, clock: int, orders: int) -> list[RiskOutput]:
        """Take in and give up accounts, as the rulebook groups them.

        Args:
            rulebook: as it is.
            clock: of now, us.
            orders: sequence of ORDERS up to which every request of the groups is answered.
        """
        outputs: list[RiskOutput] = []
        for account_id in sorted(rulebook.left):
            outputs = [*outputs, *self._leave(account_id, rulebook, clock, orders)]
        for group in rulebook.groups.values():
            if slot_of(group.name) != self._chain.slot:
                continue
            if group.name not in self.groups:
                self.groups[group.name] = GroupState(
                    group.name, group.currency, self._market, self._path
                )
            for account_id in group.members:
                self._take_in(account_id, group.name, rulebook)
        return outputs

    def take_release(self, record: Stored, rulebook: Rulebook, clock: int) -> list[RiskOutput]:
        """Take what another group remembered of an account that is here now."""
        fields = codec.decode_untyped(record.data)
        payload = fields["payload"]
        account_id = payload["account_id"]
        known = self._path.get(Membership, "member", account_id)
        if fields["event_type"] != "AccountReleased" or known is None or not known.awaited:
            return []
        hops = rulebook.left.get(account_id, ())
        leaving = self._leaving(account_id, hops)
        if _hop_of(payload, hops) != hops[-1 if leaving is None else leaving - 1]:
            return []  # it is of another move
        for key in self._path.names("external", f"{account_id}/"):
            self._path.drop("external", key)
        self._path.take_in(payload["memory"])
        self.owed[account_id] = int(payload["orders_sequence"])
        entry = Membership(group=known.group, answered=self.owed[account_id], owed=True)
        self._path.put("member", account_id, entry)
        hashed = hashlib.sha256(record.data).hexdigest()
        message = f"{account_id} came from {payload['group']}"
        more = {"account_id": account_id, "released": hashed}
        outputs = self._watch.alert("info", "account_moved", message, clock, more)
        if leaving is None:
            self.groups[known.group].refresh(account_id)
            return outputs
        outputs = [*outputs, *self._leave(account_id, rulebook, clock, 0)]
        if account_id in self.of:  # and it is here again
            self._take_in(account_id, self.of[account_id], rulebook)
        return outputs

    def awaits(self, account_id: str) -> bool:
        """Return whether a slot waits for what another group remembers of an account."""
        known = self._path.get(Membership, "member", account_id)
        return known is not None and known.awaited

    def _take_in(self, account_id: str, group: str, rulebook: Rulebook) -> None:
        if account_id not in self.of:
            self.of[account_id] = group
            self.groups[group].add(account_id)
        if not self._path.has("member", account_id):
            # Whoever held it before says what it remembers of it.
            entry = Membership(group=group, awaited=account_id in rulebook.left)
            self._path.put("member", account_id, entry)
        known = self._path.get(Membership, "member", account_id)
        if known is not None and known.owed:
            self.owed[account_id] = known.answered

    # --- requests of an account that came -------------------------------------------------------

    def holds_back(self, account_id: str) -> bool:
        """Return whether requests of an account wait for those before them."""
        known = self._path.get(Membership, "member", account_id)
        return known is not None and (known.awaited or known.owed)

    def answers(self, account_id: str, sequence: int) -> bool:
        """Return whether a request is to be answered here, and note that it is.

        Behind a move the old group answers up to the place that its release names, and the new one
        what is behind it: whoever read the rulebook first, each request has one answer.
        """
        known = self._path.get(Membership, "member", account_id)
        if known is None:
            return True
        if known.awaited or sequence <= known.answered:
            return False
        if known.owed:
            self._answered(account_id, known, sequence, owed=True)
        return True

    def settle(self, account_id: str, sequence: int, *, whole: bool) -> None:
        """Take it that everything an account asked up to a sequence of ORDERS is answered."""
        known = self._path.get(Membership, "member", account_id)
        if known is not None and known.owed:
            self._answered(account_id, known, max(sequence, known.answered), owed=not whole)

    def _answered(self, account_id: str, known: Membership, to: int, *, owed: bool) -> None:
        self.owed.pop(account_id, None)
        if owed:
            self.owed[account_id] = to
        entry = Membership(group=known.group, answered=to, owed=owed)
        self._path.put("member", account_id, entry)

    def _leave(
        self, account_id: str, rulebook: Rulebook, clock: int, orders: int
    ) -> list[RiskOutput]:
        """Let an account go from every group here that it left, one after the other.

        One that came and went before its memory did is let go once that is here: each group tells
        what it remembers to the one that follows it, and none of them begins without.
        """
        outputs: list[RiskOutput] = []
        hops, home = rulebook.left[account_id], rulebook.group_of(account_id)
        while (place := self._leaving(account_id, hops)) is not None:
            left = hops[place]
            returned = home is not None and home.name == left.group
            if self.of.get(account_id) == left.group and not returned:
                del self.of[account_id]
                self.groups[left.group].remove(account_id)
            known = self._path.get(Membership, "member", account_id)
            if place and (known is None or known.awaited):
                entry = Membership(group=left.group, awaited=True)
                self._path.put("member", account_id, entry)
                return outputs
            outputs = [*outputs, *self._give_up(account_id, left, clock, orders)]
            if account_id in self.of:
                self.groups[self.of[account_id]].refresh(account_id)
        return outputs

    def _leaving(self, account_id: str, hops: Sequence[Left]) -> int | None:
        """Return the first move away from a group here that was not told yet, by its place."""
        gone = self._path.get(Flag, "gone", account_id)
        told = 0 if gone is None else gone.clock
        for place, left in enumerate(hops):
            if left.sequence > told and slot_of(left.group) == self._chain.slot:
                return place
        return None

    def _give_up(self, account_id: str, left: Left, clock: int, orders: int) -> list[RiskOutput]:
        """Publish what is remembered of an account that left a group, if it is nothing."""
        self._vector.forget(account_id)
        self.owed.pop(account_id, None)
        known = self._path.get(Membership, "member", account_id)
        answered = 0 if known is None else known.answered
        self._path.drop("member", account_id)
        memory = self._path.take_out(account_id)
        for order_id, expires in self._remembered.orders_of(account_id):
            memory[f"moved/{account_id}/{order_id}"] = {"clock": expires}
        self._path.put("gone", account_id, Flag(clock=left.sequence))
        payload = {
            "account_id": account_id,
            "group": left.group,
            "rulebook_sequence": left.sequence,
            "orders_sequence": answered if known and known.owed else max(answered, orders),
            "memory": memory,
            "clock": moment_text(clock),
        }
        return self._chain.record("release", account_id, "AccountReleased", payload, clock)


def _hop_of(release: Mapping[str, Any], hops: Sequence[Left]) -> Left | None:
    """Return the move that a release is of: the last one from its group up to its place."""
    group, sequence = release["group"], release["rulebook_sequence"]
    found = [one for one in hops if one.group == group and one.sequence <= sequence]
    return found[-1] if found else None
