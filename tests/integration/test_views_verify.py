"""Views computed again without a swap, and the certificate that a rebuild leaves."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.integration.test_rebuild import PARTITIONS, World, world  # noqa: F401
from tests.support.running import PSM, run

from psm.adapters import postgres
from psm.adapters.jetstream import last_for
from psm.contracts.errors import ConfigError, LogDamagedError
from psm.contracts.subjects import OPS
from psm.domain.market.slots import ValuationSlots
from psm.projections.current_state import CURRENT_STATE
from psm.projections.market import MARKET
from psm.projections.projection import Projection
from psm.workers.ops.journal import read_records
from psm.workers.ops.keys import Keyring, generate, load_private, load_public
from psm.workers.projector.certificate import (
    Certificate,
    certificates,
    certified,
    without_certificate,
)
from psm.workers.projector.rebuild import Rebuild
from psm.workers.projector.verify import ViewVerification

DOCS = Path(__file__).parents[2] / "docs" / "projections.md"
BY_HAND = "UPDATE balances_view SET equity = equity + 1 WHERE account_id = 'acc_003'"


def verification(world: World, projection: Projection = CURRENT_STATE) -> ViewVerification:  # noqa: F811
    return ViewVerification(
        world.nc, world.pool, projection, partitions=PARTITIONS, slots=ValuationSlots()
    )


async def execute(world: World, query: str) -> None:  # noqa: F811
    async with postgres.acquired(world.pool) as connection:
        await connection.execute(query)


async def projected(world: World) -> None:  # noqa: F811
    """Have views of everything that was published."""
    await world.publish()
    async with world.projecting():
        await world.caught_up()


# --- verifying ------------------------------------------------------------------------------------


async def test_views_that_follow_from_the_log_agree(world: World) -> None:  # noqa: F811
    """All rows, and those of a sample; the same seed chooses the same accounts."""
    await projected(world)
    before = await world.rows()
    whole = await verification(world).everything()
    assert (whole.agrees, whole.rows_differ, whole.accounts) == (True, 0, None)
    told: list[tuple[str, int, int]] = []
    some = await verification(world).sample(5, 7, lambda *one: told.append(one))
    assert some.agrees
    assert some.accounts is not None
    assert len(some.accounts) == 5
    assert [place for _, place, _ in told] == [1, 2, 3, 4, 5]
    assert (await verification(world).sample(5, 7)).accounts == some.accounts
    assert (await verification(world).sample(5, 8)).accounts != some.accounts
    assert await world.rows() == before


async def test_row_changed_by_hand_is_found(world: World) -> None:  # noqa: F811
    """Table, key and column are named, by all rows and by the account's; nothing is mended."""
    await projected(world)
    await execute(world, BY_HAND)
    before = await world.rows()
    for report in (
        await verification(world).everything(),
        await verification(world).sample(12, 0),
    ):
        assert not report.agrees
        (found,) = report.differences
        assert (found.table, found.column) == ("balances_view", "equity")
        assert found.key == {"account_id": "acc_003"}
        assert found.live != found.rebuilt
    assert await world.rows() == before


async def test_rows_taken_out_and_put_in_are_found(world: World) -> None:  # noqa: F811
    """An account that the view lacks is known from the log, one too many from the view."""
    await projected(world)
    await execute(world, "DELETE FROM positions_view WHERE account_id = 'acc_001'")
    await execute(
        world, "UPDATE balances_view SET account_id = 'acc_999' WHERE account_id = 'acc_000'"
    )
    report = await verification(world).sample(100, 0)
    assert report.accounts is not None
    assert {"acc_000", "acc_999"} <= set(report.accounts)
    assert {
        (one.table, one.key["account_id"], one.live, one.rebuilt) for one in report.differences
    } >= {
        ("balances_view", "acc_000", "absent", "present"),
        ("balances_view", "acc_999", "present", "absent"),
        ("positions_view", "acc_001", "absent", "present"),
    }


