"""TLS of our connections to NATS: version 1.3, and certificates that are checked."""

from __future__ import annotations

import ssl

from psm.contracts.errors import ConfigError


def client_context(
    ca_file: str | None, cert_file: str | None, key_file: str | None
) -> ssl.SSLContext | None:
    """Return what a client connects with; None where nothing is set, as for plain addresses.

    Args:
        ca_file: bundle (PEM) that signs the servers' certificates; None: the system's.
        cert_file: the client's own certificate, for mutual TLS.
        key_file: of it.

    Raises:
        ConfigError: a file cannot be used; the text says which.
    """
    if ca_file is None and cert_file is None:
        return None
    used = f"PSM_NATS_CA_FILE ({ca_file})"
    try:
        context = ssl.create_default_context(cafile=ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if cert_file is not None:
            used = f"PSM_NATS_CERT_FILE ({cert_file}) and PSM_NATS_KEY_FILE ({key_file})"
            context.load_cert_chain(cert_file, key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"{used} cannot be used: {error.strerror or type(error).__name__}"
        ) from error
    return context


def refusal_of(error: BaseException | None) -> str | None:
    """Return what is wrong with a certificate, and what to look at; None of another error."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    if error is None:
        return None
    if not isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS fails ({error.reason or error}); does the server speak TLS 1.3?"
    reason = error.verify_message
    cure = _CURES.get(error.verify_code, "")
    return f"the server's certificate is refused: {reason}{cure}"


_CURES = {
    10: "; renew it",  # has expired
    18: "; PSM_NATS_CA_FILE must hold the CA that signed it",  # self-signed
    19: "; PSM_NATS_CA_FILE must hold the CA that signed it",
    20: "; PSM_NATS_CA_FILE must hold the CA that signed it",
    62: "; NATS_URL must name the server as its certificate does",
    92: "; its CA must have the extension keyUsage, which Python 3.13 and later ask for",
}
"""What to do, by the code of OpenSSL."""
