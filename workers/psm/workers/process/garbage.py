"""How often a process that decides in fractions of a millisecond looks for garbage."""

from __future__ import annotations

import gc

_YOUNG, _OLDER, _OLDEST = 50_000, 20, 50


def look_seldom() -> None:
    """Look for cycles seldom, and never among what is there already.

    By default Python looks through all that was made lately at every 700th object: several times
    in a decision, which leaves none behind, and now and then through everything that is remembered.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _OLDER, _OLDEST)
