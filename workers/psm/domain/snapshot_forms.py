"""Older forms of snapshots and checkpoints, and what makes the next form of each.

A form is read as long as any message of it is kept. A change of what is saved is a higher
`SNAPSHOT_FORM`, a converter here from the form before, and recorded ones of the form before, which
stay as test data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Saved = dict[str, Any]
"""What was saved, as JSON has it: decimals and bytes are texts."""
Converters = Mapping[int, Callable[[Saved], Saved]]
"""Form -> what makes the next form of it."""

ACCOUNTS: Converters = {}
CHECKPOINTS: Converters = {}


def converted(saved: Saved, converters: Converters, newest: int) -> Saved | None:
    """Return what was saved in the newest form; None where no converter leads there."""
    form = saved.get("form")
    if type(form) is not int or form > newest:
        return None
    for step in range(form, newest):
        converter = converters.get(step)
        if converter is None:
            return None
        saved = {**converter(saved), "form": step + 1}
    return saved
