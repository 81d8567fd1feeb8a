"""Access over HTTP: every route by every role and resource, and tokens from first to last."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.integration.test_http import EVENT, JSON, Api, serving
from tests.support.events import deposit
from tests.support.feed import publish
from tests.support.psm_stream import Account
from tests.support.running import psm_here
from tests.support.tcp_proxy import proxied, through
from tests.support.workbench import until_answer

from psm.adapters import postgres
from psm.adapters.jetstream import connect, get
from psm.contracts.subjects import published
from psm.domain.market.slots import ValuationSlots
from psm.workers.access.digest import Digests, read_digests
from psm.workers.access.policy import ROLES, Action, Role
from psm.workers.access.store import Tokens, TokenTable
from psm.workers.access.vouched import HEADER, Author, Signer, author_of
from psm.workers.api.fold_turns import FOLDS_WAITING_EACH, FoldTurns, TooManyFoldsError
from psm.workers.api.guard import Needs
from psm.workers.api.http import PREFIXES
from psm.workers.cli.shared.http import NOT_OVER_HTTP
from psm.workers.ops.journal import read_records, recorded
from psm.workers.ops.keys import Keyring
from psm.workers.proof.audit.run import Audit, AuditRange

KEY = Ed25519PrivateKey.generate()
SIGNER = Signer(KEY)
OWN, FOREIGN = "desk-1", "other-1"
PATTERNS = (f"account:{OWN}", "account:desk-*", "symbol:BTC-*", "group:desk")


class Door:
    """A service that asks for tokens."""

    def __init__(self, api: Api, tokens: Tokens, table: TokenTable) -> None:
        self.api, self.tokens, self.table = api, tokens, table
        self.client = api.client

    async def token(self, *roles: str, patterns: tuple[str, ...] = PATTERNS, **more: Any) -> str:
        given = {"principal": "svc/test", "kind": "service", "created_by": "test", **more}
        life = given.pop("life", timedelta(days=1))
        _, token = await self.tokens.create(roles=roles, patterns=patterns, life=life, **given)
        await self.table.read()
        return token

    async def ask(self, token: str | None, method: str, path: str, **more: Any) -> httpx.Response:
        headers = dict(more.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return await self.client.request(method, path, headers=headers, **more)


@asynccontextmanager
async def guarded(
    nats_url: str, dsn: str, stale_s: float = 600, digests: Digests | None = None
) -> AsyncIterator[Door]:
    async with AsyncExitStack() as stack:
        pool = await postgres.open_pool(dsn, name="access")
        stack.callback(pool.terminate)
        table = TokenTable(pool, stale_s=stale_s)
        await stack.enter_async_context(table.kept())
        api = await stack.enter_async_context(
            serving(nats_url, dsn, ingest=True, tokens=table, signer=SIGNER, digests=digests)
        )
        own, foreign = Account(OWN), Account(FOREIGN)
        await api.write(own.deposit("10"), foreign.deposit("20"))
        yield Door(api, Tokens(pool), table)


@pytest.fixture
async def door(nats_url: str, postgres_dsn: str) -> AsyncIterator[Door]:
    async with guarded(nats_url, postgres_dsn) as opened:
        yield opened


def routes_of(door: Door) -> list[tuple[str, str, Needs | None]]:
    """Return method, path with an account of ours and needs of every route."""
    app = door.api.app
    found = []
    for route in app.routes:
        needs = route.endpoint.needs  # type: ignore[attr-defined]
        path = route.path.replace("{account_id}", OWN).replace("{event_id}", "1")  # type: ignore[attr-defined]
        path = path.replace("{decision_hash}", "0" * 64).replace("{token_id}", "00000000")
        path = path.replace("{correlation_id:path}", "c").replace("{exchange}", "x")
        path = path.replace("{symbol:path}", "BTC-PERP")
        for method in sorted(route.methods - {"HEAD"}):  # type: ignore[attr-defined]
            found.append((method, path, needs))
    return found


OPEN = ("/health", "/schema")


async def test_every_route_says_what_it_needs_and_is_closed_to_strangers(door: Door) -> None:
    """A route without needs is open: those are few, and hold nothing of anybody."""
    seen = 0
    for method, path, needs in routes_of(door):
        answer = await door.ask(None, method, path)
        if needs is None:
            assert path.startswith(OPEN), path
            assert answer.status_code in (200, 503), path
        else:
            assert answer.status_code == 401, f"{method} {path}: {answer.status_code}"
            assert answer.headers["www-authenticate"] == 'Bearer realm="psm"'
            seen += 1
    assert seen >= 30
    ready = (await door.ask(None, "GET", "/health/ready")).json()
    assert set(ready) == {"status"}
    assert "doors" in (await door.ask(await door.token("viewer"), "GET", "/health/ready")).json()


@pytest.mark.parametrize("role", get_args(Role))
async def test_every_route_by_every_role(door: Door, role: Role) -> None:
    """Who lacks the right is answered 403, which names it; who has it never is."""
    token = await door.token(role)
    for method, path, needs in routes_of(door):
        if needs is None or needs.action is None:
            continue
        answer = await door.ask(token, method, path)
        may = needs.action in ROLES[role] and needs.kind != "cluster"
        refused = answer.status_code == 403
        assert refused is not may, f"{role} {method} {path}: {answer.status_code} {answer.text}"
        if refused and needs.kind != "cluster":
            assert needs.action in answer.json()["detail"]


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_a_foreign_account_is_an_unknown_one(door: Door, prefix: str) -> None:
    """By status, by words, for what is there and for what is not; also when asked by ETag."""
    token = await door.token("admin", patterns=PATTERNS)
    for name in ("state", "positions", "margin", "orders", "reconciliation", "verify", "replay"):
        query = "?sequence=1&ledger_hash=" + "0" * 64 if name == "verify" else ""
        there = await door.ask(token, "GET", f"{prefix}/{name}/{FOREIGN}{query}")
        absent = await door.ask(token, "GET", f"{prefix}/{name}/nobody{query}")
        assert there.status_code == 404
        assert there.text.replace(FOREIGN, "X") == absent.text.replace("nobody", "X")
    own = await door.ask(token, "GET", f"{prefix}/state/{OWN}")
    assert own.status_code == 200
    tagged = {"If-None-Match": "*"}
    answer = await door.ask(token, "GET", f"{prefix}/state/{FOREIGN}", headers=tagged)
    assert answer.status_code == 404
    assert (await door.ask(token, "HEAD", f"{prefix}/state/{FOREIGN}")).status_code == 404


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_foreign_groups_are_unknown_and_foreign_symbols_are_not_covered(
    door: Door, prefix: str
) -> None:
    """Of several accounts one that is foreign is enough; names are taken as they are written."""
    token = await door.token("admin", patterns=PATTERNS)
    for kind in ("pnl", "trades", "lots", "metrics"):
        path = f"{prefix}/analytics/{{}}/{kind}"
        there = await door.ask(token, "GET", path.format("group:other"))
        assert there.status_code == 404
        assert there.json()["type"] == "urn:psm:problem:unknown-group"
        for both in (f"{OWN},{FOREIGN}", f"{FOREIGN},{OWN}", f"{OWN},,{FOREIGN}"):
            answer = await door.ask(token, "GET", path.format(both))
            assert answer.json()["type"] == "urn:psm:problem:unknown-account", both
    book = prefix.removesuffix("/psm") + "/market/book/x/{}"
    for symbol, status in (("ETH-PERP", 403), ("ETH-PERP%2fBTC-1", 403), ("BTC-PERP", 404)):
        assert (await door.ask(token, "GET", book.format(symbol))).status_code == status, symbol
    for path in (f"%2e%2e/{FOREIGN}", f"{OWN}/../{FOREIGN}", f"{OWN}%2f..%2f{FOREIGN}", "*", ""):
        answer = await door.ask(token, "GET", f"{prefix}/state/{path}")
        assert answer.status_code == 404, path


async def test_tokens_count_on_while_postgresql_is_away(nats_url: str, postgres_dsn: str) -> None:
    """Those that were read: who they are for is known, and what is asked is not to be had."""
    async with (
        proxied(postgres_dsn) as proxy,
        guarded(nats_url, through(postgres_dsn, proxy)) as door,
    ):
        token = await door.token("viewer")
        proxy.refuse(refuses=True)
        proxy.cut()
        assert (await door.ask(token, "GET", "/whoami")).json()["id"] == "svc/test"
        answer = await door.ask(token, "GET", f"/psm/state/{OWN}")
        assert answer.status_code == 503
        unknown = await door.ask("psm_00000000_" + "a" * 32, "GET", f"/psm/state/{OWN}")
        assert unknown.status_code == 401
        proxy.refuse(refuses=False)

        async def status() -> int:
            return (await door.ask(token, "GET", f"/psm/state/{OWN}")).status_code

        await until_answer(status, lambda found: found == 200, "it is answered again")


async def test_lists_hold_what_one_may_know_of(door: Door) -> None:
    listed = await door.ask(await door.token("viewer"), "GET", "/psm/accounts?limit=1")
    assert [row["account_id"] for row in listed.json()["accounts"]] == [OWN]
    assert listed.json()["next"] is None
    everything = await door.ask(
        await door.token("auditor", patterns=("*",)), "GET", "/psm/accounts"
    )
    assert [row["account_id"] for row in everything.json()["accounts"]] == [OWN, FOREIGN]
    nothing = await door.ask(await door.token("viewer", patterns=()), "GET", "/psm/accounts")
    assert nothing.json()["accounts"] == []


async def test_the_past_is_a_right_of_its_own(door: Door) -> None:
    token = await door.token("approver")
    assert (await door.ask(token, "GET", f"/psm/state/{OWN}")).status_code == 200
    answer = await door.ask(token, "GET", f"/psm/state/{OWN}?at_sequence=1")
    assert answer.status_code == 403
    assert "read.past" in answer.json()["detail"]


async def test_events_are_appended_to_own_accounts_and_marks_to_own_symbols(door: Door) -> None:
    token = await door.token("ingest")
    own = {**EVENT, "stream_id": OWN}
    assert (await door.ask(token, "POST", "/psm/events", json=own)).status_code == 201
    foreign = {**EVENT, "stream_id": FOREIGN, "event_id": EVENT["event_id"][:-1] + "9"}
    assert (await door.ask(token, "POST", "/psm/events", json=foreign)).status_code == 404
    mark = {**EVENT, "event_type": "MarkPriceUpdated", "payload": {"price": "1"}}
    for symbol, status in (("ETH-PERP", 403), ("BTC-PERP", 201)):
        named = {**mark, "stream_id": symbol, "sequence_number": 900_000}
        named["payload"] = {"symbol": symbol, "price": "1"}
        answer = await door.ask(token, "POST", "/psm/events", json=named)
        assert answer.status_code == status, answer.text
    # A transfer names two accounts, and needs both.
    for number, (other, status) in enumerate((("desk-2", 201), (FOREIGN, 404))):
        moved = {"amount": "1", "transfer_id": f"t-{number}", "counterparty": other}
        sent = {**own, "event_type": "TransferredOut", "payload": moved}
        sent["event_id"] = f"{EVENT['event_id'][:-1]}{number + 2}"
        answer = await door.ask(token, "POST", "/psm/events", json=sent)
        assert answer.status_code == status, answer.text
    # Whoever only reads appends nothing, and an order is asked about of one's own accounts only.
    reader = await door.token("viewer")
    assert (await door.ask(reader, "POST", "/psm/events", json=own)).status_code == 403
    order = {"account_id": FOREIGN, "order_id": "1", "symbol": "BTC-PERP"}
    for body, status in (({"order": order}, 403), ({"order": order, "dry_run": True}, 404)):
        answer = await door.ask(reader, "POST", "/psm/risk/check", json=body)
        assert answer.status_code == status, answer.text
    whole = {"event_type": "order_request", "stream_id": FOREIGN, "payload": {"account_id": OWN}}
    body = {"order": whole, "dry_run": True}
    assert (await door.ask(reader, "POST", "/psm/risk/check", json=body)).status_code == 404
    for text in ('{"order":{}}', '{"order":' + "[" * 5_000):
        json_type = {"Content-Type": "application/json"}
        answer = await door.ask(reader, "POST", "/psm/risk/check", content=text, headers=json_type)
        assert answer.status_code == 422


async def test_who_appended_is_signed_and_the_first_one_stays(door: Door) -> None:
    """What somebody claims over NATS is no proof, also with a header that proves another event."""
    nc, ring = door.api.nc, Keyring([KEY.public_key()])
    first, second = [await door.token("ingest", principal=f"svc/{n}") for n in (1, 2)]
    own = {**EVENT, "stream_id": OWN}
    answers = [await door.ask(one, "POST", "/psm/events", json=own) for one in (first, second)]
    assert [answer.status_code for answer in answers] == [201, 200]
    stored = await get(nc, "TRADES", answers[0].json()["log_sequence"])
    assert stored is not None

    def author(data: bytes, header: str | None) -> Author:
        hashed = hashlib.sha256(data).digest()
        return author_of(header, published(stored.subject), hashed, ring)

    header = stored.header(HEADER)
    found = author(stored.data, header)
    assert (found.principal, found.door, found.claimed) == ("svc/1", "http", None)
    other = author(stored.data + b" ", header)
    assert (other.principal, other.door, other.claimed) == (None, "nats", "svc/1")
    assert author(stored.data, "v1;the boss").claimed == "the boss"
    assert author(stored.data, None) == Author(principal=None, door="nats")
    for text, sent in (("1", header), ("2", "v1;boss;2026-01-01T00:00:00Z;0123456789abcdef;x")):
        body = msgspec.json.encode({**own, "event_id": f"forged-{text}"})
        await nc.jetstream().publish(f"trades.{OWN}", body, headers={HEADER: str(sent)})
    audit = Audit(
        nc,
        partitions=4,
        slots=ValuationSlots(),
        asked=AuditRange(),
        chosen=(),
        principals=ring,
    )
    report = await audit.everything(None)
    assert (report.vouched, report.claimed) == (1, 2)
    assert report.counts["principal_forged"] == 1


async def test_what_was_done_is_kept_by_principal(nats_url: str, postgres_dsn: str) -> None:
    """In the log, by reason in the metrics, and by principal in a chain of OPS."""
    nc = await connect(nats_url, name="digests")
    digests = Digests(nc, "here")
    async with guarded(nats_url, postgres_dsn, digests=digests) as door:
        token = await door.token("admin", principal="svc/digest")
        for _ in range(2):
            await door.ask(token, "GET", f"/psm/state/{FOREIGN}")
        await door.ask(token, "GET", f"/psm/state/{OWN}?at_sequence=1")
        await door.ask(None, "GET", "/psm/accounts")
        own = {**EVENT, "stream_id": OWN}
        for one in (token, await door.token("ingest", principal="svc/other")):
            await door.ask(one, "POST", "/psm/events", json=own)
        await digests.write()
        await digests.write()  # nothing new, so nothing more
        (found,) = await read_digests(nc)
        assert found.replica == "here"
        assert found.counts == {
            "-": {"no-credentials": 1},
            "svc/digest": {"append": 1, "foreign-resource": 2, "read.past": 1},
            "svc/other": {"append": 1, "append.repeated": 1},
        }
        scraper = await door.token("admin", patterns=("*",))
        metrics = (await door.ask(scraper, "GET", "/metrics")).text
        for line in (
            'psm_http_denied_total{reason="foreign-resource"} 2.0',
            'psm_http_granted_total{action="append"} 2.0',
        ):
            assert line in metrics
        async with recorded(nc, {}, actor="a", reason="b"):
            pass
        assert len(await read_records(nc)) == 2
        await digests.write()
        assert len(await read_digests(nc)) == 2
    await nc.close()


async def test_credentials_that_open_nothing(door: Door) -> None:
    """Unknown, cut, expired, of another scheme, twice; and whoever goes on trying waits."""
    good = await door.token("viewer")
    expired = await door.token("viewer", life=timedelta(milliseconds=1))
    path = f"/psm/state/{OWN}"
    wrong = [good[:-1], good + "a", expired, "psm_00000000_" + "a" * 32, f"{good} x"]
    for token in wrong:
        answer = await door.client.get(path, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401, token
        assert good[-32:] not in answer.text
    answer = await door.client.get(path, headers={"Authorization": f"Basic {good}"})
    assert answer.status_code == 401
    twice = [("Authorization", f"Bearer {good}")] * 2
    assert (await door.client.get(path, headers=twice)).status_code == 401
    assert (await door.ask(good, "GET", f"{path}/")).status_code == 404
    assert (await door.client.get(f"{path}?token={good}")).status_code == 400
    assert (await door.ask(good, "GET", f"{path}?token={good}")).status_code == 400
    for _ in range(30):
        answer = await door.client.get(path, headers={"Authorization": "Bearer psm_x"})
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    # Whoever tries may share the address of a proxy, or of a machine, with all others.
    assert (await door.ask(good, "GET", path)).status_code == 200


async def test_a_revoked_token_ends_at_once_and_with_its_listener_cut(door: Door) -> None:
    """By the notification; and where nobody hears it, by the next reading."""
    token = await door.token("viewer")
    path = f"/psm/state/{OWN}"
    assert (await door.ask(token, "GET", path)).status_code == 200
    await door.tokens.revoke(token.split("_")[1])

    async def status() -> int:
        return (await door.ask(token, "GET", path)).status_code

    await until_answer(status, lambda found: found == 401, "a revoked token opens nothing")
    second = await door.token("viewer")
    async with postgres.acquired(door.api.pool) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'access' AND pid <> pg_backend_pid()"
        )
        await connection.execute("ALTER TABLE access.tokens DISABLE TRIGGER tokens_told")
        await connection.execute(
            "UPDATE access.tokens SET revoked_at = now() WHERE id = $1", second.split("_")[1]
        )
    token = second
    await until_answer(status, lambda found: found == 401, "the next reading finds it revoked")


async def test_a_wait_and_a_stream_end_with_their_token(door: Door) -> None:
    """A wait by 401, a stream by an event `revoked` behind which it is broken off."""
    await publish(door.api.nc, [deposit(n, "1", stream=OWN) for n in range(1, 2_001)])
    token = await door.token("admin")
    asked = {"Authorization": f"Bearer {token}"}
    waiting = asyncio.create_task(
        door.ask(token, "GET", f"/psm/state/{OWN}?min_sequence=99&timeout_s=30")
    )
    read = b""
    async with door.client.stream("GET", f"/psm/replay/{OWN}", headers=asked) as answer:
        assert answer.status_code == 200
        chunks = answer.aiter_raw()
        read += await anext(chunks)  # and no more, so that the rest of it must wait
        await door.tokens.revoke(token.split("_")[1])
        assert (await waiting).status_code == 401
        with contextlib.suppress(httpx.RemoteProtocolError):
            while True:
                read += await anext(chunks)
    lines = read.splitlines()
    assert lines[-1] == b'{"event":"revoked"}'
    assert 100 < len(lines) < 2_000


async def test_a_principal_folds_one_past_at_a_time() -> None:
    """And waits with at most half of the queue, so that the others have room."""
    turns = FoldTurns()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(turns.turn("a"))
        waiting = [asyncio.create_task(_fold(turns, "a")) for _ in range(FOLDS_WAITING_EACH)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyFoldsError, match="this principal's own"):
            await _fold(turns, "a")
        await _fold(turns, "b")  # the second place is free for others
        assert not any(task.done() for task in waiting)
    await asyncio.gather(*waiting)


async def _fold(turns: FoldTurns, principal: str) -> None:
    async with turns.turn(principal):
        pass


async def test_nobody_is_let_in_once_nobody_knows_whom(nats_url: str, postgres_dsn: str) -> None:
    """Tokens that could not be read for too long count no more, and the answer says so."""
    async with guarded(nats_url, postgres_dsn, stale_s=0.0) as door:
        token = "psm_00000000_" + "a" * 32
        answer = await door.ask(token, "GET", f"/psm/state/{OWN}")
        assert answer.status_code == 503
        assert "nobody is let in" in answer.json()["detail"]


async def test_tokens_over_http(door: Door) -> None:
    """Made, listed without secrets, renewed beside the old one, ended; never beyond one's own."""
    admin = await door.token("admin", patterns=("*",))
    wanted = {"principal": "svc/risk-desk", "roles": ["risk"], "patterns": ["account:desk-*"]}
    made = (await door.ask(admin, "POST", "/access/tokens", json=wanted)).json()
    who = (await door.ask(made["token"], "GET", "/whoami")).json()
    assert who["id"] == "svc/risk-desk"
    assert who["patterns"] == ["account:desk-*"]
    assert "append.record" in who["actions"]
    assert who["how"] == "token"
    listed = await door.ask(admin, "GET", "/access/tokens")
    assert made["token"] not in listed.text
    assert made["id"] in [row["id"] for row in listed.json()["tokens"]]
    again = (
        await door.ask(admin, "POST", f"/access/tokens/{made['id']}/rotate", json={"overlap": "1h"})
    ).json()
    for token in (made["token"], again["token"]):
        assert (await door.ask(token, "GET", "/whoami")).status_code == 200
    ended = await door.ask(admin, "DELETE", f"/access/tokens/{again['id']}")
    assert ended.json()["revoked_at"]
    assert (await door.ask(again["token"], "GET", "/whoami")).status_code == 401
    # Less than an administrator of everything gives no more than it has.
    small = await door.token("admin", patterns=("account:desk-*",))
    for more in ({"patterns": ["account:*"]}, {"roles": ["auditor"], "patterns": ["*"]}):
        answer = await door.ask(small, "POST", "/access/tokens", json={**wanted, **more})
        assert answer.status_code == 403, answer.text
    # Nor sees who has more, nor speaks for them.
    shown = (await door.ask(small, "GET", "/access/tokens")).json()["tokens"]
    assert {row["id"] for row in shown} == {small.split("_")[1], made["id"]}
    await door.token("admin", patterns=("*",), principal="adm")
    answer = await door.ask(small, "POST", "/access/tokens", json={**wanted, "principal": "adm"})
    assert (answer.status_code, "adm has more" in answer.json()["detail"]) == (403, True)
    assert (
        await door.ask(small, "DELETE", f"/access/tokens/{admin.split('_')[1]}")
    ).status_code == 403
    wrong: list[dict[str, Any]] = [{"expires": "91d"}, {"roles": ["root"]}, {"patterns": ["x"]}]
    for more in wrong:
        answer = await door.ask(admin, "POST", "/access/tokens", json={**wanted, **more})
        assert answer.status_code == 400, answer.text
    assert (await door.ask(admin, "DELETE", "/access/tokens/zzzzzzzz")).status_code == 404
    answer = await door.client.post("/access/tokens", content=b"{", headers=JSON)
    assert answer.status_code == 401


