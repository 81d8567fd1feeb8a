"""Tokens that others issue: signed JSON (JWT) of the OpenID Connect issuers of `access.toml`.

The library checks the signature. What it leaves to its callers is checked here: which algorithms an
issuer may use at all, the type of the token, its audience, and that it does not hold for years. A
token says nothing about where its key is to be found.
"""

from __future__ import annotations

import time
import tomllib
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from psm.contracts.codec import INVALID_JSON
from psm.contracts.errors import ConfigError, PSMError
from psm.workers.access.policy import PolicyError, Principal, checked
from psm.workers.ops.people import People, Person

LEEWAY_S = 30
LIFE_MAX_S = 3600
_TOKEN_BYTES_MAX = 16 * 1024
_POINTERS = ("jku", "x5u", "jwk", "x5c")


class KeysOfIssuer(Protocol):
    """Public keys of an issuer."""

    def __call__(self) -> KeySet:
        """Return those that count now."""

    def missed(self) -> None:
        """Take note that a token names a key that is not among them."""


class Grant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody else's word is worth here, such as one value of the roles' claim."""

    roles: tuple[str, ...]
    patterns: tuple[str, ...] = ()


class Issuer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody whose tokens count.

    Attributes:
        iss: as its tokens name it.
        audience: that they must be for.
        algorithms: that they may be signed with, by full name, such as `RS256` or `Ed25519`.
        types: of tokens; an id token is none that opens anything.
        jwks_file, jwks_url: its public keys; one of both.
        claim: in which it says what a principal may do.
        grants: value of the claim -> roles and patterns.
        kind: whether its subjects are services or people.
    """

    iss: str
    audience: str
    algorithms: tuple[str, ...]
    types: tuple[str, ...] = ("at+jwt",)
    jwks_file: str | None = None
    jwks_url: str | None = None
    claim: str = "roles"
    grants: dict[str, Grant] = {}
    kind: str = "person"


