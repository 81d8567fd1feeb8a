"""Mutants that change no result, each with the reason. Looked at one by one, by hand."""

from __future__ import annotations

from scripts.mutation.mutators import Mutant

EQUIVALENT: dict[str, str] = {}
"""By name: module, scope, before and after."""


def why_equivalent(mutant: Mutant) -> str | None:
    """Return why a mutant is none, or None."""
    return EQUIVALENT.get(mutant.name)
