"""The page that says what the golden hashes notice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from scripts.mutation.equivalent import EQUIVALENT, why_equivalent
from scripts.mutation.runner import Fate

__all__ = ["EQUIVALENT", "page"]

_HEAD = """\
# Mutation test of the fold

<!-- Made by `make mutation`. -->

Every mutant is one small change of a module of `psm.domain`: a flipped comparison, `+` for `-`, a
constant one off, a statement or a `not` left out, `and` for `or`, a return value gone. It is killed
if, folding the golden logs with it, a hash, an outcome or a published byte after any message is not
the recorded one, or if the fold raises or does not end. Accounts pass through their snapshots every
25 messages, so what a snapshot forgets is noticed, too.

Nothing but the golden hashes judges: unit and property tests, which kill more, take no part.
"""


def page(fates: Sequence[Fate], total: int, seed: int | None) -> tuple[str, float]:
    """Return the page, and the share of mutants killed in percent, equivalent ones left out.

    Args:
        fates: of the mutants that were run.
        total: how many mutants there are.
        seed: of the sample, None if all were run.
    """
    by_module: dict[str, list[Fate]] = defaultdict(list)
    for fate in fates:
        by_module[fate.mutant.module].append(fate)
    lines = [_HEAD, _sample(len(fates), total, seed), ""]
    lines += ["| module | mutants | killed | survived | unreached | equivalent | share |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|"]
    for module, own in sorted(by_module.items()):
        lines.append(_row(f"`{module}`", own))
    lines += [_row("**all**", fates), "", "## How they were noticed", ""]
    for how in ("hash", "exception", "time"):
        lines.append(f"* {how}: {sum(fate.how == how for fate in fates)}")
    lines += ["", "## Survivors", "", "By place; what is equivalent says why.", ""]
    for fate in fates:
        if not fate.killed:
            why = why_equivalent(fate.mutant)
            note = f" (equivalent: {why})" if why else " (unreached)" * (fate.how == "unreached")
            lines.append(f"* `{fate.mutant.name}`{note}")
    return "\n".join(lines) + "\n", _share(fates)


def _sample(count: int, total: int, seed: int | None) -> str:
    if seed is None:
        return f"All {total} mutants were run."
    return f"A sample of {count} of the {total} mutants was run (seed {seed})."


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
