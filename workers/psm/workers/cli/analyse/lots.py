"""`psm lots`: which purchase each sale closed, first in, first out, without any server."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from psm.workers.cli.shared.lines import take_lines
from psm.workers.cli.shared.output import say_json
from psm.workers.replay.figures import FigureFolder, lot_document
from psm.workers.replay.lines import DEFAULT_PARTITIONS


def lots(
    file: Annotated[str, Parameter(allow_leading_hyphen=True)] = "-",
    /,
    *,
    partitions: int = DEFAULT_PARTITIONS,
) -> int:
    """Print the lots that were closed, one JSON line each, of the lines that `psm fold` takes.

    First in, first out, before fees; fills that were busted later are left out. Once a position is
    flat its lots sum up to what it realized at average cost.

    Args:
        file: What to read; - is standard input.
        partitions: Of the log.
    """
    folder = FigureFolder(periods=365, partitions=partitions)
    code = take_lines(file, folder.take)
    for account_id, lot in folder.lots():
        say_json(lot_document(account_id, lot), sys.stdout)
    return code
