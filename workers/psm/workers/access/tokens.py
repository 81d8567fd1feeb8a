"""Bearer tokens: `psm_<id>_<secret>`, of which only the hash of the secret is kept.

The secret has 160 random bits, so one SHA-256 is enough: there is nothing to guess. The prefix is
what scanners for leaked secrets look for.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from psm.contracts.errors import ConfigError
from psm.workers.access.policy import Principal, Role

TOKEN_DAYS_MAX = 90
_TOKEN = re.compile(r"psm_([0-9a-z]{8})_([a-z2-7]{32})")
_ID_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


class TokenRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a token.

    Attributes:
        secret_sha256: of the secret's characters.
        created_by: principal who made it.
        last_used_at: to the minute; None: never.
        revoked_at: from when on it holds no more; None: until it expires.
    """

    id: str
    secret_sha256: bytes
    principal: str
    kind: str
    roles: tuple[Role, ...]
    patterns: tuple[str, ...]
    created_by: str
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None

    def __repr__(self) -> str:
        return f"TokenRecord(id={self.id!r}, principal={self.principal!r})"

    def holds(self, at: datetime) -> bool:
        """Return whether it may be used at a time."""
        ended = self.revoked_at is not None and at >= self.revoked_at
        return not ended and at < self.expires_at

    def is_opened_by(self, secret: str) -> bool:
        """Return whether this is its secret; takes as long for any other."""
        return hmac.compare_digest(self.secret_sha256, hashed(secret))

    def shown(self, at: datetime) -> dict[str, Any]:
        """Return what may be told of it, and whether it holds at a time; times are in UTC."""
        told = msgspec.structs.asdict(self)
        del told["secret_sha256"]
        for name, value in told.items():
            if isinstance(value, datetime):
                told[name] = value.astimezone(UTC)
        return {**told, "holds": self.holds(at)}

    def principal_of(self) -> Principal:
        """Return whom it stands for."""
        return Principal(
            id=self.principal,
            kind="person" if self.kind == "person" else "service",
            roles=self.roles,
            patterns=self.patterns,
            how="token",
            key=self.id,
            expires=int(self.expires_at.timestamp()),
        )


def new_token() -> tuple[str, str, bytes]:
    """Return the id of a new token, the whole token, and the hash of its secret."""
    token_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(8))
    secret = base64.b32encode(secrets.token_bytes(20)).decode().lower()
    return token_id, f"psm_{token_id}_{secret}", hashed(secret)


def parts_of(token: str) -> tuple[str, str] | None:
    """Return id and secret of a token; None of what is none."""
    found = _TOKEN.fullmatch(token)
    return None if found is None else (found[1], found[2])


def write_token(file: Path, token: str) -> None:
    """Write a token into a new file that only its user may read.

    Raises:
        ConfigError: the file is there already, or cannot be made.
    """
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as opened:
            opened.write(f"{token}\n")
    except OSError as error:
        raise ConfigError(f"{file} cannot be made: {error.strerror}") from error


def hashed(secret: str) -> bytes:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode()).digest()
