"""What became of messages, as their updates say it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from psm.domain.messages import Update

_REFUSED, _COMPARED = "event.refused", "reconciliation.reported"


class _Refused(msgspec.Struct, gc=False):
    outcome: str
    reason: str


class _Envelope(msgspec.Struct, gc=False):
    payload: _Refused


_decoder = msgspec.json.Decoder(_Envelope)


class _Answer(msgspec.Struct, gc=False):
    matches: bool | None


class _Answered(msgspec.Struct, gc=False):
    payload: _Answer


_answered = msgspec.json.Decoder(_Answered)
_RESULTS = {True: "matches", False: "differs", None: "not_compared"}


def comparisons_in(updates: Iterable[Update]) -> Iterator[str]:
    """Yield the result of every report that was answered: `matches`, `differs`, `not_compared`."""
    for update in updates:
        if update.kind == _COMPARED:
            yield _RESULTS[_answered.decode(update.data).payload.matches]


def refusals_in(updates: Iterable[Update]) -> Iterator[tuple[str, str]]:
    """Yield outcome and reason of every message that changed nothing, released ones included."""
    for update in updates:
        if update.kind == _REFUSED:
            refused = _decoder.decode(update.data).payload
            yield refused.outcome, refused.reason
