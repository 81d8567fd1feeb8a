"""What each user of the broker, and each login of the database, may do, and what is tried for it.

The tables say what has to be; `tests/integration/test_least_privilege.py` tries every act as every
user on real servers, and `docs/permissions.md` is written from them.
"""

from __future__ import annotations

from collections.abc import Collection

from psm.adapters.jetstream.roles import ROLES
from psm.projections.schema.roles import LOGINS

READING = (
    "$JS.API.STREAM.INFO.{0}",
    "$JS.API.STREAM.MSG.GET.{0}",
    "$JS.API.CONSUMER.CREATE.{0}.psm-1",
    "$JS.API.CONSUMER.MSG.NEXT.{0}.psm-1",
    "$JS.API.CONSUMER.DELETE.{0}.psm-1",
)
DESTROYING = tuple(
    f"$JS.API.STREAM.{verb}.{name}"
    for name in ("TRADES", "PSM", "SNAPSHOTS", "OPS", "RISK", "RULEBOOK", "KV_psm-fleet")
    for verb in ("DELETE", "PURGE", "MSG.DELETE", "RESTORE", "SNAPSHOT")
)
CHANGING = ("$JS.API.STREAM.CREATE.TRADES", "$JS.API.STREAM.UPDATE.TRADES")
STREAMS = ("TRADES", "PSM", "SNAPSHOTS", "OPS", "MARKETDATA", "RISK", "RULEBOOK")
"""Streams whose reading is tried."""
WRITING = (
    "trades.acc_1",
    "repair.1.acc_1",
    "marks.BTC",
    "instruments.BTC",
    "collateral.BTC",
    "control.rules",
    "_psm.position.updated.0.acc_1",
    "psm.position.updated",
    "psm.position.updated.0.acc_1",
    "snapshots.0.acc_1",
    "snapshots.risk.7",
    "$KV.psm-fleet.member",
    "$KV.psm-fleet.risk.member",
    "_psmfleet.news",
    "_psmfleet.live.member",
    "ops.replay",
    "ops.access",
    "replay.1.trades.acc_1",
    "marketdata.ticker.BTC",
    "signals.strategy.s.BTC",
    "risk.decision.acc_1",
    "risk.owner.7.record",
    "risk.decision.7.acc_1",
    "_risk.owner.7.record",
    "_risk.decision.7.acc_1",
    "psm.risk.decision.acc_1",
    "psm.risk.check",
    "orders.command.acc_1",
    "fills.internal.1",
    "orders.status.o1",
    "rulebook.firm.firm",
    "rulebook.group.desk",
    "rulebook.clusters.clusters",
    "psm.get.state",
    "psm.get.live",
    "_INBOX.reader.1",
    "_INBOX.worker.1",
    "$JS.ACK.PSM.risk.1.1.1.1.1",
    "$JS.API.STREAM.CREATE.OTHER",
    "$JS.API.DIRECT.GET.TRADES",
    "$JS.API.DIRECT.GET.KV_psm-fleet",
    "$JS.API.DIRECT.GET.PSM.psm.cursor.0",
    "$JS.API.CONSUMER.DURABLE.CREATE.PSM.risk",
    "$JS.API.STREAM.LEADER.STEPDOWN.TRADES",
    "$SRV.PING",
    "$SYS.REQ.USER.INFO",
    "$SYS.REQ.SERVER.PING",
)
TRIED = (
    *WRITING,
    *CHANGING,
    *DESTROYING,
    *(subject.format(stream) for stream in STREAMS for subject in READING),
)


def _reads(*streams: str) -> set[str]:
    return {subject.format(stream) for stream in streams for subject in READING}


def _infos() -> set[str]:
    return {READING[0].format(stream) for stream in STREAMS}


