"""What commands share that say something in the rulebook: who, why, with which key, and how."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from psm.contracts.errors import ConfigError
from psm.contracts.rulebook_events import FIRM, SCOPES
from psm.workers.access.issuers import people_of
from psm.workers.cli.shared.connections import broker
from psm.workers.cli.shared.output import Output
from psm.workers.ops.keys import key_id, load_private, raw_key_id
from psm.workers.ops.people import People
from psm.workers.ops.principal import principal
from psm.workers.process.config import load_settings
from psm.workers.risk.fences import fence_tightened
from psm.workers.risk.rulebook import RulebookReader, Said, Saying, read_rulebook, say

ScopeName = Annotated[
    str, Parameter(help="firm, group:NAME, account:ID, strategy:ID or symbol:NAME.")
]
_HASH = re.compile("[0-9a-f]{64}")
_REFUSED = 1


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Speaker:
    """Who says something in the rulebook.

    Attributes:
        reason: Why; it is kept for ever.
        key: Your Ed25519 private key (PEM, mode 0600); `psm anchor keygen` makes one.
        actor: You, by pseudonym; default: the holder of the key.
        dry_run: Show what would become of it, write nothing.
    """

    reason: str
    key: Path
    actor: str | None = None
    dry_run: Annotated[bool, Parameter(negative="")] = False


def parse_scope(text: str) -> tuple[str, str]:
    """Return scope and id of a text such as `group:desk`.

    Raises:
        ConfigError: it is none.
    """
    scope, _, name = text.partition(":")
    if scope not in SCOPES or (scope == FIRM) == bool(name):
        raise ConfigError(
            f"{text!r} is no scope: firm, group:NAME, account:ID, strategy:ID or symbol:NAME"
        )
    return scope, name or FIRM


def require_hash(text: str, what: str) -> None:
    """Refuse what is no whole hash.

    Raises:
        ConfigError: it is not.
    """
    if not _HASH.fullmatch(text):
        raise ConfigError(f"{text!r} is not the whole hash (64 hex digits) of {what}")


def scoped(text: str) -> dict[str, str]:
    """Return the fields of an event about a scope."""
    scope, name = parse_scope(text)
    return {"scope": scope, "id": name}


def load_rulebook() -> RulebookReader:
    """Read the rulebook as it is now."""

    async def run() -> RulebookReader:
        async with broker(load_settings(), "psm-risk") as nc:
            return await read_rulebook(nc)

    return asyncio.run(run())


def speak(speaker: Speaker, event_type: str, *contents: Mapping[str, Any], output: Output) -> int:
    """Say something in the rulebook, one event for each content; show what became of each.

    Returns:
        Exit code: 1 if one was refused; then those behind it are not said.
    """
    if not speaker.reason.strip():
        raise ConfigError("--reason says why; it is kept in the rulebook for ever")
    rows: list[dict[str, Any]] = []
    refused = asyncio.run(_speak(speaker, event_type, contents, rows))
    if len(rows) == 1:
        output.document(rows[0])
    else:
        output.rows(rows, ("outcome", "event_type", "subject", "sequence", "hash", "detail"))
    if speaker.dry_run:
        output.note("nothing was written (--dry-run)")
    if refused is not None:
        output.failure(f"refused: {refused.ruled.reason}: {refused.ruled.detail}; nothing written")
        return _REFUSED
    return 0


async def _speak(
    speaker: Speaker,
    event_type: str,
    contents: tuple[Mapping[str, Any], ...],
    rows: list[dict[str, Any]],
) -> Said | None:
    key, settings = load_private(speaker.key), load_settings()
    async with broker(settings, "psm-risk") as nc:
        reader = await read_rulebook(nc)
        held = reader.rulebook.keys.held.get(key_id(key.public_key()))
        actor = speaker.actor or (principal() if held is None else held.holder)
        _check_people(people_of(settings.access_file), key_id(key.public_key()), actor, contents)
        for content in contents:
            saying = Saying(
                event_type=event_type, content=content, actor=actor, reason=speaker.reason, key=key
            )
            said = await say(nc, reader, saying, dry_run=speaker.dry_run)
            rows.append(_row(event_type, said))
            if said.ruled.outcome == "refused":
                return said
            if any(effect.tightens for effect in said.ruled.effects) and not speaker.dry_run:
                # Acknowledged before this command ends: no approval from before comes after it.
                fences = await fence_tightened(nc, reader.rulebook, said.ruled.effects, actor)
                rows[-1]["fenced"] = [one.slot for one in fences if one.sequence]
    return None


def _check_people(
    people: People, key: str, actor: str, contents: tuple[Mapping[str, Any], ...]
) -> None:
    """Refuse a key in somebody else's name: one that signs, or one that is defined.

    Raises:
        ConfigError: `access.toml` says whose it is.
    """
    named = [(key, actor)]
    for content in contents:
        if "public_key" in content:
            raw = bytes.fromhex(content["public_key"])
            named = [*named, (raw_key_id(raw), content["holder"])]
    for name, holder in named:
        if people.of_key(name) not in (None, holder):
            raise ConfigError(
                f"key {name} is {people.of_key(name)}'s by PSM_ACCESS_FILE, not {holder}'s"
            )


def _row(event_type: str, said: Said) -> dict[str, Any]:
    ruled = said.ruled
    return {
        "outcome": ruled.outcome,
        "event_type": event_type,
        "subject": said.stored.subject,
        "sequence": said.stored.sequence or None,
        "hash": ruled.hash,
        "reason": ruled.reason,
        "detail": ruled.detail,
        "effects": [f"{effect.kind} {effect.scope}" for effect in ruled.effects],
    }
