"""`psm validate`: replay twice in unlike surroundings; every hash must agree."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import IO, Annotated, Any

import msgspec
from cyclopts import Parameter

from psm.adapters.jetstream import connect
from psm.adapters.jetstream.streams_apply import check
from psm.contracts.errors import ConfigError
from psm.contracts.subjects import is_stream_id
from psm.workers.cli.output import DEFAULT_OUTPUT, Output
from psm.workers.config import Settings, load_settings
from psm.workers.fold_lines import DEFAULT_PARTITIONS
from psm.workers.replay import last_log_sequence
from psm.workers.validation import (
    Log,
    Selection,
    Surroundings,
    Verdict,
    surroundings,
)
from psm.workers.validation import (
    validate as run_both,
)
from psm.workers.validation_published import Published, read_published
from psm.workers.validation_source import spool_file, spool_log

_PROBLEM = 1


def validate(
    account: Annotated[
        str | None, Parameter(help="Only this account; default the whole log.")
    ] = None,
    /,
    *,
    file: Annotated[
        tuple[Path, ...],
        Parameter(help="Exported JSON lines instead of the live log, .gz too; repeatable."),
    ] = (),
    sequence: Annotated[
        tuple[int, int] | None,
        Parameter(
            help="First and last to compare: log sequences, or with an account its numbers.",
            negative="",
        ),
    ] = None,
    python: Annotated[
        str | None, Parameter(help="Interpreter of the second replay, with this PSM installed.")
    ] = None,
    partitions: Annotated[
        int, Parameter(help="Of the log in a file; the live log says it itself.")
    ] = DEFAULT_PARTITIONS,
    valuation_interval_ms: Annotated[int, Parameter(help="Likewise.")] = 1000,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Replay the log twice and compare the hashes after every event; exit 1 if any differs.

    The replays are two processes that differ in hash seed, time zone, locale, decimal context,
    batch size, number of partitions and snapshots. On the live log each event's hashes are also
    compared with what was published for it. The first diverging event and field are named.
    Needs room in the temporary folder for a copy of the log. Writes nothing else.
    """
    selection = _selection(account, sequence)
    if partitions < 1 or valuation_interval_ms < 1:
        raise ConfigError("--partitions and --valuation-interval-ms must be 1 or more")
    good = True
    for path in file or (None,):
        with tempfile.NamedTemporaryFile(prefix="psm-validate-") as spool:
            published = None
            if path is None:
                settings = load_settings()
                partitions = settings.partitions
                valuation_interval_ms = settings.valuation_interval_ms
                count, published = asyncio.run(_spooled(settings, spool.file, selection, output))
            else:
                count = spool_file(path, spool.file, partitions=partitions)
            log = Log(
                spool=spool.name,
                partitions=partitions,
                valuation_interval_ns=valuation_interval_ms * 1_000_000,
            )
            pair = surroundings(log, python)
            with output.progress("replaying twice", count) as bar:
                verdict = run_both(log, pair, selection, published, bar.advance)
        _show(str(path) if path else "live log", pair, verdict, output)
        good = good and verdict.divergence is None
    return 0 if good else _PROBLEM


def _selection(account: str | None, sequence: tuple[int, int] | None) -> Selection:
    if account is not None and not is_stream_id(account):
        raise ConfigError(f"{account!r} is no account id: 1 to 64 letters, digits, _ or -")
    first, last = sequence or (1, None)
    if first < 1 or (last is not None and last < first):
        raise ConfigError(f"--sequence {first} {last}: expected two numbers from 1, ascending")
    return Selection(account=account, first=first, last=last)


async def _spooled(
    settings: Settings, spool: IO[bytes], selection: Selection, output: Output
) -> tuple[int, Published]:
    """Spool the live log, and read what was published of it."""
    nc = await connect(name="psm-validate", **settings.nats_options())
    try:
        await check(nc, settings)
        last = await last_log_sequence(nc)
        if selection.account is None and selection.last is not None:
            last = min(last, selection.last)
        with output.progress("reading the log", last) as bar:
            reached = 0

            def progress(position: int, _: int) -> None:
                nonlocal reached
                bar.advance(position - reached)
                reached = position

            count = await spool_log(
                nc,
                spool,
                last,
                partitions=settings.partitions,
                account=selection.account,
                reached=progress,
            )
        return count, await read_published(nc, selection.account, last)
    finally:
        await nc.close()


def _show(
    source: str, pair: tuple[Surroundings, Surroundings], verdict: Verdict, output: Output
) -> None:
    document: dict[str, Any] = {"ok": verdict.divergence is None, "source": source}
    document |= msgspec.to_builtins(verdict)
    divergence = document.pop("divergence")
    if output.format != "table":
        runs = [msgspec.to_builtins(one) for one in pair]
        output.document({**document, "divergence": divergence, "runs": runs})
        return
    output.document(document)
    for name, one in zip("AB", pair, strict=True):
        output.note(f"replay {name}: {_told(one)}")
    if divergence is None:
        output.note("every compared event gives the same hashes")
    else:
        output.document({"divergence": divergence["between"], **divergence})


def _told(one: Surroundings) -> str:
    return (
        f"{one.python}, PYTHONHASHSEED={one.hash_seed}, TZ={one.time_zone}, LC_ALL={one.locale}, "
        f"partitions {one.partitions}, batch {one.batch}, "
        f"snapshots {f'every {one.snapshot_every}' if one.snapshot_every else 'never'}, "
        f"decimal precision {one.precision}"
    )
