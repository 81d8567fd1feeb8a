"""`psm stats`: how an account did; without an account, what the archive holds."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any
from urllib.parse import quote

from cyclopts import Parameter

from psm.analytics.formulas import FORMULAS
from psm.analytics.rows import Timeframe
from psm.contracts.errors import ConfigError
from psm.workers.analytics.documents import explain_document, stats_document
from psm.workers.analytics.figures import FiguresQuestion, figures_of
from psm.workers.analytics.report.texts import SHOWN
from psm.workers.cli.analyse.asking import FROM_THE_START, WHOLE, FiguresOptions, PastRange, asked
from psm.workers.cli.read.events import print_counts
from psm.workers.cli.shared.http import remote
from psm.workers.cli.shared.output import DEFAULT_OUTPUT, Output

_LISTS = ("daily", "closes", "trades", "metrics", "trade_metrics", "trade_metrics_by_currency")
_SHOWN_INPUTS = 20


def stats(
    subject: Annotated[
        str | None,
        Parameter(
            name="ACCOUNT|GROUP",
            help="An account; or several as one: a,b,c, or group: and a group of the rulebook.",
        ),
    ] = None,
    /,
    *,
    range_: PastRange = FROM_THE_START,
    timeframe: Annotated[Timeframe, Parameter(help="Length of the buckets.")] = "1d",
    of: FiguresOptions = WHOLE,
    explain: Annotated[
        str | None, Parameter(help="One figure: formula, range, n and every input of it.")
    ] = None,
    since: Annotated[
        str | None,
        Parameter(
            help="Without an account: only what was stored since: 15m, 24h, 7d, a date or a time.",
            allow_leading_hyphen=True,
        ),
    ] = None,
    output: Output = DEFAULT_OUTPUT,
) -> None:
    """Show the performance of an account: returns, risk, drawdown, trades.

    Figures are of complete buckets of the latest epoch; what is not defined is null. The same
    fields and digits as `psm fold --metrics` of the same log. Without an account: how many events
    the archive holds per stream, type and service, and its incidents.
    """
    if subject is None:
        if (range_, timeframe, of, explain) != (FROM_THE_START, "1d", WHOLE, None):
            raise ConfigError(
                "name an account; without one the archive is counted, --since at most"
            )
        print_counts(since, output)
        return
    if since is not None:
        raise ConfigError("--since is for counting the archive; of an account give --from")
    if explain is not None and explain not in FORMULAS:
        raise ConfigError(f"--explain {explain}: there are {', '.join(FORMULAS)}")
    question = of.question(subject, timeframe, range_.span)
    document = _document(question, range_, of, explain)
    if explain is not None:
        _print_explanation(document, output)
    elif output.format != "table":
        output.document(document)
    else:
        _print(document, output)


def _document(
    question: FiguresQuestion, range_: PastRange, of: FiguresOptions, explain: str | None
) -> dict[str, Any]:
    """Return the figures, or one explained: as a service answers, else with days and trades."""
    there = remote()
    if there is None:
        figures = asked(lambda reads: figures_of(reads, question))
        return stats_document(figures) if explain is None else explain_document(figures, explain)
    return there.document(
        f"/psm/analytics/{quote(question.subject, safe=':,')}/metrics",
        **range_.query,
        timeframe=question.timeframe,
        window=of.window,
        strategy=of.strategy,
        symbol=of.symbol,
        periods=of.periods,
        risk_free=of.risk_free,
        explain=explain,
    )


def _print(document: dict[str, Any], output: Output) -> None:
    output.document({name: value for name, value in document.items() if name not in _LISTS})
    rows: list[dict[str, Any]] = []
    for name, formula in FORMULAS.items():
        of = document["metrics" if formula.of == "returns" else "trade_metrics"]
        rows.append({"figure": name, "value": _read(name, of[name]), "formula": formula.formula})
    output.lines("")
    output.rows(rows, ("figure", "value", "formula"))
    for currency, own in document["trade_metrics_by_currency"].items():
        output.lines("", f"Trades in {currency}")
        output.document({name: _read(name, value) for name, value in own.items()})
    if not document["metrics"]["n"]:
        shorter = document["timeframe"] != "1m"
        output.note(
            "no bucket of this range is complete"
            + ("; --timeframe 1m has shorter ones" if shorter else "")
        )
    output.note(
        "psm report ACCOUNT --html FILE draws it; --explain FIGURE lists what it is made of"
    )


def _read(name: str, value: Any) -> Any:
    """Return a figure as people read it: JSON has its exact digits."""
    if value is None or name not in FORMULAS:
        return value
    kind, number = FORMULAS[name].shown, Decimal(value)
    if kind == "percent":
        return f"{number * 100:.6g} %"
    return f"{number:.6g}" if kind == "ratio" else SHOWN[kind](number)


def _print_explanation(document: dict[str, Any], output: Output) -> None:
    if output.format != "table":
        output.document(document)
        return
    inputs = document.pop("inputs")
    output.document(document)
    output.lines("")
    output.rows(inputs[-_SHOWN_INPUTS:], list(inputs[0]) if inputs else ("bucket",))
    if len(inputs) > _SHOWN_INPUTS:
        output.note(f"the last {_SHOWN_INPUTS} of {len(inputs)} inputs; -o json has all")
