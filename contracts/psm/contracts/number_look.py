"""A fast look at JSON: may its numbers be anything but plain ones?"""

from __future__ import annotations

import re

# `Decimal` also accepts "1_0", " 1", "+1", ".5", "5." and digits of other scripts. A body without
# any of these marks cannot hold such a string; one that has them is looked at field by field. So is
# one with many digits in a row: only the text shows how long a number was written.
SUSPECT = re.compile(
    rb'[_\\\x80-\xff+]|[\d.]\s+"|"\s+[\d.-]|"-?\.|\d\.["eE]|[0-9]{20}|[eE]-?[0-9]{5}'
)
# A faster look, that may only err by suspecting too much: one letter stands for a class of bytes.
_CLASSES = bytes(
    ord("!") if byte >= 0x80 or chr(byte) in "\\+"
    else ord("0") if chr(byte) in "0123456789"
    else ord("e") if chr(byte) in "eE"
    else ord(" ") if chr(byte).isspace()
    else byte if chr(byte) in '_."-'
    else ord("a")
    for byte in range(256)
)  # fmt: skip
_TWENTY, _NINETEEN = "0" * 20, "0" * 19

PLAIN, IN_DOUBT, SUSPICIOUS = range(3)


def look(raw: bytes) -> int:
    """Return what the numbers in `raw` may be, by the classes of its bytes.

    `PLAIN`: surely digits with at most one point in between and at most 18 on each side of it,
    so only finiteness and sign are left to check. `IN_DOUBT`: maybe with an exponent or too
    long, but surely nothing that `SUSPECT` looks for. `SUSPICIOUS`: anything else.
    """
    seen = raw.translate(_CLASSES).decode("ascii")
    if (
        "!" in seen
        or '".' in seen
        or '0."' in seen
        or '"-.' in seen
        or "0.e" in seen
        or (" " in seen and ('" ' in seen or "0 " in seen or ". " in seen))
        or ("_" in seen and _has_odd_underscore(seen))
    ):
        return SUSPICIOUS
    if _NINETEEN in seen:
        return SUSPICIOUS if _TWENTY in seen or _has_long_exponent(seen) else IN_DOUBT
    if "e0" not in seen and "e-0" not in seen:
        return PLAIN
    if _has_long_exponent(seen):
        return SUSPICIOUS
    return IN_DOUBT if "0e0" in seen or "0e-0" in seen else PLAIN


def _has_long_exponent(seen: str) -> bool:
    """Return whether something may be an exponent of five digits."""
    return "e00000" in seen or "e-00000" in seen


def _has_odd_underscore(seen: str) -> bool:
    """Return whether any stands elsewhere than after a letter, as in a name."""
    return any(pair in seen for pair in ("0_", "._", "-_", '"_', "__", " _", "!_"))