async def test_reading_commands_ask_the_service_of_a_context(
    door: Door, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """So what a token may see holds for them; NATS and PostgreSQL are not even told."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for name in ("POSTGRES_DSN", "NATS_URL", "PSM_URL"):
        monkeypatch.delenv(name, raising=False)
    token, url = await door.token("viewer", "risk"), str(door.client.base_url)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{token}\n"))
    assert await psm_here("login", url, "--name", "desk", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["id"] == "svc/test"
    kept = tmp_path / "psm" / "tokens" / "desk"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert await psm_here("state", OWN, "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["account_id"] == OWN
    assert await psm_here("accounts", "-o", "json") == 0
    assert OWN in (said := capsys.readouterr().out)
    assert FOREIGN not in said
    for asked in (("events",), ("refusals",), ("orders", OWN)):
        assert await psm_here(*asked) == 0
    await _every_reading_command(capsys)
    assert await psm_here("state", FOREIGN) == 1
    assert f"no event of account {FOREIGN} is known" in capsys.readouterr().err
    other = ("other", "--url", "http://127.0.0.1:1", "--token-file", "here")
    assert await psm_here("context", "add", *other) == 0
    assert str(Path("here").absolute()) in capsys.readouterr().out  # from wherever it is used
    assert await psm_here("context", "list", "-o", "json") == 0
    assert token not in (listed := capsys.readouterr().out)
    assert '"other"' in listed
    assert await psm_here("state", OWN) == 2  # nobody answers there
    assert await psm_here("context", "use", "desk") == 0
    assert await psm_here("state", OWN) == 0
    assert await psm_here("context", "use", "nowhere") == 2
    assert await psm_here("context", "use") == 2
    assert await psm_here("context", "use", "--none") == 0
    capsys.readouterr()
    assert await psm_here("context", "list", "-o", "json") == 0
    assert '"*"' not in capsys.readouterr().out
    assert await psm_here("context", "use", "desk") == 0
    monkeypatch.setattr("sys.stdin", io.StringIO(f"psm_00000000_{'a' * 32}\n"))
    assert await psm_here("login", url, "--name", "wrong") == 1
    assert not (tmp_path / "psm" / "tokens" / "wrong").exists()
    assert await psm_here("context", "add", "clear", "--url", "ftp://x") == 2


async def _every_reading_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Each asks the service, or says why none answers; none is told NATS or PostgreSQL."""
    capsys.readouterr()
    zeros, html = "0" * 64, "/tmp/never-written.html"
    asked: dict[tuple[str, ...], str] = {
        ("verify", OWN, "--sequence", "1", "--ledger-hash", zeros): OWN,
        ("explain", "7b0e0c0e-8a57-4d8c-9c56-0b7f3f0f2a01"): "Unknown event",
        ("pnl", OWN): "Unknown account",
        ("trades", OWN): "Unknown account",
        ("lots", "--account", OWN): "Unknown account",
        ("stats", OWN, "--explain", "sharpe"): "Unknown account",
        ("book", "x", "BTC-PERP"): "Unknown order book",
        ("risk", "decisions", "--since", "1h"): "no such decisions",
        ("risk", "state"): "nothing holds there",
        ("diff", OWN, "1"): "folds itself",
        ("explain", OWN, "equity"): "follows a figure",
        ("report", OWN, "--html", html): "come by pages",
        ("stats",): "counts the whole archive",
        ("tail",): "hears what is published",
    }
    for command, says in asked.items():
        for arguments in (command, ("--context", "desk", *command), (*command, "--context=desk")):
            await psm_here(*arguments)
            said = capsys.readouterr()
            assert says in said.out + said.err, arguments
    assert await psm_here("--context", "desk", "fleet") == 2
    assert "operator's tool" in capsys.readouterr().err
    assert await psm_here("--context", "nowhere", "state", OWN) == 2
    assert "there is no context 'nowhere'" in capsys.readouterr().err


async def test_every_command_that_is_not_answered_is_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "access.md").read_text()
    for command, why in NOT_OVER_HTTP.items():
        assert why in page, command


