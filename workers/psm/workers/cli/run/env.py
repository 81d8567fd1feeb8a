"""`psm env`: where the running `psm up` is, for other programs and shells."""

from __future__ import annotations

import os
import shlex
from typing import Annotated

import msgspec
from cyclopts import Parameter

from psm.contracts.errors import ConfigError
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.process.running import find_running


def env(
    *,
    operator: Annotated[
        bool,
        Parameter(negative="", help="Also the NATS user with which commands of psm connect."),
    ] = False,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Print where the running `psm up` is, as `export` lines: `eval "$(psm env)"`.

    Commands of psm find it by themselves. The lines hold the password of its database.
    """
    found = find_running(os.environ)
    if found is None:
        raise ConfigError("no `psm up` of this user is running; start one in another terminal")
    if output.format != "table":
        output.document(msgspec.structs.asdict(found))
        return
    variables = {
        "NATS_URL": found.nats_url,
        "POSTGRES_DSN": found.postgres_dsn,
        "HTTP_URL": found.http_url,
        "PSM_PARTITIONS": str(found.partitions),
    }
    if operator:
        variables |= found.operator
        variables |= {"PSM_NATS_MONITORING_URL": found.nats_monitoring_url}
    output.lines(*(f"export {name}={shlex.quote(value)}" for name, value in variables.items()))
