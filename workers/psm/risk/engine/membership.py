"""Which accounts a slot decides for: who joins its groups, who leaves, and what goes with them."""

from __future__ import annotations

import hashlib

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

    def regroup(self, rulebook: Rulebook, clock: int) -> list[RiskOutput]:
        """Take in and give up accounts, as the rulebook groups them."""
        outputs: list[RiskOutput] = []
        for account_id, left in sorted(rulebook.left.items()):
            if slot_of(left.group) == self._chain.slot:
                outputs = [*outputs, *self._give_up(account_id, left, rulebook, clock)]
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
        left = rulebook.left.get(account_id)
        if fields["event_type"] != "AccountReleased" or known is None or not known.awaited:
            return []
        if left is None or (payload["group"], payload["rulebook_sequence"] < left.sequence) != (
            left.group, False,
        ):  # fmt: skip
            return []  # it is of an earlier move
        for key in self._path.names("external", f"{account_id}/"):
            self._path.drop("external", key)
        self._path.take_in(payload["memory"])
        self._path.put("member", account_id, Membership(group=known.group))
        self.groups[known.group].refresh(account_id)
        hashed = hashlib.sha256(record.data).hexdigest()
        message = f"{account_id} came from {payload['group']}"
        more = {"account_id": account_id, "released": hashed}
        return self._watch.alert("info", "account_moved", message, clock, more)

    def _take_in(self, account_id: str, group: str, rulebook: Rulebook) -> None:
        if account_id in self.of:
            return
        self.of[account_id] = group
        self.groups[group].add(account_id)
        if not self._path.has("member", account_id):
            # Whoever held it before says what it remembers of it.
            entry = Membership(group=group, awaited=account_id in rulebook.left)
            self._path.put("member", account_id, entry)

    def _give_up(
        self, account_id: str, left: Left, rulebook: Rulebook, clock: int
    ) -> list[RiskOutput]:
        """Publish once what is remembered of an account that left a group, if it is nothing."""
        gone = Flag(clock=left.sequence)
        if self._path.get(Flag, "gone", account_id) == gone:
            return []
        if self.of.get(account_id) == left.group:
            del self.of[account_id]
            self.groups[left.group].remove(account_id)
        self._vector.forget(account_id)
        self._path.drop("member", account_id)
        memory = self._path.take_out(account_id)
        for order_id, expires in self._remembered.orders_of(account_id):
            memory[f"moved/{account_id}/{order_id}"] = {"clock": expires}
        self._path.put("gone", account_id, gone)
        payload = {
            "account_id": account_id,
            "group": left.group,
            "rulebook_sequence": rulebook.sequence,
            "memory": memory,
            "clock": moment_text(clock),
        }
        return self._chain.record("release", account_id, "AccountReleased", payload, clock)
