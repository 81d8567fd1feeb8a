"""What a check of the doctor says."""

from __future__ import annotations

import msgspec


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """One result of one check.

    Attributes:
        check: name of the check.
        ok: whether it is well; None where it could not be looked at.
        why: what was seen.
        command: what mends it; of what is well, what is to be done in time; else empty.
    """

    check: str
    ok: bool | None
    why: str
    command: str = ""

    @property
    def verdict(self) -> str:
        """The same in one word: `ok`, `soon` (well, but do something), `fault`, `unseen`."""
        if self.ok is None:
            return "unseen"
        if not self.ok:
            return "fault"
        return "soon" if self.command else "ok"


def fine(check: str, why: str) -> Diagnosis:
    """Return that all is well."""
    return Diagnosis(check=check, ok=True, why=why)


def soon(check: str, why: str, command: str) -> Diagnosis:
    """Return that all is well yet, and what is to be done in time."""
    return Diagnosis(check=check, ok=True, why=why, command=command)


def fault(check: str, why: str, command: str) -> Diagnosis:
    """Return what is wrong, and the command that mends it."""
    return Diagnosis(check=check, ok=False, why=why, command=command)


def unseen(check: str, why: str, command: str = "") -> Diagnosis:
    """Return why nobody knows, and what lets the next look see it."""
    return Diagnosis(check=check, ok=None, why=why, command=command)
