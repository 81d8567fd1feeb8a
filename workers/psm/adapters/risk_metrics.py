"""The metrics of the risk engine; see `metrics` for what holds for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec
from opentelemetry.metrics import Meter

from psm.adapters.metrics import DURATION_BUCKETS
from psm.risk.messages import RiskOutput

HEADROOM_SHOWN = 0.2
"""Share of a limit that is left, from which on a check's headroom is shown."""


ALERT_CODES = (
    "state_stale",
    "unapproved_order",
    "reservation_expired",
    "near_limit",
    "latch_lifted",
    "transfer_unpaired",
)
"""Codes of warnings and errors that the engine tells."""


class _Check(msgspec.Struct, frozen=True, gc=False):
    name: str
    scope: str = ""
    passed: bool = True
    value: str | None = None
    limit: str | None = None


class _Payload(msgspec.Struct, frozen=True, gc=False):
    decision: str = ""
    checks: tuple[_Check, ...] = ()


class _Event(msgspec.Struct, frozen=True, gc=False):
    payload: _Payload = _Payload()


_decoder = msgspec.json.Decoder(_Event)


class _Alert(msgspec.Struct, frozen=True, gc=False):
    code: str = ""


class _AlertEvent(msgspec.Struct, frozen=True, gc=False):
    payload: _Alert = _Alert()


_alert_decoder = msgspec.json.Decoder(_AlertEvent)


class _ToldGauges:
    """Alerts by code, each from the start, else the first one were no increase; age of clusters."""

    def __init__(self, meter: Meter) -> None:
        self._alerts = meter.create_counter(
            "psm.risk.alerts", description="Warnings and errors that the engine told, by code."
        )
        for code in ALERT_CODES:
            self._alerts.add(0, {"code": code})
        self._clusters = meter.create_gauge(
            "psm.risk.clusters.age",
            unit="s",
            description="Since the end of the day that the newest clusters are of; said daily.",
        )

    def alert(self, code: str) -> None:
        if code in ALERT_CODES:
            self._alerts.add(1, {"code": code})

    def clusters(self, age_s: float) -> None:
        self._clusters.set(age_s)


class _WorkerGauges:
    """A risk worker among the others, and how far it is behind ORDERS.

    Fleets of slots have names of their own: of partitions, a healthy one must hide nothing.
    """

    def __init__(self, meter: Meter) -> None:
        self.members = meter.create_gauge(
            "psm.risk.fleet.members", description="Risk workers, as this one sees them."
        )
        self.unowned = meter.create_gauge(
            "psm.risk.slots_unowned", description="Slots nobody runs, as this one sees it."
        )
        self.lost = meter.create_counter(
            "psm.risk.fleet.members_lost", description="Risk workers found dead, by reason."
        )
        self.takeover = meter.create_gauge(
            "psm.risk.takeover.duration", unit="s", description="How long the last takeover took."
        )
        self.lag_events = meter.create_gauge(
            "psm.risk.lag_events", description="Messages of orders that are not taken yet."
        )
        self.lag = meter.create_gauge(
            "psm.risk.lag", unit="s", description="Since when the oldest of them is known."
        )


class _ViewGauges:
    """What the views about risk hold; a label that was told once is told again, as 0."""

    def __init__(self, meter: Meter) -> None:
        self._latches = meter.create_gauge(
            "psm.risk.latches", description="Latches that hold, by code, as the views have it."
        )
        self._near = meter.create_gauge(
            "psm.risk.limits.near",
            description="Limits with less than 20 % left, by check, as the views have it.",
        )
        self._codes: dict[str, int] = {}
        self._checks: dict[str, int] = {}

    def set(self, latches: Mapping[str, int], near: Mapping[str, int]) -> None:
        self._codes = {**dict.fromkeys(self._codes, 0), **latches}
        for code, count in self._codes.items():
            self._latches.set(count, {"code": code})
        # Of an exposure by tag the check is named, not the tag: labels must stay few.
        self._checks = dict.fromkeys(self._checks, 0)
        for name, count in near.items():
            check = name.partition("|")[0]
            self._checks[check] = self._checks.get(check, 0) + count
        for check, count in self._checks.items():
            self._near.set(count, {"check": check})


