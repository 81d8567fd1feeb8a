"""Anchors on a real broker: whoever may write everywhere but to them cannot change the log unseen.

The attacker has NATS (and with it everything in PostgreSQL, which follows from the log): the log is
deleted and made anew from forged messages. Only the folder of the anchors is out of reach.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from tests.support import feed, servers
from tests.support.events import deposit
from tests.support.risk_bench import SLOT, RiskBench
from tests.support.running import READY_S, started
from tests.support.workbench import Bench, open_bench, until

from psm.adapters.jetstream import (
    StoredMessage,
    get,
    publish_expected,
    read_range,
    stream_info,
)
from psm.adapters.jetstream.streams_apply import apply
from psm.contracts.subjects import RISK, RULEBOOK, entrance, published
from psm.workers.cli import main
from psm.workers.ops import keys
from psm.workers.risk.rulebook import read_rulebook

ROOT = Path(__file__).parents[2]
PARTITIONS = 4
Message = tuple[str, bytes]


class Custody:
    """A log with its keys and its anchors, and the command line on it."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench = bench
        self.anchors = folder / "anchors"
        self.key = folder / "anchor.pem"
        self.public = folder / "anchor.pem.pub"
        self.environment = {
            "NATS_URL": bench.settings.nats_url,
            "PSM_PARTITIONS": str(PARTITIONS),
        }
        keys.generate(self.key)

    async def psm(self, *arguments: str) -> tuple[int, Any, str]:
        """Return exit code, document and stderr of a command on the anchors."""
        key = ["--public-key", str(self.public)]
        if arguments[0] == "create":
            key = ["--key", str(self.key)]
        out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
        line = ["anchor", *arguments, "--anchors", str(self.anchors), *key, "-o", "json"]
        # In a thread of this process: an interpreter per command would take most of the time.
        with redirect_stdout(out), redirect_stderr(err):
            code = await asyncio.to_thread(main, line)
        printed, said = (stream.buffer.getvalue().decode() for stream in (out, err))
        return code, json.loads(printed) if printed else None, said

    async def messages(self) -> list[Message]:
        """Return the log: public subjects and bodies."""
        last = (await stream_info(self.bench.nc, "TRADES")).last_sequence
        stored: list[StoredMessage] = []
        async for batch in read_range(self.bench.nc, "TRADES", [">"], 1, last):
            stored += batch
        return [(published(message.subject), message.data) for message in stored]

    async def forge(self, messages: list[Message]) -> None:
        """Put another log in the place of this one."""
        await servers.delete_streams(self.bench.settings.nats_url)
        await apply(self.bench.nc, self.bench.settings)
        for subject, data in messages:
            await self.bench.nc.jetstream().publish(subject, data)


@pytest.fixture
async def custody(
    nats_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Custody]:
    async with open_bench(nats_url, partitions=PARTITIONS) as bench:
        held = Custody(bench, tmp_path)
        for name, value in held.environment.items():
            monkeypatch.setenv(name, value)
        await bench.publish(feed.traffic(40, accounts=4, events=40))
        yield held


def altered(log: list[Message]) -> list[Message]:
    subject, data = log[19]
    return [*log[:19], (subject, data.replace(b'"event_id"', b' "event_id"')), *log[20:]]


def moved(log: list[Message]) -> list[Message]:
    """The same bytes as another account's event."""
    place = next(n for n, (subject, _) in enumerate(log) if n > 10 and subject.startswith("trades"))
    return [*log[:place], ("trades.somebody_else", log[place][1]), *log[place + 1 :]]


ATTACKS: dict[str, tuple[Callable[[list[Message]], list[Message]], str, int | None]] = {
    "alter": (altered, "altered", 20),
    "delete": (lambda log: [*log[:19], *log[20:]], "deleted", 20),
    "insert": (lambda log: [*log[:19], _message(deposit(900)), *log[19:]], "inserted", 20),
    "swap": (
        lambda log: [*log[:19], log[24], *log[20:24], log[19], *log[25:]],
        "swapped",
        20,
    ),
    "truncate": (lambda log: log[:-5], "truncated", -5),
    "truncate the head": (lambda log: log[3:], "deleted", 1),
    "roll back and go on": (
        lambda log: [*log[:-5], *(_message(deposit(900 + n)) for n in range(8))],
        "altered",
        -5,
    ),
    "move to another account": (moved, "altered", None),
}


def _message(sent: Any) -> Message:
    return sent.subject, sent.data


