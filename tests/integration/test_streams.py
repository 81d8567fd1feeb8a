"""The streams as PSM needs them: made, checked, strengthened, never weakened."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client
from tests.support.log import LogSize

from psm.adapters.jetstream import (
    StreamInfo,
    UnknownOutcomeError,
    connect,
    get,
    publish_expected,
    stream_info,
)
from psm.adapters.jetstream.api import call
from psm.adapters.jetstream.streams import BOUNDS, FLEET, desired
from psm.adapters.jetstream.streams_apply import apply, check, compare, diff
from psm.contracts.errors import ConfigError
from psm.contracts.subjects import HEALTH, OPS, PSM, RISK, RULEBOOK, SNAPSHOTS, TRADES
from psm.domain.market.slots import ValuationSlots

ALL = [
    TRADES,
    PSM,
    SNAPSHOTS,
    "MARKETDATA",
    "SIGNALS",
    "ORDERS",
    "FILLS",
    "RISK",
    RULEBOOK,
    OPS,
    FLEET,
    HEALTH,
]
SIZE = LogSize()


@pytest.fixture
async def nc(nats_url: str) -> AsyncIterator[Client]:
    connection = await connect(nats_url, name="test")
    yield connection
    await connection.close()


async def update(nc: Client, stream: str, **fields: Any) -> None:
    """Change a stream as a careless operator would."""
    config = (await stream_info(nc, stream)).config
    await call(nc, f"STREAM.UPDATE.{stream}", {**config, **fields})


async def recreate(nc: Client, stream: str, *without: str, **fields: Any) -> None:
    config = (await stream_info(nc, stream)).config
    await call(nc, f"STREAM.DELETE.{stream}")
    config = {name: value for name, value in config.items() if name not in without}
    await call(nc, f"STREAM.CREATE.{stream}", {**config, **fields})


async def test_apply_is_idempotent(nc: Client) -> None:
    """The first apply creates everything, the second changes nothing."""
    created = await apply(nc, SIZE)
    assert [(c.stream, c.action) for c in created] == [(name, "create") for name in ALL]
    assert await apply(nc, SIZE) == []
    await check(nc, SIZE, ALL)


async def test_dry_run_changes_nothing(nc: Client) -> None:
    """A dry run names what would be done, refusals included."""
    assert len(await apply(nc, SIZE, dry_run=True)) == len(ALL)
    assert not (await call(nc, "STREAM.NAMES"))["total"]
    await apply(nc, SIZE)
    changes = await apply(nc, LogSize(partitions=8), dry_run=True)
    assert {change.action for change in changes} == {"refuse"}


async def test_streams_are_as_the_architecture_says(nc: Client) -> None:
    """What matters most, read back from the broker."""
    await apply(nc, SIZE)
    log = (await stream_info(nc, TRADES)).config
    assert log["subject_transform"]["dest"] == "trades.{{partition(4,1)}}.{{wildcard(1)}}"
    assert (log["max_age"], log["discard"], log["max_msg_size"]) == (0, "new", 68 * 1024)
    assert log["deny_delete"]
    assert not log["deny_purge"]  # else it could never be trimmed, by nobody
    assert (await stream_info(nc, PSM)).config["deny_purge"]
    assert not log.get("allow_msg_ttl")
    assert log["metadata"]["psm.partitions"] == "4"
    assert log["metadata"]["psm.valuation_slow_ms"] == "60000"
    ack = await publish_expected(nc, TRADES, "trades.acc", b"1", expected=0)
    assert ack.sequence == 1
    assert (await stream_info(nc, PSM)).config["max_age"] == 30 * 86_400 * 10**9
    fleet = await nc.jetstream().key_value("psm-fleet")
    await fleet.put("members.a", b"1")
    assert (await fleet.get("members.a")).value == b"1"


async def test_rulebook_is_kept_for_ever_and_nobody_deletes_from_it(nc: Client) -> None:
    """It is read from its start by whoever decides: what was said once must stay."""
    await apply(nc, SIZE)
    config = (await stream_info(nc, RULEBOOK)).config
    assert (config["max_age"], config["discard"], config["subjects"]) == (
        0, "new", ["rulebook.*.*"],
    )  # fmt: skip
    assert config["deny_delete"]
    assert config["deny_purge"]
    await update(nc, RULEBOOK, max_age=10**12)
    with pytest.raises(ConfigError, match="RULEBOOK: max_age is"):
        await check(nc, SIZE, [RULEBOOK])
    await apply(nc, SIZE)
    await check(nc, SIZE, ALL)


async def test_worker_refuses_a_missing_stream(nc: Client) -> None:
    """Without streams everything missing is listed at once."""
    with pytest.raises(ConfigError) as refused:
        await check(nc, SIZE)
    text = str(refused.value)
    assert all(f"{name}: the stream does not exist" in text for name in (TRADES, PSM, FLEET))
    assert "psm streams apply" in text


@pytest.mark.parametrize(
    ("stream", "fields", "named"),
    [
        (TRADES, {"max_age": 10**12}, "max_age"),
        (TRADES, {"max_msgs": 5}, "max_msgs"),
        (TRADES, {"max_bytes": 10**9}, "max_bytes"),
        (TRADES, {"max_msgs_per_subject": 9}, "max_msgs_per_subject"),
        (TRADES, {"discard": "old"}, "discard"),
        (TRADES, {"max_msg_size": 1000}, "max_msg_size"),
        (TRADES, {"duplicate_window": 10**9}, "duplicate_window"),
        (TRADES, {"subjects": ["trades.*", "marks.*", "control.*"]}, "subjects"),
        (PSM, {"republish": None}, "republish"),
        (PSM, {"max_age": 10**12}, "max_age"),
        (SNAPSHOTS, {"max_msgs_per_subject": 1}, "max_msgs_per_subject"),
        (SNAPSHOTS, {"allow_atomic": False}, "allow_atomic"),
        (FLEET, {"max_age": 60 * 10**9}, "max_age"),
    ],
)
async def test_weaker_streams_are_refused_and_repaired(
    nc: Client, stream: str, fields: dict[str, Any], named: str
) -> None:
    """A worker does not start on it; apply makes it as strong as required."""
    await apply(nc, SIZE)
    await update(nc, stream, **fields)
    with pytest.raises(ConfigError, match=f"{stream}: {named} is"):
        await check(nc, SIZE)
    changes = await apply(nc, SIZE)
    assert [(c.stream, c.field, c.action) for c in changes] == [(stream, named, "update")]
    await check(nc, SIZE)


@pytest.mark.parametrize(
    ("stream", "field"), [(TRADES, "deny_delete"), (PSM, "deny_delete"), (PSM, "deny_purge")]
)
async def test_deletable_log_is_refused_and_repaired(nc: Client, stream: str, field: str) -> None:
    """A log that allows deletion is weaker."""
    await apply(nc, SIZE)
    await recreate(nc, stream, **{field: False})
    with pytest.raises(ConfigError, match=field):
        await check(nc, SIZE)
    await apply(nc, SIZE)
    await check(nc, SIZE)


async def test_a_log_that_can_be_rolled_up_is_refused(nc: Client) -> None:
    """Without deny_purge the broker would allow it: a header of a publisher would delete events."""
    await apply(nc, SIZE)
    await update(nc, TRADES, allow_rollup_hdrs=True)
    with pytest.raises(ConfigError, match="allow_rollup_hdrs"):
        await check(nc, SIZE)
    with pytest.raises(ConfigError, match="could delete"):
        await apply(nc, SIZE)


@pytest.mark.parametrize("bound", BOUNDS)
async def test_a_log_with_another_bound_is_refused(nc: Client, bound: str) -> None:
    """What the fold judges by is of the log: other bounds would give other states."""
    await apply(nc, SIZE)
    config = (await stream_info(nc, TRADES)).config
    await update(nc, TRADES, metadata={**config["metadata"], bound: "7"})
    with pytest.raises(ConfigError, match=f"{bound} is .*7.*new generation"):
        await check(nc, SIZE)
    with pytest.raises(ConfigError, match=bound):
        await apply(nc, SIZE)


@pytest.mark.parametrize(
    ("size", "named"),
    [
        (LogSize(partitions=8), "psm.partitions"),
        (LogSize(valuation_slots=ValuationSlots(fast_ms=500)), "psm.valuation_fast_ms"),
    ],
)
async def test_what_is_fixed_needs_a_new_generation(nc: Client, size: LogSize, named: str) -> None:
    """Partitions and valuation interval of a log that exists never change."""
    await apply(nc, SIZE)
    await publish_expected(nc, TRADES, "trades.acc", b"1", expected=0)
    before = (await stream_info(nc, TRADES)).config
    with pytest.raises(ConfigError, match=f"{named}.*new generation"):
        await apply(nc, size)
    with pytest.raises(ConfigError, match=named):
        await check(nc, size)
    assert (await stream_info(nc, TRADES)).config == before


async def test_transform_is_never_changed_under_messages(nc: Client) -> None:
    """A log whose transform was removed keeps what it has; nobody moves accounts silently."""
    await apply(nc, SIZE)
    await publish_expected(nc, TRADES, "trades.acc", b"1", expected=0)
    await update(nc, TRADES, subject_transform=None)
    with pytest.raises(ConfigError, match="new generation"):
        await apply(nc, SIZE)


async def test_message_ttl_cannot_be_repaired(nc: Client) -> None:
    """A log on which messages may expire is refused for good."""
    await apply(nc, SIZE)
    await update(nc, TRADES, allow_msg_ttl=True)
    with pytest.raises(ConfigError, match="allow_msg_ttl"):
        await check(nc, SIZE)
    with pytest.raises(ConfigError, match="cannot be turned off"):
        await apply(nc, SIZE)


async def test_memory_storage_cannot_be_repaired(nc: Client) -> None:
    """The broker cannot move a stream to disk."""
    await apply(nc, SIZE)
    await recreate(nc, TRADES, storage="memory", compression="none")
    with pytest.raises(ConfigError, match="storage"):
        await apply(nc, SIZE)


async def test_too_few_replicas_are_weaker(nc: Client) -> None:
    """A single copy is refused where three are required."""
    await apply(nc, SIZE)
    with pytest.raises(ConfigError, match="num_replicas is 1, needed 3"):
        await check(nc, LogSize(replicas=3))


async def test_stronger_streams_stay(nc: Client) -> None:
    """Longer ages and wider limits are somebody's wish: apply never shrinks."""
    await apply(nc, SIZE)
    await update(nc, PSM, max_age=90 * 86_400 * 10**9)
    await update(nc, SNAPSHOTS, max_msgs_per_subject=50)
    await update(nc, TRADES, max_msg_size=1_000_000)
    await update(nc, "RISK", max_age=0)
    assert await apply(nc, SIZE) == []
    await check(nc, SIZE, ALL)
    assert (await stream_info(nc, PSM)).config["max_age"] == 90 * 86_400 * 10**9