class RiskMetrics:
    """The instruments of `psm risk worker`, and of a projector of what it stored."""

    def __init__(self, meter: Meter) -> None:
        self._decisions = meter.create_counter(
            "psm.risk.decisions", description="Decisions stored, by outcome."
        )
        self._failed = meter.create_counter(
            "psm.risk.checks.failed", description="Checks that did not pass, by name."
        )
        self._records = meter.create_counter("psm.risk.records", description="Records, by kind.")
        self._latency = meter.create_histogram(
            "psm.risk.decision.duration",
            unit="s",
            description="From a command's arrival here to its decision stored.",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )
        self._write = meter.create_histogram(
            "psm.risk.write.duration",
            unit="s",
            description="From sending records to their acknowledgement.",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )
        self._not_stored = meter.create_counter(
            "psm.risk.writes.not_stored",
            description="Writes without an acknowledgement, after which a slot was taken again.",
        )
        self._fenced = meter.create_counter(
            "psm.risk.slots.fenced", description="Slots lost to another owner."
        )
        self._slots = meter.create_gauge("psm.risk.slots", description="Slots here, by state.")
        self._age = meter.create_gauge(
            "psm.risk.owner_record.age",
            unit="s",
            description="Age of the oldest checkpoint of the slots here; renewed daily.",
        )
        self._unknown = meter.create_gauge(
            "psm.risk.accounts.unknown",
            description="Members that are not known now, so that their groups refuse.",
        )
        self._told = _ToldGauges(meter)
        self._fleet = _WorkerGauges(meter)
        self._headroom = meter.create_gauge(
            "psm.risk.headroom",
            description="Share of a limit that is left, where it was 20 % or less, by check.",
        )
        self._views = _ViewGauges(meter)
        self._ungrouped = meter.create_counter(
            "psm.risk.commands.ungrouped",
            description="Commands of accounts without a group, which nobody decides on.",
        )

    def record(self, output: RiskOutput, seconds: float | None) -> None:
        """Count a stored record; `seconds` since its command came, None where none did."""
        self._records.add(1, {"kind": output.kind})
        if seconds is not None:
            self._latency.record(seconds)
        try:
            if output.kind == "alert":
                self._told.alert(_alert_decoder.decode(output.data).payload.code)
            if output.kind != "decision":
                return
            payload = _decoder.decode(output.data).payload
        except msgspec.MsgspecError:
            return
        self._decisions.add(1, {"outcome": payload.decision})
        failed = Counter(check.name for check in payload.checks if not check.passed)
        for name, count in failed.items():
            self._failed.add(count, {"check": name})
        for check in payload.checks:
            left = _headroom(check)
            if left is not None and left <= HEADROOM_SHOWN:
                self._headroom.set(max(left, 0.0), {"check": check.name})

    def stored(self, seconds: float) -> None:
        """Record an acknowledged write."""
        self._write.record(seconds)

    def not_stored(self) -> None:
        """Count a write that was not acknowledged."""
        self._not_stored.add(1)

    def fenced(self, _slot: int) -> None:
        """Count a slot that another process took."""
        self._fenced.add(1)

    def taken_over(self, seconds: float) -> None:
        """Set how long a takeover took, from the owner record to the rulebook."""
        self._fleet.takeover.set(seconds)

    def slots(self, states: Counter[str], oldest_s: float, unknown: int) -> None:
        """Set how the slots here are, the age of the oldest checkpoint, and unknown members."""
        for state in ("live", "recovering", "draining", "stopped"):
            self._slots.set(states[state], {"state": state})
        self._age.set(oldest_s)
        self._unknown.set(unknown)

    def fleet(self, *, members: int, owned: int, unowned: int) -> None:
        """Set what this worker sees of the others; `slots` has those that it owns."""
        self._fleet.members.set(members)
        self._fleet.unowned.set(unowned)

    def member_lost(self, reason: str) -> None:
        """Count a risk worker found dead: `no_responders` or `expired`."""
        self._fleet.lost.add(1, {"reason": reason})

    def order_lag(self, events: int, seconds: float) -> None:
        """Set how far the engine is behind the commands, and what became of orders."""
        self._fleet.lag_events.set(events)
        self._fleet.lag.set(seconds)

    def clusters(self, age_s: float) -> None:
        """Set how long ago the day ended that the newest clusters are of."""
        self._told.clusters(age_s)

    def held(self, *, latches: Mapping[str, int], near: Mapping[str, int]) -> None:
        """Set how many latches hold and limits are near, by code and check; of the others 0."""
        self._views.set(latches, near)

    def ungrouped(self) -> None:
        """Count a command of an account without a group."""
        self._ungrouped.add(1)


def _headroom(check: _Check) -> float | None:
    """Return the share of a limit that is left; None where there is nothing to compare."""
    if check.value is None or check.limit is None:
        return None
    try:
        value, limit = float(check.value), float(check.limit)
    except ValueError:
        return None
    return 1.0 - value / limit if limit else None
