"""Recorded histograms from the processes themselves, or from a Prometheus that kept them."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections.abc import Sequence
from http import HTTPStatus

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from psm.adapters.http_client import answered
from psm.contracts.errors import TransientError
from psm.workers.doctor.histograms import Histogram, of_bounds, summed
from psm.workers.doctor.objectives import WRITABLE, Labels
from psm.workers.doctor.prometheus import Prometheus

_TIMEOUT_S = 5.0
_BYTES_MAX = 16 * 1024 * 1024


class Sample(msgspec.Struct, frozen=True):
    """One series of a process."""

    name: str
    labels: dict[str, str]
    value: float


class Scrape:
    """What some processes have recorded since each of them began.

    Attributes:
        missing: addresses that did not answer, and why.
    """

    def __init__(
        self,
        by_address: dict[str, list[Sample]],
        missing: dict[str, str],
        before: Scrape | None = None,
    ) -> None:
        self._by_address = by_address
        self.missing = missing
        self._before = before

    @classmethod
    async def of(cls, addresses: Sequence[str], token: str | None = None) -> Scrape:
        """Ask every address; those that do not answer are `missing`.

        Raises:
            TransientError: none of them answers.
        """
        texts = await asyncio.gather(
            *(asyncio.to_thread(text_of, address, token) for address in addresses),
            return_exceptions=True,
        )
        found: dict[str, list[Sample]] = {}
        missing: dict[str, str] = {}
        for address, text in zip(addresses, texts, strict=True):
            if isinstance(text, BaseException):
                missing[address] = str(text)
            else:
                found[address] = samples(text)
        if not found:
            raise TransientError("; ".join(missing.values()) or "no address of metrics is known")
        return cls(found, missing)

    def since(self, before: Scrape) -> Scrape:
        """Return what was recorded since another scrape of the same processes."""
        return Scrape(self._by_address, self.missing, before)

    async def histogram(self, metric: str, labels: Labels) -> Histogram:
        """Return the measurements of all processes."""
        found = []
        for address in self._by_address:
            now = self.of_process(address, metric, labels)
            if self._before is not None:
                now = now.since(self._before.of_process(address, metric, labels))
            found.append(now)
        return summed(found)

    async def writable(self) -> float | None:
        """Return whether the log takes writes now: processes keep no history of it."""
        values = [
            sample.value
            for found in self._by_address.values()
            for sample in found
            if sample.name == WRITABLE
        ]
        return min(values, default=None)

    def total(self, name: str) -> float:
        """Return the sum of all series of a counter or gauge."""
        return sum(
            sample.value
            for found in self._by_address.values()
            for sample in found
            if sample.name == name
        )

    def of_process(self, address: str, metric: str, labels: Labels) -> Histogram:
        """Return the measurements of one process since it began."""
        counts: dict[float, float] = {}
        for sample in self._by_address.get(address, ()):
            if sample.name == f"{metric}_bucket" and _matches(sample.labels, labels):
                bound = float(sample.labels["le"])
                counts[bound] = counts.get(bound, 0.0) + sample.value
        return of_bounds(counts)


class Kept:
    """What a Prometheus kept of the last so many seconds."""

    def __init__(self, server: Prometheus, since_s: int) -> None:
        self._server = server
        self._range = f"{since_s}s"

    async def histogram(self, metric: str, labels: Labels) -> Histogram:
        """Return the measurements of this time."""
        wanted = ", ".join(f'{name}=~"{pattern}"' for name, pattern in labels.items())
        found = await self._server.series(
            f"sum by (le) (increase({metric}_bucket{{{wanted}}}[{self._range}]))"
        )
        return of_bounds({float(series["le"]): value for series, value in found})

    async def writable(self) -> float | None:
        """Return the share of this time in which every process saw the log take writes."""
        found = await self._server.series(f"min(avg_over_time({WRITABLE}[{self._range}]))")
        return found[0][1] if found else None


def samples(text: str) -> list[Sample]:
    """Return the series of an exposition."""
    return [
        Sample(sample.name, dict(sample.labels), sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


def _matches(labels: Labels, wanted: Labels) -> bool:
    return all(re.fullmatch(pattern, labels.get(name, "")) for name, pattern in wanted.items())


def text_of(address: str, token: str | None = None) -> str:
    """Return the exposition of a process.

    Raises:
        TransientError: nobody answers, or not with 200.
    """
    request = urllib.request.Request(address)  # noqa: S310 - the operator's
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        status, body = answered(request, timeout_s=_TIMEOUT_S, bytes_max=_BYTES_MAX)
        text = body.decode()
    except (OSError, ValueError) as error:
        raise TransientError(f"{address} does not answer: {error}") from error
    if status != HTTPStatus.OK:
        raise TransientError(f"{address} answers {status}")
    return text