async def test_risk_gives_up_what_anybody_could_write(nc: Client) -> None:
    """A stream from before the risk engine keeps its messages; what is fenced has one entrance."""
    await apply(nc, SIZE)
    await recreate(nc, RISK, "subject_transform", "republish", subjects=["risk.>"])
    before = await publish_expected(nc, RISK, "risk.decision.a", b"1", expected=None)
    with pytest.raises(ConfigError, match=r"RISK: subjects is"):
        await check(nc, SIZE, [RISK])
    changed = {change.field for change in await apply(nc, SIZE)}
    assert changed == {"subjects", "subject_transform", "republish"}
    await check(nc, SIZE, [RISK])
    kept = await get(nc, RISK, before.sequence)
    assert kept is not None
    assert (kept.subject, kept.data) == ("risk.decision.a", b"1")
    await publish_expected(nc, RISK, "risk.decision.a", b"2", expected=before.sequence)
    record = await publish_expected(nc, RISK, "_risk.decision.7.a", b"3", expected=0)
    stored = await get(nc, RISK, record.sequence)
    assert stored is not None
    assert stored.subject == "risk.decision.7.a"
    with pytest.raises(UnknownOutcomeError, match="nobody answers"):
        await publish_expected(nc, RISK, "risk.decision.7.a", b"4", expected=None)


