"""`psm nats-keys`: keys (nkeys) of the parts at the broker, made and replaced without an outage."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from psm.adapters.broker_monitor import connections_of
from psm.adapters.jetstream import connect
from psm.adapters.jetstream.nats_keys import CONFIG, KeyFolder
from psm.contracts.errors import ConfigError
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.cli.shared.producers import Producers, producer_of
from psm.workers.cli.shared.told_ops import tell_ops
from psm.workers.process.config import Settings, load_settings

app = App(name="nats-keys", help="Make and replace the keys of NATS users.")

Folder = Annotated[Path, Parameter(name="DIR")]
_POLL_S = 0.5
_TAKEN_S = 15.0
_IDENTITY = ("user", "password", "token", "user_credentials", "nkeys_seed")


@app.command
def init(
    folder: Folder,
    *,
    role: Annotated[
        tuple[str, ...],
        Parameter(negative="", consume_multiple=False, help="Only these; by default all."),
    ] = (),
    producer: Producers = (),
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Make a key for each role, and the configuration of the broker; what is there stays.

    DIR/ROLE.nk is for PSM_NATS_NKEY_SEED_FILE of that part alone; DIR/nats-users.conf, which has
    public keys only, is for the broker to include. A producer is a role of this folder from then
    on; naming it again gives it other accounts and leaves it its key.
    """
    keys = KeyFolder(folder)
    for text in producer:
        keys.keep(producer_of(text), text)
    made = keys.make([*role] or [one.name for one in keys.roles()])
    output.document({"made": made, "config": str(folder / CONFIG)})
    return 0


@app.command
def rotate(
    role: Annotated[str, Parameter(name="ROLE")],
    folder: Folder,
    *,
    reload: Annotated[
        str,
        Parameter(help="Command that lets every broker read DIR/nats-users.conf again."),
    ],
    wait: Annotated[float, Parameter(help="Seconds for the part to come with the new key.")] = 600,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Replace the key of a role: add the new one, wait until nobody uses the old one, remove it.

    Parts whose seed file is DIR/ROLE.nk, or a copy of it, come with the new key by themselves
    within seconds. If one does not, both keys go on to hold: mend it and run this again, which goes
    on where it ended. PSM_NATS_MONITORING_URL names all servers, which tell who is connected.
    """
    settings = load_settings()
    monitoring = settings.nats_monitoring_url
    if monitoring is None:
        raise ConfigError("PSM_NATS_MONITORING_URL is not set; the brokers tell who uses a key")
    keys = KeyFolder(folder)
    new = keys.add(role)
    _reload(reload)
    asyncio.run(_taken(settings, keys, role))
    old = keys.use(role)
    if left := asyncio.run(_left(monitoring, old, wait)):
        raise ConfigError(
            f"the old key of {role} is still used by {', '.join(left)}; both hold. Let them read "
            f"{keys.seed(role)}, and run this again"
        )
    keys.remove_old(role)
    _reload(reload)
    done = {"role": role, "key": new, "removed": old}
    output.document(done)
    tell_ops({"kind": "nats key", **done}, output)
    return 0


def _reload(command: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - the operator's own
            shlex.split(command), capture_output=True, text=True, check=False, timeout=120
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"--reload {command}: {error}") from error
    if done.returncode:
        raise ConfigError(f"--reload {command}: exit {done.returncode}: {done.stderr.strip()}")


async def _taken(settings: Settings, keys: KeyFolder, role: str) -> None:
    """Return once every broker takes the new key; before, nobody may be given it."""
    which = "next" if keys.seed(role, "next").exists() else ""
    options: dict[str, Any] = settings.nats_options()
    for name in _IDENTITY:
        options.pop(name, None)
    deadline = time.monotonic() + _TAKEN_S
    for server in options.pop("servers"):
        while True:
            try:
                nc = await connect(
                    server, name="psm-cli", nkeys_seed=str(keys.seed(role, which)), **options
                )
            except ConfigError as error:
                if time.monotonic() > deadline:
                    raise ConfigError(
                        f"the broker does not take the new key of {role}: does it include "
                        f"{keys.folder / CONFIG}, and did it read it again? {error}"
                    ) from error
                await asyncio.sleep(_POLL_S)
            else:
                await nc.close()
                break


async def _left(monitoring: str, old: str, wait_s: float) -> list[str]:
    """Return who still uses the old key after the wait; nobody, it is hoped."""
    deadline = time.monotonic() + wait_s
    while True:
        left = await connections_of(monitoring, old)
        if not left or time.monotonic() > deadline:
            return left
        await asyncio.sleep(_POLL_S)
