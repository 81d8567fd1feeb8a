"""Tokens of others: what a signature alone does not say."""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from joserfc import jwk, jwt
from tests.support.workbench import until

from psm.contracts.errors import ConfigError
from psm.workers.access import key_sets
from psm.workers.access.issuers import (
    LEEWAY_S,
    LIFE_MAX_S,
    Assertions,
    ForeignTokenError,
    Grant,
    Issuer,
    read_access_file,
)
from psm.workers.access.policy import Principal

AT = 1_700_000_000
ISS, AUDIENCE = "https://login.example", "psm"
KEY = jwk.OKPKey.generate_key("Ed25519", auto_kid=True)
RSA = jwk.RSAKey.generate_key(2048, auto_kid=True)
OTHER = jwk.OKPKey.generate_key("Ed25519", auto_kid=True)
ISSUER = Issuer(
    iss=ISS,
    audience=AUDIENCE,
    algorithms=("Ed25519", "RS256"),
    jwks_file="keys.json",
    grants={
        "desk": Grant(roles=("viewer",), patterns=("account:desk-*",)),
        "audit": Grant(roles=("auditor",), patterns=("*",)),
    },
)
CLAIMS: dict[str, Any] = {
    "iss": ISS, "aud": AUDIENCE, "sub": "u_1", "iat": AT - 10, "exp": AT + 600, "roles": ["desk"],
}  # fmt: skip
GOOD = "[[issuer]]\niss='x'\naudience='a'\nalgorithms=['RS256']\njwks_file='k'\n"
PUBLIC = jwk.KeySet([jwk.import_key(key.as_dict(private=False)) for key in (KEY, RSA)])


def token(key: Any = KEY, alg: str = "Ed25519", typ: str = "at+jwt", **more: Any) -> str:
    header = {"alg": alg, "typ": typ, "kid": key.kid, **more.pop("header", {})}
    claims = {name: value for name, value in {**CLAIMS, **more}.items() if value is not None}
    return jwt.encode(header, claims, key, algorithms=[alg])


class Known:
    """The issuer's keys, and how often one was asked for that is not among them."""

    missing = 0

    def __call__(self) -> jwk.KeySet:
        return PUBLIC

    def missed(self) -> None:
        self.missing += 1


def recognised(text: str, keys: Known | None = None) -> Principal:
    return Assertions({ISS: (ISSUER, keys or Known())}, now=lambda: AT).principal(text)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_no_file_gives_the_role_that_gives_everything(tmp_path: Path) -> None:
    file = tmp_path / "access.toml"
    file.write_text(f"{GOOD}[issuer.grants.x]\nroles=['bootstrap']\n")
    with pytest.raises(ConfigError, match="nobody is given the role bootstrap"):
        read_access_file(file)


def test_a_good_token_stands_for_its_subject() -> None:
    who = recognised(token())
    assert (who.id, who.kind, who.roles, who.patterns) == (
        "u_1", "person", ("viewer",), ("account:desk-*",),
    )  # fmt: skip
    assert who.expires == AT + 600
    assert recognised(token(RSA, "RS256")).how == "jwt"
    assert recognised(token(aud=["x", AUDIENCE], roles=["desk", "nobody"])).roles == ("viewer",)
    assert recognised(token(roles=["desk", "audit"])).roles == ("viewer", "auditor")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a.b.c", "no signed token"),
        ("a.b", "no signed token"),
        (token(OTHER), "does not count"),
        (token(iss="https://elsewhere.example"), "issuer is not known"),
        (token(aud="other"), "not for psm"),
        (token(aud=None), "not for psm"),
        (token(exp=AT - LEEWAY_S), "expired"),
        (token(exp=None), "until when"),
        (token(iat=None), "until when"),
        (token(iat=AT + LEEWAY_S + 1, exp=AT + 99), "not hold yet"),
        (token(nbf=AT + LEEWAY_S + 1), "not hold yet"),
        (token(iat=AT, exp=AT + LIFE_MAX_S + 1), "too long"),
        (token(typ="JWT"), "not of type"),
        (token(typ="id+jwt"), "not of type"),
        (token(roles=["nobody"]), "grants nothing"),
        (token(roles=None), "grants nothing"),
        (token(sub="a b"), "grants nothing"),
        (token(sub=None), "names no subject"),
        (token(sub=5), "names no subject"),
        ("a." + _encoded(b'{"iss":"x","a":' + b"[" * 5_000) + ".c", "no signed token"),
        (token(exp="soon"), "no time"),
        (token(header={"jku": "https://evil.example"}), "does not count|where its key is"),
        ("x" * 20_000 + ".y.z", "too long"),
    ],
)
def test_what_opens_nothing(text: str, says: str) -> None:
    with pytest.raises(ForeignTokenError, match=says):
        recognised(text)


