"""`psm doctor`: is this installation well, and what mends what is not."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import msgspec
from cyclopts import Parameter

from psm.contracts.errors import ConfigError
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.doctor.examine import CHECKS, examine

_COLUMNS = ("check", "verdict", "why", "command")


def doctor(
    names: Annotated[
        tuple[str, ...], Parameter(name="CHECK", negative="", help="Only these checks.")
    ] = (),
    /,
    *,
    list_: Annotated[
        bool, Parameter(name="--list", negative="", help="Only say what is looked at.")
    ] = False,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Look at settings, broker, database and versions; exit 1 if something is wrong.

    Changes nothing. Each finding says what was seen and, of a fault, which command mends it.
    Verdicts: `ok`; `soon`, to be done in time; `fault`; `unseen`, which nobody could look at from
    here. With -o json each is {check, ok, why, command}, ok null where it is unseen.
    """
    known = {check.name for check in CHECKS}
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"there is no check {unknown[0]}; `psm doctor --list` names them")
    if list_:
        output.rows(({"check": c.name, "about": c.about} for c in CHECKS), ("check", "about"))
        return 0
    found = asyncio.run(examine(os.environ, names))
    if output.format == "table":
        rows = [msgspec.structs.asdict(one) | {"verdict": one.verdict} for one in found]
        output.rows(({**row, "command": row["command"] or None} for row in rows), _COLUMNS)
    else:
        output.rows(map(msgspec.structs.asdict, found), _COLUMNS)
    wrong = [one for one in found if one.ok is False]
    output.note(f"{len(wrong)} faults" if wrong else "nothing is wrong")
    return int(bool(wrong))
