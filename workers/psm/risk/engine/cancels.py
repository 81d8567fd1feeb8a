"""What a person's halt asks for beside refusing: that all which is open in its scope is cancelled.

The engine sends no orders and cancels none: whoever executes hears it, and does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from psm.risk.engine.group import GroupState
from psm.risk.engine.path import Flag, Path
from psm.risk.engine.records import Chain, moment_text
from psm.risk.messages import RiskOutput
from psm.risk.rulebook import Halt, Rulebook, slot_of

ACCOUNTS_MAX = 64
"""Accounts that one record names; those of a larger group are in several."""
_KIND = "cancel_all"


class Cancels:
    """For which halts a slot has asked to cancel what is open."""

    def __init__(self, path: Path, chain: Chain) -> None:
        self._path, self._chain = path, chain

    def ask(self, rulebook: Rulebook, states: Sequence[GroupState], clock: int) -> list[RiskOutput]:
        """Ask once for each group and halt; forget halts that hold no more."""
        outputs: list[RiskOutput] = []
        for state in states:
            asking = halts_of(rulebook, state.name, clock)
            for key in self._path.names(_KIND, f"{state.name}|"):
                if key not in asking:
                    self._path.drop(_KIND, key)
            for key, halt in asking.items():
                if not self._path.has(_KIND, key):
                    outputs = [*outputs, *self._asked(state, key, halt, clock)]
        return outputs

    def _asked(self, state: GroupState, key: str, halt: Halt, clock: int) -> list[RiskOutput]:
        outputs: list[RiskOutput] = []
        kind, _, name = halt.scope.partition(":")
        accounts = [name] if kind == "account" else sorted(state.members)
        for at in range(0, len(accounts), ACCOUNTS_MAX):
            part = accounts[at : int(at) + ACCOUNTS_MAX]
            if part[-1] == accounts[-1]:  # who dies before the last one begins again
                self._path.put(_KIND, key, Flag(clock=clock))
            payload: dict[str, Any] = {
                "scope": halt.scope,
                "group": state.name,
                "accounts": part,
                "code": halt.code,
                "halt_hash": halt.hash,
                "clock": moment_text(clock),
            }
            records = self._chain.record("halt", halt.scope, "cancel_all", payload, clock)
            outputs = [*outputs, *records]
        return outputs


def halts_of(rulebook: Rulebook, group: str, clock: int) -> Mapping[str, Halt]:
    """Return the halts by which nothing of a group may be open, by what they are remembered as."""
    if group not in rulebook.groups or not rulebook.groups[group].members:
        return {}
    found = rulebook.halts.halting(clock)
    return {
        f"{group}|{halt.hash}": halt for halt in found if group in rulebook.tree.within(halt.scope)
    }


def unasked(
    path: Path, rulebook: Rulebook, slot: int, clock: int
) -> Iterator[tuple[str, None, str]]:
    """Yield the halts, by hash, for which a slot should have asked before it decided."""
    for group in rulebook.groups:
        halts = halts_of(rulebook, group, clock) if slot_of(group) == slot else {}
        for key, halt in halts.items():
            if not path.has(_KIND, key):
                yield _KIND, None, halt.hash


def is_asked_by_halt(rulebook: Rulebook, key: str) -> bool:
    """Return whether somebody set the halt that an entry remembers; it may be lifted since."""
    named = key.rpartition("|")[2]
    return named in rulebook.lifted or any(named in found for found in rulebook.halts.of.values())
