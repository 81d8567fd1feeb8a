"""What may be shown on a terminal: text of others without its power over the screen."""

from __future__ import annotations

import os
import re

# Control characters but newline and tab, C1 ones included (U+009B begins an escape sequence in
# eight bits), what turns the direction of text, other line ends, and halves of characters.
_POWER = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_NOT_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Return `text` with what commands a terminal written out: an escape is 4 letters, `x1b`."""
    return _POWER.sub(_written_out, text)


def printable_json(text: str) -> str:
    """Return JSON that means the same and has no character that commands a terminal.

    Below U+0020 JSON forbids them itself.
    """
    if text.isascii() and "\x7f" not in text:
        return text
    return _NOT_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def is_plain() -> bool:
    """Whether NO_COLOR asks for text without colour, bold or any other escape."""
    return bool(os.environ.get("NO_COLOR"))


def _written_out(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