def test_a_key_that_is_not_known_is_asked_for() -> None:
    """A wrong signature of a known one says nothing about the issuer's keys."""
    known = Known()
    for text, missing in ((token(OTHER), 1), (token()[:-8] + "AAAAAAAA", 1), (token(), 1)):
        with contextlib.suppress(ForeignTokenError):
            recognised(text, known)
        assert known.missing == missing


async def test_an_issuers_new_key_counts_without_waiting_for_the_next_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read again as soon as a token names one that is missing, and may be."""
    monkeypatch.setattr(key_sets, "AGAIN_S", 0.0)
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(jwk.KeySet([RSA]).as_dict(private=False)))
    keys = key_sets.IssuerKeys(msgspec.structs.replace(ISSUER, jwks_file=str(file)))
    async with keys.kept():
        file.write_text(json.dumps(PUBLIC.as_dict(private=False)))
        assertions = Assertions({ISS: (ISSUER, keys)}, now=lambda: AT)

        def knows() -> bool:
            with contextlib.suppress(ForeignTokenError):
                return assertions.principal(token()).id == "u_1"
            return False

        await until(knows, "it was read again")


def test_an_algorithm_is_the_issuers_and_not_the_tokens() -> None:
    """Unsigned, and signed with the public key as if it were a secret: neither counts."""
    head, body, _ = token().split(".")
    confusing = json.dumps({"alg": "HS256", "typ": "at+jwt", "kid": RSA.kid})
    signed = f"{_encoded(confusing.encode())}.{body}"
    public = RSA.as_pem(private=False)
    digest = hmac.digest(public, signed.encode(), "sha256")
    confused = f"{signed}.{_encoded(digest)}"
    unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0"
    for text in (confused, f"{unsigned}.{body}.", f"{head}.{body}."):
        with pytest.raises(ForeignTokenError, match="does not count"):
            recognised(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[issuer]]\niss = 'x'", "missing required field"),
        ("[[issuer]]\niss='x'\naudience='a'\nalgorithms=['RS256']", "one of jwks_file"),
        (
            "[[issuer]]\niss='x'\naudience='a'\nalgorithms=['RS256']\njwks_url='http://x'",
            "must begin with https",
        ),
        (
            "[[issuer]]\niss='x'\naudience='a'\nalgorithms=['HS256']\njwks_file='k'",
            "'HS256' cannot",
        ),
        ("[[issuer]]\niss='x'\naudience='a'\nalgorithms=['none']\njwks_file='k'", "'none' cannot"),
        ("[[issuer]]\niss='x'\naudience='a'\nalgorithms=[]\njwks_file='k'", "none at all"),
        (
            f"{GOOD}[issuer.grants.desk]\nroles=['root']",
            "grant 'desk': 'root' is no role",
        ),
        ("issuers = 1", "unknown field"),
        ("x = ", "Invalid"),
    ],
)
def test_a_wrong_file_says_where(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "access.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_access_file(file)
