"""TLS of our connections: version 1.3, certificates that are checked, files that may change."""

from __future__ import annotations

import ssl

from psm.adapters.logs import get_logger
from psm.adapters.secret_files import Look, look_at
from psm.contracts.certificates import Refused, refused
from psm.contracts.errors import ConfigError

_log = get_logger()


class ClientTls:
    """What a client connects with; made anew from its files whenever one of them has changed."""

    def __init__(
        self, ca_file: str | None, cert_file: str | None = None, key_file: str | None = None
    ) -> None:
        """Read the files for the first time.

        Args:
            ca_file: bundle (PEM) that signs the servers' certificates; None: the system's.
            cert_file: the client's own certificate, for mutual TLS.
            key_file: of it.

        Raises:
            ConfigError: a file cannot be used; the text says which.
        """
        self._ca_file, self.cert_file, self._key_file = ca_file, cert_file, key_file
        self._seen = self._look()
        self._context = self._made()

    def context(self) -> ssl.SSLContext:
        """Return the context of the files as they are; the last good one while they are not."""
        now = self._look()
        if now != self._seen:
            self._seen = now
            try:
                self._context = self._made()
            except ConfigError as error:
                _log.error("tls.files_unusable", detail=str(error))
            else:
                _log.info("tls.files_read_again")
        return self._context

    def _look(self) -> Look:
        return look_at((self._ca_file, self.cert_file, self._key_file))

    def _made(self) -> ssl.SSLContext:
        used = f"PSM_NATS_CA_FILE ({self._ca_file})"
        try:
            context = ssl.create_default_context(cafile=self._ca_file)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            if self.cert_file is not None:
                used = (
                    f"PSM_NATS_CERT_FILE ({self.cert_file}) and PSM_NATS_KEY_FILE "
                    f"({self._key_file})"
                )
                context.load_cert_chain(self.cert_file, self._key_file)
        except (OSError, ssl.SSLError) as error:
            reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
            raise ConfigError(f"{used} cannot be used: {reason}") from error
        return context


def client_tls(
    ca_file: str | None, cert_file: str | None, key_file: str | None
) -> ClientTls | None:
    """Return what a client connects with; None where nothing is set, as for plain addresses.

    Raises:
        ConfigError: a file cannot be used; the text says which.
    """
    if ca_file is None and cert_file is None:
        return None
    return ClientTls(ca_file, cert_file, key_file)


def refusal_by_nats(error: BaseException | None) -> Refused | None:
    """Return what is wrong with a handshake with NATS; None of another error."""
    return refused(error, ca="PSM_NATS_CA_FILE", address="NATS_URL")


def expiry_of(transport: object) -> float | None:
    """Return the Unix time at which the peer's certificate expires; None of a plain connection."""
    ask = getattr(transport, "get_extra_info", None)
    shown = ask("peercert") if ask else None
    return float(ssl.cert_time_to_seconds(shown["notAfter"])) if shown else None
