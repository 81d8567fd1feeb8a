"""Operator mode of a NATS server: an operator, an account and users with credentials (JWT)."""

from __future__ import annotations

import base64
import json
import secrets
import time
from pathlib import Path
from typing import Any

import nkeys

_CREDS = """\
-----BEGIN NATS USER JWT-----
{jwt}
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
{seed}
------END USER NKEY SEED------
"""


class Operator:
    """Who signs accounts; here there is one."""

    def __init__(self) -> None:
        self._operator = _pair(nkeys.PREFIX_BYTE_OPERATOR)
        self._account = _pair(nkeys.PREFIX_BYTE_ACCOUNT)

    def config(self) -> str:
        """Return the configuration of a server that believes this operator."""
        name = self._account.public_key.decode()
        limits = {"subs": -1, "data": -1, "payload": -1, "conn": -1, "imports": -1, "exports": -1}
        operator = _jwt("operator", self._operator, self._operator, {})
        account = _jwt("account", self._account, self._operator, {"limits": limits})
        return (
            f'operator: {operator}\nresolver: MEMORY\nresolver_preload: {{ {name}: "{account}" }}\n'
        )

    def write_creds(self, file: Path, life_s: int) -> None:
        """Write the credentials of a new user, which hold for so many seconds."""
        user = _pair(nkeys.PREFIX_BYTE_USER)
        limits = {"subs": -1, "data": -1, "payload": -1}
        jwt = _jwt("user", user, self._account, limits, int(time.time()) + life_s)
        fresh = file.with_suffix(".new")
        fresh.write_text(_CREDS.format(jwt=jwt, seed=bytes(user.seed).decode()))
        fresh.replace(file)


def _pair(prefix: int) -> Any:
    return nkeys.from_seed(bytearray(nkeys.encode_seed(secrets.token_bytes(32), prefix)))


def _jwt(kind: str, subject: Any, issuer: Any, more: dict[str, Any], ends: int = 0) -> str:
    claims = {
        "jti": secrets.token_hex(8),
        "iat": int(time.time()),
        "iss": issuer.public_key.decode(),
        "sub": subject.public_key.decode(),
        "name": kind,
        "nats": {"type": kind, "version": 2, **more},
        **({"exp": ends} if ends else {}),
    }
    said = f"{_encoded({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_encoded(claims)}"
    return f"{said}.{_base64(issuer.sign(said.encode()))}"


def _encoded(document: dict[str, Any]) -> str:
    return _base64(json.dumps(document).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
