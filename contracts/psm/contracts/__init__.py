"""What other services may rely on: events, updates, subjects, schemas, factory and publisher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psm.contracts.factory import EventFactory, Severity, Side
    from psm.contracts.publisher import Publisher
    from psm.contracts.replay import ReplayMode, no_replay

__all__ = ["EventFactory", "Publisher", "ReplayMode", "Severity", "Side", "no_replay"]

_HOMES = {
    "EventFactory": "factory",
    "Publisher": "publisher",
    "ReplayMode": "replay",
    "Severity": "factory",
    "Side": "factory",
    "no_replay": "replay",
}


def __getattr__(name: str) -> Any:
    # Imported on use: the pure domain reads events and must not bring a NATS client along.
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{home}"), name)
