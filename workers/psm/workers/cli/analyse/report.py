"""`psm report`: the tear sheet of an account or a group, one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from psm.analytics.rows import Timeframe
from psm.workers.analytics.exports import new_file
from psm.workers.analytics.report.page import report_page
from psm.workers.analytics.tear_sheet import tear_sheet
from psm.workers.cli.analyse.asking import (
    FROM_THE_START,
    WHOLE,
    FiguresOptions,
    PastRange,
    Subject,
    asked,
)
from psm.workers.cli.shared.http import not_over_http
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output


def report(
    subject: Subject,
    /,
    *,
    html: Annotated[Path, Parameter(help="File to write; must not exist.")],
    range_: PastRange = FROM_THE_START,
    timeframe: Annotated[
        Timeframe | Literal["auto"],
        Parameter(help="Length of the buckets; auto: the longest of which there are 30."),
    ] = "auto",
    of: FiguresOptions = WHOLE,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Write a tear sheet: equity, drawdown, months, distribution, rolling Sharpe, trades.

    One HTML file without scripts that asks nobody for anything; it prints well, too. The same rows
    give the same bytes.
    """
    not_over_http("report")
    question = of.question(subject, "1d" if timeframe == "auto" else timeframe, range_.span)
    with new_file(html) as part:
        figures = asked(
            lambda reads: tear_sheet(reads, question, any_timeframe=timeframe == "auto")
        )
        part.write_text(report_page(figures), "utf-8")
    output.document(
        {
            "file": str(html),
            "timeframe": figures.timeframe,
            "n": figures.metrics.n,
            "trades": figures.trade_metrics.n,
            "closed_through": figures.closed_through,
            "through_log_sequence": figures.through_log_sequence,
        }
    )
