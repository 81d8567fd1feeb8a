"""Causes of differences: facts of a history that alone would explain them. Pure.

A cause is a guess that the arithmetic allows, never a verdict: the first place where one fact more,
one less or one of the other sign gives what was reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, get_args

import msgspec

from psm.contracts.position_keys import symbol_of
from psm.contracts.reconciliation import Difference
from psm.domain.money import absolute, add_wide, negate, published

Kind = Literal[
    "older_report",
    "booked_later",
    "booked_twice",
    "changed_nothing",
    "waiting",
    "not_reported",
    "wrong_sign",
    "commission",
    "voided",
]
"""What a cause is, the likelier one first."""

MEANINGS: dict[Kind, str] = {
    "older_report": "the report is of this state: it does not contain what came after",
    "booked_later": "it was booked after the report's place: the books were late",
    "booked_twice": "an equal event was booked before: one of them may be a repeat",
    "not_reported": "the report does not contain it, or it never happened",
    "wrong_sign": "the report has it with the other sign",
    "commission": "the report has another commission",
    "waiting": "it came and is not booked yet: its stream waits",
    "changed_nothing": "it came and changed nothing",
    "voided": "an operator declared these numbers lost: a fact may have been among them",
}
"""Kind of a cause -> what it says."""

_ORDER: tuple[Kind, ...] = get_args(Kind)
_AMOUNTS = ("amount", "funding_payment", "commission", "fee", "liquidation_fee", "cash_in_lieu")
_WAITING = ("parked", "held", "blocked")
_NO_AMOUNTS = (".entry_price", ".margin_mode", ".borrowed", "equity")
_NOTHING = ("refused", "rejected", "conflict", "stale")


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the account's history, and what it did to what the account holds.

    Attributes:
        changes: by `assets.<asset>` and `positions.<leg>.size`; what came to be, not what was said.
        payload: as the message says it.
    """

    log_sequence: int
    sequence_number: int | None
    event_id: str | None
    event_type: str | None
    outcome: str
    reason: str | None
    changes: Mapping[str, Decimal]
    payload: Mapping[str, Any]


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """A possible cause.

    Attributes:
        kind: what kind of fact it would be.
        explains: the differences that it accounts for.
        whole: whether these are all.
        text: the same in words.
    """

    kind: Kind
    explains: tuple[str, ...]
    whole: bool
    text: str
    log_sequence: int
    sequence_number: int | None
    event_id: str | None
    event_type: str | None


def find_causes(
    differences: Sequence[Difference],
    history: Sequence[Happening],
    *,
    place: int,
    matched_at: int = 0,
    currency: str | None = None,
    older: Happening | None = None,
) -> list[Cause]:
    """Return what may have caused the differences: what explains most first, then the earliest.

    Args:
        differences: between a report and the books at `place`.
        history: of the account, in log order.
        place: log sequence at which the books were compared.
        matched_at: log sequence at which an earlier report still matched; nothing before is asked.
        currency: of the account, for amounts that name none.
        older: what led to the last state that the report is equal to, if any.
    """
    wanted = {
        one.what: Decimal(one.difference)
        for one in differences
        if not one.what.endswith(_NO_AMOUNTS)
    }
    found = [_cause("older_report", older, tuple(wanted), wanted)] if older else []
    seen: dict[tuple[str | None, tuple[tuple[str, Decimal], ...]], None] = {}
    for happening in history:
        key = (happening.event_type, tuple(sorted(happening.changes.items())))
        repeated = bool(happening.changes) and key in seen
        seen[key] = None
        if happening.log_sequence <= matched_at:
            continue
        late = happening.log_sequence > place
        for kind, explained in _explanations(happening, wanted, currency, late=late):
            named: Kind = "booked_twice" if kind == "not_reported" and repeated else kind
            found.append(_cause(named, happening, explained, wanted))
    return sorted(found, key=_rank)


def _rank(cause: Cause) -> tuple[bool, int, int, int]:
    return (not cause.whole, -len(cause.explains), _ORDER.index(cause.kind), cause.log_sequence)


def _explanations(
    happening: Happening, wanted: Mapping[str, Decimal], currency: str | None, *, late: bool
) -> Iterator[tuple[Kind, tuple[str, ...]]]:
    """Yield in which ways a message may explain which differences."""
    changes = {what: published(change) for what, change in happening.changes.items()}
    kind = _of_changes(changes, wanted, late=late)
    if kind is not None:
        yield kind, tuple(changes)
    if happening.outcome in (*_WAITING, *_NOTHING):
        said = tuple(what for what in wanted if _says(happening, what, wanted[what], currency))
        if said:
            yield "waiting" if happening.outcome in _WAITING else "changed_nothing", said
    elif not late and (charged := _of_commission(happening, wanted, currency)):
        yield "commission", (charged,)
    if happening.event_type == "SequenceVoided" and happening.outcome == "applied":
        yield "voided", ()


def _of_changes(
    changes: Mapping[str, Decimal], wanted: Mapping[str, Decimal], *, late: bool
) -> Kind | None:
    """Return what an event may be that changed all this, if it changed nothing but what differs."""
    if not changes or not changes.keys() <= wanted.keys():
        return None
    apart = [(wanted[what], change) for what, change in changes.items()]
    if late:
        return "booked_later" if all(d == change for d, change in apart) else None
    if all(d == negate(change) for d, change in apart):
        return "not_reported"
    return "wrong_sign" if all(d == negate(add_wide(c, c)) for d, c in apart) else None


def _of_commission(
    happening: Happening, wanted: Mapping[str, Decimal], currency: str | None
) -> str | None:
    commission = _number(happening.payload.get("commission"))
    what = f"assets.{happening.payload.get('commission_currency') or currency}"
    if not commission or what not in wanted:
        return None
    return what if absolute(wanted[what]) == absolute(commission) else None


def _says(happening: Happening, what: str, apart: Decimal, currency: str | None) -> bool:
    """Return whether a message that is not booked speaks of a difference's figure and number."""
    payload = happening.payload
    if what.startswith("positions."):
        leg = what.removeprefix("positions.").removesuffix(".size")
        amounts: tuple[str, ...] = ("quantity",)
        if payload.get("symbol") not in (leg, symbol_of(leg)):
            return False
    else:
        amounts = _AMOUNTS
        if what != f"assets.{payload.get('currency') or currency}":
            return False
    return any(
        number is not None and absolute(number) == absolute(apart)
        for number in (_number(payload.get(name)) for name in amounts)
    )


def _number(value: object) -> Decimal | None:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _cause(
    kind: Kind, happening: Happening, explained: tuple[str, ...], wanted: Mapping[str, Decimal]
) -> Cause:
    number = happening.sequence_number
    where = f"log sequence {happening.log_sequence}" if number is None else f"number {number}"
    why = f" ({happening.reason})" if happening.reason else ""
    return Cause(
        kind=kind,
        explains=explained,
        whole=bool(explained) and len(explained) == len(wanted),
        text=f"{happening.event_type or 'a message'} at {where}: {MEANINGS[kind]}{why}",
        log_sequence=happening.log_sequence,
        sequence_number=number,
        event_id=happening.event_id,
        event_type=happening.event_type,
    )