async def test_foreign_subjects_are_refused(nc: Client) -> None:
    """What PSM does not know must not be stored in the log."""
    await apply(nc, SIZE)
    await update(nc, PSM, subjects=["_psm.>", "other.>"])
    with pytest.raises(ConfigError, match=r"other\.> must not be stored here"):
        await apply(nc, SIZE)


async def test_compression_is_no_reason_to_stop(nc: Client) -> None:
    """An uncompressed log is as safe; apply compresses it."""
    await apply(nc, SIZE)
    await update(nc, TRADES, compression="none")
    await check(nc, SIZE)
    (change,) = (await compare(nc, SIZE))[TRADES]
    assert (change.field, change.weaker) == ("compression", False)
    await apply(nc, SIZE)
    assert (await stream_info(nc, TRADES)).config["compression"] == "s2"


@pytest.mark.parametrize("stream", [TRADES, PSM, SNAPSHOTS])
def test_compression_of_replicas_is_taken_off(stream: str) -> None:
    """A replica of a compressed stream may not come back after a kill: worse than no compression.

    It is found on a stream with more replicas than were asked for, too.
    """
    for replicas in (1, 3):
        wanted = next(one for one in desired(LogSize(replicas=replicas)) if one["name"] == stream)
        for actual in (1, 3):
            info = StreamInfo(
                name=stream,
                config={**wanted, "num_replicas": actual, "compression": "s2"},
                first_sequence=0,
                last_sequence=0,
                messages=0,
                bytes_stored=0,
                deleted=0,
                leader=None,
                subjects={},
            )
            found = [c for c in diff(wanted, info) if c.field == "compression"]
            if max(replicas, actual) == 1:
                assert found == []
            else:
                (change,) = found
                assert (change.action, change.desired) == ("update", "none")
                assert change.weaker is (actual > 1)


def test_changes_read_as_sentences() -> None:
    """A change says what is there and what is needed."""
    from psm.adapters.jetstream.streams_apply import Change

    change = Change(stream="TRADES", field="max_age", actual=5, desired=0, action="update")
    assert str(change) == "TRADES: max_age is 5, needed 0"
    assert msgspec.json.encode(change)
