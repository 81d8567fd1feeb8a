"""Ids of updates: they follow from the place in the log, the stream and a count."""

from __future__ import annotations

import hashlib

NAMESPACE = bytes.fromhex("c5b1b0f6f3a75bb29f0b6a6f3d1c7e55")
"""The PSM namespace of UUIDv5, for the ids of updates."""


def update_id(log_sequence: int, stream_id: str, ordinal: int) -> str:
    """Return UUIDv5(PSM namespace, `<log_sequence>/<stream_id>/<ordinal>`)."""
    name = f"{log_sequence}/{stream_id}/{ordinal}".encode()
    text = hashlib.sha1(NAMESPACE + name, usedforsecurity=False).hexdigest()
    variant = _VARIANT[text[16]]
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{variant}{text[17:20]}-{text[20:32]}"


_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
"""The two bits that say which kind of UUID it is, as hex digits."""
