"""Ed25519 keys of anchors, approvals and rules: a private one is for its owner's eyes only."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from psm.contracts.errors import ConfigError

_PRIVATE_MODE = 0o600


class Keyring:
    """The public keys that anchors, or headers, may be signed with, by their ids."""

    def __init__(self, keys: Iterable[Ed25519PublicKey]) -> None:
        self._keys = {key_id(key): key for key in keys}

    def become(self, other: Keyring) -> None:
        """Hold the keys of another one from now on."""
        self._keys = other._keys

    def has(self, name: str) -> bool:
        """Return whether the key of an id is known."""
        return name in self._keys

    def verifies(self, name: str, signature: bytes, signed: bytes) -> bool:
        """Return whether the key `name` is known and made this signature."""
        key = self._keys.get(name)
        if key is None:
            return False
        try:
            key.verify(signature, signed)
        except InvalidSignature:
            return False
        return True


def key_id(key: Ed25519PublicKey) -> str:
    """Return the first 16 hex digits of SHA-256 of the raw public key."""
    return raw_key_id(raw_public(key))


def raw_key_id(raw: bytes) -> str:
    """Return the same of the 32 bytes of a public key."""
    return hashlib.sha256(raw).hexdigest()[:16]


def raw_public(key: Ed25519PublicKey) -> bytes:
    """Return a public key as its 32 bytes."""
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def made_signature(public_key: bytes, signature: bytes, signed: bytes) -> bool:
    """Return whether the key of these 32 bytes made a signature; what is no key made none."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def generate(path: Path) -> tuple[Path, str]:
    """Make a key pair at `path` and `path`.pub; return the public key's path and id.

    Raises:
        ConfigError: one of the files is there already, or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    public = path.with_name(f"{path.name}.pub")
    _write(
        path,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        _PRIVATE_MODE,
    )
    _write(
        public,
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        0o644,
    )
    return public, key_id(key.public_key())


def load_private(path: Path) -> Ed25519PrivateKey:
    """Return the private key in a PEM file that only its owner may read.

    Raises:
        ConfigError: it is absent, readable by others, or no Ed25519 key.
    """
    data = read_file(path)
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    # As PostgreSQL sees it: a file of root may be given to the group of whom it is meant for, as
    # Kubernetes gives a secret to a pod.
    given = 0o040 if status.st_uid == 0 and os.geteuid() != 0 else 0
    if mode & 0o077 & ~given:
        raise ConfigError(f"{path} may be read by others (mode {mode:04o}); run chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path} holds no private key in PEM form") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path} holds no Ed25519 key; make one with psm anchor keygen")
    return key


def load_public(path: Path) -> Ed25519PublicKey:
    """Return the public key in a PEM file.

    Raises:
        ConfigError: it is absent or no Ed25519 key.
    """
    return parse_public(read_file(path), str(path))


def parse_public(pem: bytes, where: str) -> Ed25519PublicKey:
    """Return a public key in PEM form; `where` it stands is for the error.

    Raises:
        ConfigError: it is no Ed25519 key.
    """
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{where} holds no public key in PEM form") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{where} holds no Ed25519 key")
    return key


def read_file(path: Path) -> bytes:
    """Return a file's bytes; raises `ConfigError` where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def _write(path: Path, data: bytes, mode: int) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error
