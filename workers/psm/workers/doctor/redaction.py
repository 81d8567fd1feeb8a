"""Taking secrets out of text: the ones that are known here, and what looks like one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from psm.workers.process.setting import REDACTED

_SHORTEST = 4
_LIKE_SECRETS = (
    re.compile(r"psm_[0-9a-z]{8}_[a-z2-7]{32}"),  # our tokens
    re.compile(r"\bS[UAONCX][A-Z2-7]{56}\b"),  # seeds of nkeys
    re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"),  # JWT
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.DOTALL),
    re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"),  # user and password of an address
    re.compile(r"(?i)(?<=bearer )[\w.~+/=-]+"),
)

TOLD = frozenset(
    {"timestamp", "level", "event", "partition", "stream", "view", "reason", "child", "code", "pid",
     "seconds", "restart_delay_s", "trace_id", "port", "member", "connection"}
)  # fmt: skip
"""Fields of a log line that hold nothing of an account."""


class Scrubber:
    """Takes out what is secret; what nobody knows as such and looks like nothing stays."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {part for secret in secrets for part in _parts(secret) if len(part) >= _SHORTEST}
        longest_first = sorted(known, key=lambda text: (-len(text), text))
        self._known = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def __call__(self, text: str) -> str:
        """Return the text with `***` for each secret."""
        text = self._known.sub(REDACTED, text)
        for pattern in _LIKE_SECRETS:
            text = pattern.sub(REDACTED, text)
        return text


def _parts(secret: str) -> list[str]:
    """Return a secret, and the password in it where it is an address."""
    try:
        password = urlsplit(secret).password
    except ValueError:
        password = None
    return [secret] if password is None else [secret, password, unquote(password)]


def shortened(line: str) -> str | None:
    """Return a log line with its harmless fields alone; None of what is no log line of ours.

    What else it had is named, so that one can ask for it.
    """
    try:
        fields = msgspec.json.decode(line.encode(), type=dict[str, Any])
    except msgspec.DecodeError:
        return None
    return msgspec.json.encode(_told(fields)).decode()


def _told(fields: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in fields.items() if name in TOLD}
    left_out = sorted(fields.keys() - TOLD)
    return kept | ({"left_out": left_out} if left_out else {})