_ALL_READS = _reads(*STREAMS)
_ASKED = {"psm.get.state", "psm.get.live"}
_TABLE = "$JS.API.DIRECT.GET.KV_psm-fleet"
_LIVE = {"_psmfleet.live.member", _TABLE}
_GETS = {_TABLE, "$JS.API.DIRECT.GET.TRADES", "$JS.API.DIRECT.GET.PSM.psm.cursor.0"}
_LOG_GETS = {"$JS.API.STREAM.MSG.GET.TRADES", "$JS.API.DIRECT.GET.TRADES"}
_PSM_GETS = {"$JS.API.STREAM.MSG.GET.PSM", "$JS.API.DIRECT.GET.PSM.psm.cursor.0"}
_SERVED = _reads("TRADES", "PSM", "RISK", "RULEBOOK", "MARKETDATA")
_RECORDED = {"signals.strategy.s.BTC", "risk.decision.acc_1", "orders.command.acc_1"}
_DIGESTS = {"ops.access", "$JS.API.STREAM.MSG.GET.OPS"}
MAY_PUBLISH: dict[str, set[str]] = {
    "worker": {
        "_psm.position.updated.0.acc_1",
        "snapshots.0.acc_1",
        "snapshots.risk.7",
        "$KV.psm-fleet.member",
        "_psmfleet.news",
        "$JS.API.DIRECT.GET.TRADES",
        *_LIVE,
        *_reads("TRADES", "PSM", "SNAPSHOTS", "OPS"),
        *_infos(),
    },
    "projector": {
        "$JS.API.DIRECT.GET.TRADES",
        *_reads("TRADES", "PSM", "RISK", "RULEBOOK", "MARKETDATA"),
    },
    "archiver": {
        "$JS.API.DIRECT.GET.TRADES",
        *_reads("TRADES", "PSM", "MARKETDATA", "RISK", "RULEBOOK"),
    },
    "risk": {
        "_risk.owner.7.record",
        "_risk.decision.7.acc_1",
        "snapshots.risk.7",
        "orders.command.acc_1",
        "psm.get.live",
        "$KV.psm-fleet.risk.member",
        "_psmfleet.news",
        "$JS.API.DIRECT.GET.TRADES",
        "$JS.API.STREAM.MSG.GET.SNAPSHOTS",
        *_LIVE,
        *_reads("TRADES", "PSM", "RISK", "RULEBOOK"),
        *_infos(),
    },
    "marks": {"marks.BTC", "$JS.API.DIRECT.GET.TRADES", *_reads("TRADES", "MARKETDATA"), *_infos()},
    "importer": {
        "trades.acc_1",
        "instruments.BTC",
        "$JS.API.DIRECT.GET.TRADES",
        *_reads("TRADES"),
        *_infos(),
    },
    "api": {"psm.risk.check", "$JS.API.DIRECT.GET.TRADES", *_LIVE, *_SERVED, *_DIGESTS},
    "ingest": {
        "trades.acc_1",
        "marks.BTC",
        "instruments.BTC",
        "collateral.BTC",
        "psm.risk.check",
        "ops.access",
        "$JS.API.STREAM.MSG.GET.OPS",
        "$JS.API.DIRECT.GET.TRADES",
        *_LIVE,
        *_SERVED,
        *_DIGESTS,
    },
    "streams": {*CHANGING, *_infos()},
    "operator": {
        "trades.acc_1",
        "repair.1.acc_1",
        "control.rules",
        "ops.access",
        "ops.replay",
        "replay.1.trades.acc_1",
        *_ASKED,
        "$SRV.PING",
        "$SYS.REQ.USER.INFO",
        "$JS.API.STREAM.LEADER.STEPDOWN.TRADES",
        "$JS.API.CONSUMER.DURABLE.CREATE.PSM.risk",
        *_GETS,
        *_ALL_READS,
    },
    "officer": {
        "rulebook.firm.firm",
        "rulebook.group.desk",
        "_risk.owner.7.record",
        "$JS.API.STREAM.MSG.GET.RISK",
        "rulebook.clusters.clusters",
        *_reads("RULEBOOK"),
    },
    "admin": {
        "trades.acc_1",
        "repair.1.acc_1",
        "marks.BTC",
        "instruments.BTC",
        "collateral.BTC",
        "control.rules",
        "ops.access",
        "ops.replay",
        *_ASKED,
        *(subject for subject in TRIED if subject.startswith("$JS.API.")),
    },
    "clusters": {
        "rulebook.clusters.clusters",
        "$JS.API.DIRECT.GET.TRADES",
        *_reads("TRADES", "RULEBOOK"),
    },
    "auditor": {
        "ops.replay",
        "$JS.API.DIRECT.GET.TRADES",
        *_reads("TRADES", "PSM", "RISK", "RULEBOOK", "OPS"),
        *_infos(),
    },
    "replay": {"ops.replay", "replay.1.trades.acc_1", *_ASKED, *_GETS, *_ALL_READS},
    "publisher": {"trades.acc_1", *_LOG_GETS},
    "market": {
        "marketdata.ticker.BTC",
        "marks.BTC",
        "instruments.BTC",
        "collateral.BTC",
        *_LOG_GETS,
    },
    "service": {*_RECORDED, "psm.risk.check", *_ASKED, *_PSM_GETS},
    "execution": {"orders.status.o1", "fills.internal.1", *_ASKED, *_PSM_GETS},
    "reader": {
        *_ASKED,
        *_PSM_GETS,
        "$JS.ACK.PSM.risk.1.1.1.1.1",
        "$JS.API.CONSUMER.MSG.NEXT.PSM.psm-1",
    },
}
HEARING = (
    "trades.*",
    "psm.position.updated",
    "psm.get.state",
    "psm.risk.check",
    "_psm.>",
    "_psmfleet.>",
    "$KV.psm-fleet.>",
    "snapshots.>",
    "ops.*",
    "signals.>",
    "marketdata.>",
    "_INBOX.>",
    "_INBOX.publisher.>",
    "_INBOX.worker.>",
    "$JS.API.>",
    "$JS.EVENT.>",
    ">",
)
MAY_HEAR: dict[str, set[str]] = {
    "worker": {"_psmfleet.>", "_INBOX.worker.>"},
    "risk": {"psm.position.updated", "psm.risk.check", "_psmfleet.>"},
    "api": {"psm.get.state"},
    "ingest": {"psm.get.state"},
    "operator": {"psm.position.updated"},
    "publisher": {"_INBOX.publisher.>"},
    "service": {"psm.position.updated", "signals.>", "marketdata.>"},
    "execution": {"psm.position.updated", "signals.>", "marketdata.>"},
    "reader": {"psm.position.updated"},
}