async def test_verifying_beside_a_projector_that_goes_on(world: World) -> None:  # noqa: F811
    """Both sides are brought to one moment, whatever is committed meanwhile."""
    await projected(world)
    async with world.projecting():
        publishing = asyncio.create_task(world.publish(4))
        for seed in range(2):
            assert (await verification(world).sample(3, seed)).agrees
        await publishing
        assert (await verification(world).everything()).agrees


async def test_what_is_not_of_accounts_is_verified_as_a_whole(world: World) -> None:  # noqa: F811
    """A sample of order books is refused; all of them agree."""
    with pytest.raises(ConfigError, match="--all"):
        await verification(world, MARKET).sample(1, 0)
    assert (await verification(world, MARKET).everything()).agrees


# --- certificates ---------------------------------------------------------------------------------


async def rebuilt(world: World, key: Path | None, *, accept: bool = False) -> Certificate:  # noqa: F811
    rebuild = Rebuild(
        world.nc, world.pool, CURRENT_STATE, partitions=PARTITIONS, slots=ValuationSlots()
    )
    _, certificate = await certified(
        world.nc,
        rebuild,
        CURRENT_STATE,
        None if key is None else load_private(key),
        actor="p-ada",
        reason="test",
        accept_differences=accept,
    )
    return certificate


async def test_rebuild_leaves_a_signed_certificate(world: World, tmp_path: Path) -> None:  # noqa: F811
    """What was there, what is there, from where, who accepted what; in the chain, and signed."""
    public, name = generate(tmp_path / "key.pem")
    ring = Keyring([load_public(public)])
    await projected(world)
    same = await rebuilt(world, tmp_path / "key.pem")
    assert (same.before, same.accepted_by, same.swapped) == (same.after, None, True)
    assert [table.rows for table in same.before if table.table == "balances_view"] == [12]
    await execute(world, BY_HAND)
    refused = await rebuilt(world, tmp_path / "key.pem")
    assert (refused.rows_differ, refused.swapped, refused.accepted_by) == (1, False, None)
    accepted = await rebuilt(world, tmp_path / "key.pem", accept=True)
    assert (accepted.rows_differ, accepted.swapped, accepted.accepted_by) == (1, True, "p-ada")
    assert accepted.before == refused.before != accepted.after == same.after
    (query,) = re.findall(r"```sql\n(SELECT count.*?)```", DOCS.read_text(), re.DOTALL)
    async with postgres.acquired(world.pool) as connection:
        told = tuple(await connection.fetchrow(query) or ())
    assert told in [(one.rows, one.sha256) for one in accepted.after]
    assert [at.partition for at in accepted.made_up_to] == list(range(PARTITIONS))
    assert all(at.log_sequence for at in accepted.made_up_to)
    stored = certificates(await read_records(world.nc))
    assert [one for _, one in stored] == [same, refused, accepted]
    assert {one.key_id for _, one in stored} == {name}
    assert all(one.is_signed_by(ring) for _, one in stored)
    forged = msgspec.structs.replace(accepted, accepted_by="p-bob")
    assert not forged.is_signed_by(ring)
    assert not accepted.is_signed_by(Keyring([]))


async def test_without_a_key_the_certificate_is_not_signed(world: World) -> None:  # noqa: F811
    """It stands in the chain all the same."""
    await projected(world)
    certificate = await rebuilt(world, None)
    assert (certificate.key_id, certificate.signature) == ("", "")
    ((stored, found),) = certificates(await read_records(world.nc))
    assert found == certificate
    assert stored.record.result_hash is not None


async def test_certificate_of_another_run_is_noticed(world: World) -> None:  # noqa: F811
    """Copied into another record it says nothing."""
    await projected(world)
    await rebuilt(world, None)
    (*_, ended) = await read_records(world.nc)
    assert ended.record.result is not None
    other = {**ended.record.result, "run_id": "0"}
    moved = msgspec.structs.replace(
        ended, record=msgspec.structs.replace(ended.record, result=other)
    )
    with pytest.raises(LogDamagedError, match="another run"):
        certificates([moved])
    message = await last_for(world.nc, OPS, "ops.replay")
    assert message is not None