class CertificateGrant(Grant, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a certificate is worth here; `uri` is the one that it names as its owner."""

    uri: str


class AccessFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `access.toml` says."""

    issuer: tuple[Issuer, ...] = ()
    certificate: tuple[CertificateGrant, ...] = ()
    person: tuple[Person, ...] = ()

    def people(self, path: Path) -> People:
        """Return everybody whom the file at `path` names.

        Raises:
            ConfigError: two of them are one.
        """
        try:
            return People(self.person, path.parent)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error


class ForeignTokenError(PSMError):
    """A signed token that opens nothing here; the text is for its sender."""


def read_access_file(path: Path) -> AccessFile:
    """Return what an `access.toml` says.

    Raises:
        ConfigError: it cannot be read, or says what cannot be; the text names where.
    """
    try:
        text = path.read_text("utf-8")
        found = msgspec.convert(tomllib.loads(text), AccessFile)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from error
    for issuer in found.issuer:
        _check_issuer(path, issuer)
    if len({issuer.iss for issuer in found.issuer}) < len(found.issuer):
        raise ConfigError(f"{path}: two issuers have one name")
    for owner in found.certificate:
        _check_grant(f"{path}: certificate {owner.uri[:64]!r}", owner, owner.uri)
    if len({owner.uri for owner in found.certificate}) < len(found.certificate):
        raise ConfigError(f"{path}: two certificates have one uri")
    found.people(path)
    return found


def access_of(file: str | None) -> AccessFile:
    """Return what an `access.toml` says; nothing without one.

    Raises:
        ConfigError: as of `read_access_file`.
    """
    return AccessFile() if file is None else read_access_file(Path(file))


def people_of(file: str | None) -> People:
    """Return the people of an `access.toml`; nobody without one.

    Raises:
        ConfigError: as of `read_access_file`.
    """
    return access_of(file).people(Path(file or ""))


def _check_issuer(path: Path, issuer: Issuer) -> None:
    where = f"{path}: issuer {issuer.iss[:64]!r}"
    if (issuer.jwks_file is None) == (issuer.jwks_url is None):
        raise ConfigError(f"{where} needs one of jwks_file and jwks_url")
    if issuer.jwks_url is not None and not issuer.jwks_url.startswith("https://"):
        raise ConfigError(f"{where}: jwks_url must begin with https://")
    _check_algorithms(where, issuer)
    for value, grant in issuer.grants.items():
        _check_grant(f"{where}, grant {value[:64]!r}", grant)


def _check_grant(where: str, grant: Grant, principal: str = "x") -> None:
    if "bootstrap" in grant.roles:
        raise ConfigError(f"{where}: nobody is given the role bootstrap")
    try:
        checked(principal, grant.roles, grant.patterns)
    except PolicyError as error:
        raise ConfigError(f"{where}: {error}") from error


def _check_algorithms(where: str, issuer: Issuer) -> None:
    known = set(JWSRegistry.algorithms)
    weak = [name for name in issuer.algorithms if name == "none" or name[:2] == "HS"]
    unknown = [name for name in issuer.algorithms if name not in known]
    if weak or unknown or not issuer.algorithms:
        named = (weak or unknown or ["none at all"])[0]
        raise ConfigError(f"{where}: algorithm {named!r} cannot be; name such as RS256, Ed25519")


class Assertions:
    """Recognises principals by tokens of issuers.

    Args:
        issuers: whose tokens count, each with how to have its keys now.
        now: seconds since 1970.
        people: who a subject is.
    """

    def __init__(
        self,
        issuers: Mapping[str, tuple[Issuer, KeysOfIssuer]],
        now: Callable[[], float] = time.time,
        people: People | None = None,
    ) -> None:
        self._issuers, self._now, self._people = issuers, now, people or People()

    def knows(self, issuer: str) -> bool:
        """Return whether the tokens of an issuer count."""
        return issuer in self._issuers

    def principal(self, token: str) -> Principal:
        """Return whom a token stands for.

        Raises:
            ForeignTokenError: it opens nothing here.
        """
        if len(token) > _TOKEN_BYTES_MAX:
            raise ForeignTokenError("the token is too long")
        issuer, keys = self._issuer_of(token)
        try:
            found = jwt.decode(token, keys(), algorithms=list(issuer.algorithms))
        except (JoseError, ValueError) as error:
            if isinstance(error, InvalidKeyIdError):
                keys.missed()
            raise ForeignTokenError(
                f"the token's signature does not count: {_kind(error)}"
            ) from error
        header, claims = found.header, found.claims
        if any(name in header for name in _POINTERS):
            raise ForeignTokenError("the token says where its key is; nobody believes that")
        if str(header.get("typ", "")).lower() not in issuer.types:
            raise ForeignTokenError(f"the token is not of type {', '.join(issuer.types)}")
        self._check_claims(issuer, claims)
        return self._granted(issuer, claims)

    def _issuer_of(self, token: str) -> tuple[Issuer, KeysOfIssuer]:
        """Return the issuer that a token names; nothing else of it is believed yet."""
        try:
            _, body, _ = token.split(".")
            padded = body + "=" * (-len(body) % 4)
            named = msgspec.json.decode(_unpacked(padded), type=_Named).iss
        except INVALID_JSON as error:
            raise ForeignTokenError("this is no signed token") from error
        if named not in self._issuers:
            raise ForeignTokenError("the token's issuer is not known here")
        return self._issuers[named]

    def _check_claims(self, issuer: Issuer, claims: Mapping[str, Any]) -> None:
        at = self._now()
        audience = claims.get("aud")
        wanted = audience if isinstance(audience, list) else [audience]
        issued, expires, begins = (_seconds(claims, name) for name in ("iat", "exp", "nbf"))
        if issuer.audience not in wanted:
            raise ForeignTokenError(f"the token is not for {issuer.audience}")
        if issued is None or expires is None:
            raise ForeignTokenError("the token does not say since when and until when it holds")
        if at >= expires + LEEWAY_S:
            raise ForeignTokenError("the token has expired")
        if at < max(issued, begins or issued) - LEEWAY_S:
            raise ForeignTokenError("the token does not hold yet; are the clocks right?")
        if expires - issued > LIFE_MAX_S:
            raise ForeignTokenError(
                f"the token holds for more than {LIFE_MAX_S} s, which is too long"
            )

    def _granted(self, issuer: Issuer, claims: Mapping[str, Any]) -> Principal:
        values = claims.get(issuer.claim)
        named = values if isinstance(values, list) else [values]
        grants = [issuer.grants[v] for v in named if isinstance(v, str) and v in issuer.grants]
        subject = claims.get("sub")
        if not isinstance(subject, str):
            raise ForeignTokenError("the token names no subject")
        try:
            principal_id, roles, patterns = checked(
                subject,
                [role for grant in grants for role in grant.roles],
                [pattern for grant in grants for pattern in grant.patterns],
            )
        except PolicyError as error:
            raise ForeignTokenError(f"the token grants nothing here: {error}") from error
        return Principal(
            id=principal_id,
            kind="service" if issuer.kind == "service" else "person",
            roles=roles,
            patterns=patterns,
            how="jwt",
            key=issuer.iss,
            expires=_seconds(claims, "exp"),
            person=self._people.of_subject(issuer.iss, principal_id),
        )


class _Named(msgspec.Struct, frozen=True):
    iss: str


def _unpacked(text: str) -> bytes:
    return urlsafe_b64decode(text)


def _seconds(claims: Mapping[str, Any], name: str) -> int | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ForeignTokenError(f"{name} of the token is no time")
    return int(value)


def _kind(error: Exception) -> str:
    return getattr(error, "error", type(error).__name__)
