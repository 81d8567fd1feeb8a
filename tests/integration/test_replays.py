"""Replays of the log, of recordings and of files; safe, and recorded where that counts."""

from __future__ import annotations

import asyncio
import errno
import gzip
import hashlib
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg
from tests.support.events import deposit, instrument, mark, raw, trade
from tests.support.running import psm_here
from tests.support.slots import even_slots, slots_env
from tests.support.workbench import Bench, open_bench, until

from psm.adapters.jetstream import get, publish_expected
from psm.contracts.errors import ConfigError, LogDamagedError, ReplayModeError
from psm.contracts.replay import ReplayMode
from psm.projections.schema.migrate import connected
from psm.workers.access.issuers import people_of
from psm.workers.access.store import add_token
from psm.workers.history.from_snapshot import books_from_snapshot
from psm.workers.log.shape import log_shape
from psm.workers.ops import approval, keys
from psm.workers.ops.journal import SUBJECT, chain_next, read_records, recorded
from psm.workers.ops.people import People
from psm.workers.replay.bundle import export_bundle, manifest_of

PARTITIONS = 4
STORY = [
    instrument(1, kind="linear_perp"),
    deposit(1, "1000"),
    trade(2, "buy", "0.5", "100"),
    mark(1, "120"),
    deposit(1, "7", stream="acc_002"),
    raw(b"no event at all"),
    raw(b'{"half": "an event"}'),
    raw(b"\xff\xfe not even text"),
    trade(4, "sell", "0.2", "130"),
    trade(3, "buy", "0.1", "110"),
]


