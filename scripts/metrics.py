"""Every metric that a process may expose, as the instruments are made; for docs and tests."""

from __future__ import annotations

from typing import Any, NamedTuple

from opentelemetry.metrics import NoOpMeter

from psm.adapters.telemetry import instruments

_UNITS = {"s": "_seconds", "By": "_bytes"}
PROCESS = {
    "process_cpu_seconds_total": "Processor time, user and system.",
    "process_max_fds": "Files that may be open.",
    "process_open_fds": "Files that are open, connections included.",
    "process_resident_memory_bytes": "Memory in use.",
    "process_start_time_seconds": "When it started, in Unix time.",
    "process_virtual_memory_bytes": "Memory with addresses.",
}
"""Of `prometheus_client`, in every process, on Linux."""


class Exposed(NamedTuple):
    """A metric as a scrape names it."""

    name: str
    kind: str
    description: str


class _Noting(NoOpMeter):
    """Notes what is made of it."""

    def __init__(self) -> None:
        super().__init__("psm")
        self.made: list[Exposed] = []

    def _note(self, kind: str, name: str, unit: str, description: str) -> None:
        exposed = name.replace(".", "_")
        if unit:
            exposed += _UNITS[unit]
        if kind == "counter":
            exposed += "_total"
        self.made.append(Exposed(exposed, kind, description))

    def create_counter(self, name: str, unit: str = "", description: str = "") -> Any:
        self._note("counter", name, unit, description)
        return super().create_counter(name, unit, description)

    def create_gauge(self, name: str, unit: str = "", description: str = "") -> Any:
        self._note("gauge", name, unit, description)
        return super().create_gauge(name, unit, description)

    def create_observable_gauge(
        self, name: str, callbacks: Any = None, unit: str = "", description: str = ""
    ) -> Any:
        self._note("gauge", name, unit, description)
        return super().create_observable_gauge(name, callbacks, unit, description)

    def create_observable_counter(
        self, name: str, callbacks: Any = None, unit: str = "", description: str = ""
    ) -> Any:
        self._note("counter", name, unit, description)
        return super().create_observable_counter(name, callbacks, unit, description)

    def create_histogram(
        self, name: str, unit: str = "", description: str = "", **more: Any
    ) -> Any:
        self._note("histogram", name, unit, description)
        return super().create_histogram(name, unit, description, **more)


def metrics() -> list[Exposed]:
    """Return the metrics of PSM by their names."""
    noting = _Noting()
    instruments(noting, "", "")
    return sorted(noting.made)


def exposed_names() -> set[str]:
    """Return every name of a series that a scrape may have."""
    names = set(PROCESS)
    for one in metrics():
        if one.kind == "histogram":
            names |= {f"{one.name}_{part}" for part in ("bucket", "count", "sum")}
        else:
            names.add(one.name)
    return names
