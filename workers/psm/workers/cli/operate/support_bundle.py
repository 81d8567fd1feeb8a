"""`psm support-bundle`: what somebody who helps from afar needs to see."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output
from psm.workers.doctor.bundle import LOG_LINES, Bundle


def support_bundle(
    file: Annotated[
        Path | None, Parameter(help="Where to write it; default psm-support-TIME.tar.gz here.")
    ] = None,
    /,
    *,
    details: Annotated[
        bool,
        Parameter(negative="", help="Whole log lines, which may name accounts and amounts."),
    ] = False,
    log_lines: Annotated[
        int,
        Parameter(help="Last lines of each log.", validator=validators.Number(gte=0, lte=100_000)),
    ] = LOG_LINES,
    output: Output = DEFAULT_OUTPUT,
) -> int:
    """Collect versions, settings, doctor, streams, consumers, metrics and ends of logs in one file.

    Secrets are taken out, always. Of log lines the fields remain that hold nothing of an account,
    unless --details are wanted; no state, position or event is collected. Read it before you send
    it. What cannot be had says so in its place; logs are those of a `psm up` of this user.
    """
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = file or Path(f"psm-support-{time}.tar.gz")
    bundle = Bundle(os.environ, details=details, lines=log_lines)
    asyncio.run(bundle.collect())
    bundle.write(path)
    output.document({"file": str(path), "holds": sorted(bundle.files)})
    return 0
