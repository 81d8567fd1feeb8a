"""Certificates of the house: a CA of our own and a leaf per server or client, as files.

A folder holds them all:

* `authority/`: `ca.pem`, certificate and key of the CA, and `next.pem`, the one that replaces it;
  nobody else may enter it;
* `ca.crt`: whom to trust, one CA or, during a change, two;
* `<leaf>/`: `tls.crt`, `tls.key` (0600) and a copy of `ca.crt`: all that one server mounts.

Replacing the CA takes three steps, between which every server and client reads its files anew:
both CAs are trusted, then the leafs are of the new one, then the old one is out. Which step is next
follows from the files.
"""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from psm.adapters.secret_files import write_whole
from psm.contracts.certificates import read_certificate
from psm.contracts.errors import ConfigError

Step = Literal["trust", "leafs", "retire"]

AUTHORITY_DAYS = 3650
LEAF_DAYS = 365
LOCAL_NAMES = ("localhost", "127.0.0.1")
# A clock that is a little behind must not refuse what was just made.
_BEFORE = timedelta(minutes=5)


class Authority:
    """A CA, with which leafs are signed."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self._key = key

    @classmethod
    def new(cls, now: datetime, *, days: int = AUTHORITY_DAYS, key_usage: bool = True) -> Authority:
        """Make a CA; its name has a random part, so that two of them are told apart.

        Args:
            now: from when on it holds.
            days: how long.
            key_usage: whether it says what its key is for, as Python 3.13 and later ask.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"PSM house CA {secrets.token_hex(4)}")
        # How deep it may sign is part of what the key is for.
        basic = x509.BasicConstraints(ca=True, path_length=0 if key_usage else None)
        builder = _unsigned(name, name, key, now, now + timedelta(days=days)).add_extension(
            basic, critical=True
        )
        if key_usage:
            builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def read(cls, file: Path) -> Authority:
        """Return the CA of a file.

        Raises:
            ConfigError: it is no CA of ours.
        """
        try:
            data = file.read_bytes()
            certificate = x509.load_pem_x509_certificate(data)
            key = serialization.load_pem_private_key(data, None)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"{file} cannot be used: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError(f"{file} is no CA that `psm certs init` made")
        return cls(certificate, key)

    def write(self, file: Path) -> None:
        """Write key and certificate into one file, so that they always belong together."""
        write_whole(file, _key_pem(self._key) + self.pem, 0o600)

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return _pem(self.certificate)

    def has_signed(self, leaf: x509.Certificate) -> bool:
        """Whether a leaf is of this CA."""
        try:
            leaf.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    def leaf(
        self, name: str, names: Sequence[str], now: datetime, *, days: int = LEAF_DAYS
    ) -> tuple[bytes, bytes]:
        """Return certificate and key (PEM) of a server or client.

        Args:
            name: common name.
            names: host names, addresses and URIs that it is good for.
            now: from when on it holds.
            days: how long, though never longer than the CA.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        ends = min(now + timedelta(days=days), self.certificate.not_valid_after_utc)
        # A node of a cluster is a client of the others.
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        alternatives = [_alternative(text) for text in dict.fromkeys(names)]
        signed = (
            _unsigned(_name(name), self.certificate.subject, key, now, ends, self._key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return _pem(signed), _key_pem(key)


class House:
    """The folder of certificates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._authority = folder / "authority" / "ca.pem"
        self._next = folder / "authority" / "next.pem"

    def make(self, leafs: Mapping[str, Sequence[str]], *, days: int = LEAF_DAYS) -> list[str]:
        """Make what is missing: the CA, and a leaf for each name; return the leafs made.

        Args:
            leafs: by the leaf's name, further names that it is good for.
            days: how long leafs hold.

        Raises:
            ConfigError: the folder cannot be written, or holds something else.
        """
        with _told(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "authority").mkdir(mode=0o700, exist_ok=True)
            if not self._authority.exists():
                Authority.new(_now()).write(self._authority)
            made = []
            for name, more in leafs.items():
                if not (self.folder / name / "tls.crt").exists():
                    self._issue(name, (name, *LOCAL_NAMES, *more), days)
                    made.append(name)
            self._trust()
        return made

    def renew(self, *, days: int = LEAF_DAYS) -> list[str]:
        """Sign every leaf anew, for the names that it has; return their names.

        Raises:
            ConfigError: there are none, they cannot be written, or the CA is being replaced: then
                the new one would sign before everybody trusts it.
        """
        self.leafs()
        if self._next.exists():
            raise ConfigError("the CA is being replaced; go on with `psm certs renew --authority`")
        with _told(self.folder):
            return self._renew(days)

    def next_step(self) -> Step:
        """Return the step by which the CA is replaced next."""
        if not self._next.exists():
            return "trust"
        newer = Authority.read(self._next)
        leafs = [self._certificate(name) for name in self.leafs()]
        return "retire" if all(map(newer.has_signed, leafs)) else "leafs"

    def replace_authority(self, *, days: int = LEAF_DAYS) -> Step:
        """Take the next step of replacing the CA; return which one that was.

        Raises:
            ConfigError: there is nothing to replace, or it cannot be written.
        """
        step = self.next_step()
        self.leafs()
        with _told(self.folder):
            if step == "trust":
                Authority.new(_now()).write(self._next)
                self._trust()
            elif step == "leafs":
                self._renew(days)
            else:
                self._next.replace(self._authority)
                self._trust()
        return step

    def leafs(self) -> list[str]:
        """Return the names of the leafs, sorted.

        Raises:
            ConfigError: there is no house here.
        """
        if not self._authority.exists():
            raise ConfigError(f"{self.folder} holds no certificates; `psm certs init` makes them")
        return sorted(path.parent.name for path in self.folder.glob("*/tls.crt"))

    def _authorities(self) -> list[Authority]:
        """Return the CAs that are trusted, the one that signs last."""
        return [Authority.read(file) for file in (self._authority, self._next) if file.exists()]

    def _renew(self, days: int) -> list[str]:
        names = self.leafs()
        for name in names:
            self._issue(name, self._names(name), days)
        return names

    def _issue(self, name: str, names: Sequence[str], days: int) -> None:
        certificate, key = self._authorities()[-1].leaf(name, names, _now(), days=days)
        (self.folder / name).mkdir(mode=0o755, exist_ok=True)
        write_whole(self.folder / name / "tls.key", key, 0o600)
        write_whole(self.folder / name / "tls.crt", certificate, 0o644)

    def _trust(self) -> None:
        bundle = b"".join(authority.pem for authority in self._authorities())
        for folder in (self.folder, *(self.folder / name for name in self.leafs())):
            file = folder / "ca.crt"
            if not file.exists() or file.read_bytes() != bundle:
                write_whole(file, bundle, 0o644)

    def _certificate(self, name: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.folder / name / "tls.crt").read_bytes())

    def _names(self, name: str) -> list[str]:
        return list(read_certificate((self.folder / name / "tls.crt").read_bytes()).names)


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        detail = getattr(error, "strerror", None) or error
        raise ConfigError(f"{folder}: {detail}") from error


def _unsigned(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    ends: datetime,
    issuer_key: ec.EllipticCurvePrivateKey | None = None,
) -> x509.CertificateBuilder:
    public, signer = key.public_key(), (issuer_key or key).public_key()
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(text: str) -> x509.GeneralName:
    if "://" in text:
        return x509.UniformResourceIdentifier(text)
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
