"""Fields that may hold somebody's data: clear text, or sealed so that a key can be thrown away.

A sealed text is `psm1.<key>.<base64url>` and may be as long as sealing makes it; a clear one that
begins with `psm1.` and is not of that form is clear text like any other. Whose data it is stands in
the schemas as `x-psm-pii`: the account's owner (`subject`), somebody else's (`third`), of who acted
for the house (`actor`), or anybody's (`free`). No update repeats what stands in such a field.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from msgspec import Meta

from psm.contracts import limits

Whose = Literal["subject", "third", "actor", "free"]
"""Whose data may stand in a field."""

SEALED_PATTERN = r"^psm1\.[A-Za-z0-9_-]{1,32}\.[A-Za-z0-9_-]{38,6000}$"
_SEALED = re.compile(SEALED_PATTERN[1:-1])
PII = "x-psm-pii"


def is_sealed(text: str) -> bool:
    """Return whether a text of a personal field is sealed; all else is clear text."""
    return _SEALED.fullmatch(text) is not None


def _personal(whose: Whose, shortest: int, longest: int, about: str) -> Meta:
    """Return what makes a text a personal one, whose clear form has at most `longest` bytes."""
    return Meta(
        min_length=shortest or None,
        max_length=limits.SEALED_BYTES,
        description=f"{about}; clear text, or sealed",
        extra={"clear": longest},
        extra_json_schema={
            "anyOf": [{"maxLength": longest}, {"pattern": SEALED_PATTERN}],
            PII: whose,
        },
    )


Actor = Annotated[str, _personal("actor", 1, limits.TEXT_BYTES, "who acted for the house")]
Counterparty = Annotated[str, _personal("third", 1, limits.KEY_BYTES, "the other side")]
Explanation = Annotated[str, _personal("free", 1, limits.TEXT_BYTES, "a sentence for people")]
Source = Annotated[str, _personal("free", 1, limits.TEXT_BYTES, "who says so")]
FreeText = Annotated[str, _personal("free", 0, limits.TEXT_BYTES, "text for people")]
FreeObject = Annotated[
    dict[str, Any], Meta(description="any JSON object", extra_json_schema={PII: "free"})
]