@pytest.mark.parametrize("attack", ATTACKS)
async def test_attack_is_found_and_named(custody: Custody, attack: str) -> None:
    """What was done and where; and neither is anything signed on top of it, nor proven."""
    code, anchor, _ = await custody.psm("create")
    assert code == 0
    log = await custody.messages()
    assert anchor["size"] == len(log) > 30
    forge, kind, place = ATTACKS[attack]
    forged = forge(log)
    assert forged != log
    await custody.forge(forged)
    code, report, _ = await custody.psm("verify")
    assert (code, report["ok"]) == (1, False)
    first = report["findings"][0]
    assert first["kind"] == kind, report
    if place is not None:
        assert first["log_sequence"] == (place if place > 0 else len(log) + 1 + place)
    assert first["anchored_at"] == anchor["created_at"]
    if kind in ("altered", "inserted"):
        at = first["log_sequence"]
        assert first["event_id"] == json.loads(forged[at - 1][1])["event_id"]
        code, _, said = await custody.psm("prove", str(at))
        assert code == 1
        assert "not the message that was anchored" in said
    if len(forged) < len(log):
        code, _, said = await custody.psm("create")
        assert code == 1
        assert "psm anchor verify" in said
    _, listed, _ = await custody.psm("list")
    assert len(listed) == 1, "nothing was signed on top of it"


async def test_honest_log_grows_and_stays_good(custody: Custody) -> None:
    """Anchors cover what is new; a log moved to another broker, as it was, is still good."""
    _, none, said = await custody.psm("verify")
    assert (none, "no folder of anchors" in said) == (None, True)
    code, dry, _ = await custody.psm("create", "--dry-run")
    assert code == 0
    assert not (custody.anchors / "anchors.jsonl").exists()
    _, first, _ = await custody.psm("create")
    assert (first["root"], first["size"]) == (dry["root"], dry["size"])
    code, nothing, said = await custody.psm("create")
    assert (code, nothing, "nothing new" in said) == (0, None, True)
    await custody.bench.publish([deposit(n, stream="new") for n in (1, 2, 3)])
    code, report, _ = await custody.psm("verify")
    assert (code, report["ok"], report["unanchored"]) == (0, True, 3)
    _, second, _ = await custody.psm("create")
    assert second["size"] == first["size"] + 3
    await custody.forge(await custody.messages())
    code, report, _ = await custody.psm("verify")
    assert (code, report["ok"], report["anchors"], report["covered"]) == (
        0,
        True,
        2,
        second["size"],
    )


async def test_proof_is_checked_without_psm(custody: Custody, tmp_path: Path) -> None:
    """By one file and the public key; any change of the proof is refused."""
    _, first, _ = await custody.psm("create")
    await custody.bench.publish([deposit(n, stream="new") for n in range(1, 9)])
    await custody.psm("create")
    event_id = json.loads((await custody.messages())[6][1])["event_id"]
    code, proof, said = await custody.psm("prove", event_id, "--since", str(first["size"]))
    assert code == 0, said
    assert proof["log_sequence"] == 7
    assert await checked(tmp_path, proof, custody.public) == (0, "")
    for path, value in (
        (("anchor", "size"), proof["anchor"]["size"] + 1),
        (("anchor", "created_at"), "2020-01-01T00:00:00Z"),
        (("event_base64",), "e30="),
        (("subject",), "trades.other"),
        (("leaf_index",), 7),
        (("log_sequence",), 8),
        (("inclusion",), proof["inclusion"][:-1]),
        (("older_anchor", "root"), "00" * 32),
        (("consistency",), proof["consistency"][1:]),
    ):
        code, bad = await checked(tmp_path, changed(proof, path, value), custody.public)
        assert (code, bad != "") == (1, True), path
    other = tmp_path / "other.pem"
    keys.generate(other)
    assert (await checked(tmp_path, proof, other.with_name("other.pem.pub")))[0] == 1
    assert (await custody.psm("prove", "9999"))[0] == 2
    assert (await custody.psm("prove", "00000000-0000-0000-0000-000000000000"))[0] == 2
    code, _, said = await custody.psm("prove", "7", "--since", "2")
    assert (code, "there is no anchor of 2 messages" in said) == (2, True)


