"""Rules of decisions by their version: the newest ones decide, and all that ever decided prove."""

from __future__ import annotations

import msgspec

from psm.risk.engine.inquiry import Inquiry


class EngineRules(msgspec.Struct, frozen=True, kw_only=True):
    """One version of the rules.

    Attributes:
        version: that decisions name as `engine`.
        inquiry: how a request for an order is judged.
    """

    version: str
    inquiry: type[Inquiry]


Registry = tuple[EngineRules, ...]
"""Ascending: the last ones decide. Whatever a stored decision names stays in it."""

RULES: Registry = (EngineRules(version="1.0.0", inquiry=Inquiry),)

ENGINE = RULES[-1].version


def rules_of(registry: Registry, version: object) -> EngineRules | None:
    """Return the rules of a version; None where this code does not have them."""
    return next((one for one in registry if one.version == version), None)
