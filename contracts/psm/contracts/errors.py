"""Every error PSM raises on purpose, grouped by what the caller does next.

PSMError
├── ContractError      not an event we know: reject it, or dead-letter it
├── ConflictError      someone appended first: reload and try again
├── TransientError     an outside system is away: retry with back-off
├── FencedError        another worker owns the partition: drop the state, step down
├── LogDamagedError    the log lost or changed something: stop, name the point
├── ConfigError        settings or streams are not as required: fix them, start again
├── ReplayModeError    a side effect during a replay: it did not happen, and must not
└── InvariantError     PSM contradicts itself: the partition stops
"""

from __future__ import annotations


class PSMError(Exception):
    """Base of every error PSM raises on purpose."""


class ContractError(PSMError):
    """Bytes or values that are not an event of the contract.

    Attributes:
        reason: stable code, `snake_case` (contracts: `invalid_json`, `missing_field`, ...).
        detail: one sentence for people; deterministic, never a library's own text.
        field: path of the offending field, such as `payload.quantity`, or None.
    """

    def __init__(self, reason: str, detail: str, field: str | None = None) -> None:
        super().__init__(f"{reason}: {detail}" + (f" (field {field})" if field else ""))
        self.reason = reason
        self.detail = detail
        self.field = field


class ConflictError(PSMError):
    """Somebody else appended first; the writer's knowledge is out of date."""


class TransientError(PSMError):
    """An outside system is away or answered nothing; the outcome may be unknown."""


class FencedError(PSMError):
    """Another worker wrote where only the owner of the partition may."""


class LogDamagedError(PSMError):
    """A message the log once had is missing or has other bytes."""


class ConfigError(PSMError):
    """A setting, a stream or a file is not as PSM needs it; the text says what to do."""


class ReplayModeError(PSMError):
    """A side effect was tried during a replay; it did not happen."""


class InvariantError(PSMError):
    """Two things that must agree do not; going on could make a balance wrong."""
