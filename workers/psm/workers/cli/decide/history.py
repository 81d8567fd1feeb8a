"""What was said in the rulebook, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from psm.contracts.errors import ContractError
from psm.contracts.rulebook_codec import decode_signed
from psm.risk.rulebook.answers import scope_text
from psm.workers.risk.rulebook import RulebookReader, Said

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def history_rows(
    found: RulebookReader, kinds: Sequence[str] = ("",), scope: str | None = None
) -> list[dict[str, Any]]:
    """Return what was said, oldest first.

    Args:
        found: the rulebook.
        kinds: begins of the event types that are wanted.
        scope: only of this one.
    """
    rows = [_row(one) for one in found.said]
    return [
        row
        for row in rows
        if str(row["event_type"]).startswith(tuple(kinds)) and scope in (None, row["scope"])
    ]


def instant(time: int | None) -> str | None:
    """Return microseconds since 1970 as RFC 3339."""
    if time is None:
        return None
    at = _EPOCH + timedelta(microseconds=time)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _row(said: Said) -> dict[str, Any]:
    stored, ruled = said.stored, said.ruled
    row: dict[str, Any] = {
        "sequence": stored.sequence,
        "at": instant(stored.time),
        "event_type": None,
        "scope": stored.subject,
        "actor": None,
        "reason": None,
        "outcome": ruled.outcome,
        "code": ruled.reason,
        "detail": ruled.detail,
        "hash": ruled.hash,
    }
    try:
        signed = decode_signed(stored.subject, stored.data)
    except ContractError:
        return row
    event = signed.event
    return row | {
        "event_type": signed.envelope.event_type,
        "scope": scope_text(*event.place()),
        "actor": event.actor,
        "reason": event.reason,
    }
