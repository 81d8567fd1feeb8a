"""Lines of a redacted edition of a log: personal texts are blacked out, hashes are those of before.

Such a line has `"redacted": true` and the `event_hash` of the bytes as they were stored, which is
used for everything a hash is used for. So chain and ledger hashes are those of the log itself.
"""

from __future__ import annotations

import re

from psm.contracts.envelope import event_hash
from psm.contracts.errors import ContractError

_HASH = re.compile(r"[0-9a-f]{64}")


def carried_hash(marked: bytes, text: str | None, body: bytes) -> bytes | None:
    """Return the hash that a redacted line carries; None where it is that of the bytes.

    Args:
        marked: JSON of the field `redacted`.
        text: the field `event_hash`, where there is one.
        body: what the line's message is folded as.

    Raises:
        ContractError: the hash is missing, none, or not that of a body which is not redacted.
    """
    if marked not in (b"true", b"false"):
        raise ContractError("malformed_field", "redacted must be true or false", "redacted")
    redacted = marked == b"true"
    if text is None:
        if redacted:
            wanted = "a redacted line needs the event_hash of what was stored"
            raise ContractError("missing_field", wanted, "event_hash")
        return None
    if _HASH.fullmatch(text) is None:
        raise ContractError("malformed_field", "event_hash must be 64 hex digits", "event_hash")
    if redacted:
        return bytes.fromhex(text)
    if bytes.fromhex(text) != event_hash(body):
        differs = "event_hash is not that of data, and the line does not say redacted"
        raise ContractError("malformed_field", differs, "event_hash")
    return None
