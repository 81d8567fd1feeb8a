"""The rulebook: who may do what, folded from the stream `RULEBOOK` alone, from its start.

A pure fold: the same messages give the same rules, refusals included, on every machine. It is told
how to verify a signature, knows no clock but the times that the stream gave its messages, and what
it answers about a moment it answers for the clock that it is asked with. Times are microseconds
since 1970.
"""

from psm.risk.rulebook.answers import (
    Day,
    Effect,
    Group,
    Left,
    Lift,
    Override,
    Ruled,
    Ruling,
    ScopedLimits,
    Tags,
    Verify,
)
from psm.risk.rulebook.book import SLOTS, Rulebook, slot_of
from psm.risk.rulebook.documents import Document
from psm.risk.rulebook.halts import Halt

__all__ = [
    "SLOTS",
    "Day",
    "Document",
    "Effect",
    "Group",
    "Halt",
    "Left",
    "Lift",
    "Override",
    "Rulebook",
    "Ruled",
    "Ruling",
    "ScopedLimits",
    "Tags",
    "Verify",
    "slot_of",
]
