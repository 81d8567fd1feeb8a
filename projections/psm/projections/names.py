"""A choice of names for reads: all of them, some by themselves, some by how they begin."""

from __future__ import annotations

import re

import msgspec


class Names(msgspec.Struct, frozen=True):
    """Names that a reader may see.

    Attributes:
        patterns: each a name, or how names begin with a `*` behind it; None: all names.
    """

    patterns: tuple[str, ...] | None = None

    def has(self, name: str | None) -> bool:
        """Return whether a name is among them; no name is only among all."""
        if self.patterns is None:
            return True
        if name is None:
            return False
        return any(
            name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1]))
            for pattern in self.patterns
        )

    def likes(self, prefix: str = "") -> list[str] | None:
        r"""Return them as patterns of SQL's LIKE; None for all.

        `_`, `%` and `\` of a name stand for themselves. `prefix` stands before each name.
        """
        if self.patterns is None:
            return None
        escaped = [re.sub(r"([\\_%])", r"\\\1", prefix + pattern) for pattern in self.patterns]
        return [f"{text[:-1]}%" if text.endswith("*") else text for text in escaped]


ALL_NAMES = Names()
