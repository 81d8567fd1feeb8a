"""Files of a format as what they say; all are read before anything else happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

from psm.contracts.codec import encode
from psm.contracts.errors import ConfigError, ContractError
from psm.contracts.payload_codec import PayloadCodec
from psm.contracts.registry import ACCOUNT_EVENTS
from psm.workers.imports import binance, bybit, hyperliquid, interactive_brokers
from psm.workers.imports.facts import ERRORS_MAX, Found
from psm.workers.imports.files import csv_rows, json_row, read_text, xml_rows
from psm.workers.imports.mapped_csv import Mapped
from psm.workers.imports.mapping import Mapping
from psm.workers.imports.rows import FileRowError

Format = Literal["csv", "binance", "bybit", "hyperliquid", "interactive-brokers"]
_CODECS = {payload.__name__: PayloadCodec(payload) for payload in ACCOUNT_EVENTS}
_A_PSEUDONYM = "00000000-0000-4000-8000-000000000000"
_JSON = {"binance": binance, "bybit": bybit, "hyperliquid": hyperliquid}


def read_files(
    format_name: Format, paths: Sequence[Path], mapping: Mapping | None, owner: str | None = None
) -> Found:
    """Return what files say; what is wrong with them is in `errors`.

    Args:
        format_name: of the files.
        paths: in any order.
        mapping: of CSV files.
        owner: number or address of the account at the venue, where its files do not say it.

    Raises:
        ConfigError: a file cannot be read, or a mapping is missing or not wanted.
    """
    if (mapping is not None) != (format_name == "csv"):
        raise ConfigError("--mapping is for csv, and csv needs it; see docs/importers.md")
    found = Found()
    if owner is not None:
        found.owners.add(owner.lower() if format_name == "hyperliquid" else owner)
    given = {path.resolve(): path for path in paths}  # a file that is named twice is one
    takers: list[tuple[bool, Callable[[], None]]] = []
    for path in sorted(given.values()):
        try:
            takers.append(_read(format_name, path, mapping, found))
        except FileRowError as error:
            found.errors.append(error)
    for _, take in sorted(takers, key=lambda taker: not taker[0]):
        try:
            take()
        except FileRowError as error:
            found.errors.append(error)
    found.finish()
    found.errors += islice(_refused(found), ERRORS_MAX - len(found.errors))
    return found


def _refused(found: Found) -> Iterator[FileRowError]:
    """Yield the facts whose events the fold would refuse for their form."""
    for fact in found.facts:
        codec = _CODECS.get(fact.event_type)
        if codec is None:
            continue  # an event that only a later release knows is refused as a whole
        said = dict.fromkeys(fact.person, _A_PSEUDONYM)
        try:
            codec.decode(encode({**fact.payload, **said}))
        except ContractError as error:
            field = f" ({error.field})" if error.field else ""
            yield FileRowError(fact.place, f"no {fact.event_type}: {error.detail}{field}")


def venue_of(format_name: Format, mapping: Mapping | None) -> str:
    """Return the venue of files."""
    if mapping is not None:
        return mapping.venue
    return format_name.replace("-", "_")


def _read(
    format_name: Format, path: Path, mapping: Mapping | None, found: Found
) -> tuple[bool, Callable[[], None]]:
    """Return what takes a file's rows, and whether other files lean on it."""
    name = str(path)
    if mapping is not None:
        text = read_text(path, mapping.encoding)
        header, rows = csv_rows(
            name, text, delimiter=mapping.delimiter, skip_lines=mapping.skip_lines
        )
        return False, partial(Mapped(mapping, found).parse, name, header, rows)
    if format_name == "interactive-brokers":
        return False, partial(interactive_brokers.parse, xml_rows(name, read_text(path)), found)
    document, venue = json_row(name, read_text(path)), _JSON[format_name]
    return venue.defines(document), partial(venue.parse, document, found)
