"""The page that says what the golden hashes notice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from scripts.mutation.equivalent import why_equivalent
from scripts.mutation.runner import Fate

_HEAD = """\
# Mutation test of the fold

<!-- Made by `make mutation`. -->

Every mutant is one small change of a module of `psm.domain`: a flipped comparison, `+` for `-`, a
constant one off, a statement or a `not` left out, `and` for `or`, a return value gone. It is killed
if, folding the golden logs with it, a hash, an outcome or a published byte after any message is not
the recorded one, or if the fold raises or does not end. Accounts pass through their snapshots every
25 messages, so what a snapshot forgets is noticed, too. All logs but the long ones of a single kind
are read a second time by workers that crash and take over from each other, with altered history and
snapshots, and with rules that know more; at the end every account is asked for all that readers get
of it. The files `cases` and `bounds` are short logs in a row, each on books of its own: what unit
tests of the ledger tell a log in memory. Those of `bounds` are folded with bounds of three.

Nothing but the golden fingerprints judges: unit and property tests, which kill more, take no part.
The share is that of the mutants that are not equivalent, that is, which change a result at all. A
mutant counts as equivalent only if it is in the list of those looked at one by one.
"""
_TARGET = 95


def page(
    runs: Sequence[tuple[str, Sequence[Fate]]], total: int, commit: str, note: str
) -> tuple[str, float]:
    """Return the page, and the share of mutants killed in percent, equivalent ones left out.

    Args:
        runs: (name, fates) of each; all of the same code.
        total: how many mutants there are.
        commit: the last one that changed the domain.
        note: what else to say about the runs.
    """
    found = {fate.mutant: fate for _, fates in runs for fate in fates}
    fates = [fate for _, fate in sorted(found.items())]
    by_module: dict[str, list[Fate]] = defaultdict(list)
    for fate in fates:
        by_module[fate.mutant.module].append(fate)
    share = _share(fates)
    met = "reached" if share >= _TARGET else "missed"
    lines = [_HEAD, f"**{share:.1f} % are killed; the target of {_TARGET} % is {met}.**"]
    lines += [
        f"{len(fates)} of the {total} mutants were run, on the domain of commit {commit}.",
        "",
    ]
    lines += [note, ""] if note else []
    lines += [_TITLES.format("run"), _RULE]
    lines += [_row(name, own) for name, own in runs]
    lines += ["", "## By module", "", _TITLES.format("module"), _RULE]
    for module, own in sorted(by_module.items()):
        lines.append(_row(f"`{module}`", own))
    lines += [_row("**all**", fates), "", "## How they were noticed", ""]
    for how in ("hash", "exception", "time"):
        lines.append(f"* {how}: {sum(fate.how == how for fate in fates)}")
    lived = [fate for fate in fates if not fate.killed]
    lines += ["", "## Survivors", ""]
    lines += [
        f"* `{fate.mutant.name}`{' (unreached)' * (fate.how == 'unreached')}"
        for fate in lived
        if not _is_equivalent(fate)
    ]
    lines += ["", "## Judged equivalent", ""]
    lines += [
        f"* `{fate.mutant.name}`: {why_equivalent(fate.mutant)}"
        for fate in lived
        if _is_equivalent(fate)
    ]
    return "\n".join(lines) + "\n", share


_TITLES = "| {} | mutants | killed | survived | unreached | equivalent | share |"
_RULE = "|---|---:|---:|---:|---:|---:|---:|"


def _row(name: str, fates: Sequence[Fate]) -> str:
    equivalent = sum(_is_equivalent(fate) for fate in fates)
    survived = sum(fate.how == "survived" and not _is_equivalent(fate) for fate in fates)
    unreached = sum(fate.how == "unreached" and not _is_equivalent(fate) for fate in fates)
    killed = sum(fate.killed for fate in fates)
    figures = (len(fates), killed, survived, unreached, equivalent)
    return f"| {name} | {' | '.join(map(str, figures))} | {_share(fates):.1f} % |"


def _is_equivalent(fate: Fate) -> bool:
    return not fate.killed and bool(why_equivalent(fate.mutant))


def _share(fates: Sequence[Fate]) -> float:
    judged = [fate for fate in fates if not _is_equivalent(fate)]
    return 100 * sum(fate.killed for fate in judged) / len(judged) if judged else 100.0
