"""Four eyes: a second person's signed consent to one action of one person, for a reason and a time.

A token is the consent as JSON and its Ed25519 signature, both base64url, joined by a dot. Public
keys of those who may approve are in a JSON file, name -> PEM.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from psm.contracts.errors import ConfigError
from psm.workers.ops.keys import load_private, parse_public, read_file

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
    approvers_file: Path,
    *,
    actor: str,
    reason: str,
    action: Action = "replay",
    now: datetime | None = None,
) -> str:
    """Return who approved.

    Raises:
        ConfigError: the token is not a consent to this action; the text says why.
    """
    try:
        data, signature = (_decoded(part) for part in token.split("."))
        consent = msgspec.json.decode(data, type=Consent)
    except (ValueError, msgspec.MsgspecError) as error:
        raise ConfigError("--approval is no approval token; see `psm ops approve`") from error
    key = _approvers(approvers_file).get(consent.approver)
    if key is None:
        raise ConfigError(f"{consent.approver} may not approve: not in {approvers_file}")
    try:
        key.verify(signature, data)
    except InvalidSignature as error:
        raise ConfigError(f"the approval was not signed by {consent.approver}") from error
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


def _approvers(path: Path) -> dict[str, Ed25519PublicKey]:
    try:
        named = msgspec.json.decode(read_file(path), type=dict[str, str])
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path} must be JSON, name -> public key in PEM: {error}") from error
    return {name: parse_public(pem.encode(), f"{path}: {name}") for name, pem in named.items()}


def _hashed(reason: str) -> str:
    return hashlib.sha256(reason.encode()).hexdigest()


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
