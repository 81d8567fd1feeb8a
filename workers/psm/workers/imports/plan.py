"""Facts as events: identified, put in order, without what is known. Pure.

An id follows from the venue, the pseudonym of its account and the record, so the same record is the
same event, from whatever file, in whatever order, however often. A row without a name is known by
what it says and by its ordinal among equal rows of its file. Foreign identities are in neither.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import groupby
from typing import Any
from uuid import UUID, uuid5

import msgspec

from psm.contracts import codec
from psm.contracts.codec import canonical_decimal
from psm.contracts.registry import ACCOUNT_EVENTS, SCHEMA_VERSION
from psm.contracts.sequencing import ACCOUNT_REPORTED
from psm.projections.archive.keys import BusinessKey, business_key
from psm.workers.imports.facts import Link, VenueFact, VenueInstrument
from psm.workers.imports.known import Already, Known
from psm.workers.imports.rows import FilePlace, rfc3339
from psm.workers.imports.trail import trail

SERVICE = "psm-import"
_FIRST = (
    "CashDeposited",
    "TransferredIn",
    "PositionModeChanged",
    "PositionTransferredIn",
    "TradeExecuted",
)
_ASSETS = ("currency", "commission_currency", "settlement_currency", "from", "to", "fee_currency")
_OPAQUE = re.compile(r"[A-Za-z0-9._:-]+")
_IDS = {"fill_id": 64, "order_id": 64, "transfer_id": 64, "reference": 128}
_UNRATED = {
    payload.__name__ for payload in ACCOUNT_EVENTS if "rates" not in payload.__struct_fields__
}
"""Events that move nothing which has a rate."""
_CONTRACTS = ("linear_perp", "inverse_perp", "linear_future", "inverse_future")


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Whose facts they are.

    Attributes:
        account: of the log.
        venue: where they happened.
        pseudonym: of the account at the venue.
        currency: of the account.
    """

    account: str
    venue: str
    pseudonym: UUID
    currency: str


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """An event to append.

    Attributes:
        event: its envelope, without a number.
        key: what the venue knows it by.
        fact: what it came from.
    """

    event: Mapping[str, Any]
    key: BusinessKey | None
    fact: VenueFact


class ImportPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to append, in order.

    Attributes:
        new: events that the account lacks.
        known: how many it has, by how that is known.
        repeated: how many records stood in more than one file.
    """

    new: list[Planned]
    known: Mapping[Already, int]
    repeated: int


def opening_event(owner: Owner, time_us: int, place: FilePlace) -> Planned:
    """Return the event that opens the account, at the time of its first record."""
    payload = {"currency": owner.currency}
    fact = VenueFact(
        time_us=time_us,
        event_type="AccountOpened",
        payload=payload,
        record="AccountOpened",
        place=place,
    )
    event_id = str(uuid5(owner.pseudonym, f"{owner.venue}:{fact.record}"))
    return Planned(event=_envelope(event_id, fact, owner, payload), key=None, fact=fact)


def report_event(owner: Owner, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the event that tells what the venue reports, the same for the same report."""
    said = codec.canonical_bytes(dict(payload)).decode()
    return {
        "event_id": str(uuid5(owner.pseudonym, f"{owner.venue}:report:{said}")),
        "event_type": ACCOUNT_REPORTED,
        "stream_id": owner.account,
        "timestamp": payload["as_of"],
        "schema_version": SCHEMA_VERSION,
        "source_service": SERVICE,
        "payload": payload,
    }


def ordered(facts: Iterable[VenueFact], owner: Owner) -> dict[str, VenueFact]:
    """Return each fact once by its id, by venue time; what has one time in an order of its own."""
    return _ordered(_identified(facts, owner))


def plan(
    facts: Iterable[VenueFact],
    owner: Owner,
    known: Known,
    instruments: Mapping[str, VenueInstrument],
    pseudonym_of: Callable[[str], str],
) -> ImportPlan:
    """Return what to append of the facts of all files.

    Args:
        facts: in any order.
        owner: whose.
        known: identities that the account has; unchanged.
        instruments: by symbol, as the log or the files define them.
        pseudonym_of: stands for a foreign identity.
    """
    identified = _identified(facts, owner)
    counted: Counter[Already] = Counter()
    here, new = Known(owner.currency), []
    for event_id, fact in _ordered(identified).items():
        event = _event(event_id, fact, owner, instruments, pseudonym_of)
        key = business_key(fact.event_type, codec.encode(event | {"sequence_number": 1}))
        already = known.already(event_id, key) or here.already(event_id, key)
        if already is not None:
            counted[already] += 1
            continue
        here.add(event_id, key)
        new.append(Planned(event=event, key=key, fact=fact))
    repeated = sum(len(same) - 1 for same in identified.values())
    return ImportPlan(new=new, known=dict(counted), repeated=repeated)


