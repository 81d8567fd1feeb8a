"""`psm validate --risk`: every decision made again, byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from nats.aio.client import Client

from psm.contracts.errors import ConfigError
from psm.contracts.subjects import ORDERS, RISK
from psm.risk.engine.proof import Judge
from psm.workers.cli.shared.connections import archive_behind, checked_log
from psm.workers.cli.shared.lines import take_lines
from psm.workers.cli.shared.output import Output
from psm.workers.cli.shared.replayer import Replayer
from psm.workers.log.shape import log_shape
from psm.workers.process.config import Settings
from psm.workers.proof.risk.live import Range, prove_risk, verdict_hash
from psm.workers.proof.risk.offline import RecordedRisk, prove_lines
from psm.workers.proof.risk.prover import Prover

_PROBLEM = 1
_COLUMNS = ("slot", "n", "field", "recorded", "recomputed", "account_id", "order_id", "sequence")


def chosen_range(account: str | None, group: str | None, sequence: tuple[int, int] | None) -> Range:
    """Return which records are meant.

    Raises:
        ConfigError: the arguments do not go together.
    """
    if account is not None:
        raise ConfigError("decisions belong to groups: --group instead of an account")
    first, last = sequence or (1, None)
    if first < 1 or (last is not None and last < first):
        raise ConfigError(f"--sequence {first} {last}: expected two numbers from 1, ascending")
    if sequence is not None and group is None:
        raise ConfigError("--sequence counts the records of a slot: say --group, too")
    return Range(group=group, first=first, last=last)


def validate_files(files: Sequence[Path], partitions: int, output: Output) -> int:
    """Fold files with their orders, prove every decision; return the exit code."""
    good = True
    for path in files:
        made = RecordedRisk(partitions)
        if code := take_lines(str(path), made.take_line):
            return code
        prover = asyncio.run(prove_lines(made, 1))
        show(str(path), prover, output)
        good = good and not prover.deviating
    return 0 if good else _PROBLEM


async def validate_live(settings: Settings, who: Replayer, chosen: Range, output: Output) -> int:
    """Prove the decisions of the live log; return the exit code."""
    async with checked_log(settings, "psm-validate") as nc:
        scope = {"validate": "risk", **msgspec.to_builtins(chosen)}
        async with who.run(nc, scope) as run:
            prover = await proved(nc, settings, chosen, output)
            run.result_hash = verdict_hash(prover)
    show("live log", prover, output)
    return 0 if not prover.deviating else _PROBLEM


async def proved(
    nc: Client, settings: Settings, chosen: Range, output: Output, judge: Judge | None = None
) -> Prover:
    """Prove decisions, with the archive where the streams hold them no more."""
    async with archive_behind(nc, settings, output, RISK, ORDERS) as archive:
        with output.following("proving decisions") as reached:
            shape = log_shape(settings)
            return await prove_risk(
                nc, shape, chosen, archive=archive, judge=judge, progress=reached
            )


def show(source: str, prover: Prover, output: Output) -> None:
    """Print what was proved, and what was not."""
    slots = [msgspec.to_builtins(one) for _, one in sorted(prover.slots.items())]
    deviations = [msgspec.to_builtins(one) for one in prover.deviations]
    document: dict[str, Any] = {
        "ok": not prover.deviating,
        "source": source,
        "decisions": prover.decisions,
        "records": sum(one["records"] for one in slots),
        "deviations": prover.deviating,
    }
    if output.format != "table":
        output.document({**document, "slots": slots, "found": deviations})
        return
    output.document(document)
    for one in slots:
        output.note(
            f"slot {one['slot']}: records {one['first_n']} to {one['last_n']}, "
            f"{one['decisions']} decisions, {one['checkpoints']} checkpoints"
            + (f", {one['skipped']} before the first checkpoint" if one["skipped"] else "")
        )
    if deviations:
        output.rows(deviations, _COLUMNS)
    else:
        output.note("every decision follows from what it names, byte for byte")
