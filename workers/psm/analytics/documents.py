"""Figures as JSON shows them: every number its exact text."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from psm.domain.money import exact_text


def exact_document(figures: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of a struct and of what is in it, decimals as their canonical texts."""
    document: dict[str, Any] = _exact(msgspec.to_builtins(figures, builtin_types=(Decimal,)))
    return document


def _exact(value: Any) -> Any:
    if isinstance(value, Decimal):
        return exact_text(value)
    if isinstance(value, dict):
        return {name: _exact(item) for name, item in value.items()}
    return [_exact(item) for item in value] if isinstance(value, list | tuple) else value