def settings_of(nats_url: str, postgres_dsn: str) -> dict[str, str]:
    """Return what a command of this file is run with."""
    return {
        "NATS_URL": nats_url,
        "POSTGRES_DSN": postgres_dsn,
        "PSM_PARTITIONS": str(PARTITIONS),
        "PSM_ACTOR": "p-ada",
    }


async def test_rebuild_that_is_killed_is_known_to_lack_its_certificate(
    world: World,  # noqa: F811
    nats_url: str,
    postgres_dsn: str,
    tmp_path: Path,
) -> None:
    """Between swap and record: the view is the new one, and the gap is told until it is filled."""
    await projected(world)
    generate(tmp_path / "key.pem")
    await execute(world, BY_HAND)
    environment = settings_of(nats_url, postgres_dsn)

    async def psm(*arguments: str, **more: str) -> tuple[int, str]:
        command = [*PSM, "views", *arguments, "-o", "json"]
        done = await asyncio.to_thread(run, command, environment=environment | more, check=False)
        return done.returncode, done.stdout

    rebuild = ("rebuild", "--accept-differences", "--key", str(tmp_path / "key.pem"))
    code, _ = await psm(*rebuild, PSM_CRASH_POINT="rebuild.after_swap:1")
    assert code == -signal.SIGKILL
    assert (await verification(world).everything()).agrees  # the new rows are live
    code, listed = await psm("certificates")
    (one,) = json.loads(listed)
    assert (code, one["missing"], one["actor"]) == (1, True, "p-ada")
    assert (one["projection"], one["swapped"], one["after"]) == ("current_state", None, None)
    assert len(without_certificate(await read_records(world.nc))) == 1
    again = await rebuilt(world, tmp_path / "key.pem")
    assert (again.rows_differ, again.swapped) == (0, True)
    assert without_certificate(await read_records(world.nc)) == []


# --- commands -------------------------------------------------------------------------------------


async def test_commands(
    world: World,  # noqa: F811
    nats_url: str,
    postgres_dsn: str,
    tmp_path: Path,
) -> None:
    """`psm views verify`, `rebuild --key` and `certificates`: JSON and exit codes."""
    await projected(world)
    public, _ = generate(tmp_path / "key.pem")
    environment = settings_of(nats_url, postgres_dsn)

    async def psm(*arguments: str) -> tuple[int, Any]:
        command = [*PSM, *arguments, "-o", "json"]
        done = await asyncio.to_thread(run, command, environment=environment, check=False)
        return done.returncode, json.loads(done.stdout)

    code, report = await psm("views", "verify", "--sample", "3", "--seed", "1")
    assert (code, report["agrees"], len(report["accounts"]), report["seed"]) == (0, True, 3, 1)
    await execute(world, BY_HAND)
    code, report = await psm("views", "verify", "--all")
    assert (code, report["agrees"], report["rows_differ"]) == (1, False, 1)
    assert report["differences"][0]["column"] == "equity"
    key = ("--key", str(tmp_path / "key.pem"))
    code, report = await psm("views", "rebuild", "--accept-differences", *key)
    assert (code, report["swapped"]) == (0, True)
    code, listed = await psm("views", "certificates", "--public-key", str(public))
    assert code == 0
    (one,) = listed
    assert (one["signed"], one["accepted_by"], one["actor"]) == (True, "p-ada", "p-ada")
    other, _ = generate(tmp_path / "other.pem")
    code, listed = await psm("views", "certificates", "--public-key", str(other))
    assert (code, listed[0]["signed"]) == (1, False)
    assert (await psm("views", "verify"))[0] == 0
