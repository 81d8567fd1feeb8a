"""People, of whom two are asked for what one alone may not do.

`[[person]]` in `access.toml` says who somebody is, however they come: by a key, or by the subject
of an issuer. Two names are one person where they share any of these, so they may not.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from psm.contracts.errors import ConfigError
from psm.workers.ops.keys import key_id, parse_public, read_file

K = TypeVar("K")


class Subject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom an issuer's tokens name."""

    iss: str
    sub: str


class Person(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody.

    Attributes:
        id: pseudonym; it is kept for years, so it is no name.
        oidc: as whom they come by an issuer's token.
        keys: Ed25519 public keys: PEM texts, or files beside the one that says so.
    """

    id: str
    oidc: tuple[Subject, ...] = ()
    keys: tuple[str, ...] = ()


class People:
    """Everybody that is known.

    Raises:
        ConfigError: two are called, come or sign alike; the text names both.
    """

    def __init__(self, people: Iterable[Person] = (), folder: Path = Path()) -> None:
        self._keys: dict[str, dict[str, Ed25519PublicKey]] = {}
        self._by_key: dict[str, str] = {}
        self._by_subject: dict[Subject, str] = {}
        for person in people:
            if person.id in self._keys:
                raise ConfigError(f"person {person.id!r} is there twice")
            keys = [_public(text, folder, person.id) for text in person.keys]
            self._keys[person.id] = {key_id(key): key for key in keys}
            for name in self._keys[person.id]:
                _only(self._by_key, name, person.id, f"key {name}")
            for subject in person.oidc:
                named = f"subject {subject.sub!r} of {subject.iss}"
                _only(self._by_subject, subject, person.id, named)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def knows(self, person: str) -> bool:
        """Return whether there is a person of this id."""
        return person in self._keys

    def keys_of(self, person: str) -> tuple[Ed25519PublicKey, ...]:
        """Return the keys of a person; none of an unknown one."""
        return tuple(self._keys.get(person, {}).values())

    def of_key(self, name: str) -> str | None:
        """Return whose the key of an id is."""
        return self._by_key.get(name)

    def of_subject(self, iss: str, sub: str) -> str | None:
        """Return who a subject of an issuer is."""
        return self._by_subject.get(Subject(iss=iss, sub=sub))


def _only(known: dict[K, str], what: K, person: str, named: str) -> None:
    if known.setdefault(what, person) != person:
        raise ConfigError(
            f"{named} is that of {known[what]!r} and of {person!r}: those are one person"
        )


def _public(text: str, folder: Path, person: str) -> Ed25519PublicKey:
    is_pem = text.lstrip().startswith("-----BEGIN")
    pem = text.encode() if is_pem else read_file(folder / text)
    return parse_public(pem, f"a key of person {person!r}")