def changed(proof: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    copied: dict[str, Any] = json.loads(json.dumps(proof))
    inner = copied
    for name in path[:-1]:
        inner = inner[name]
    assert inner[path[-1]] != value
    inner[path[-1]] = value
    return copied


async def checked(folder: Path, proof: dict[str, Any], public: Path) -> tuple[int, str]:
    """Return exit code and the first thing that does not hold; PSM cannot be imported there."""
    file = folder / "proof.json"
    file.write_text(json.dumps(proof))
    script = ROOT / "scripts" / "verify_anchor_proof.py"
    code = (
        "import runpy, sys; sys.modules['psm'] = None; sys.argv = sys.argv[1:];"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", code, str(script), str(file), str(public)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == "", done.stderr
    return done.returncode, "".join(x for x in done.stdout.splitlines() if x.startswith("BAD"))


async def test_watch_anchors_at_its_pace_and_stops_at_damage(custody: Custody) -> None:
    """One anchor per so many events, the rest when it stops; a shortened log ends it."""
    options = ("--anchors", str(custody.anchors), "--key", str(custody.key))
    watch = ("anchor", "watch", *options, "--every-events", "10", "--every-seconds", "3600")
    with started(custody.key.parent, *watch, environment=custody.environment) as running:
        await until_anchors(custody, 1)
        code, _, said = await custody.psm("create")
        assert (code, "another process writes anchors" in said) == (2, True)
        await custody.bench.publish([deposit(n, stream="new") for n in range(1, 13)])
        await until_anchors(custody, 2)
        await custody.bench.publish(deposit(13, stream="new"))
        assert await asyncio.to_thread(running.stop, signal.SIGTERM) == 0
    assert (await custody.psm("verify"))[1]["anchors"] == 3
    await custody.forge((await custody.messages())[:10])
    with started(custody.key.parent, *watch, environment=custody.environment) as running:
        assert await asyncio.to_thread(running.process.wait, READY_S) == 1
        assert "the log ends at log sequence 10" in running.log.read_text()


async def until_anchors(custody: Custody, count: int) -> None:
    file = custody.anchors / "anchors.jsonl"
    await until(
        lambda: file.exists() and file.read_bytes().count(b"\n") >= count, f"{count} anchors"
    )


# --- risk -----------------------------------------------------------------------------------------


@pytest.fixture
async def desk(custody: Custody) -> RiskBench:
    """A rulebook, and a slot that recorded three decisions, beside the log."""
    bench = RiskBench(custody.bench.nc, custody.bench.settings)
    await bench.say()
    await bench.group()
    async with bench.worker() as risk:
        await risk.owning()
        for _ in range(3):
            await bench.order()
        await bench.decided(3)
    return bench


async def test_ends_of_risk_are_anchored(custody: Custody, desk: RiskBench) -> None:
    """Rulebook and slots by number and hash; what moves there is new, also where the log rests."""
    code, first, _ = await custody.psm("create")
    assert code == 0
    rulebook = (await read_rulebook(desk.nc)).rulebook
    assert first["risk"]["rulebook_sequence"] == rulebook.sequence
    assert first["risk"]["rulebook_hash"] == rulebook.hash
    (head,) = first["risk"]["slots"]
    record = await get(desk.nc, RISK, head["sequence"])
    assert record is not None
    assert (head["slot"], head["n"]) == (SLOT, 3)
    assert head["hash"] == hashlib.sha256(record.data).hexdigest()
    assert (await custody.psm("create"))[1] is None
    subject, halt = desk.halt_event()
    await publish_expected(desk.nc, RULEBOOK, subject, halt, expected=None)
    code, second, _ = await custody.psm("create")
    assert (code, second["size"]) == (0, first["size"])
    assert second["risk"]["rulebook_sequence"] == rulebook.sequence + 1
    code, report, _ = await custody.psm("verify")
    assert (code, report["ok"], report["anchors"]) == (0, True, 2)
    assert (report["risk_heads"], report["risk_heads_aged"]) == (3, 0)


@pytest.mark.parametrize("forged", ["rulebook altered", "rulebook cut", "record altered", "aged"])
async def test_what_was_changed_of_risk_is_found(
    custody: Custody, desk: RiskBench, forged: str
) -> None:
    """Whoever makes RULEBOOK or RISK anew cannot give them the ends that were signed."""
    assert (await custody.psm("create"))[0] == 0
    stream = RISK if forged in ("record altered", "aged") else RULEBOOK
    last = (await stream_info(desk.nc, stream)).last_sequence
    stored = [m async for batch in read_range(desk.nc, stream, [">"], 1, last) for m in batch]
    context = desk.nc.jetstream()
    config = (await context.stream_info(stream)).config
    await context.delete_stream(stream)
    if forged == "aged":
        await context.add_stream(config.evolve(first_seq=last + 1))
        stored = []
    else:
        await context.add_stream(config)
    if forged == "rulebook cut":
        stored = stored[:-1]
    records = [m.sequence for m in stored if not m.subject.startswith("risk.owner.")]
    for message in stored:
        data = message.data
        if forged.endswith("altered") and message.sequence == records[-1]:
            data = data.replace(b'"', b' "', 1)
        # As the stream keeps it: a forger may leave out the private subjects.
        entry = message.subject if stream == RULEBOOK else entrance(message.subject)
        await desk.nc.jetstream().publish(entry, data, stream=stream)
    code, report, said = await custody.psm("verify")
    if forged == "aged":
        assert (code, report["ok"], report["risk_heads_aged"]) == (0, True, 1)
        assert "in the archive alone" in said
        return
    assert (code, report["ok"]) == (1, False)
    (finding,) = report["findings"]
    assert finding["kind"] == ("risk" if stream == RISK else "rulebook")
    assert "gone" in finding["detail"] if forged == "rulebook cut" else "not" in finding["detail"]