def _identified(facts: Iterable[VenueFact], owner: Owner) -> dict[str, list[VenueFact]]:
    """Return the facts by their id; what is in several files is there once a file."""
    ordinals: Counter[tuple[str, str]] = Counter()
    found: dict[str, list[VenueFact]] = {}
    for fact in facts:
        record = fact.record
        if record is None:
            says = _says(fact)
            ordinals[fact.place.file, says] += 1
            record = f"row:{says}:{ordinals[fact.place.file, says]}"
        event_id = str(uuid5(owner.pseudonym, f"{owner.venue}:{record}"))
        found.setdefault(event_id, []).append(fact)
    return found


def _says(fact: VenueFact) -> str:
    """Return what a row without a name says, nothing foreign in it."""
    said = [fact.event_type, fact.time_us, sorted(fact.payload.items())]
    return codec.canonical_bytes(said).decode()


def _ordered(identified: Mapping[str, Sequence[VenueFact]]) -> dict[str, VenueFact]:
    """Return each fact once, by venue time; what has one time by rank, then along its position."""
    # Of equal records the one that says most, the same whatever file came first.
    chosen = {
        i: max(same, key=lambda f: (len(f.payload), _says(f))) for i, same in identified.items()
    }
    ranked = sorted(chosen.items(), key=lambda item: (*_turn(item[1]), item[0]))
    stands: dict[str, Decimal] = {}
    ordered: dict[str, VenueFact] = {}
    for _, group in groupby(ranked, key=lambda item: (item[1].time_us, _rank(item[1]))):
        ordered.update(_along_positions(list(group), stands))
    return ordered


def _rank(fact: VenueFact) -> int:
    """Return what comes first at one moment: money that comes in, then fills, then the rest."""
    return _FIRST.index(fact.event_type) if fact.event_type in _FIRST else len(_FIRST)


def _turn(fact: VenueFact) -> tuple[int, int, str, int, str]:
    """Return what facts are ordered by: time, rank, then names, where numbers rise."""
    record = fact.record or ""
    return fact.time_us, _rank(fact), fact.event_type, len(record), record


def _along_positions(
    group: list[tuple[str, VenueFact]], stands: dict[str, Decimal]
) -> Iterable[tuple[str, VenueFact]]:
    """Yield facts of one time so that each fill begins where the one before it ended."""
    linked: dict[str, list[tuple[str, VenueFact, Link]]] = {}
    for event_id, fact in group:
        if fact.link is None:
            yield event_id, fact
        else:
            linked.setdefault(fact.link.symbol, []).append((event_id, fact, fact.link))
    for symbol, fills in linked.items():
        for event_id, fact, link in trail(fills, lambda fill: fill[2], stands.get(symbol)):
            stands[symbol] = link.after
            yield event_id, fact


def _event(
    event_id: str,
    fact: VenueFact,
    owner: Owner,
    instruments: Mapping[str, VenueInstrument],
    pseudonym_of: Callable[[str], str],
) -> dict[str, Any]:
    payload = dict(fact.payload)
    payload |= _opaque(payload, owner)
    payload |= {name: pseudonym_of(identity) for name, identity in sorted(fact.person.items())}
    if fact.event_type not in _UNRATED:
        rates = _rates(fact, owner.currency, instruments.get(payload.get("symbol", "")))
        if rates:
            payload["rates"] = rates
    return _envelope(event_id, fact, owner, payload)


def _opaque(payload: Mapping[str, Any], owner: Owner) -> dict[str, str]:
    """Return ids in place of those that are no plain ones: updates publish them as they stand."""
    return {
        name: str(uuid5(owner.pseudonym, f"{owner.venue}:{name}:{payload[name]}"))
        for name, longest in _IDS.items()
        if name in payload and not _is_opaque(payload[name], longest)
    }


def _is_opaque(name: str, longest: int) -> bool:
    return len(name) <= longest and _OPAQUE.fullmatch(name) is not None


def _envelope(
    event_id: str, fact: VenueFact, owner: Owner, payload: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "event_type": fact.event_type,
        "stream_id": owner.account,
        "timestamp": rfc3339(fact.time_us),
        "schema_version": SCHEMA_VERSION,
        "source_service": SERVICE,
        "payload": payload,
    }


def _rates(
    fact: VenueFact, currency: str, instrument: VenueInstrument | None
) -> dict[str, str | None]:
    """Return a rate, or None, for each asset of a fact that is not the account's currency.

    The fold cannot know the rates of the past, and today's are never used for them.
    """
    assets = {fact.payload[name] for name in _ASSETS if fact.payload.get(name)}
    stated = dict(fact.rates)
    if instrument is not None:
        assets |= _assets_of(instrument)
        price = Decimal(fact.payload.get("price") or 0)
        if instrument.kind == "spot" and instrument.quote == currency and price > 0:
            stated.setdefault(instrument.base, price)
    return {
        asset: canonical_decimal(stated[asset]) if stated.get(asset) is not None else None
        for asset in sorted(assets - {currency})
    }


def _assets_of(instrument: VenueInstrument) -> set[str]:
    if instrument.kind == "spot":
        return {instrument.base, instrument.quote}
    return {instrument.settle if instrument.kind in _CONTRACTS else instrument.quote}
