"""The JetStream streams PSM needs, as the broker's configuration fields.

What is written here is the least that PSM accepts. `streams_apply` compares it with what is
there, creates what is missing and strengthens what is weaker.
"""

from __future__ import annotations

from typing import Any, Protocol

from msgspec.structs import asdict

from psm.contracts import limits
from psm.contracts.subjects import (
    FILLS,
    HEALTH,
    HEALTH_LOG,
    MARKETDATA,
    OPS,
    ORDERS,
    PSM,
    RISK,
    RULEBOOK,
    SIGNALS,
    SNAPSHOTS,
    TRADES,
)
from psm.domain.market.rates import BRIDGES
from psm.domain.market.slots import ValuationSlots

FLEET_BUCKET = "psm-fleet"
FLEET = f"KV_{FLEET_BUCKET}"
CANONICAL_FORM = 1
GENERATION = 1

PARTITIONS_KEY = "psm.partitions"
VALUATION_KEY = "psm.valuation_"
CANONICAL_FORM_KEY = "psm.canonical_form"
GENERATION_KEY = "psm.generation"
BRIDGES_KEY = "psm.bridges"
BOUNDS = {
    "psm.assets_max": limits.ASSETS,
    "psm.positions_max": limits.POSITIONS,
    "psm.open_orders_max": limits.OPEN_ORDERS,
    "psm.identifier_bytes_max": limits.IDENTIFIER_BYTES,
    "psm.places_ahead_max": limits.PLACES_AHEAD,
    "psm.parked_max": limits.PARKED_EVENTS,
    "psm.voided_max": limits.VOIDED_NUMBERS,
    "psm.remembered_max": limits.REMEMBERED,
    "psm.marks_refolded_max": limits.MARKS_REFOLDED,
}
"""Name in the metadata -> bound by which the fold judges: other ones give other states."""

SNAPSHOTS_PER_SUBJECT = 5
MEMBER_TTL_S = 10

NANOS = 1_000_000_000
_DAY = 24 * 60 * 60 * NANOS
_UNLIMITED = -1
RECORDED = {MARKETDATA: 7, SIGNALS: 30, ORDERS: 30, FILLS: 30, RISK: 30}
"""Streams of what other services publish, below their name in small letters -> days kept."""


class LogSettings(Protocol):
    """Settings that the streams depend on; `Settings` has them."""

    @property
    def partitions(self) -> int:
        """Virtual partitions, fixed for the life of a log."""

    @property
    def replicas(self) -> int:
        """Copies of each stream."""

    @property
    def valuation_slots(self) -> ValuationSlots:
        """When changed valuations are published, fixed for the life of a log."""


def desired(settings: LogSettings) -> list[dict[str, Any]]:
    """Return the configuration of every stream, the log first."""
    return [
        _log(settings),
        _updates(settings),
        _snapshots(settings),
        *(_recorded(settings, name, days) for name, days in RECORDED.items() if name != RISK),
        _risk(settings, RECORDED[RISK]),
        _rulebook(settings),
        _operations(settings),
        _fleet(settings),
        _health(settings),
    ]


def metadata(settings: LogSettings) -> dict[str, str]:
    """Return what must never change within a generation of the log."""
    return {
        PARTITIONS_KEY: str(settings.partitions),
        **_valuation(settings.valuation_slots),
        CANONICAL_FORM_KEY: str(CANONICAL_FORM),
        GENERATION_KEY: str(GENERATION),
        BRIDGES_KEY: ",".join(BRIDGES),
        **{name: str(most) for name, most in BOUNDS.items()},
    }


def _valuation(slots: ValuationSlots) -> dict[str, str]:
    return {VALUATION_KEY + name: str(value) for name, value in asdict(slots).items()}


def _stream(settings: LogSettings, name: str, *subjects: str, **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "subjects": list(subjects),
        "storage": "file",
        "retention": "limits",
        "num_replicas": settings.replicas,
        "max_msgs": _UNLIMITED,
        "max_bytes": _UNLIMITED,
        "max_msgs_per_subject": _UNLIMITED,
        "max_age": 0,
        "allow_direct": True,
        **fields,
    }


