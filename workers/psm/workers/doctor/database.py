"""What of PostgreSQL must be so: reachable, up to date, roles, clock, tokens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from psm.adapters import postgres
from psm.projections.schema.migrate import status_on
from psm.projections.schema.roles import missing_grants, missing_tables, table_grants
from psm.projections.sql import load
from psm.workers.access.store import Tokens
from psm.workers.access.tokens import TokenRecord
from psm.workers.doctor.broker import clock_finding
from psm.workers.doctor.finding import Diagnosis, fault, fine, soon, unseen
from psm.workers.doctor.place import Installation
from psm.workers.process.running import find_running

TOKEN_DAYS = (75, 90)
"""Age of a token, from which on it is to be renewed soon, or is a fault."""
_FACTS = load("psm.workers.doctor", "doctor")["facts"]
_EXAMPLE = "postgresql://user:password@host:5432/psm"
_UP = "psm migrate up"
_ROLES = "psm migrate up --roles"
_SHOWN = 3


async def database(place: Installation) -> list[Diagnosis]:
    """Whether it answers and takes writes."""
    settings = place.settings
    if settings.postgres_dsn is None:
        return [
            unseen(
                "database",
                "POSTGRES_DSN is not set: no views, no archive, no comparison of heads",
                place.given.setting("POSTGRES_DSN", _EXAMPLE),
            )
        ]
    if "database" in place.reasons:
        command = "psm config show"
        if find_running(place.given.env) is not None and place.given.is_given("POSTGRES_DSN"):
            command = place.given.unsetting("POSTGRES_DSN")
        return [fault("database", place.reasons["database"], command)]
    async with postgres.acquired(place.pool) as connection:
        row = await connection.fetchrow(_FACTS)
    assert row is not None
    about = f"PostgreSQL {row['version'].split()[0]}, {row['bytes'] / 2**20:,.0f} MiB"
    if row["standby"]:
        why = f"{about}: it is a standby, which takes no writes"
        return [fault("database", why, place.given.setting("POSTGRES_DSN", _EXAMPLE))]
    if row["read_only"]:
        # A session that writes: the statement is a write, too.
        command = (
            "PGOPTIONS='-c default_transaction_read_only=off' psql \"$POSTGRES_DSN\" "
            f"-c 'ALTER DATABASE \"{row['name']}\" RESET default_transaction_read_only'"
        )
        return [fault("database", f"{about}: it is set to take no writes", command)]
    return [fine("database", about)]


async def migrations(place: Installation) -> list[Diagnosis]:
    """Whether the schema is the one of this release."""
    async with postgres.acquired(place.pool) as connection:
        found = await status_on(connection)
        missing = await missing_tables(connection)
    by_state: dict[str, list[str]] = {}
    for row in found:
        by_state.setdefault(row.state, []).append(row.name)
    says = {
        "pending": ("not applied", _UP),
        "changed": ("not what was applied: install the release again", "psm migrate status"),
        "unknown": ("of a newer release, which this one must not follow", "psm version"),
    }
    wrong = [
        fault("migrations", f"{', '.join(by_state[state])}: {text}", command)
        for state, (text, command) in says.items()
        if state in by_state
    ]
    if missing and not wrong:
        # Nothing makes it anew: its migration is done with.
        why = f"{', '.join(missing)}: dropped since its migration, or left out of a restore"
        options = " ".join(f"--table={table.rpartition('.')[2]}" for table in missing)
        wrong = [fault("migrations", why, f'pg_restore --dbname "$POSTGRES_DSN" {options} BACKUP')]
    return wrong or [fine("migrations", f"{len(found)} applied, the newest {found[-1].name}")]


async def roles(place: Installation) -> list[Diagnosis]:
    """Whether each role may do what its parts need; without any, one user does all."""
    async with postgres.acquired(place.pool) as connection:
        missing = await missing_grants(connection)
    if not missing:
        return [fine("roles", "each may do what its parts need")]
    if len(missing) == len(table_grants()):
        why = "there are none: every part is the owner of the database"
        if place.settings.env == "production":
            return [fault("roles", why, _ROLES)]
        return [fine("roles", f"{why}, fit for development")]
    shown = "; ".join(map(str, missing[:_SHOWN]))
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return [fault("roles", f"{shown}{more}", _ROLES)]


async def clock(place: Installation) -> list[Diagnosis]:
    """Whether the database's clock is ours."""
    async with postgres.acquired(place.pool) as connection:
        before = datetime.now(UTC)
        theirs: datetime = await connection.fetchval("SELECT clock_timestamp()")
        after = datetime.now(UTC)
    return [
        clock_finding("clock_database", "the database", theirs - (before + (after - before) / 2))
    ]


async def tokens(place: Installation) -> list[Diagnosis]:
    """Whether tokens are renewed in time."""
    found = await Tokens(place.pool).listed(every=False)
    old = [finding for token in found if (finding := _token(token, place.now)) is not None]
    return old or [fine("tokens", f"{len(found)} hold, none older than {TOKEN_DAYS[0]} days")]


def _token(token: TokenRecord, now: datetime) -> Diagnosis | None:
    age = now - token.created_at
    why = f"token {token.id} of {token.principal} is {age.days} days old"
    if age >= timedelta(days=TOKEN_DAYS[1]):
        return fault("tokens", why, f"psm token revoke {token.id}")
    if age >= timedelta(days=TOKEN_DAYS[0]):
        return soon("tokens", why, f"psm token rotate {token.id}")
    return None
