"""The rulebook at a real broker, said and shown with the command line as its users do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from tests.support.broker import compose_broker, connect_as, settings_of
from tests.support.log import LogSize
from tests.support.running import psm_here

from psm.adapters.jetstream import connect, publish_expected, stream_info
from psm.adapters.jetstream.errors import PermissionRefusedError
from psm.adapters.jetstream.streams_apply import apply
from psm.contracts.errors import TransientError
from psm.contracts.subjects import RULEBOOK
from psm.workers.ops.keys import load_private
from psm.workers.risk.rulebook import RulebookReader, Saying, read_rulebook, say, signed_event

REFUSED, USAGE = 1, 2


class Desk:
    """A broker with streams, and people with key files who use the command line.

    Attributes:
        nc: connection of a test.
        folder: of the keys.
    """

    def __init__(self, nc: Client, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.nc = nc
        self.folder = folder
        self._capsys = capsys

    def file(self, name: str, document: object) -> str:
        """Return the path of a JSON file."""
        path = self.folder / name
        path.write_text(json.dumps(document))
        return str(path)

    def by(self, who: str, *more: str) -> tuple[str, ...]:
        """Return the options that say who speaks."""
        return ("--key", str(self.folder / who), "--reason", "a test", *more)

    async def run(self, *arguments: str, code: int = 0) -> Any:
        """Run `psm risk` and return the document that it printed, or its error."""
        self._capsys.readouterr()
        found = await psm_here("risk", *arguments, "-o", "json")
        shown = self._capsys.readouterr()
        assert found == code, shown.err
        if found == 0:
            return json.loads(shown.out)
        errors = [line for line in shown.err.splitlines() if line.startswith("{")]
        return json.loads(errors[-1])["error"]

    async def keygen(self, *names: str) -> None:
        for name in names:
            assert await psm_here("anchor", "keygen", str(self.folder / name)) == 0

    async def found(self, *names: str) -> None:
        """Let the first two persons define their own keys."""
        await self.keygen(*names)
        rights = ("--right", "propose", "--right", "approve", "--right", "halt")
        for name in names:
            path = str(self.folder / f"{name}.pub")
            said = await self.run(
                "keys", "define", path, "--holder", name, *rights,
                *self.by(name, "--actor", name),
            )  # fmt: skip
            assert said["outcome"] == "applied"

    async def last(self) -> int:
        return (await stream_info(self.nc, RULEBOOK)).last_sequence


@pytest.fixture
async def desk(
    nats_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> AsyncIterator[Desk]:  # fmt: skip
    monkeypatch.setenv("NATS_URL", nats_url)
    nc = await connect(nats_url, name="test")
    await apply(nc, LogSize())
    yield Desk(nc, tmp_path, capsys)
    await nc.close()


async def test_limits_are_tightened_by_one_and_loosened_by_two(desk: Desk) -> None:
    await desk.found("ada", "bob")
    tight = desk.file("tight.json", {"leverage": "3", "daily_loss": 0.05})
    said = await desk.run("limits", "propose", "group:desk", tight, *desk.by("ada"))
    assert (said["outcome"], said["sequence"], said["effects"]) == (
        "applied", 3, ["limits group:desk"],
    )  # fmt: skip
    loose = desk.file("loose.json", {"leverage": "4", "daily_loss": "0.05"})
    differences = await desk.run("limits", "diff", "group:desk", loose)
    assert differences == [{"limit": "leverage", "before": "3", "after": "4", "looser": True}]
    proposed = await desk.run("limits", "propose", "group:desk", loose, *desk.by("ada"))
    assert (proposed["outcome"], proposed["reason"]) == ("pending", "four_eyes")
    rows = await desk.run("limits", "show")
    assert [(row["status"], row["version"], row["limits"]) for row in rows] == [
        ("in force", 1, {"leverage": "3", "daily_loss": "0.05"}),
        ("proposed", 2, {"leverage": "4", "daily_loss": "0.05"}),
    ]
    assert await desk.run("limits", "diff", "group:desk") == differences
    approval = ("limits", "approve", "group:desk", proposed["hash"])
    before = await desk.last()
    assert "four_eyes" in await desk.run(*approval, *desk.by("ada"), code=REFUSED)
    assert await desk.last() == before, "what would be refused is not written"
    assert (await desk.run(*approval, *desk.by("bob")))["outcome"] == "applied"
    rows = await desk.run("limits", "show", "group:desk")
    assert [(row["status"], row["limits"]["leverage"]) for row in rows] == [("in force", "4")]
    later = ("--valid-from", "2199-01-01T00:00:00Z", "--valid-until", "2199-01-02T00:00:00Z")
    await desk.run("limits", "propose", "firm", tight, *later, *desk.by("ada"))
    (row,) = await desk.run("limits", "show", "firm")
    assert (row["status"], row["valid_from"], row["valid_until"]) == (
        "scheduled", "2199-01-01T00:00:00.000000Z", "2199-01-02T00:00:00.000000Z",
    )  # fmt: skip
    told = await desk.run("limits", "history", "group:desk")
    assert [(row["event_type"], row["actor"], row["outcome"]) for row in told] == [
        ("LimitsProposed", "ada", "applied"),
        ("LimitsProposed", "ada", "pending"),
        ("LimitsApproved", "bob", "applied"),
    ]


async def test_dry_run_says_what_would_be_and_writes_nothing(desk: Desk) -> None:
    await desk.found("ada", "bob")
    limits = desk.file("limits.json", {"leverage": "3"})
    propose = ("limits", "propose", "firm", limits, *desk.by("ada", "--dry-run"))
    said = await desk.run(*propose)
    assert (said["outcome"], said["sequence"]) == ("applied", None)
    halted = await desk.run("halt", "firm", *desk.by("ada", "--dry-run"))
    assert halted["outcome"] == "applied"
    assert await desk.last() == 2


async def test_one_halts_and_two_resume(desk: Desk) -> None:
    await desk.found("ada", "bob")
    halted = await desk.run("halt", "group:desk", *desk.by("ada"))
    assert halted["effects"] == ["mode group:desk"]
    rows = await desk.run("halts")
    assert [(row["scope"], row["mode"], row["actor"], row["hash"]) for row in rows] == [
        ("group:desk", "halted", "ada", halted["hash"])
    ]
    assert (await desk.run("resume", "group:desk", *desk.by("ada")))["outcome"] == "pending"
    assert "four_eyes" in await desk.run("resume", "group:desk", *desk.by("ada"), code=REFUSED)
    second = await desk.run("halt", "group:desk", "--mode", "reducing", *desk.by("bob"))
    which = await desk.run("resume", "group:desk", *desk.by("bob"), code=USAGE)
    assert "has 2 halts; name those to lift" in which
    assert second["hash"] in which
    lifted = await desk.run("resume", "group:desk", halted["hash"], *desk.by("bob"))
    assert lifted["outcome"] == "applied"
    assert [row["hash"] for row in await desk.run("halts")] == [second["hash"]]
    latch = "ab" * 32
    assert (await desk.run("resume", "account:a", latch, *desk.by("ada")))["outcome"] == "pending"
    assert (await desk.run("resume", "account:a", latch, *desk.by("bob")))["outcome"] == "applied"
    assert latch in (await read_rulebook(desk.nc)).rulebook.lifted


async def test_groups_keys_and_tables(desk: Desk) -> None:
    await desk.found("ada", "bob")
    define = ("groups", "define", "desk", "--member", "a", "--member", "b", "--currency", "USDT")
    assert (await desk.run(*define, *desk.by("ada")))["outcome"] == "pending"
    assert (await desk.run(*define, *desk.by("bob")))["outcome"] == "applied"
    (group,) = await desk.run("groups")
    assert (group["group"], group["members"], group["currency"]) == ("desk", ["a", "b"], "USDT")
    await desk.keygen("eve")
    key = ("keys", "define", str(desk.folder / "eve.pub"), "--holder", "eve", "--right", "halt")
    for who in ("ada", "bob"):
        await desk.run(*key, *desk.by(who))
    rows = await desk.run("keys")
    assert {row["holder"]: row["rights"] for row in rows} == {
        "ada": ["propose", "approve", "halt"],
        "bob": ["propose", "approve", "halt"],
        "eve": ["halt"],
    }
    listed = desk.file("list.json", {"name": "l", "kind": "restricted", "symbols": ["X"]})
    say_list = ("rulebook", "say", "ListDefined", listed)
    assert "no_right" in await desk.run(*say_list, *desk.by("eve"), code=REFUSED)
    assert (await desk.run(*say_list, *desk.by("ada")))["outcome"] == "applied"
    book = (await read_rulebook(desk.nc)).rulebook
    assert book.restriction_of("a", "X") == "both"
    told = await desk.run("rulebook", "history")
    assert [row["sequence"] for row in told] == list(range(1, book.sequence + 1))
    assert {row["outcome"] for row in told} == {"applied", "pending"}


async def test_errors_name_what_is_wrong(desk: Desk) -> None:
    await desk.found("ada", "bob")
    slip = desk.file("slip.json", {"levrage": "3"})
    propose = ("limits", "propose")
    by = desk.by("ada")
    text = await desk.run(*propose, "firm", slip, *by, code=USAGE)
    assert 'there is no limit "levrage"' in text
    assert 'did you mean "leverage"?' in text
    negative = desk.file("negative.json", {"leverage": "-3"})
    text = await desk.run(*propose, "firm", negative, *by, code=USAGE)
    assert "limits.leverage must be a decimal of zero or more" in text
    fine = desk.file("fine.json", {"leverage": "3"})
    for scope in ("desk", "group:", "firm:x", "portfolio:x"):
        text = await desk.run(*propose, scope, fine, *by, code=USAGE)
        assert "is no scope: firm, group:NAME" in text
    text = await desk.run(*propose, "firm", str(desk.folder / "absent"), *by, code=USAGE)
    assert "cannot read" in text
    text = await desk.run("resume", "firm", *by, code=USAGE)
    assert "nobody halted firm; to lift a latch of the engine, name its hash" in text
    text = await desk.run("resume", "firm", "deadbeef", *by, code=USAGE)
    assert "'deadbeef' is not the whole hash (64 hex digits) of a halt or latch" in text
    text = await desk.run("limits", "approve", "firm", "deadbeef", *by, code=USAGE)
    assert "is not the whole hash (64 hex digits) of a proposal" in text
    text = await desk.run("limits", "diff", "firm", code=USAGE)
    assert "nothing is proposed for firm" in text
    text = await desk.run("rulebook", "say", "TradeExecuted", fine, *by, code=USAGE)
    assert "no event TradeExecuted; there are LimitsProposed" in text
    wrong = desk.file("wrong.json", {"name": "l", "kind": "grey", "symbols": []})
    text = await desk.run("rulebook", "say", "ListDefined", wrong, *by, code=REFUSED)
    assert "kind must be restricted or allowed" in text
    await desk.keygen("eve")
    text = await desk.run("halt", "firm", *desk.by("eve", "--actor", "eve"), code=REFUSED)
    assert "unknown_key" in text
    (desk.folder / "ada").chmod(0o644)
    assert "run chmod 600" in await desk.run("halt", "firm", *by, code=USAGE)
    assert await desk.last() == 2


async def test_forged_message_is_kept_and_has_no_effect(desk: Desk) -> None:
    """Whoever may publish can store anything; only what a key signed counts."""
    await desk.found("ada", "bob")
    saying = Saying(
        event_type="HaltSet",
        content={"scope": "firm", "id": "firm", "mode": "reducing"},
        actor="ada",
        reason="a test",
        key=load_private(desk.folder / "ada"),
    )
    event = json.loads(signed_event(saying).data)
    event["payload"]["mode"] = "halted"
    for data in (json.dumps(event).encode(), b"junk"):
        await publish_expected(desk.nc, RULEBOOK, "rulebook.firm.firm", data, expected=None)
    told = await desk.run("rulebook", "history")
    assert [(row["outcome"], row["code"]) for row in told[2:]] == [
        ("refused", "bad_signature"), ("refused", "invalid_json"),
    ]  # fmt: skip
    assert await desk.run("halts") == []
    assert (await desk.run("halt", "firm", *desk.by("ada")))["sequence"] == 5


async def test_many_who_speak_at_once_are_all_heard_once(desk: Desk) -> None:
    await desk.found("ada", "bob")

    def halting(number: int) -> Saying:
        return Saying(
            event_type="HaltSet",
            content={"scope": "group", "id": f"g{number}", "mode": "halted"},
            actor="ada",
            reason="a test",
            key=load_private(desk.folder / "ada"),
        )

    said = await asyncio.gather(
        *(say(desk.nc, RulebookReader(desk.nc), halting(number)) for number in range(8))
    )
    assert sorted(one.stored.sequence for one in said) == list(range(3, 11))
    book = (await read_rulebook(desk.nc)).rulebook
    assert (book.sequence, len(book.halts.of)) == (10, 8)


@asynccontextmanager
async def user(url: str, name: str) -> AsyncIterator[Client]:
    nc = await connect_as(name, url)
    try:
        yield nc
    finally:
        await nc.close()


async def test_only_officers_may_publish_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The broker keeps everybody else out, whatever key he has."""
    (tmp_path / "broker").mkdir()
    async with compose_broker(tmp_path / "broker") as url:
        monkeypatch.setenv("NATS_URL", url)
        async with user(url, "streams") as nc:
            await apply(nc, LogSize())
        for name, value in settings_of("officer").items():
            monkeypatch.setenv(name, value)
        async with user(url, "officer") as nc:
            desk = Desk(nc, tmp_path, capsys)
            await desk.found("ada", "bob")
            assert (await desk.run("halt", "firm", *desk.by("ada")))["outcome"] == "applied"
            assert len(await desk.run("halts")) == 1
        for name in ("operator", "service", "publisher", "reader", "worker", "replay"):
            async with user(url, name) as nc:
                with pytest.raises((PermissionRefusedError, TransientError)):
                    await publish_expected(
                        nc, RULEBOOK, "rulebook.firm.firm", b"{}", expected=None, timeout_s=1
                    )
