"""`psm risk`: what live decisions are made by, from files and pipes, without any server."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from psm.analytics.documents import exact_document
from psm.contracts.errors import ConfigError
from psm.domain.money import exact_text
from psm.risk.clusters import cluster_table, compute
from psm.risk.decide import decide as decide_case
from psm.risk.sizing import size as size_of
from psm.workers.cli.shared.lines import answer_lines, take_lines
from psm.workers.cli.shared.output import say_json
from psm.workers.replay.lines import DEFAULT_PARTITIONS
from psm.workers.replay.risk_fold import RiskFolder, decision_document
from psm.workers.risk.rows import decision_row, read_case, read_closes, read_sizing

app = App(name="risk", help="Decide on orders, and say by which rules.")
clusters = App(name="clusters", help="Find the symbols that move together.")
app.command(clusters)
app.command("psm.workers.cli.run.risk_worker:worker", name="worker", help="Decide on orders, live.")
_RULES: Mapping[str, tuple[str, str]] = {
    "limits": ("limits:app", "Show, propose and approve limits; what loosens needs two persons."),
    "halt": (
        "rules:halt", "Stop a scope at once. One person is enough; going on again needs two.",
    ),
    "resume": (
        "rules:resume", "Lift a halt, once a second person says the same, naming the same halt.",
    ),
    "halts": ("rules:halts", "Show what is halted, since when and why."),
    "decisions": ("decisions:decisions", "List what was decided, the newest first."),
    "state": ("decisions:state", "Show latches, halts, near limits and the last figures."),
    "groups": ("rules:groups", "Show and define the groups that one risk loop decides for."),
    "keys": ("rules:keys", "Show and define who may say what in the rulebook."),
    "rulebook": ("rules:rulebook", "Show what was said, and say anything else."),
}  # fmt: skip
"""Imported when they are run: they ask servers, and the commands below need none."""
for _name, (_where, _help) in _RULES.items():
    app.command(f"psm.workers.cli.decide.{_where}", name=_name, help=_help)
_LATER = "psm.workers.cli.prove.decisions"
app.command(f"{_LATER}:explain", name="explain", help="Show what a decision was made from, again.")
app.command(f"{_LATER}:shadow", name="shadow", help="Decide recorded orders under other limits.")
for _name, _help in {
    "show": "Show the clusters that decisions are made with, or those of a version.",
    "verify": "Compute recorded clusters again from the marks of the log.",
    "publish": "Say the clusters of the last complete day, from the log; once.",
}.items():
    clusters.command(f"psm.workers.cli.decide.cluster_events:{_name}", name=_name, help=_help)

File = Annotated[str, Parameter(allow_leading_hyphen=True)]


@app.command
def decide(file: File = "-", /) -> int:
    """Decide on orders, one JSON row a line, each with the state that it is decided on.

    A row is {"state", "limits", "order"} and, where there are, "clusters" {symbol: cluster},
    "restricted" [symbol], "lots" {symbol: lot}, "on_limit". What a row does not give is no limit.
    A row that is none is reported, and the others are decided.

    Args:
        file: What to read; - is standard input.
    """
    return answer_lines(file, lambda line: decision_row(decide_case(read_case(line))))


@app.command
def size(file: File = "-", /) -> int:
    """Size positions, one JSON row a line: a rule and its inputs in, the size out.

    Rules: fixed_fractional (equity, risk, entry, stop, fee), fixed_notional (equity, weight or
    money, price), volatility_target (equity, target, sigma, price), atr (equity, risk, atr,
    atr_multiple), kelly_capped (equity, win_rate, average_win, average_loss, trades, fraction,
    cap, price), inverse (as fixed_notional); each with multiplier, lot and inverse.

    Args:
        file: What to read; - is standard input.
    """

    def sized(line: bytes) -> dict[str, str]:
        rule, inputs = read_sizing(line)
        return {"size": exact_text(size_of(rule, inputs))}

    return answer_lines(file, sized)


@app.command
def fold(
    file: File = "-",
    /,
    *,
    everything: Annotated[bool, Parameter(name="--all", negative="")] = False,
    partitions: int = DEFAULT_PARTITIONS,
) -> int:
    """Fold a whole log with its rulebook and its orders, and print the decision on each order.

    Lines are those of `psm fold`; among them stand {"subject": "rulebook.<scope>.<id>"} and
    {"subject": "orders.command.<account>"} where they came. Accounts follow from the log by the
    fold of the live system, decisions by the very code that decides live.

    Args:
        file: What to read, .gz too; - is standard input.
        everything: Print alerts, latches and what else is stored, too.
        partitions: Of the log.
    """
    if partitions < 1:
        raise ConfigError("--partitions must be 1 or more")
    folder = RiskFolder(partitions)

    def take(line: bytes) -> None:
        for output in folder.decide(line):
            if everything or output.kind == "decision":
                say_json(decision_document(output), sys.stdout)
        if file == "-":
            sys.stdout.flush()

    return take_lines(file, take)


@clusters.command(name="compute")
def compute_clusters(
    *,
    closes: Annotated[Path, Parameter(help="CSV of daily closes: date,BTC,ETH ...")],
    benchmark: Annotated[
        str | None, Parameter(help="Symbol of the betas; the first if not given.")
    ] = None,
) -> None:
    """Compute correlation, shrinkage, clusters and betas of a table of daily closes."""
    try:
        text = closes.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {closes}: {error}") from error
    table = read_closes(text)
    if benchmark is not None and benchmark not in table.prices:
        raise ConfigError(f"--benchmark {benchmark}: the table has {', '.join(table.prices)}")
    found = compute(table, benchmark)
    document = exact_document(found)
    for name in ("correlation", "correlation_shrunk", "correlation_ewma"):
        rows = [dict(zip(found.symbols, row, strict=True)) for row in document[name]]
        document[name] = dict(zip(found.symbols, rows, strict=True))
    say_json({**document, "cluster_of": cluster_table(found)}, sys.stdout)
