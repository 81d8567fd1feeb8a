"""Groups: which accounts one loop decides for, and how groups share the limits of their parent."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from psm.contracts.rulebook_events import GroupDefined
from psm.domain.money import ONE, ZERO, add, exact_text
from psm.risk.limits import Limits
from psm.risk.rulebook.answers import Group, Left, RefusedError
from psm.risk.rulebook.documents import Document, Documents

SHARED = ("daily_loss", "daily_loss_money", "open_orders_notional", "notional_period")
"""Limits in money that children share; multiples of equity are each one's own."""


class Groups:
    """Every group, by name, ascending; an account is in one.

    Attributes:
        named: groups by name.
        left: groups that an account left, the first of them first, by account.
    """

    def __init__(self) -> None:
        self.named: dict[str, Group] = {}
        self._of: dict[str, str] = {}
        self.left: dict[str, tuple[Left, ...]] = {}

    def of(self, account_id: str) -> Group | None:
        """Return the group of an account."""
        name = self._of.get(account_id)
        return None if name is None else self.named[name]

    def line(self, name: str | None) -> tuple[str, ...]:
        """Return a group and what is above it, the highest first."""
        found: list[str] = []
        while name is not None and name in self.named and name not in found:
            found.append(name)
            name = self.named[name].parent
        return tuple(reversed(found))

    def below(self, name: str) -> tuple[str, ...]:
        """Return a group and every group below it, ascending."""
        return tuple(one for one in self.named if name in self.line(one))

    def above(self, name: str) -> tuple[str, ...]:
        """Return what is above a group, the highest first."""
        return self.line(name)[:-1]

    def within(self, scope: str) -> tuple[str, ...]:
        """Return the groups that something said of a scope concerns, ascending; below a parent all.

        Args:
            scope: "firm", "group:x", "account:x", "strategy:x", "symbol:x".
        """
        kind, _, name = scope.partition(":")
        if kind == "group":
            return self.below(name)
        if kind == "account":
            return (self._of[name],) if name in self._of else ()
        return tuple(self.named)

    def sharing(self, parent: str) -> tuple[Group, ...]:
        """Return the groups with members below a group, ascending."""
        found = (self.named[name] for name in self.below(parent))
        return tuple(group for group in found if group.members)

    def check(self, event: GroupDefined) -> None:
        """Make sure that a definition is one.

        Raises:
            RefusedError: a member twice, or a parent that cannot be one.
        """
        if len(dict.fromkeys(event.members)) < len(event.members):
            raise RefusedError("invalid_payload", "a member is named twice")
        if event.members and any(g.parent == event.group for g in self.named.values()):
            raise RefusedError("invalid_payload", f"{event.group} is a parent: it has no members")
        if event.parent is None:
            return
        parent = self.named.get(event.parent)
        if parent is None or parent.members or event.group in self.line(event.parent):
            text = f"{event.parent} is no group without members above {event.group}"
            raise RefusedError("invalid_parent", text)

    def define(self, event: GroupDefined, sequence: int) -> tuple[str, ...]:
        """Take a group as it is from here on; return every group that changed, it first."""
        left: dict[str, None] = {}
        for account_id in event.members:
            before = self._of.get(account_id)
            if before is not None and before != event.group:
                left[before] = None
                self._note_left(account_id, before, sequence)
        for name in left:
            self._put(self.named[name], event.members, sequence)
        for account_id in self.named[event.group].members if event.group in self.named else ():
            del self._of[account_id]
            if account_id not in event.members:
                self._note_left(account_id, event.group, sequence)
        for account_id in event.members:
            self._of[account_id] = event.group
        self.named[event.group] = Group(
            name=event.group,
            members=tuple(sorted(event.members)),
            currency=event.currency,
            parent=event.parent,
            sequence=sequence,
        )
        self.named = dict(sorted(self.named.items()))
        return (event.group, *left)

    def _note_left(self, account_id: str, group: str, sequence: int) -> None:
        before = self.left.get(account_id, ())
        self.left[account_id] = (*before, Left(group=group, sequence=sequence))

    def _put(self, group: Group, leaving: tuple[str, ...], sequence: int) -> None:
        gone = dict.fromkeys(leaving)
        self.named[group.name] = Group(
            name=group.name,
            members=tuple(account_id for account_id in group.members if account_id not in gone),
            currency=group.currency,
            parent=group.parent,
            sequence=sequence,
        )


def require_budgets(
    groups: Mapping[str, Group],
    documents: Documents,
    clock: int,
    *,
    changed: Document | None = None,
    moved: Group | None = None,
) -> None:
    """Make sure that children's limits in money are no more, together, than their parent's.

    Args:
        groups: as they are.
        documents: as they are.
        clock: of the event.
        changed: a document that is to be put in force.
        moved: a group that is to be defined.

    Raises:
        RefusedError: reason `budget_exceeded`.
    """
    after = {**groups, moved.name: moved} if moved is not None else groups
    limits = {name: _limits(name, documents, clock, changed) for name in sorted(after)}
    for parent, own in limits.items():
        children = [name for name, group in sorted(after.items()) if group.parent == parent]
        for name in SHARED if children else ():
            budget = _money(own, name)
            if budget is not None:
                _require(name, parent, budget, {child: limits[child] for child in children})


def _require(
    name: str, parent: str, budget: Decimal, children: Mapping[str, Limits | None]
) -> None:
    taken = ZERO
    for child, own in children.items():
        part = _money(own, name)
        if part is None:
            raise RefusedError("budget_exceeded", f"{child} has no {name}: {parent} shares one")
        taken = add(taken, part)
    if taken > budget:
        text = f"{name} of {parent}'s groups is {exact_text(taken)}, more than {exact_text(budget)}"
        raise RefusedError("budget_exceeded", text)


def _limits(name: str, documents: Documents, clock: int, changed: Document | None) -> Limits | None:
    scope = f"group:{name}"
    if changed is not None and changed.scope == scope:
        return changed.limits
    found = documents.in_force(scope, clock)
    return None if found is None else found.limits


def _money(limits: Limits | None, name: str) -> Decimal | None:
    value = None if limits is None else getattr(limits, name)
    if value is None or (name == "daily_loss" and value <= ONE):
        return None
    return Decimal(value)
