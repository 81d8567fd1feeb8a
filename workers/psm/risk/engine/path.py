"""Path state: what a group remembers, entry by entry, and what of it no record has told yet.

Whatever follows neither from an account's state nor from the rulebook is an entry here. Each record
of the slot tells the entries that changed since the record before it. So the records after a
checkpoint give the state back, whatever the inputs between them were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Literal, TypeVar

import msgspec

from psm.contracts import codec
from psm.contracts.errors import InvariantError
from psm.domain.money import ZERO
from psm.risk.state import Side


class Remembered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Base of what is remembered: figures and texts, which the collector need not look at."""


class Reservation(Remembered, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An approved order that PSM has not shown yet; it counts like an open one.

    Attributes:
        quantity: approved; `filled` what is in the position already, where no event but its fills
            tells of the order.
        line: of the account that it changes.
        since: clock of its approval.
        expired: it was not shown in time: a person must say what became of it.
        replaces: it is a change of an order that is open; of the quantity the worse counts.
    """

    account_id: str
    order_id: str
    symbol: str
    line: str
    side: Side
    quantity: Decimal
    since: int
    filled: Decimal = ZERO
    price: Decimal | None = None
    reduce_only: bool = False
    strategy_id: str | None = None
    expired: bool = False
    replaces: bool = False


class ApprovedOrder(Remembered, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An order that risk approved and PSM shows, until it ends."""

    strategy_id: str | None = None


class DayOpening(Remembered, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What an account's day began with, in its currency.

    Attributes:
        number: of the day; `start` when it began.
        equity: None before its first one.
        flows: external ones up to then; `realized` likewise.
        closed: end of the minute whose close said so, 0 where the engine's own valuation did.
    """

    number: int
    start: int
    equity: Decimal | None = None
    flows: Decimal = ZERO
    realized: Decimal = ZERO
    closed: int = 0


class Latch(Remembered, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What the engine itself halted, until it ends or two persons lift it.

    Attributes:
        until: clock at which it ends by itself; None for never.
        enabled: of a strategy: the rulebook sequence at which it was enabled last.
        hash: of the record that set it; by it it is lifted.
    """

    scope: str
    code: str
    mode: Literal["reducing", "halted"]
    since: int
    value: str
    limit: str
    until: int | None = None
    enabled: int = 0
    hash: str = ""


class LatchEnd(Remembered, frozen=True, kw_only=True, gc=False):
    """A clock: when the last latch of a scope ended, when an alert was raised."""

    clock: int


class LossBase(Remembered, frozen=True, kw_only=True, gc=False):
    """A latch of the day's loss was lifted: loss counts from this profit on until the day ends."""

    profit: Decimal
    realized: Decimal
    until: int


class Peak(Remembered, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Highest net asset value of a group's unit, or of an account's since its peak was rebased.

    Attributes:
        peak: highest of the epoch, which began at 1.
        units: nav is equity / units; unused of an account.
        flows: that came since, in the group's currency, and are in no units yet.
    """

    peak: Decimal
    units: Decimal = ZERO
    flows: Decimal = ZERO


class FlowsSeen(Remembered, frozen=True, kw_only=True, gc=False):
    """What flowed to all groups of a parent, as its net asset value counts it."""

    flows: Decimal


class Streak(Remembered, frozen=True, kw_only=True, gc=False):
    """Closed trades in loss since the last other one."""

    losses: int


class Repeats(Remembered, frozen=True, kw_only=True, gc=False):
    """Approved orders of one strategy, symbol and side since it was enabled."""

    count: int
    enabled: int


class Flag(Remembered, frozen=True, kw_only=True, gc=False):
    """Something is so: an alert was raised, an order is external, an override was used."""

    clock: int


class StaleState(Remembered, frozen=True, kw_only=True, gc=False):
    """PSM has not folded an input of an account, which the log holds since then."""

    log_sequence: int
    since: int


class TransferHalf(Remembered, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Money or a position went `in` or `out`, and no account of the group told the other half.

    Attributes:
        since: clock at which it was seen.
        told: somebody was told.
    """

    direction: str
    since: int
    told: bool = False


class Membership(Remembered, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An account belongs to a group here.

    Attributes:
        awaited: it came, and its old group has not said yet what it remembers and has answered.
        answered: sequence of ORDERS up to which the groups before answered its requests.
        owed: what it asked behind that, and before it was known here, is not all answered.
    """

    group: str
    awaited: bool = False
    answered: int = 0
    owed: bool = False


KINDS: Mapping[str, type[Remembered]] = {
    "reservation": Reservation,
    "order": ApprovedOrder,
    "external": Flag,
    "closed": Flag,
    "day": DayOpening,
    "latch": Latch,
    "ended": LatchEnd,
    "lossbase": LossBase,
    "peak": Peak,
    "streak": Streak,
    "repeats": Repeats,
    "raised": Flag,
    "overridden": Flag,
    "member": Membership,
    "moved": Flag,
    "gone": Flag,
    "stale": StaleState,
    "flows": FlowsSeen,
    "blind": Flag,
    "cancel_all": Flag,
    "transfer": TransferHalf,
}
"""Kinds of entries by name; keys are texts of their own."""

E = TypeVar("E", bound=Remembered)


class Path:
    """The entries of a slot, by kind and key."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, Remembered]] = {kind: {} for kind in KINDS}
        self._untold: dict[str, None] = {}
        self._under: dict[tuple[str, str], dict[str, None]] = {}
        self._of_line: dict[tuple[str, str], dict[str, Reservation]] = {}

    def get(self, struct: type[E], kind: str, key: str) -> E | None:
        """Return an entry; None where there is none."""
        found = self._entries[kind].get(key)
        assert found is None or isinstance(found, struct), kind
        return found

    def told_as(self, name: str) -> Any:
        """Return an entry by kind and key, `day/acc_1`, as records tell it; None: there is none."""
        kind, _, key = name.partition("/")
        entry = self._entries[kind].get(key)
        return None if entry is None else msgspec.to_builtins(entry)

    def items(self, struct: type[E], kind: str) -> list[tuple[str, E]]:
        """Return the entries of a kind, ascending by key."""
        found = []
        for key, entry in sorted(self._entries[kind].items()):
            assert isinstance(entry, struct), kind
            found.append((key, entry))
        return found

    def under(self, struct: type[E], kind: str, first: str) -> list[tuple[str, E]]:
        """Return the entries of a kind whose keys are `first/...`, ascending by key."""
        found = []
        for key in sorted(self._under.get((kind, first), ())):
            entry = self._entries[kind][key]
            assert isinstance(entry, struct), kind
            found.append((key, entry))
        return found

    def count_under(self, kind: str, first: str) -> int:
        """Return how many entries of a kind have keys `first/...`."""
        return len(self._under.get((kind, first), ()))

    def reservations_of(self, account_id: str, line: str) -> list[Reservation]:
        """Return the reservations of a line of an account, ascending by key."""
        return [one for _, one in sorted(self._of_line.get((account_id, line), {}).items())]

    def names(self, kind: str, prefix: str) -> list[str]:
        """Return the keys of a kind that begin so, ascending."""
        return sorted(key for key in self._entries[kind] if key.startswith(prefix))

    def has(self, kind: str, key: str) -> bool:
        """Return whether there is an entry."""
        return key in self._entries[kind]

    def is_empty(self, kind: str) -> bool:
        """Return whether there is no entry of a kind."""
        return not self._entries[kind]

    def put(self, kind: str, key: str, entry: Remembered) -> None:
        """Remember an entry; one that says the same is no change."""
        if self._entries[kind].get(key) != entry:
            self._set(kind, key, entry)
            self._untold[f"{kind}/{key}"] = None

    def settle(self, kind: str, key: str, entry: Remembered) -> None:
        """Remember what follows from the record just made, and needs no telling."""
        self._entries[kind][key] = entry

    def drop(self, kind: str, key: str) -> None:
        """Forget an entry."""
        if self._unset(kind, key):
            self._untold[f"{kind}/{key}"] = None

    def take_out(self, account_id: str) -> dict[str, Any]:
        """Forget all entries of an account, and return them."""
        found: dict[str, Any] = {}
        for kind, entries in self._entries.items():
            for key in sorted(entries):
                if kind != "gone" and is_entry_of(account_id, key):
                    found[f"{kind}/{key}"] = msgspec.to_builtins(entries[key])
                    self.drop(kind, key)
        return found

    def take_in(self, found: Mapping[str, Any]) -> None:
        """Remember the entries of an account that another slot forgot."""
        self.apply(found)
        for name in found:
            self._untold[name] = None

    @property
    def untold_count(self) -> int:
        """How many entries no record has told as they are."""
        return len(self._untold)

    def untold(self) -> Iterator[tuple[str, Any]]:
        """Yield what changed since it was told last, ascending: name, value; None: forgotten."""
        for name in sorted(self._untold):
            yield name, self.told_as(name)

    def is_untold(self, name: str) -> bool:
        """Return whether an entry changed since it was told last."""
        return name in self._untold

    def told(self, name: str) -> None:
        """Note that a record tells an entry as it is now."""
        self._untold.pop(name, None)

    def apply(self, changes: Mapping[str, Any]) -> None:
        """Take entries as a record told them.

        Raises:
            InvariantError: it is of no known kind or form.
        """
        for name, value in changes.items():
            kind, _, key = name.partition("/")
            if kind not in KINDS:
                raise InvariantError(f"path state has no kind {kind}")
            if value is None:
                self._unset(kind, key)
                continue
            try:
                self._set(kind, key, msgspec.convert(value, KINDS[kind]))
            except msgspec.ValidationError as error:
                raise InvariantError(f"path state {name}: {error}") from None

    def _set(self, kind: str, key: str, entry: Remembered) -> None:
        self._unset(kind, key)
        self._entries[kind][key] = entry
        self._under.setdefault((kind, key.partition("/")[0]), {})[key] = None
        if isinstance(entry, Reservation):
            self._of_line.setdefault((entry.account_id, entry.line), {})[key] = entry

    def _unset(self, kind: str, key: str) -> bool:
        found = self._entries[kind].pop(key, None)
        if found is None:
            return False
        if isinstance(found, Reservation):
            del self._of_line[found.account_id, found.line][key]
        first = kind, key.partition("/")[0]
        del self._under[first][key]
        if not self._under[first]:
            del self._under[first]
        return True

    def document(self) -> dict[str, dict[str, Any]]:
        """Return all entries as JSON values."""
        return {
            kind: {key: msgspec.to_builtins(entry) for key, entry in sorted(entries.items())}
            for kind, entries in self._entries.items()
            if entries
        }

    def restore(self, document: Mapping[str, Mapping[str, Any]]) -> None:
        """Take all entries of a document."""
        for kind, entries in document.items():
            self.apply({f"{kind}/{key}": value for key, value in entries.items()})


def is_entry_of(account_id: str, key: str) -> bool:
    """Return whether an entry's key is of an account: `acc/o1`, `acc`, `account:acc`, `g|..|c`."""
    scope = f"account:{account_id}"
    parts = key.split("|")
    return key == account_id or key.startswith(f"{account_id}/") or scope in parts


def canonical(value: Any) -> bytes:
    """Return canonical JSON of JSON values."""
    return codec.canonical_bytes(value)