ACTS: dict[str, set[str]] = {
    "SELECT 1 FROM balances_view": {"projector", "api", "operator"},
    "INSERT INTO balances_view DEFAULT VALUES": {"projector"},
    "DELETE FROM balances_view WHERE false": {"projector"},
    "TRUNCATE balances_view": set(),
    "DROP TABLE balances_view": set(),
    "SELECT 1 FROM log_heads": {"worker", "projector", "operator"},
    "INSERT INTO log_heads DEFAULT VALUES": {"projector"},
    "DELETE FROM log_heads": set(),
    "TRUNCATE log_heads": set(),
    "DELETE FROM chain_heads": set(),
    "DELETE FROM projection_checkpoints": set(),
    "SELECT 1 FROM events": {"archiver", "api", "importer", "operator"},
    "INSERT INTO events DEFAULT VALUES": {"archiver"},
    "UPDATE events SET raw = ''": set(),
    "DELETE FROM events": set(),
    "TRUNCATE events": set(),
    "LOCK TABLE events IN ACCESS EXCLUSIVE MODE": set(),
    "ALTER TABLE events DISABLE TRIGGER immutable": set(),
    "ALTER TABLE events OWNER TO CURRENT_USER": set(),
    "COMMENT ON TABLE events IS ''": set(),
    "DELETE FROM archive_checkpoints": set(),
    "SELECT 1 FROM people": {"importer"},
    "INSERT INTO people DEFAULT VALUES": {"importer"},
    "UPDATE people SET identity = NULL WHERE false": {"importer"},
    "DELETE FROM people": set(),
    "SELECT secret_sha256 FROM access.tokens": {"api"},
    "SELECT principal, created_by FROM access.tokens": {"api", "operator"},
    "INSERT INTO access.tokens DEFAULT VALUES": {"api"},
    "UPDATE access.tokens SET revoked_at = now() WHERE false": {"api"},
    "UPDATE access.tokens SET roles = roles": set(),
    "DELETE FROM access.tokens": set(),
    "SELECT 1 FROM schema_migrations": set(),
    "INSERT INTO schema_migrations VALUES ('x', 'x')": set(),
    "CREATE TABLE other (x int)": set(),
    "CREATE SCHEMA psm_shadow": set(),
    "CREATE FUNCTION other() RETURNS int LANGUAGE sql AS 'SELECT 1'": set(),
    "CREATE EXTENSION file_fdw": set(),
    "CREATE ROLE other": set(),
    "ALTER ROLE psm_api PASSWORD 'other'": {"api"},
    "GRANT psm_views_writer TO psm_api": set(),
    "SET ROLE psm_views_writer": {"projector"},
    "SET ROLE house": set(),
    "SET session_replication_role = replica": set(),
    "COPY (SELECT 1) TO PROGRAM 'cat'": set(),
    "COPY (SELECT 1) TO '/tmp/other'": set(),
    "SELECT pg_read_file('PG_VERSION')": set(),
    "SELECT pg_reload_conf()": set(),
}
"""Statement -> the logins that may; `house` owns the schema, `psm_api` is the login of `api`."""

_PAGE = """\
# Permissions, tried

<!-- Made by `make docs` from `tests/support/permissions.py`. -->

Every act below is tried as every user on real servers, in every run of the tests
(`tests/integration/test_least_privilege.py`). Who is named may; everybody else is refused. Why each
user may what it may stands in [who may do what](security.md).

"""


def page() -> str:
    """Return `docs/permissions.md`."""
    users = [one.name for one in ROLES]
    publish = {act: {u for u in users if act in MAY_PUBLISH[u]} for act in TRIED}
    hear = {act: {u for u in users if act in MAY_HEAR.get(u, set())} for act in HEARING}
    broker = _forbidden(publish, users) + _forbidden(hear, users)
    return (
        f"{_PAGE}{broker} forbidden acts of {len(users)} users of the broker, "
        f"{_forbidden(ACTS, LOGINS)} of {len(LOGINS)} logins of the database.\n"
        + _table("Publish to the broker", "subject", publish)
        + _table("Subscribe at the broker", "subject", hear)
        + _table("Statements of the database", "statement", ACTS)
    )


def _forbidden(acts: dict[str, set[str]], users: Collection[str]) -> int:
    return sum(len(users) - len(may) for may in acts.values())


def _table(heading: str, what: str, acts: dict[str, set[str]]) -> str:
    rows = (
        f"| `{act}` | {', '.join(f'`{user}`' for user in sorted(may)) or 'nobody'} |\n"
        for act, may in acts.items()
    )
    return f"\n## {heading}\n\n| {what} | may |\n|---|---|\n" + "".join(rows)