def _log(settings: LogSettings) -> dict[str, Any]:
    return _stream(
        settings,
        TRADES,
        "trades.*",
        "repair.*.*",
        "marks.*",
        "instruments.*",
        "collateral.*",
        "control.*",
        subject_transform={
            "src": "trades.*",
            "dest": f"trades.{{{{partition({settings.partitions},1)}}}}.{{{{wildcard(1)}}}}",
        },
        discard="new",
        deny_delete=True,
        # No deny_purge: a purge up to a sequence is the one exact way to trim a log that is kept
        # elsewhere, and it could never be allowed again. Permissions forbid it to everybody.
        allow_atomic=True,
        duplicate_window=10 * 60 * NANOS,
        max_msg_size=limits.LOG_MESSAGE_BYTES,
        compression=_compression(settings),
        metadata=metadata(settings),
    )


def _compression(settings: LogSettings) -> str:
    """Return how the large streams are stored; they shrink to a quarter.

    This broker does not always take a compressed replica back that was killed.
    """
    return "none" if settings.replicas > 1 else "s2"


def _updates(settings: LogSettings) -> dict[str, Any]:
    return _stream(
        settings,
        PSM,
        "_psm.>",
        subject_transform={"src": "_psm.>", "dest": "psm.>"},
        republish={"src": "psm.*.*.*.*", "dest": "psm.{{wildcard(1)}}.{{wildcard(2)}}"},
        max_age=30 * _DAY,
        deny_delete=True,
        deny_purge=True,
        allow_atomic=True,
        # Updates carry no message id, so the window only costs memory; this is the minimum.
        duplicate_window=NANOS // 10,
        compression=_compression(settings),
        metadata=metadata(settings),
    )


def _snapshots(settings: LogSettings) -> dict[str, Any]:
    return _stream(
        settings,
        SNAPSHOTS,
        "snapshots.>",
        max_msgs_per_subject=SNAPSHOTS_PER_SUBJECT,
        allow_atomic=True,
        compression=_compression(settings),
        metadata=metadata(settings),
    )


def _recorded(settings: LogSettings, name: str, days: int) -> dict[str, Any]:
    return _stream(
        settings,
        name,
        f"{name.lower()}.>",
        max_age=days * _DAY,
        deny_delete=True,
        deny_purge=True,
    )


def _risk(settings: LogSettings, days: int) -> dict[str, Any]:
    """What others say about risk, and behind a private entrance the records of the risk engine.

    A record is heard when it is stored, on `psm.risk.*.*`: on `risk.*.*` the broker would store it
    again, and anybody might say it.
    """
    return _stream(
        settings,
        RISK,
        "risk.*.*",
        "_risk.>",
        subject_transform={"src": "_risk.>", "dest": "risk.>"},
        republish={"src": "risk.*.*.*", "dest": "psm.risk.{{wildcard(1)}}.{{wildcard(3)}}"},
        max_age=days * _DAY,
        deny_delete=True,
        deny_purge=True,
        allow_atomic=True,
        # So late may a second copy of a record come that the link made.
        duplicate_window=2 * 60 * NANOS,
    )


def _rulebook(settings: LogSettings) -> dict[str, Any]:
    """What limits and stops orders: read from its start by whoever decides, so kept for ever."""
    return _stream(
        settings,
        RULEBOOK,
        "rulebook.*.*",
        deny_delete=True,
        deny_purge=True,
        discard="new",
        max_msg_size=limits.LOG_MESSAGE_BYTES,
    )


def _operations(settings: LogSettings) -> dict[str, Any]:
    """The record of what people did with the log: hash-chained, kept for ever."""
    return _stream(settings, OPS, "ops.*", deny_delete=True, deny_purge=True, discard="new")


def _fleet(settings: LogSettings) -> dict[str, Any]:
    """A key-value bucket as every NATS client makes one."""
    return _stream(
        settings,
        FLEET,
        f"$KV.{FLEET_BUCKET}.>",
        max_msgs_per_subject=1,
        max_age=MEMBER_TTL_S * NANOS,
        duplicate_window=MEMBER_TTL_S * NANOS,
        discard="new",
        allow_rollup_hdrs=True,
        deny_delete=True,
    )


def _health(settings: LogSettings) -> dict[str, Any]:
    """What is written to see whether writes work; only the newest is of interest."""
    return _stream(settings, HEALTH, HEALTH_LOG, max_msgs_per_subject=1)