@pytest.fixture
async def bench(nats_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setenv("NATS_URL", nats_url)
    monkeypatch.setenv("PSM_PARTITIONS", str(PARTITIONS))
    for name, value in slots_env(even_slots(20)).items():
        monkeypatch.setenv(name, value)
    async with open_bench(nats_url, partitions=PARTITIONS) as opened:
        yield opened


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return the JSON document that a command printed."""
    return json.loads(capsys.readouterr().out)


# --- the whole log -----------------------------------------------------------------------------


async def test_whole_log_gives_the_hashes_that_were_published(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every account at the end is what the worker said last."""
    await bench.publish(*STORY)
    async with bench.worker():
        verdict = await bench.judge()
    capsys.readouterr()  # the worker's log
    assert await psm_here("replay", "--all", "-o", "json") == 0
    found = printed(capsys)
    assert found["messages"] == len(STORY)
    assert found["outcomes"] == {"applied": 6, "parked": 1, "rejected": 3}
    assert found["messages_per_second"] > 0
    last = {p["account_id"]: p for p in verdict.payloads("StateUpdated")}
    for account, head in found["accounts"].items():
        for name in ("sequence_number", "chain_hash", "ledger_hash"):
            assert head[name] == last[account][name]
    assert await psm_here("replay", "--all", "-o", "json") == 0
    assert printed(capsys)["result_hash"] == found["result_hash"]


async def test_range_of_the_log_is_shown_message_by_message(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    await bench.publish(*STORY)
    assert await psm_here("replay", "--all", "--sequence", "3", "5", "-o", "jsonl") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("log_sequence") for line in lines] == [3, 4, 5, None]
    assert lines[0]["ledger_hash"]
    assert lines[1]["ledger_hash"] is None, "a mark is no account's"


# --- bundles -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz"])
async def test_bundle_reproduces_the_hashes_without_a_server(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Junk and bytes that are no text go through it unchanged."""
    await bench.publish(*STORY)
    path = tmp_path / name
    assert await psm_here("export", "--to", str(path), "-o", "json") == 0
    assert printed(capsys)["messages"] == len(STORY)
    assert await psm_here("replay", "--all", "-o", "json") == 0
    live = printed(capsys)["accounts"]
    monkeypatch.setenv("NATS_URL", "nats://127.0.0.1:1")  # nothing is there
    assert await psm_here("replay", "--file", str(path), "-o", "json") == 0
    found = printed(capsys)
    assert (found["heads"], found["differing"]) == (live, [])
    assert await psm_here("export", "--to", str(path)) == 2
    assert "exists; choose another name" in capsys.readouterr().err


async def test_bundle_of_one_account_has_what_decides_its_state(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await bench.publish(*STORY, mark(1, "5", symbol="OTHER"))
    path = tmp_path / "one.jsonl"
    assert await psm_here("log", "export", "acc_001", "--to", str(path)) == 0
    text = path.read_text()
    assert "marks.BTC-PERP" in text
    assert "OTHER" not in text
    assert "acc_002" not in text
    capsys.readouterr()
    assert await psm_here("fold", str(path), "--partitions", "4", "--final") == 0
    (state,) = map(json.loads, capsys.readouterr().out.splitlines())
    head = json.loads(manifest_of(path).read_text())["heads"]["acc_001"]
    assert state["state_hash"] == head["state_hash"]


async def test_bundle_that_was_changed_is_refused(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines against the manifest, and the manifest's hashes against the fold."""
    await bench.publish(*STORY)
    path = tmp_path / "log.jsonl"
    assert await psm_here("export", "--to", str(path)) == 0
    lines, manifest = path.read_bytes(), json.loads(manifest_of(path).read_text())
    path.write_bytes(b"".join(lines.splitlines(keepends=True)[:-1]))
    assert await psm_here("replay", "--file", str(path)) == 2
    assert "is not the file its manifest describes" in capsys.readouterr().err
    path.write_bytes(lines)
    manifest["heads"]["acc_001"]["ledger_hash"] = "0" * 64
    manifest_of(path).write_text(json.dumps(manifest))
    assert await psm_here("replay", "--file", str(path)) == 1
    assert "acc_001: the fold gives another result" in capsys.readouterr().err
    manifest["format"] = 9
    manifest_of(path).write_text(json.dumps(manifest))
    assert await psm_here("replay", "--file", str(path)) == 2
    assert "this version reads" in capsys.readouterr().err


async def test_compressed_bundle_is_the_same_bytes_twice(bench: Bench, tmp_path: Path) -> None:
    await bench.publish(*STORY)
    first, second = tmp_path / "a.gz", tmp_path / "b.gz"
    assert await psm_here("export", "--to", str(first)) == 0
    assert await psm_here("export", "--to", str(second)) == 0
    assert first.read_bytes() == second.read_bytes()
    assert gzip.decompress(first.read_bytes()).count(b"\n") == len(STORY)


@pytest.mark.parametrize("name", ["log.jsonl", "log.gz"])
async def test_half_a_bundle_is_none(bench: Bench, tmp_path: Path, name: str) -> None:
    """Where the disk is full, nothing stays that would be taken for the whole."""
    await bench.publish(*STORY)

    def full(_position: int, _last: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ConfigError, match="No space left"):
        await export_bundle(bench.nc, log_shape(bench.settings), tmp_path / name, progress=full)
    assert list(tmp_path.iterdir()) == []


# --- from a snapshot ---------------------------------------------------------------------------


async def test_replay_from_a_snapshot_ends_the_same(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """It reads none of the account's events in front of the snapshot."""
    await bench.publish(*(deposit(n) for n in range(1, 8)), trade(8, "buy", "1", "50"))
    async with bench.worker():
        await bench.judge()  # then it stops cleanly, and saves
    await bench.publish(mark(1, "60"), deposit(9), deposit(10))
    books = await books_from_snapshot(bench.nc, log_shape(bench.settings), "acc_001", 10)
    assert books is not None
    assert books.accounts["acc_001"].delivery.version == 8
    capsys.readouterr()  # the worker's log
    for extra in ((), ("--from-snapshot",)):
        assert (
            await psm_here("replay", "acc_001", "--sequence", "9", "10", "-o", "json", *extra) == 0
        )
    without, with_snapshot = (json.loads(t) for t in _documents(capsys.readouterr().out))
    assert with_snapshot == without
    shape = log_shape(bench.settings)
    assert await books_from_snapshot(bench.nc, shape, "acc_001", 5) is None, "it is later"
    assert await books_from_snapshot(bench.nc, shape, "acc_404", 1) is None


def _documents(text: str) -> list[str]:
    middle = text.index("\n{", 1) + 1
    return [text[:middle], text[middle:]]


# --- recorded subjects -------------------------------------------------------------------------


async def record(bench: Bench, count: int) -> None:
    """Let another service publish ticks and signals."""
    for number in range(count):
        body = json.dumps({"n": number}).encode()
        await publish_expected(
            bench.nc, "MARKETDATA", "marketdata.ticker.BTCUSDT", body, expected=None
        )
        await publish_expected(bench.nc, "SIGNALS", "signals.strategy.s1.X", body, expected=None)
        await asyncio.sleep(0.02)


async def test_recording_is_played_back_in_the_order_of_its_times(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """Streams are merged; the same on every run."""
    await record(bench, 5)
    await bench.publish(deposit(1))
    arguments = ("replay", "--subjects", "marketdata.>, signals.>,trades.acc_001", "-o", "jsonl")
    assert await psm_here(*arguments) == 0
    out = capsys.readouterr()
    lines = [json.loads(line) for line in out.out.splitlines()]
    assert [line["data"].get("n") for line in lines] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, None]
    assert [line["js_stream"] for line in lines[:3]] == ["MARKETDATA", "SIGNALS", "MARKETDATA"]
    assert "achieved_speed=" in out.err
    assert await psm_here(*arguments) == 0
    assert capsys.readouterr().out == out.out
    assert await psm_here("replay", "--subjects", "weather.>") == 2
    assert "nothing records this" in capsys.readouterr().err


async def test_clock_runs_as_fast_as_it_is_told(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """The achieved rate is measured, and never faster than asked for."""
    await record(bench, 10)
    assert (
        await psm_here("replay", "--subjects", "marketdata.>", "--speed", "1", "-o", "table") == 0
    )
    summary = capsys.readouterr().out
    achieved = next(line.split()[-1] for line in summary.splitlines() if "achieved" in line)
    assert 0 < float(achieved) <= 1.01
    assert await psm_here("replay", "--subjects", "marketdata.>", "--speed", "5000") == 2


async def test_shadow_strategies_consume_a_replay_in_parallel(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them get everything, in order, and are told of the end; nothing live is touched."""
    await record(bench, 20)
    shadows: list[list[Msg]] = [[], [], []]
    for shadow in shadows:

        async def take(message: Msg, shadow: list[Msg] = shadow) -> None:
            shadow.append(message)

        await bench.nc.subscribe("replay.run7.>", cb=take)
    await bench.nc.flush()
    arguments = ("--subjects", "signals.>", "--to-subject", "replay.run7.>", "-o", "json")
    assert await psm_here("replay", *arguments) == 0
    summary = printed(capsys)
    await until(lambda: all(len(shadow) == 21 for shadow in shadows), "all have the end")
    for shadow in shadows:
        assert [json.loads(m.data)["n"] for m in shadow[:-1]] == list(range(20))
        assert shadow[0].subject == "replay.run7.signals.strategy.s1.X"
        assert (shadow[0].headers or {})["Psm-Replay-Stream"] == "SIGNALS"
        end = json.loads(shadow[-1].data)
        assert (end["messages"], end["sha256"]) == (20, summary["result_hash"])
    for wrong in ("orders.x", "replay.", "replay.*.>"):
        assert await psm_here("replay", "--subjects", "signals.>", "--to-subject", wrong) == 2


# --- the record --------------------------------------------------------------------------------


async def test_replay_of_production_is_recorded(
    bench: Bench, people: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who, why, what, which code, which result; without a reason it does not run."""
    await bench.publish(*STORY)
    monkeypatch.setenv("PSM_ENV", "production")
    assert await psm_here("replay", "acc_001") == 2
    assert "needs --reason" in capsys.readouterr().err
    assert await psm_here("replay", "acc_001", "--reason", "quarterly review") == 2
    assert "PSM_ACCESS_FILE names nobody" in capsys.readouterr().err
    monkeypatch.setenv("PSM_ACCESS_FILE", str(people / "access.toml"))
    why = ("--actor", "alice", "--reason", "quarterly review")
    assert await psm_here("ops", "approve", *why, "--key", str(people / "bob.pem")) == 0
    reason = (*why, "--approval", capsys.readouterr().out.strip())
    assert await psm_here("replay", "acc_001", *reason) == 0
    assert await psm_here("replay", "--all", *reason) == 0
    capsys.readouterr()
    assert await psm_here("ops", "list", "-o", "json") == 0
    begun, ended, _, whole = printed(capsys)
    assert (begun["kind"], ended["kind"]) == ("begun", "ended")
    assert begun["run_id"] == ended["run_id"]
    assert (begun["actor"], begun["reason"]) == ("alice", "quarterly review")
    assert begun["what"]["account"] == "acc_001"
    assert ended["outcome"] == "completed"
    assert len(ended["result_hash"]) == 64
    assert whole["result_hash"] != ended["result_hash"]
    assert await psm_here("ops", "verify", "-o", "json") == 0
    assert printed(capsys)["records"] == 4


async def test_failed_replay_is_recorded_as_failed(bench: Bench) -> None:
    with pytest.raises(LogDamagedError):
        async with recorded(bench.nc, {}, actor="a", reason="b"):
            raise LogDamagedError("broken")
    with pytest.raises(KeyError):
        async with recorded(bench.nc, {}, actor="a", reason="b"):
            raise KeyError
    ends = [s.record for s in await read_records(bench.nc) if s.record.kind == "ended"]
    assert [(end.outcome, end.detail) for end in ends] == [
        ("failed", "broken"),
        ("interrupted", None),
    ]


async def test_records_that_meet_form_one_chain(bench: Bench) -> None:
    async def once(number: int) -> None:
        async with recorded(bench.nc, {"number": number}, actor="a", reason="b"):
            await asyncio.sleep(0)

    await asyncio.gather(*(once(number) for number in range(4)))
    assert len(await read_records(bench.nc)) == 8


async def test_forged_record_is_found(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """A record that somebody writes by hand does not fit into the chain."""
    async with recorded(bench.nc, {}, actor="a", reason="b"):
        pass
    stored = (await read_records(bench.nc))[-1]
    forged = json.loads((await _data(bench, stored.sequence)).decode())
    forged["actor"] = "nobody"
    await bench.nc.jetstream().publish(SUBJECT, json.dumps(forged).encode())
    assert await psm_here("ops", "verify") == 1
    assert "record 3 does not follow the one before it" in capsys.readouterr().err


async def _data(bench: Bench, sequence: int) -> bytes:
    message = await get(bench.nc, "OPS", sequence)
    assert message is not None
    return message.data


def test_chain_hash_is_documented_arithmetic() -> None:
    start = hashlib.sha256(b"psm:ops").digest()
    wanted = hashlib.sha256(start + hashlib.sha256(b"x").digest()).hexdigest()
    assert chain_next(start.hex(), b"x") == wanted


async def test_nothing_can_be_written_while_a_replay_runs(bench: Bench) -> None:
    """By type: the writers refuse, whoever calls them."""
    async with recorded(bench.nc, {}, actor="a", reason="b"):
        with ReplayMode(), pytest.raises(ReplayModeError, match="write to PSM"):
            await publish_expected(bench.nc, "PSM", "_psm.cursor.0", b"{}", expected=0)


# --- four eyes ---------------------------------------------------------------------------------


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Return a folder with Bob's key, a stranger's, and who there is: Alice and Bob."""
    keys.generate(tmp_path / "bob.pem")
    keys.generate(tmp_path / "stranger.pem")
    (tmp_path / "access.toml").write_text(
        '[[person]]\nid = "alice"\n[[person]]\nid = "bob"\nkeys = ["bob.pem.pub"]\n'
    )
    return tmp_path


def known(folder: Path) -> People:
    return people_of(str(folder / "access.toml"))


async def test_second_person_must_approve_where_that_is_set(
    bench: Bench, people: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    await bench.publish(deposit(1))
    monkeypatch.setenv("PSM_ENV", "production")
    monkeypatch.setenv("PSM_ACCESS_FILE", str(people / "access.toml"))
    asked = ("replay", "acc_001", "--reason", "why not", "--actor", "alice")
    assert await psm_here(*asked) == 2
    assert "needs a second person's --approval" in capsys.readouterr().err
    consent = ("--actor", "alice", "--reason", "why not", "--approver", "bob")
    assert await psm_here("ops", "approve", *consent, "--key", str(people / "bob.pem")) == 0
    token = capsys.readouterr().out.strip()
    assert await psm_here(*asked, "--approval", token) == 0
    records = await read_records(bench.nc)
    assert {s.record.approved_by for s in records} == {"bob"}
    assert await psm_here("replay", "acc_001", "--reason", "other", "--approval", token) == 2


@pytest.mark.parametrize(
    ("signer", "given", "said"),
    [
        ("bob", {"actor": "carol"}, "for carol, not for alice"),
        ("bob", {"reason": "fun"}, "for another reason"),
        ("bob", {"action": "recover-log"}, "for recover-log, not for replay"),
        ("bob", {"approver": "dave"}, "dave may not approve"),
        ("stranger", {}, "was not signed by bob"),
        ("bob", {"expires_at": "2020-01-01T00:00:00Z"}, "expired"),
    ],
)
def test_approval_of_something_else_is_refused(
    people: Path, signer: str, given: dict[str, Any], said: str
) -> None:
    later = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    fields: dict[str, Any] = {"approver": "bob", "actor": "alice", "reason": "r"}
    fields |= {"expires_at": later, **given}
    token = approval.approve(people / f"{signer}.pem", **fields)
    with pytest.raises(ConfigError, match=said):
        approval.check_approval(token, known(people), actor="alice", reason="r")


def test_key_that_others_may_read_is_refused(people: Path) -> None:
    """Who can read it can approve in Bob's name."""
    (people / "bob.pem").chmod(0o640)
    with pytest.raises(ConfigError, match=r"may be read by others \(mode 0640\); run chmod 600"):
        approval.approve(
            people / "bob.pem", approver="bob", actor="alice", reason="r", expires_at="2030-01-01"
        )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('keys = ["nothing.pub"]', "cannot read"),
        ('keys = ["bob.pem"]', "access.toml: a key of person 'carol' holds no public key in PEM"),
        ('keys = ["bob.pem.pub"]', "is that of 'bob' and of 'carol': those are one person"),
        ('oidc = [{iss = "i", sub = "b"}]', "subject 'b' of i is that of 'bob' and of 'carol'"),
        ('keys = []\n[[person]]\nid = "bob"', "person 'bob' is there twice"),
    ],
)
def test_people_are_told_apart(people: Path, text: str, said: str) -> None:
    """One key or one subject under two names would be one who approves of himself."""
    bob = '[[person]]\nid = "bob"\nkeys = ["bob.pem.pub"]\noidc = [{iss = "i", sub = "b"}]\n'
    (people / "access.toml").write_text(f'{bob}[[person]]\nid = "carol"\n{text}\n')
    with pytest.raises(ConfigError, match=re.escape(said)):
        known(people)


async def test_who_made_the_token_does_not_approve(
    bench: Bench, people: Path, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Else an administrator would make a helper, and approve of what it asks for."""
    await bench.publish(deposit(1))
    monkeypatch.setenv("PSM_ENV", "production")
    monkeypatch.setenv("PSM_ACCESS_FILE", str(people / "access.toml"))
    monkeypatch.setenv("POSTGRES_DSN", postgres_dsn)
    async with connected(postgres_dsn) as connection:
        await add_token(
            connection,
            principal="alice",
            kind="person",
            roles=("operator",),
            patterns=(),
            life=timedelta(days=1),
            created_by="bob",
        )
    why = ("--actor", "alice", "--reason", "r")
    assert await psm_here("ops", "approve", *why, "--key", str(people / "bob.pem")) == 0
    token = capsys.readouterr().out.strip()
    assert await psm_here("replay", "acc_001", *why, "--approval", token) == 2
    assert "bob made a token of alice" in capsys.readouterr().err


def test_nobody_approves_of_himself(people: Path) -> None:
    with pytest.raises(ConfigError, match="the same"):
        approval.approve(
            people / "bob.pem", approver="bob", actor="bob", reason="r", expires_at="2030-01-01"
        )
    with pytest.raises(ConfigError, match="no approval token"):
        approval.check_approval("abc", known(people), actor="alice", reason="r")
