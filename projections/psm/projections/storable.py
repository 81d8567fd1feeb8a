"""What PostgreSQL can hold: texts without NUL and surrogates, JSON that JSONB takes.

Bytes of a producer may hold anything. A column that could not take what they say gets an escaped
text, or nothing; the bytes themselves are kept beside it.
"""

from __future__ import annotations

import re

EXPANSION_SPARE = 1000
"""By how many digits more than its own length a document may grow when numbers are written out."""

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_MARK = "\\u{"
# A backslash that is itself escaped begins no escape.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_DIGITS_MAX = 1000
_NUMBER = re.compile(rb'"(?:[^"\\]|\\.)*+"|([0-9.]++)(?:[eE]([+-]?[0-9]++))?')
_MAYBE_ODD_NUMBER = re.compile(rb"[0-9][eE]|[0-9]{%d}" % _DIGITS_MAX)


def is_storable_text(text: str) -> bool:
    """Return whether a column of type text can hold `text`."""
    return _UNSTORABLE.search(text) is None


def storable_text(text: str) -> str:
    r"""Return `text` as a column can hold it; two texts never become the same.

    A character that PostgreSQL refuses is written as `\u{0}`, and then a backslash as two.
    """
    if is_storable_text(text) and _MARK not in text:
        return text
    doubled = text.replace("\\", "\\\\")
    return _UNSTORABLE.sub(lambda found: f"{_MARK}{ord(found[0]):x}}}", doubled)


def storable_json(data: bytes) -> str | None:
    """Return a JSON value as a JSONB column can hold it, None where it cannot.

    JSONB refuses NUL, and writes numbers out: 18 KB of `1e131071` are 262 MB to a reader. So a
    document that would grow beyond twice its length is not held either, and no number of more
    than a thousand digits, which readers refuse. What this overlooks the database finds.
    """
    if b"\\u0000" in data and _NUL.search(data) is not None:
        return None
    if _MAYBE_ODD_NUMBER.search(data) is not None and not _has_fair_numbers(data):
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _has_fair_numbers(data: bytes) -> bool:
    """Return whether readers can take the numbers of a JSON value, written out."""
    expansion = 0
    for found in _NUMBER.finditer(data):
        digits, exponent = found.groups()
        if digits is not None and len(digits) > _DIGITS_MAX:
            return False
        if exponent is not None:
            # An exponent of that many digits is beyond any number that can be held.
            expansion += abs(int(exponent)) if len(exponent) < 10 else 10**9
    return expansion <= EXPANSION_SPARE + len(data)
