"""Names of what an account holds, after symbol changes: aliases, and what moved with the name.

An alias is an old symbol that means another one by now, in this account alone; it always leads to
the present symbol in one step.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from psm.domain.market.instrument import Instrument
from psm.domain.market.mark import Mark

Excursions = tuple[str, str, str, int]
"""Position that moved, the one whose cycle goes on, as which position, as which cycle of it."""

NAMES_KEPT = 256
"""Of how many symbols other names are kept: as many as a window of identities can hold."""
_NAMES_OF_ONE = 16


class Renames(msgspec.Struct, frozen=True, kw_only=True):
    """Symbol changes of one account.

    Attributes:
        aliases: old symbol -> symbol of now.
        definitions: what a new symbol is until it is defined: what the old one was.
        marks: mark of the old symbol that values the new one until it has its own.
        keys: names under which the identities of a symbol are remembered, its own first.
    """

    aliases: dict[str, str] = {}
    definitions: dict[str, Instrument] = {}
    marks: dict[str, Mark] = {}
    keys: dict[str, tuple[str, ...]] = {}

    def changed(
        self, old: str, new: str, definition: Instrument | None, mark: Mark | None
    ) -> Renames:
        """Return the names after `old` became `new`; a chain of changes leads to its end."""
        aliases = {name: new if of == old else of for name, of in self.aliases.items()}
        aliases[old] = new
        aliases.pop(new, None)
        definitions, marks = dict(self.definitions), dict(self.marks)
        definitions.pop(old, None)
        marks.pop(old, None)
        if definition is not None:
            definitions[new] = definition
        if mark is not None:
            marks[new] = mark
        keys = _keys_after(self.keys, old, new)
        return Renames(aliases=aliases, definitions=definitions, marks=marks, keys=keys)

    def without(self, symbol: str) -> Renames:
        """Return the names where `symbol` is no alias: it stands for itself again."""
        aliases = {name: of for name, of in self.aliases.items() if name != symbol}
        return msgspec.structs.replace(self, aliases=aliases)

    def with_definition(self, definition: Instrument) -> Renames:
        """Return the names with what a symbol is until it is defined."""
        definitions = {**self.definitions, definition.symbol: definition}
        return msgspec.structs.replace(self, definitions=definitions)

    def with_mark(self, symbol: str, mark: Mark) -> Renames:
        """Return the names with another mark of a symbol that has none of its own."""
        return msgspec.structs.replace(self, marks={**self.marks, symbol: mark})

    def remembering(self, before: Renames) -> Renames:
        """Return these names, of a corrected past, with what was remembered before it.

        Under a symbol that is no alias any more may stand what was remembered of the other one.
        """
        if not before.keys:
            return self
        keys = dict(before.keys)
        for old, new in before.aliases.items():
            if old not in self.aliases:
                found = (*before.keys_of(old), *before.keys_of(new))
                keys[old] = tuple(dict.fromkeys(found))
        return msgspec.structs.replace(self, keys=keys)

    def keys_of(self, symbol: str) -> tuple[str, ...]:
        """Return the names under which identities of a symbol are remembered, its own first."""
        return self.keys.get(symbol) or (symbol,)


NO_RENAMES = Renames()


class Renamed(msgspec.Struct, frozen=True, kw_only=True):
    """Change of names by one event.

    Attributes:
        names: after it.
        old: symbol that became another; None where nothing moves.
        new: which one.
        excursions: of each position that moved.
    """

    names: Renames
    old: str | None = None
    new: str = ""
    excursions: tuple[Excursions, ...] = ()


def _keys_after(
    known: Mapping[str, tuple[str, ...]], old: str, new: str
) -> dict[str, tuple[str, ...]]:
    """Return under which names identities may be remembered after `old` became `new`.

    What was remembered stays under the name of then, so `new` is looked up under both. `old` may
    be the name of another thing one day: from here on it remembers under a name that was never
    used.
    """
    of_new = (*known.get(new, (new,)), *known.get(old, (old,)))
    names = dict(known)
    for symbol in (old, new):
        names.pop(symbol, None)
    used = dict.fromkeys(name for every in (*names.values(), of_new) for name in every)
    count = 1
    while f"{old}\0{count}" in used:
        count += 1
    names[new] = tuple(dict.fromkeys(of_new))[:_NAMES_OF_ONE]
    names[old] = (f"{old}\0{count}",)
    while len(names) > NAMES_KEPT:
        del names[next(iter(names))]
    return names
