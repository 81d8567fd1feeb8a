"""Events on `control.*`: what an operator says to every partition of a log."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from psm.contracts.fields import Key, Number, Payload
from psm.contracts.personal import Actor

Digest = Annotated[str, Meta(min_length=64, max_length=64, examples=["ab" * 32])]


class LogTrimmed(Payload, frozen=True, kw_only=True):
    """Messages up to `through` left the hot log, on `control.log`; they are kept elsewhere."""

    through: Number
    certificate: Digest
    actor: Actor
    approval: Key


class LogRestored(Payload, frozen=True, kw_only=True):
    """Messages up to `through` are in the hot log again, on `control.log`."""

    through: Number


class RegionPromoted(Payload, frozen=True, kw_only=True):
    """Another region leads from here on, on `control.region`."""

    epoch: Number
    region: Key
    fork_sequence: Number
    previous_hash: Digest


CONTROL_SUBJECTS: dict[str, str] = {
    "RulesEnabled": "control.rules",
    "LogTrimmed": "control.log",
    "LogRestored": "control.log",
    "RegionPromoted": "control.region",
}
"""Event type -> the subject that it stands on."""
