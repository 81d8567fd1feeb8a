"""What is shown in place of what is secret."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

REDACTED = "***"


def without_password(url: str) -> str:
    """Return an address with what stands before its `@` blanked out."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return REDACTED
    if "@" not in parts.netloc:
        return url.strip()
    return urlunsplit(parts._replace(netloc=f"{REDACTED}@{parts.netloc.rpartition('@')[2]}"))
