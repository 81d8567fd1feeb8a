"""`psm validate`: replay twice in unlike surroundings; every hash must agree."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from pathlib import Path
from typing import IO, Annotated, Any

import msgspec
from cyclopts import Parameter
from nats.aio.client import Client

from psm.contracts.errors import ConfigError
from psm.domain.market.slots import ValuationSlots, slots_of
from psm.workers.cli.prove.risk import chosen_range, validate_files, validate_live
from psm.workers.cli.shared.connections import check_account, checked_log
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.cli.shared.replayer import Actor, Approval, Reason, Replayer
from psm.workers.log.reader import last_log_sequence
from psm.workers.process.config import Settings, load_settings
from psm.workers.proof.validation.gate import Compared, Log, Surroundings, Verdict, surroundings
from psm.workers.proof.validation.gate import validate as run_both
from psm.workers.proof.validation.published import PublishedHashes, read_published
from psm.workers.proof.validation.source import spool_file, spool_log
from psm.workers.replay.lines import DEFAULT_PARTITIONS

_PROBLEM = 1


def validate(
    account: Annotated[
        str | None, Parameter(help="Only this account; default the whole log.")
    ] = None,
    /,
    *,
    risk: Annotated[
        bool, Parameter(help="The decisions on orders instead of the accounts.", negative="")
    ] = False,
    group: Annotated[
        str | None, Parameter(help="With --risk: only the slot of this group.")
    ] = None,
    file: Annotated[
        tuple[Path, ...],
        Parameter(
            help="Exported JSON lines instead of the live log, .gz too; repeatable.", negative=""
        ),
    ] = (),
    sequence: Annotated[
        tuple[int, int] | None,
        Parameter(
            help="First and last to compare: log sequences, or with an account its numbers; with "
            "--risk the numbers of the records of its slot.",
            negative="",
        ),
    ] = None,
    python: Annotated[
        str | None, Parameter(help="Interpreter of the second replay, with this PSM installed.")
    ] = None,
    partitions: Annotated[
        int, Parameter(help="Of the log in a file; the live log says it itself.")
    ] = DEFAULT_PARTITIONS,
    valuation_slots: Annotated[str, Parameter(help="Likewise.")] = str(ValuationSlots()),
    reason: Reason = None,
    actor: Actor = None,
    approval: Approval = None,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Replay the log twice and compare the hashes after every event; exit 1 if any differs.

    The replays are two processes that differ in hash seed, time zone, locale, decimal context,
    batch size, number of partitions and snapshots. On the live log each event's hashes are also
    compared with what was published for it. The first diverging event and field are named.
    Needs room in the temporary folder for a copy of the log. Writes nothing else.

    With --risk every decision is made again, from the rulebook, the market and the accounts that
    it names, and must be the same bytes; a record that is missing, or tells of memory what nothing
    made so, is a deviation like any other. A file is then one of `psm risk fold`.
    """
    if risk:
        chosen = chosen_range(account, group, sequence)
        if file:
            return validate_files(file, partitions, output)
        settings = load_settings()
        who = Replayer(settings, actor, reason, approval)
        return asyncio.run(validate_live(settings, who, chosen, output))
    if group is not None:
        raise ConfigError("--group goes with --risk")
    selection = _selection(account, sequence)
    slots = slots_of(valuation_slots)
    if partitions < 1:
        raise ConfigError("--partitions must be 1 or more")
    if not file:
        settings = load_settings()
        who = Replayer(settings, actor, reason, approval)
        return asyncio.run(_live(settings, who, selection, python, output))
    good = True
    for path in file:
        with tempfile.NamedTemporaryFile(prefix="psm-validate-") as spool:
            count = spool_file(path, spool.file, partitions=partitions)
            log = _log(spool.name, partitions, slots)
            verdict = _compare(str(path), log, python, selection, None, count, output)
            good = good and verdict.divergence is None
    return 0 if good else _PROBLEM


async def _live(
    settings: Settings, who: Replayer, selection: Compared, python: str | None, output: Output
) -> int:
    """Validate the live log; a replay of it like any other."""
    async with checked_log(settings, "psm-validate") as nc:
        with tempfile.NamedTemporaryFile(prefix="psm-validate-") as spool:
            async with who.run(nc, {"validate": True, **msgspec.to_builtins(selection)}) as run:
                count, published = await _spooled(nc, settings, spool.file, selection, output)
                log = _log(spool.name, settings.partitions, settings.valuation_slots)
                verdict = await asyncio.to_thread(
                    _compare, "live log", log, python, selection, published, count, output
                )
                run.result_hash = hashlib.sha256(msgspec.json.encode(verdict)).hexdigest()
    return 0 if verdict.divergence is None else _PROBLEM


def _log(spool: str, partitions: int, slots: ValuationSlots) -> Log:
    return Log(
        spool=spool,
        partitions=partitions,
        slots=slots,
    )


def _compare(
    source: str,
    log: Log,
    python: str | None,
    selection: Compared,
    published: PublishedHashes | None,
    count: int,
    output: Output,
) -> Verdict:
    """Replay twice, print the verdict, return it."""
    pair = surroundings(log, python)
    with output.progress("replaying twice", count) as bar:
        verdict = run_both(log, pair, selection, published, bar.advance)
    _show(source, pair, verdict, output)
    return verdict


def _selection(account: str | None, sequence: tuple[int, int] | None) -> Compared:
    if account is not None:
        check_account(account)
    first, last = sequence or (1, None)
    if first < 1 or (last is not None and last < first):
        raise ConfigError(f"--sequence {first} {last}: expected two numbers from 1, ascending")
    return Compared(account=account, first=first, last=last)


async def _spooled(
    nc: Client, settings: Settings, spool: IO[bytes], selection: Compared, output: Output
) -> tuple[int, PublishedHashes]:
    """Spool the live log, and read what was published of it."""
    last = await last_log_sequence(nc)
    if selection.account is None and selection.last is not None:
        last = min(last, selection.last)
    with output.following("reading the log") as reached:
        count = await spool_log(
            nc,
            spool,
            last,
            partitions=settings.partitions,
            account=selection.account,
            reached=reached,
        )
    return count, await read_published(nc, selection.account, last)


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
