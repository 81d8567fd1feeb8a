"""Callers with a certificate, as a proxy passes it on.

The proxy ends TLS, and with it the proof that a caller has the key. It tells in the header
`Client-Cert` which certificate that was: as RFC 9440 writes it, or escaped PEM, as nginx does.
Whether the certificate counts is judged here, so a proxy that asks for any certificate at all lets
nobody in. What is in it is no secret: the header is worth something from a proxy alone.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from psm.contracts.errors import ConfigError, PSMError
from psm.workers.access.issuers import CertificateGrant
from psm.workers.access.policy import Principal, checked

HEADER = "client-cert"
_HEADER_MAX = 16 * 1024


class ForeignCertificateError(PSMError):
    """A certificate that opens nothing here; the text is for its owner."""


class ClientCertificates:
    """Recognises principals by the certificates that proxies pass on.

    Args:
        grants: what the certificate of each URI may do.
        ca_file: bundle (PEM) of what signs them.
        now: the wall clock, UTC.

    Raises:
        ConfigError: the bundle cannot be used.
    """

    def __init__(
        self,
        grants: Iterable[CertificateGrant],
        ca_file: Path,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._grants = {grant.uri: grant for grant in grants}
        self._now = now
        try:
            self._store = Store(x509.load_pem_x509_certificates(ca_file.read_bytes()))
        except (OSError, ValueError) as error:
            detail = getattr(error, "strerror", None) or "no certificate (PEM) is in it"
            raise ConfigError(f"PSM_HTTP_CLIENT_CA_FILE ({ca_file}): {detail}") from error

    def knows(self, uri: str) -> bool:
        """Return whether the certificate of a URI may do anything."""
        return uri in self._grants

    def principal(self, header: str) -> Principal:
        """Return whom a certificate stands for.

        Args:
            header: value of `Client-Cert`.

        Raises:
            ForeignCertificateError: it opens nothing here.
        """
        shown = _certificate(header)
        try:
            verified = (
                PolicyBuilder().store(self._store).time(self._now()).build_client_verifier()
            ).verify(shown, [])
        except (VerificationError, ValueError) as error:
            raise ForeignCertificateError(f"the certificate does not count: {error}") from error
        names = [
            name.value
            for name in verified.subjects or ()
            if isinstance(name, x509.UniformResourceIdentifier)
        ]
        if len(names) != 1:
            raise ForeignCertificateError(
                f"the certificate names {len(names)} URIs; it must say by one whose it is"
            )
        return self._granted(names[0], shown)

    def _granted(self, uri: str, shown: x509.Certificate) -> Principal:
        grant = self._grants.get(uri)
        if grant is None:
            raise ForeignCertificateError(
                f"the certificate of {uri[:128]!r} grants nothing here; access.toml lists which do"
            )
        _, roles, patterns = checked(uri, grant.roles, grant.patterns)
        return Principal(
            id=uri,
            kind="service",
            roles=roles,
            patterns=patterns,
            how="proxy",
            key=shown.fingerprint(hashes.SHA256()).hex()[:16],
            expires=int(shown.not_valid_after_utc.timestamp()),
        )


def _certificate(header: str) -> x509.Certificate:
    """Return the one certificate of a header."""
    try:
        if len(header) > _HEADER_MAX:
            raise ValueError
        if header[:1] == header[-1:] == ":":
            return x509.load_der_x509_certificate(b64decode(header[1:-1], validate=True))
        (found,) = x509.load_pem_x509_certificates(unquote_to_bytes(header))
    except (ValueError, binascii.Error) as error:
        raise ForeignCertificateError(
            "Client-Cert holds no certificate, neither as RFC 9440 writes it nor as escaped PEM"
        ) from error
    return found
