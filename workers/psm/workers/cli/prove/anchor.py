"""`psm anchor`: signed roots of the log, kept where neither NATS nor PostgreSQL can reach."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from psm.contracts.errors import ConfigError
from psm.contracts.subjects import RISK
from psm.workers.cli.shared.connections import archive_behind, broker
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output, say_json
from psm.workers.cli.shared.process import process
from psm.workers.ops import keys
from psm.workers.process.config import load_settings
from psm.workers.proof.anchors.create import Anchorer
from psm.workers.proof.anchors.prove import find_event, message_at, prove
from psm.workers.proof.anchors.store import FileAnchors
from psm.workers.proof.anchors.verify import AnchorReport, read_anchors, verify
from psm.workers.proof.anchors.watch import Pace, watch

app = App(
    name="anchor", help="Sign roots of the log, kept outside its reach; compare the log with them."
)

Anchors = Annotated[Path, Parameter(help="Folder of the anchors, best on another machine's disk.")]
Key = Annotated[Path, Parameter(help="Private key that signs, a PEM file of mode 0600.")]
PublicKeys = Annotated[
    tuple[Path, ...],
    Parameter(help="Public key to check with; repeat after a key was changed.", negative=""),
]
_FINDINGS = ("kind", "log_sequence", "to_log_sequence", "subject", "event_id", "detail")
_ANCHORS = ("size", "last_sequence", "log_time", "created_at", "key_id", "root")


@app.command
def keygen(file: Path, /, *, output: Output = DEFAULT_OUTPUT) -> None:
    """Make a key pair: FILE (mode 0600) signs, FILE.pub verifies.

    Keep FILE where whoever administers NATS and PostgreSQL cannot read it.
    """
    public, name = keys.generate(file)
    output.document({"private_key": str(file), "public_key": str(public), "key_id": name})


@app.command
def create(
    *,
    anchors: Anchors,
    key: Key,
    dry_run: Annotated[
        bool, Parameter(name="--dry-run", negative="", help="Sign and show, append nothing.")
    ] = False,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Sign an anchor over all of the log and append it; nothing where the log has nothing new."""
    private, store = keys.load_private(key), FileAnchors(anchors)

    async def run() -> int:
        with store.writing():
            async with broker(load_settings(), "psm-anchor") as nc:
                with output.following("reading the log") as reached:
                    anchor = await Anchorer(nc, store, private).extend(
                        dry_run=dry_run, reached=reached
                    )
        if anchor is None:
            output.note("nothing new to anchor")
            return 0
        output.document(msgspec.to_builtins(anchor))
        return 0

    return asyncio.run(run())


@app.command(name="verify")
def verify_(*, anchors: Anchors, public_key: PublicKeys, output: Output = DEFAULT_OUTPUT) -> int:
    """Compare every message of the log with the anchors; exit 1 and name what was changed."""
    store, ring = FileAnchors(anchors), _ring(public_key)

    async def run() -> AnchorReport:
        settings = load_settings()
        async with (
            broker(settings, "psm-anchor") as nc,
            archive_behind(nc, settings, output, RISK) as archive,
        ):
            with output.following("reading the log") as reached:
                return await verify(nc, store, ring, reached, archive=archive)

    report = asyncio.run(run())
    if not report.anchors and report.ok:
        raise ConfigError(f"{anchors} holds no anchor; see psm anchor create")
    document = msgspec.to_builtins(report)
    if report.risk_heads_aged:
        output.note(f"{report.risk_heads_aged} ends of slots are in the archive alone")
    if output.format == "table":
        findings = document.pop("findings")
        output.document(document)
        if findings:
            output.rows(findings, _FINDINGS)
    else:
        output.document(document)
    return 0 if report.ok else 1


@app.command(name="prove")
def prove_(
    event: Annotated[str, Parameter(help="An event_id, or a log sequence.")],
    /,
    *,
    anchors: Anchors,
    public_key: PublicKeys,
    since: Annotated[
        int | None,
        Parameter(help="Size of an older anchor: prove, too, that the log only grew since."),
    ] = None,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Print a proof, as JSON, that an event is in the log that the newest anchor covers.

    Whoever has the public key checks it with scripts/verify_anchor_proof.py, which needs no PSM.
    """
    store = FileAnchors(anchors)
    good, wrong = read_anchors(store, _ring(public_key))
    if wrong:
        raise ConfigError(f"{wrong[0].detail}; run psm anchor verify")
    if not good:
        raise ConfigError(f"{anchors} holds no anchor; see psm anchor create")

    async def run() -> dict[str, Any]:
        async with broker(load_settings(), "psm-anchor") as nc:
            message = (
                await message_at(nc, int(event)) if event.isdigit() else await find_event(nc, event)
            )
            return prove(store, good, message, since)

    say_json(asyncio.run(run()), sys.stdout, indent=output.format != "jsonl")


@app.command(name="list")
def list_(*, anchors: Anchors, public_key: PublicKeys, output: Output = DEFAULT_OUTPUT) -> int:
    """Show the anchors; exit 1 if one is not signed or not chained as it must be."""
    good, wrong = read_anchors(FileAnchors(anchors), _ring(public_key))
    rows = [{**msgspec.to_builtins(one), "last_sequence": one.last_sequence} for one in good]
    output.rows(rows, _ANCHORS)
    for finding in wrong:
        output.note(finding.detail)
    return 1 if wrong else 0


@app.command(name="watch")
def watch_(
    *,
    anchors: Anchors,
    key: Key,
    every_events: Annotated[int, Parameter(help="Anchor when that many messages are new.")] = 1000,
    every_seconds: Annotated[
        float, Parameter(help="Anchor what is new when the last anchor is that old.")
    ] = 60.0,
) -> int:
    """Anchor the log for as long as it runs, until SIGINT or SIGTERM.

    Exit 1 when the log is not a continuation of what was anchored: then nothing more is signed.
    """
    if every_events < 1 or every_seconds <= 0:
        raise ConfigError("--every-events and --every-seconds must be above 0")
    private, store = keys.load_private(key), FileAnchors(anchors)

    async def run() -> None:
        settings = load_settings()
        with store.writing():
            async with process(settings, "psm-anchor") as own:
                stop = asyncio.Event()
                own.on_stop(stop.set)
                pace = Pace(every_events=every_events, every_seconds=every_seconds)
                await watch(own.nc, Anchorer(own.nc, store, private), pace, stop)

    asyncio.run(run())
    return 0


def _ring(paths: tuple[Path, ...]) -> keys.Keyring:
    return keys.Keyring(keys.load_public(path) for path in paths)
