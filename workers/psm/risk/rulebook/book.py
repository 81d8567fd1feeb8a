"""The fold itself: one event after the other, and what holds behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from psm.contracts import envelope
from psm.contracts.errors import ContractError, LogDamagedError
from psm.contracts.rulebook_codec import SignedEvent, decode_signed
from psm.contracts.rulebook_events import (
    FIRM,
    ClustersDefined,
    DayCalendarDefined,
    GroupDefined,
    HaltLifted,
    HaltSet,
    KeyDefined,
    LimitsApproved,
    LimitsProposed,
    LimitsRevoked,
    ListDefined,
    OverrideGranted,
    ReservationReleased,
    RestrictedSide,
    RulebookEvent,
    SessionsDefined,
    StrategyEnabled,
    TagsDefined,
)
from psm.contracts.subjects import fnv1a
from psm.risk.messages import Stored
from psm.risk.rulebook.answers import (
    Day,
    EffectKind,
    Group,
    Left,
    Lift,
    Override,
    RefusedError,
    Ruled,
    RuleEffect,
    Ruling,
    ScopedLimits,
    Tags,
    Verify,
    scope_text,
)
from psm.risk.rulebook.documents import Documents
from psm.risk.rulebook.groups import Groups, require_budgets
from psm.risk.rulebook.halts import Halts
from psm.risk.rulebook.keys import Consents, Keys, founder, hex_bytes, key_id
from psm.risk.rulebook.tables import Calendars, Lists, Sessions, TagTables
from psm.risk.rulebook.times import MINUTE_US, moment

SLOTS = 64
OVERRIDE_US = 15 * MINUTE_US
_CHAIN = "rulebook"

Effects = tuple[RuleEffect, ...]


def slot_of(group: str) -> int:
    """Return the slot whose loop decides for a group, fixed for ever."""
    return int(fnv1a(group)) % SLOTS


class Rulebook:
    """Mutable fold of the stream RULEBOOK, from its first message on.

    Attributes:
        sequence: of the last message taken; 0 before the first.
        clusters: newest, None before the first.
        documents: of limits, proposals among them.
        tree: of groups.
        halts: set and lifted.
        keys: who may do what.
        waiting: what one person said and another must say, too.
    """

    def __init__(self, verify: Verify) -> None:
        self.sequence = 0
        self.clusters: ClustersDefined | None = None
        self.documents = Documents()
        self.halts = Halts()
        self.keys = Keys(verify)
        self.waiting = Consents(self.keys)
        self._chain = envelope.chain_start(_CHAIN)
        self._seen: dict[bytes, None] = {}
        self.tree = Groups()
        self._lists = Lists()
        self._tags = TagTables()
        self._sessions = Sessions()
        self._calendars = Calendars()
        self._overrides: dict[tuple[str, str], Override] = {}
        self._enabled: dict[str, int] = {}
        self._released: dict[tuple[str, str], None] = {}
        self._cluster_of: dict[str, str] = {}
        self._clock = 0
        self._rules: Mapping[type[RulebookEvent], Callable[[Any, str], Effects | str]] = {
            LimitsProposed: self._propose,
            LimitsApproved: self._approve,
            LimitsRevoked: self._revoke,
            OverrideGranted: self._override,
            HaltSet: self._halt,
            HaltLifted: self._lift,
            StrategyEnabled: self._enable,
            ReservationReleased: self._release,
            GroupDefined: self._group,
            ListDefined: self._list,
            TagsDefined: self._tag,
            ClustersDefined: self._cluster,
            SessionsDefined: self._session,
            DayCalendarDefined: self._calendar,
            KeyDefined: self._key,
        }

    # -- folding -------------------------------------------------------------------------------

    @property
    def hash(self) -> str:
        """Chain hash over every message up to `sequence`, hex."""
        return self._chain.hex()

    def take(self, stored: Stored) -> Ruled:
        """Fold the next message. What is wrong with it is an outcome, never an error.

        Raises:
            LogDamagedError: a message before it is missing.
        """
        if stored.sequence != self.sequence + 1:
            raise LogDamagedError(
                f"RULEBOOK: message {self.sequence + 1} is missing before {stored.sequence}"
            )
        hashed = envelope.event_hash(stored.data)
        self.sequence = stored.sequence
        self._chain = envelope.chain_next(self._chain, hashed)
        self._clock = max(self._clock, stored.time)
        try:
            signed = self._authentic(stored)
            effects = self._rules[type(signed.event)](signed.event, hashed.hex())
        except ContractError as error:
            return _refused(hashed.hex(), error.reason, error.detail)
        except RefusedError as error:
            return _refused(hashed.hex(), error.reason, error.detail)
        if isinstance(effects, str):
            return Ruled(outcome="pending", hash=hashed.hex(), reason="four_eyes", detail=effects)
        return Ruled(outcome="applied", hash=hashed.hex(), effects=effects)

    def _authentic(self, stored: Stored) -> SignedEvent:
        signed = decode_signed(stored.subject, stored.data)
        scope, name = signed.event.place()
        if (scope == "firm") != (name == FIRM) and scope in ("firm", "group"):
            raise RefusedError("invalid_payload", f"{FIRM} is the id of the firm, and of no group")
        self.keys.require_signed(signed)
        if signed.envelope.identity in self._seen:
            raise RefusedError("repeated", f"{signed.envelope.event_id} was said before")
        self._seen[signed.envelope.identity] = None
        return signed

    def _propose(self, event: LimitsProposed, hashed: str) -> Effects | str:
        self.keys.require(event, "propose")
        looser = self.documents.propose(event, hashed, self._clock)
        if looser:
            return f"looser, so another person must approve: {', '.join(looser)}"
        return _effects("limits", scope_text(event.scope, event.id), tightens=True)

    def _approve(self, event: LimitsApproved, _: str) -> Effects:
        self.keys.require(event, "approve")
        document = self.documents.waiting(event, self.keys, self._clock)
        require_budgets(self.groups, self.documents, self._clock, changed=document)
        self.documents.approve(document)
        # It may be tighter in one limit and looser in another.
        return _effects("limits", document.scope, tightens=True)

    def _revoke(self, event: LimitsRevoked, _: str) -> Effects | str:
        self.keys.require(event, "propose", "approve")
        scope = scope_text(event.scope, event.id)
        if event.proposal_hash is not None:
            self.documents.withdraw(event)
            return ()
        self.documents.require_some(scope)
        if not self.waiting.agreed(_matter(event), event):
            return f"another person must revoke the limits of {scope}, too"
        self.documents.revoke(scope)
        return _effects("limits", scope)

    def _override(self, event: OverrideGranted, hashed: str) -> Effects | str:
        self.keys.require(event, "propose", "approve")
        expires = moment(event.expires, "expires")
        if not self._clock < expires <= int(self._clock) + OVERRIDE_US:
            raise RefusedError("expired", "expires must be at most 15 minutes ahead")
        if not self.waiting.agreed((*_matter(event), event.order_hash, event.check), event):
            return "another person must grant the override, too"
        self._overrides[event.order_hash, event.check] = Override(
            account_id=event.account_id, expires=expires, hash=hashed
        )
        return _effects("override", f"account:{event.account_id}")

    def _halt(self, event: HaltSet, hashed: str) -> Effects:
        self.keys.require(event, "halt")
        self.halts.put(event, hashed, self._clock)
        return _effects("mode", scope_text(event.scope, event.id), tightens=True)

    def _lift(self, event: HaltLifted, _: str) -> Effects | str:
        self.keys.require(event, "propose", "approve", "halt")
        self.halts.require_liftable(event)
        if not self.waiting.agreed((*_matter(event), event.halt_hash), event):
            return "another person must lift it, too"
        self.halts.lift(event, self.sequence)
        return _effects("mode", scope_text(event.scope, event.id))

    def _enable(self, event: StrategyEnabled, _: str) -> Effects:
        self.keys.require(event, "approve")
        self._enabled[event.strategy_id] = self.sequence
        return _effects("strategy", f"strategy:{event.strategy_id}")

    def _release(self, event: ReservationReleased, _: str) -> Effects:
        self.keys.require(event, "approve")
        self._released[event.order_id, event.account_id] = None
        return _effects("reservation", f"account:{event.account_id}")

    def _group(self, event: GroupDefined, _: str) -> Effects | str:
        self.keys.require(event, "propose", "approve")
        self.tree.check(event)
        if not self.waiting.agreed(_matter(event), event):
            return f"another person must define {event.group} the same way"
        moved = Group(
            name=event.group, members=(), currency=event.currency, parent=event.parent, sequence=0
        )
        require_budgets(self.groups, self.documents, self._clock, moved=moved)
        changed = self.tree.define(event, self.sequence)
        return tuple(
            RuleEffect(kind="group", scope=f"group:{name}", tightens=True) for name in changed
        )

    def _list(self, event: ListDefined, _: str) -> Effects | str:
        self.keys.require(event, "propose", "approve")
        tightens = self._lists.tightens(event)
        if not tightens and not self.waiting.agreed(_matter(event), event):
            return f"looser, so another person must define {event.name} the same way"
        self._lists.define(event)
        return _effects("list", "firm", tightens=tightens)

    def _tag(self, event: TagsDefined, _: str) -> Effects | str:
        self.keys.require(event, "propose", "approve")
        if not self.waiting.agreed(_matter(event), event):
            return f"another person must define {event.name} the same way"
        self._tags.define(event)
        return _effects("tags", "firm")

    def _cluster(self, event: ClustersDefined, _: str) -> Effects:
        self.keys.require(event, "publish")
        following = 1 if self.clusters is None else self.clusters.version + 1
        if event.version != following:
            raise RefusedError("wrong_version", f"the next version of the clusters is {following}")
        self.clusters = event
        self._cluster_of = {s: name for name, members in event.clusters.items() for s in members}
        return _effects("clusters", "firm")

    def _session(self, event: SessionsDefined, _: str) -> Effects | str:
        self.keys.require(event, "propose", "approve")
        session = self._sessions.read(event)
        new = event.name not in self._sessions.named
        if not new and not self.waiting.agreed(_matter(event), event):
            return f"another person must define {event.name} the same way"
        self._sessions.named[event.name] = session
        return _effects("session", "firm", tightens=new)

    def _calendar(self, event: DayCalendarDefined, _: str) -> Effects | str:
        self.keys.require(event, "propose", "approve")
        calendar = self._calendars.read(event)
        if not self.waiting.agreed(_matter(event), event):
            return f"another person must define the days of {event.group} the same way"
        self._calendars.named[event.group] = calendar
        return _effects("calendar", "firm" if event.group == FIRM else f"group:{event.group}")

    def _key(self, event: KeyDefined, _: str) -> Effects | str:
        if not self.keys.founded:
            founder(event, self.keys.held)
        elif event.rights or event.key_id != key_id(hex_bytes(event.public_key, "public_key")):
            # Its own holder may make a key void at once, also where somebody else has it, too.
            self.keys.require(event, "propose", "approve")
            if not self.waiting.agreed((*_matter(event), event.public_key), event):
                return f"another person must define this key of {event.holder}, too"
        self.keys.define(event)
        return _effects("key", "firm")

    # -- what holds ----------------------------------------------------------------------------

    @property
    def groups(self) -> Mapping[str, Group]:
        """Every group by its name, ascending."""
        return self.tree.named

    @property
    def lifted(self) -> Mapping[str, Lift]:
        """Lifts by the hash of what was lifted, latches of the engine among them."""
        return self.halts.lifted

    @property
    def left(self) -> Mapping[str, tuple[Left, ...]]:
        """The groups that an account left, in order, of those that left one."""
        return self.tree.left

    def group_of(self, account_id: str) -> Group | None:
        """Return the group of an account; one in none has no engine."""
        return self.tree.of(account_id)

    def slots_of(self, scope: str) -> tuple[int, ...]:
        """Return the slots whose loops decide for a scope, ascending; for a parent all below.

        Args:
            scope: "firm", "group:x", "account:x", "strategy:x", "symbol:x", as effects name them.
        """
        return tuple(sorted(dict.fromkeys(map(slot_of, self.tree.within(scope)))))

    def limits_of(
        self, account_id: str, strategy_id: str | None, symbol: str, clock: int
    ) -> tuple[ScopedLimits, ...]:
        """Return the limits that apply, of each scope that has some; the tightest wins.

        Firm, group, account, strategy, symbol. Those of the group's parents are budgets, which its
        children share, and not among them.
        """
        group = self.group_of(account_id)
        own = [] if group is None else [f"group:{group.name}"]
        scopes = ("firm", *own, *_own_scopes(account_id, strategy_id, symbol))
        found = [self.documents.limits_of(scope, clock) for scope in scopes]
        return tuple(one for one in found if one is not None)

    def mode_of(self, account_id: str, strategy_id: str | None, symbol: str, clock: int) -> Ruling:
        """Return the tightest mode of the scopes, the parents of the group among them."""
        group = self.group_of(account_id)
        line = self.tree.line(None if group is None else group.name)
        groups = [f"group:{name}" for name in line]
        scopes = ("firm", *groups, *_own_scopes(account_id, strategy_id, symbol))
        return self.halts.ruling(scopes, clock)

    def restriction_of(self, account_id: str, symbol: str) -> RestrictedSide | None:
        """Return the side that may not be traded; None for neither."""
        return self._lists.restriction_of(account_id, symbol)

    def tags_of(self, symbol: str) -> Tags:
        """Return what a symbol is counted under."""
        return self._tags.tags_of(symbol)

    def cluster_of(self) -> Mapping[str, str]:
        """Return the cluster of each symbol that has one, as a decision takes it."""
        return self._cluster_of

    def in_session(self, account_id: str, symbol: str, clock: int) -> bool:
        """Return whether a symbol may be traded now; always, where no session speaks of it."""
        return self._sessions.in_session(account_id, symbol, clock)

    def day_of(self, group: str, clock: int) -> Day:
        """Return the day of a group."""
        return self._calendars.day_of(group, clock)

    @property
    def has_overrides(self) -> bool:
        """Whether any was ever granted."""
        return bool(self._overrides)

    def override_for(self, order_hash: str, check: str, clock: int) -> Override | None:
        """Return what lets an order fail a check; one decision may use it."""
        found = self._overrides.get((order_hash, check))
        return found if found is not None and clock < found.expires else None

    def enabled_at(self, strategy_id: str) -> int:
        """Return the rulebook sequence at which a strategy was enabled last; 0 for never."""
        return self._enabled.get(strategy_id, 0)

    def released(self, order_id: str, account_id: str) -> bool:
        """Return whether a person released the reservation of an account's order."""
        return (order_id, account_id) in self._released


def _own_scopes(account_id: str, strategy_id: str | None, symbol: str) -> tuple[str, ...]:
    strategy = [] if strategy_id is None else [f"strategy:{strategy_id}"]
    return (f"account:{account_id}", *strategy, f"symbol:{symbol}")


def _matter(event: RulebookEvent) -> tuple[str, ...]:
    return (type(event).__name__, *event.place())


def _effects(kind: EffectKind, scope: str, *, tightens: bool = False) -> Effects:
    return (RuleEffect(kind=kind, scope=scope, tightens=tightens),)


def _refused(hashed: str, reason: str, detail: str) -> Ruled:
    return Ruled(outcome="refused", hash=hashed, reason=reason, detail=detail)