async def test_who_may_see_an_account_now_and_by_another_file(
    door: Door, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PSM_URL", str(door.client.base_url))
    monkeypatch.setenv("PSM_TOKEN", await door.token("admin", principal="adm"))
    both = (f"account:{OWN}", f"account:{FOREIGN}")
    await door.token("viewer", principal="svc/own", patterns=both)
    await door.token("viewer", principal="svc/other", patterns=(f"account:{FOREIGN}",))
    assert await psm_here("access", "report", OWN, "-o", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["principal"] for one in told] == ["adm", "svc/own"]
    assert told[1]["actions"] == ["read", "read.past", "explain"]
    assert told[1]["patterns"] == [f"account:{OWN}"]  # the other is not this administrator's
    assert await psm_here("access", "report", FOREIGN) == 1  # it is not this administrator's
    now, then = tmp_path / "now.toml", tmp_path / "then.toml"
    issuer = "[[issuer]]\niss='i'\naudience='a'\nalgorithms=['RS256']\njwks_file='k'\n"
    grant = "[issuer.grants.{}]\nroles=['{}']\npatterns=['account:{}']\n"
    now.write_text(issuer + grant.format("desk", "viewer", OWN))
    then.write_text(issuer + grant.format("desk", "operator", "desk-*"))
    monkeypatch.setenv("PSM_ACCESS_FILE", str(now))
    capsys.readouterr()
    assert await psm_here("access", "plan", str(then), "--account", OWN, "-o", "json") == 0
    changes = json.loads(capsys.readouterr().out)
    assert [(one["change"], one["roles"]) for one in changes] == [
        ("taken", ["viewer"]),
        ("given", ["operator"]),
    ]
    assert await psm_here("access", "plan", str(then), "--account", FOREIGN, "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == []
    then.write_text(issuer + grant.format("desk", "bootstrap", OWN))
    assert await psm_here("access", "plan", str(then)) == 2


async def test_an_administrators_token_ends_the_bootstrap(door: Door) -> None:
    first = await door.token("bootstrap", patterns=("*",))
    assert (await door.ask(first, "GET", f"/psm/state/{OWN}")).status_code == 403
    wanted = {"principal": "admin", "roles": ["admin"], "patterns": ["*"]}
    made = await door.ask(first, "POST", "/access/tokens", json=wanted)
    assert made.status_code == 201
    await door.table.read()
    assert (await door.ask(first, "POST", "/access/tokens", json=wanted)).status_code == 401
    metrics = (await door.ask(made.json()["token"], "GET", "/metrics")).text
    assert 'psm_http_granted_total{action="token.bootstrap"} 1.0' in metrics, "alerts ask for it"


def test_the_actions_are_those_of_the_page() -> None:
    assert len(get_args(Action)) == 11
