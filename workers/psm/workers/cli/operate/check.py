"""`psm check`: one condition, in the line that monitoring systems read."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import msgspec
from cyclopts import Parameter

from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.doctor.conditions import CONDITIONS
from psm.workers.doctor.look import checked, checked_alert
from psm.workers.doctor.verdict import CheckLine, Level


def check(
    name: Annotated[str | None, Parameter(help="Condition, or with --prometheus an alert.")] = None,
    /,
    *,
    warning: Annotated[float | None, Parameter(help="Another limit of a warning.")] = None,
    critical: Annotated[float | None, Parameter(help="Another limit of what is critical.")] = None,
    prometheus: Annotated[
        str | None, Parameter(help="Ask this Prometheus for any alert by its name.")
    ] = None,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Check one condition: `OK|WARNING|CRITICAL|UNKNOWN - text | data`; exit 0, 1, 2 or 3.

    It is asked of broker and database, not of the processes. Without a name: what can be asked,
    with the limits and the alerts whose condition each is.
    """
    if name is None:
        rows = (
            {
                "check": one.name,
                "about": one.about,
                "warning": f"{one.warning:g}{one.unit}",
                "critical": f"{one.critical:g}{one.unit}",
                "alerts": ", ".join(one.alerts) or None,
            }
            for one in CONDITIONS
        )
        output.rows(rows, ("check", "about", "warning", "critical", "alerts"))
        return 0
    if prometheus is not None:
        line = asyncio.run(checked_alert(prometheus, name))
    elif found := [one for one in CONDITIONS if one.name == name]:
        line = asyncio.run(checked(os.environ, found[0], warning, critical))
    else:
        of = " or ".join(f"`psm check {one.name}`" for one in CONDITIONS if name in one.alerts)
        names = f"{of} asks for its own" if of else "`psm check` names them"
        why = f"there is no condition {name}; {names}, --prometheus URL for an alert"
        line = CheckLine(check=name, level=Level.UNKNOWN, text=why)
    if output.format == "table":
        output.lines(str(line))
    else:
        output.document(msgspec.structs.asdict(line) | {"level": line.level.name})
    return int(line.level)
