"""Four eyes: a second person's signed consent to one action of one person, for a reason and a time.

A token is the consent as JSON and its Ed25519 signature, both base64url, joined by a dot. Who may
approve is a person of `access.toml` with a key.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from psm.contracts.errors import ConfigError
from psm.workers.ops.keys import load_private, made_signature, raw_public
from psm.workers.ops.people import People

Action = Literal["replay", "recover-partition", "recover-updates", "recover-log"]
"""What may be approved: replays and validations, and each way on after a loss by itself."""


class Consent(msgspec.Struct, frozen=True, kw_only=True):
    """What a second person consents to.

    Attributes:
        approver: who consents; never the actor.
        actor: who may do it.
        reason_sha256: of the reason that was given.
        expires_at: RFC 3339, UTC.
        action: what may be done.
    """

    approver: str
    actor: str
    reason_sha256: str
    expires_at: str
    action: Action = "replay"


def approve(
    key_file: Path,
    *,
    approver: str,
    actor: str,
    reason: str,
    expires_at: str,
    action: Action = "replay",
) -> str:
    """Return a token.

    Raises:
        ConfigError: the key cannot be used, or somebody approves of himself.
    """
    if approver == actor:
        raise ConfigError("a second person must approve: approver and actor are the same")
    key = load_private(key_file)
    consent = Consent(
        approver=approver,
        actor=actor,
        reason_sha256=_hashed(reason),
        expires_at=expires_at,
        action=action,
    )
    data = msgspec.json.encode(consent)
    return f"{_encoded(data)}.{_encoded(key.sign(data))}"


def check_approval(
    token: str,
    people: People,
    *,
    actor: str,
    reason: str,
    action: Action = "replay",
    now: datetime | None = None,
) -> str:
    """Return who approved: a person other than the actor, by a key of theirs.

    Raises:
        ConfigError: the token is not a consent to this action; the text says why.
    """
    try:
        data, signature = (_decoded(part) for part in token.split("."))
        consent = msgspec.json.decode(data, type=Consent)
    except (ValueError, msgspec.MsgspecError) as error:
        raise ConfigError("--approval is no approval token; see `psm ops approve`") from error
    keys = people.keys_of(consent.approver)
    if not keys:
        raise ConfigError(
            f"{consent.approver} may not approve: PSM_ACCESS_FILE names no person with a key so"
        )
    if not any(made_signature(raw_public(key), signature, data) for key in keys):
        raise ConfigError(f"the approval was not signed by {consent.approver}")
    if consent.approver == actor:
        raise ConfigError("a second person must approve: approver and actor are the same")
    if consent.actor != actor:
        raise ConfigError(f"the approval is for {consent.actor}, not for {actor}")
    if consent.action != action:
        raise ConfigError(f"the approval is for {consent.action}, not for {action}")
    if consent.reason_sha256 != _hashed(reason):
        raise ConfigError("the approval is for another reason")
    if datetime.fromisoformat(consent.expires_at) <= (now or datetime.now(UTC)):
        raise ConfigError(f"the approval expired at {consent.expires_at}")
    return consent.approver


def _hashed(reason: str) -> str:
    return hashlib.sha256(reason.encode()).hexdigest()


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
