"""What a slot's memory may say next: what nobody may forget, and what only a decision may add."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from psm.contracts.subjects import OF_STREAMS, head_of, log_subject
from psm.domain.money import exact_text
from psm.risk.engine.cancels import is_asked_by_halt
from psm.risk.engine.member import microseconds
from psm.risk.engine.path import Latch, Path, Reservation, StaleState, is_entry_of
from psm.risk.engine.proof_records import DecisionEvidence, Entry, RecordRead
from psm.risk.engine.results import OrderEnd, left_of
from psm.risk.rulebook import Rulebook

Unlawful = tuple[str, Any, Any]
"""Field, what is recorded, what could be."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the memory as a record tells it.

    Attributes:
        name: kind and key.
        value: None: it is forgotten.
        latch: hash of the record, if that set it as a latch.
        moved: it came with an account from another group.
    """

    name: str
    value: Any
    latch: str | None = None
    moved: bool = False


class SeenPlaces:
    """How far a decision saw the accounts of the log, and what the log has there.

    Args:
        evidence: of the decision.
        before: entries of the vector as of the decision before.
        changed: what its vector tells.
        seen: the accounts as they were taken last: entry, document.
    """

    def __init__(
        self,
        evidence: DecisionEvidence,
        before: Mapping[str, Entry],
        changed: Mapping[str, Entry],
        seen: Mapping[str, tuple[Entry, bytes | None]],
    ) -> None:
        self._evidence = evidence
        self._before, self._entries = {**before}, {**before, **changed}
        self._documents = {name: one[1] for name, one in seen.items()} | {**evidence.documents}

    def is_shown(self, account_id: str, order_id: str) -> bool:
        """Return whether the log showed an order of an account."""
        first = self._evidence.shown(account_id, order_id)
        return first is not None and first <= self.place(account_id)

    def place(self, account_id: str) -> int:
        """Return the log sequence up to which an account was seen; -1 for none."""
        return self._entries.get(account_id, _NOWHERE)[1]

    def is_unfolded(self, account_id: str, entry: StaleState) -> bool:
        """Return whether the log has that input of the account, since then, behind the place."""
        found = self._evidence.unfolded.get((account_id, entry.log_sequence))
        message = None if found is None else found.message
        return (
            message is not None
            and message.time == entry.since
            and head_of(message.subject) in OF_STREAMS
            and log_subject(message.subject)[1] == account_id
            and self._before.get(account_id, _NOWHERE)[1] < entry.log_sequence
        )

    def is_nothing(self, account_id: str, entry: StaleState) -> bool:
        """Return whether that input left the account as it was at the place."""
        found = self._evidence.unfolded.get((account_id, entry.log_sequence))
        after = None if found is None else found.document
        before = self._documents.get(account_id)
        return after is not None and before is not None and _chain(after) == _chain(before)


def told_by(record: RecordRead, record_hash: str) -> list[Told]:
    """Return what a record tells of the memory; a latch is named by the record that set it."""
    payload, set_here = record.payload, None
    if record.event_type == "LatchSet":
        set_here = f"latch/{payload['group']}|{payload['scope']}|{payload['code']}"
    return [
        Told(name=name, value=value, latch=record_hash if name == set_here else None)
        for name, value in (payload.get("path") or {}).items()
    ]


def told_by_checkpoint(path: Mapping[str, Any], held: Mapping[str, Any]) -> list[Told]:
    """Return what a checkpoint holds otherwise than the records before it have told."""
    told: list[Told] = []
    for kind in sorted({**path, **held}):
        was, own = path.get(kind, {}), held.get(kind, {})
        changed = [key for key in sorted({**was, **own}) if was.get(key) != own.get(key)]
        told = [*told, *(Told(name=f"{kind}/{key}", value=own.get(key)) for key in changed)]
    return told


def came_along(told: Sequence[Told], account_id: str) -> list[Told]:
    """Return what was told, with what an account brought from another group named as such.

    Args:
        told: up to the record that tells of the move; much is told in records of its own before.
        account_id: who came.
    """
    return [
        msgspec.structs.replace(one, moved=True)
        if is_entry_of(account_id, one.name.partition("/")[2])
        else one
        for one in told
    ]


def own_names(payload: Mapping[str, Any]) -> dict[str, None]:
    """Return the entries that a decision itself changes."""
    if payload["command"] == "cancel":
        return {}
    strategy = payload.get("strategy_id")
    group, account_id = payload["group"], payload["account_id"]
    names: dict[str, None] = {}
    if strategy is not None:
        names[f"latch/{group}|strategy:{strategy}|repeated_execution"] = None
    if payload["decision"] == "rejected":
        return names
    counted = payload["counted"]["same"]
    names[f"reservation/{account_id}/{payload['order_id']}"] = None
    names["repeats/" + "|".join((group, counted[0], counted[1], counted[2]))] = None
    return names


def account_of(name: str) -> str | None:
    """Return the account that an entry is of; None for a group's or a strategy's."""
    kind, _, key = name.partition("/")
    if kind in ("reservation", "order", "external"):
        return key.partition("/")[0]
    return key if kind in ("day", "member", "moved") else None


def unlawful(
    path: Path,
    one: Told,
    rulebook: Rulebook,
    decision: Mapping[str, Any],
    seen: SeenPlaces,
    ends: Sequence[OrderEnd],
) -> Iterator[Unlawful]:
    """Yield what a record tells of the memory and nothing made so.

    Args:
        path: as it was before.
        one: what it tells, and no decision changed.
        rulebook: as of the next decision.
        decision: payload of that.
        seen: what the log shows of the accounts.
        ends: told of the order that the entry is of, if it is an approved one, since its approval.
    """
    kind, _, key = one.name.partition("/")
    if one.moved:
        return
    if kind == "reservation":
        yield from _reserved(path, one, key, rulebook, seen, ends)
    elif kind == "latch":
        yield from _latched(path, one, key, rulebook, microseconds(decision["clock"]))
    elif kind == "stale":
        yield from _stale(path, one, key, rulebook, seen)
    elif kind == "cancel_all" and one.value is not None and not is_asked_by_halt(rulebook, key):
        yield f"path.{one.name}", one.value, None


def _reserved(
    path: Path,
    one: Told,
    key: str,
    rulebook: Rulebook,
    seen: SeenPlaces,
    ends: Sequence[OrderEnd],
) -> Iterator[Unlawful]:
    before = path.get(Reservation, "reservation", key)
    account_id, _, order_id = key.partition("/")
    if before is None:
        if one.value is not None:
            yield f"path.{one.name}", one.value, None
        return
    left = [left_of(before.quantity, end) for end in ends]
    if one.value is not None:
        quantity = Decimal(one.value["quantity"])
        if quantity < before.quantity and quantity not in left:
            yield f"path.{one.name}.quantity", one.value["quantity"], exact_text(before.quantity)
        return
    ended = seen.is_shown(account_id, order_id) or rulebook.released(order_id, account_id)
    ended = ended or any(quantity <= before.filled for quantity in left)
    if not ended and account_id not in rulebook.left:
        yield f"path.{one.name}", None, msgspec.to_builtins(before)


def _latched(path: Path, one: Told, key: str, rulebook: Rulebook, clock: int) -> Iterator[Unlawful]:
    before = path.get(Latch, "latch", key)
    if before is None and one.value is not None and one.latch is None:
        yield f"path.{one.name}", one.value, None
    if before is None or one.value is not None:
        return
    over = before.until is not None and before.until <= clock
    lifted = before.hash in rulebook.lifted
    strategy = before.scope.removeprefix("strategy:")
    enabled = before.code == "repeated_execution" and rulebook.enabled_at(strategy) > before.enabled
    if not (over or lifted or enabled):
        yield f"path.{one.name}", None, msgspec.to_builtins(before)


def _stale(
    path: Path, one: Told, account_id: str, rulebook: Rulebook, seen: SeenPlaces
) -> Iterator[Unlawful]:
    """PSM is behind with what the log holds, until it tells that, or it changed nothing."""
    before = path.get(StaleState, "stale", account_id)
    if one.value is not None:
        entry = msgspec.convert(one.value, StaleState)
        if not seen.is_unfolded(account_id, entry):
            yield f"path.{one.name}", one.value, None
    elif before is not None and account_id not in rulebook.left:
        told = seen.place(account_id) >= before.log_sequence
        if not told and not seen.is_nothing(account_id, before):
            yield f"path.{one.name}", None, msgspec.to_builtins(before)


def unfolded_by(path: Path, told: Sequence[Told]) -> list[tuple[str, int]]:
    """Return the inputs that PSM is told not to have folded, or no more: account, place."""
    found: dict[tuple[str, int], None] = {}
    for one in told:
        kind, _, account_id = one.name.partition("/")
        if kind == "stale":
            before = path.get(StaleState, "stale", account_id)
            if before is not None:
                found[account_id, before.log_sequence] = None
            if one.value is not None:
                found[account_id, one.value["log_sequence"]] = None
    return [*found]


def forgotten(path: Path, seen: SeenPlaces) -> Iterator[Unlawful]:
    """Yield what PSM is still said to be behind with, and the vector says that it is not."""
    for account_id, entry in path.items(StaleState, "stale"):
        if seen.place(account_id) >= entry.log_sequence:
            yield f"path.stale/{account_id}", msgspec.to_builtins(entry), None


def _chain(document: bytes) -> str:
    return _chained.decode(document).chain_hash


class _Chained(msgspec.Struct):
    chain_hash: str = ""


_chained = msgspec.json.Decoder(_Chained)
_NOWHERE = (0, -1, "")


def apart(told: Sequence[Told], held: Mapping[str, None]) -> tuple[list[Told], list[Told]]:
    """Return what was so before a decision, and what is so by it: the last telling of its own."""
    last = {one.name: place for place, one in enumerate(told) if one.name in held}
    # A latch may end before a decision, which then sets none.
    last = {name: at for name, at in last.items() if told[at].value is not None}
    own = [one for place, one in enumerate(told) if last.get(one.name) == place]
    return [one for place, one in enumerate(told) if last.get(one.name) != place], own


class Approvals:
    """Where in ORDERS each reserved order was approved: what was told before is of another one."""

    def __init__(self) -> None:
        """None is known: what a checkpoint reserved was approved before everything."""
        self._at: dict[str, int] = {}

    def note(self, own: Sequence[Told], sequence: int) -> None:
        """Note what the decision on the command at a sequence reserved."""
        names = (one.name for one in own if one.name.startswith("reservation/"))
        self._at.update(dict.fromkeys(names, sequence))

    def ends_of(
        self, one: Told, ends: Callable[[str, str], Sequence[OrderEnd]]
    ) -> Sequence[OrderEnd]:
        """Return what was told since its approval of the order that an entry reserves."""
        kind, _, key = one.name.partition("/")
        if kind != "reservation":
            return ()
        account_id, _, order_id = key.partition("/")
        since = self._at.get(one.name, 0)
        if one.value is None:
            self._at.pop(one.name, None)
        return [end for end in ends(account_id, order_id) if end.sequence > since]
