"""What the files of a venue report, compared with the account, and why it may differ. Pure.

The report is one as anybody may send it (`AccountReported`), and is compared as those are. Where
the files do not tell a part of it, such as balances, that part is as the account has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, cast

import msgspec

from psm.contracts.codec import encode
from psm.contracts.payload_codec import PayloadCodec
from psm.contracts.position_keys import position_key
from psm.contracts.reconciliation import Difference
from psm.contracts.reports import AccountReported
from psm.domain.account import Account
from psm.domain.money import published_text
from psm.domain.reconciliation import Holdings, PositionKey, compare, holdings_of, report_of
from psm.workers.imports.causes import Causes
from psm.workers.imports.facts import Found, ReportedPosition, VenueFact
from psm.workers.imports.rows import rfc3339

_PRICE_TOLERANCE = Decimal("0.00005")  # venues round what they show of averages
_ALL = {"balances", "positions"}
_CODEC = PayloadCodec(AccountReported)
_NAMES = ("fill_id", "transfer_id", "reference")
_NOTHING = Holdings(assets={}, positions={})


class NamedDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One figure in which venue and account differ.

    Attributes:
        what: such as `assets.USDT` or `positions.BTCUSDT-PERP.size`.
        expected: as the account has it.
        reported: as the venue has it.
        difference: reported minus expected.
        cause: what explains it, as far as the files tell.
    """

    what: str
    expected: str
    reported: str
    difference: str
    cause: str


class ImportComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome: whether all agrees.

    Attributes:
        matches: None where the files report nothing, or the account has events after the report.
        as_of: time of the report, or of the last record.
        compared: names of what the files report.
        not_compared: parts of it that nothing in the account answers to.
        differences: sorted by what they are about.
        report: payload of the `AccountReported`, where the files tell all of it.
    """

    matches: bool | None
    as_of: str
    compared: list[str]
    not_compared: list[str]
    differences: list[NamedDifference]
    report: dict[str, Any] | None = None


def compare_files(
    found: Found,
    facts: Mapping[str, VenueFact],
    account: Account | None,
    source: str,
    last_time_us: int | None = None,
) -> ImportComparison:
    """Return in what an account differs from what the files report.

    Args:
        found: all that the files say.
        facts: those of the files, in order, each once, by event id.
        account: behind the import; None where it does not exist.
        source: of the report.
        last_time_us: the latest time of the account's events.
    """
    held = _NOTHING if account is None else holdings_of(account)
    positions = {**_after_fills(found, list(facts.values())), **found.positions}
    until = max([found.as_of_us or 0, *(fact.time_us for fact in facts.values())])
    payload = _report(found, positions, held, source, rfc3339(found.as_of_us or until))
    defined = {} if account is None else account.prices.market.instruments
    result = compare(cast("AccountReported", _CODEC.decode(encode(payload))), held, defined)
    told, later = _told(found, positions), (last_time_us or 0) > until
    judged = bool(told or found.whole) and not later
    causes = Causes(found, list(facts.values()), later=later)
    return ImportComparison(
        matches=result.matches if judged else None,
        as_of=payload["as_of"],
        compared=told,
        not_compared=list(result.not_compared),
        differences=[_named(one, causes) for one in result.differences],
        report=payload | _through(found, facts) if found.whole >= _ALL else None,
    )


def _named(one: Difference, causes: Causes) -> NamedDifference:
    cause = causes.of(one.what, one.symbol, Decimal(one.reported), Decimal(one.expected))
    return NamedDifference(
        what=one.what,
        expected=str(one.expected),
        reported=str(one.reported),
        difference=str(one.difference),
        cause=cause,
    )


def _report(
    found: Found,
    positions: Mapping[PositionKey, ReportedPosition],
    held: Holdings,
    source: str,
    as_of: str,
) -> dict[str, Any]:
    """Return the payload of a whole report; what the files leave out is as it is held."""
    ours = report_of(held, source=source, as_of=as_of)
    assets = {} if "balances" in found.whole else dict(ours["assets"])
    assets |= {name: published_text(q) for name, q in sorted(found.reported_balances.items())}
    told = {position_key(*key) for key in positions}
    others = [
        said
        for said in ours["positions"]
        if "positions" not in found.whole
        and position_key(said["symbol"], said["position_side"]) not in told
    ]
    tolerance = {
        f"positions.{position_key(*key)}.entry_price": published_text(
            abs(one.entry_price) * _PRICE_TOLERANCE
        )
        for key, one in sorted(positions.items())
        if one.entry_price is not None
    }
    said = [_position(*key, one) for key, one in sorted(positions.items())]
    fields = {
        "source": source,
        "as_of": as_of,
        "assets": assets,
        "positions": [*said, *others],
        "cost_method": ours["cost_method"],
    }
    return fields | {"tolerance": tolerance} if tolerance else fields


def _position(symbol: str, side: str, one: ReportedPosition) -> dict[str, str]:
    said = {"symbol": symbol, "position_side": side, "size": published_text(one.quantity)}
    if one.entry_price is None:
        return said
    return {**said, "entry_price": published_text(one.entry_price)}


def _after_fills(found: Found, facts: Sequence[VenueFact]) -> dict[PositionKey, ReportedPosition]:
    """Return the positions of contracts as the venue tells them with their last fill."""
    last = {fact.link.symbol: fact.link.after for fact in facts if fact.link is not None}
    return {
        (symbol, "net"): ReportedPosition(quantity=size)
        for symbol, size in last.items()
        if symbol in found.instruments and found.instruments[symbol].kind != "spot"
    }


def _told(found: Found, positions: Mapping[PositionKey, ReportedPosition]) -> list[str]:
    assets = [f"assets.{name}" for name in sorted(found.reported_balances)]
    return [*assets, *(f"positions.{position_key(*key)}" for key in sorted(positions))]


def _through(found: Found, facts: Mapping[str, VenueFact]) -> dict[str, str]:
    """Return the last record that the report contains, by the venue's name or its event's id."""
    until = found.as_of_us
    contained = [
        next((f.payload[field] for field in _NAMES if field in f.payload), event_id)
        for event_id, f in facts.items()
        if until is None or f.time_us <= until
    ]
    return {"through": contained[-1]} if contained else {}
