"""Every check in its order, and running them: none stops another."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from psm.contracts.errors import PSMError
from psm.workers.doctor import broker, callers, database, itself
from psm.workers.doctor.finding import Diagnosis, unseen
from psm.workers.doctor.place import Installation, Look, MissingError, Need, here

CHECK_S = 15.0

_BROKER: tuple[Need, ...] = ("settings", "broker")
_DATABASE: tuple[Need, ...] = ("settings", "database")

CHECKS: tuple[Look, ...] = (
    Look("settings", "each variable is a setting, none contradicts another", itself.settings, ()),
    Look("files", "nobody else reads the files that hold secrets", itself.files),
    Look("certificates", "those of the settings can be read and hold", itself.certificates),
    Look("approvers", "production names who may approve", itself.approvers),
    Look("callers", "keys and issuers of the API's callers can be read", callers.callers),
    Look("broker", "NATS answers, and is new enough", broker.broker, asks=("broker",)),
    Look("tls_broker", "the line to NATS is private; its certificate holds", broker.line, _BROKER),
    Look("jetstream", "JetStream is on", broker.jetstream, _BROKER),
    Look("inbox", "answers come to where this user may hear them", broker.inbox),
    Look("permissions", "the user may do what its role does", broker.permissions, _BROKER),
    Look("log", "the settings say what the log was made with", broker.log, _BROKER),
    Look("streams", "each stream is there and as strong as needed", broker.streams, _BROKER),
    Look("replicas", "each replica holds everything", broker.replicas, _BROKER),
    Look("sync_interval", "servers write before they acknowledge", broker.sync),
    Look("disk_broker", "the servers have room", broker.room),
    Look("clock_broker", "the broker's clock is this one", broker.clock, _BROKER),
    Look("database", "PostgreSQL answers and takes writes", database.database, asks=("database",)),
    Look("tls_database", "the line to PostgreSQL is private", itself.tls_database),
    Look("migrations", "the schema is the one of this release", database.migrations, _DATABASE),
    Look("roles", "each role may do what its parts need", database.roles, _DATABASE),
    Look("clock_database", "the database's clock is this one", database.clock, _DATABASE),
    Look("tokens", "tokens are renewed in time", database.tokens, _DATABASE),
    Look("versions", "this version knows the log; workers are of one", itself.versions, _BROKER),
    Look("disk", "the disk of a `psm up` here has room", itself.disk),
)
"""What is looked at, what comes first first."""


async def examine(env: Mapping[str, str], names: Sequence[str] = ()) -> list[Diagnosis]:
    """Look at this installation; nothing is changed, and nothing is raised.

    Args:
        env: variables of the process.
        names: of the checks; all of them where none is named.
    """
    chosen = [check for check in CHECKS if not names or check.name in names]
    wanted = {need for check in chosen for need in (*check.needs, *check.asks)}
    async with here(env, wanted) as place:
        found = await asyncio.gather(*(_looked(check, place) for check in chosen))
    return [finding for findings in found for finding in findings]


async def _looked(check: Look, place: Installation) -> list[Diagnosis]:
    try:
        for need in check.needs:
            _require(need, place)
        async with asyncio.timeout(CHECK_S):
            return await check.look(place)
    except MissingError as error:
        return [unseen(check.name, f"not looked at: {error}")]
    except TimeoutError:
        return [unseen(check.name, f"not seen within {CHECK_S:g} s")]
    except PSMError as error:
        return [unseen(check.name, str(error))]
    except Exception as error:  # noqa: BLE001 - one look that fails must not hide the others
        return [unseen(check.name, f"the look itself failed: {type(error).__name__}: {error}")]


def _require(need: Need, place: Installation) -> None:
    """Raise `MissingError` where something that a check needs is not there."""
    if need == "broker":
        _ = place.nc
    elif need == "database":
        _ = place.pool
    else:
        _ = place.settings
