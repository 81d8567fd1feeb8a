"""Writes the pages of `docs/` that follow from the sources: flags, limits, log events, reasons.

`python -m scripts.make_docs` writes them, `--check` fails where one is not as it would be written.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator

from scripts.made import ROOT, settle
from scripts.metrics import PROCESS, metrics
from tests.support import permissions

from psm.contracts.limits import LIMITS
from psm.contracts.reasons import REASONS
from psm.workers.explain.flags import FLAGS

SOURCES = ("contracts/psm", "workers/psm", "projections/psm")
_LEVELS = ("debug", "info", "warning", "error", "critical", "exception")

_FLAGS = """\
# Flags

<!-- Made by `make docs`. -->

Opinions about an event or a state, as `flags` of updates and documents carry them. A flag refuses
nothing and is in no hash. `psm explain FLAG` says the same at the command line.
"""
_LOG_EVENTS = """\
# Log events

<!-- Made by `make docs`. -->

Every line that a process of PSM logs is one JSON object on stderr with `timestamp`, `level`,
`event` and the fields below; a line inside of a trace carries its `trace_id`. Names stay, fields
may be added.

| event | level | fields | module |
|---|---|---|---|
"""
_REASONS = """\
# Reason codes

<!-- Made by `make docs`. -->

Why an event was refused, rejected or reported, or why its stream waits: `reason` of
`psm.event.refused` and `psm.stream.blocked`, of `psm fold`, and of problem details over HTTP. Codes
are stable: new ones may be added, old ones keep their meaning.

| code | meaning | given by |
|---|---|---|
"""


_LIMITS = """\
# Limits

<!-- Made by `make docs` from `contracts/psm/contracts/limits.py`. -->

What may enter, how large it may be, and what happens beyond. What the fold judges by is the same on
every machine and in any year. Lengths are in bytes of UTF-8. Text that is read holds no NUL and no
surrogate that stands alone. Fields that PSM does not know, and `metadata`, decide nothing: they may
hold any JSON that fits into the body. What bounds the state stands in the metadata of the streams
(`psm.*`), is shown by `psm streams check`, and never changes for a log: a worker with another bound
does not start.
"""


_METRICS = """\
# Metrics

<!-- Made by `make docs`. -->

What `/metrics` of the processes shows, for Prometheus; a collector gets the same over OTLP, with
dots for underscores and without units. A process shows what it has done: a worker nothing of views,
a projector nothing of commits. Labels are closed sets such as `partition`, `view`, `outcome` and
`reason`; accounts are never one. Dashboards are in `k8s/psm/dashboards`, rules in `k8s/psm/rules`,
and what to do about an alert in `docs/runbooks`.

| metric | kind | what |
|---|---|---|
"""
_PROCESS_METRICS = """
Every process, as other programs in Python have them:

| metric | what |
|---|---|
"""


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield (path from the root, syntax tree) of every module of PSM."""
    for source in SOURCES:
        for path in sorted((ROOT / source).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text("utf-8"))


def log_events() -> dict[str, list[tuple[str, str, tuple[str, ...]]]]:
    """Return (level, module, fields) of each place that logs an event, by the event's name."""
    found: dict[str, list[tuple[str, str, tuple[str, ...]]]] = defaultdict(list)
    for path, tree in modules():
        for node in ast.walk(tree):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr=level, value=logger),
                    args=[ast.Constant(value=str(name)), *_],
                    keywords=keywords,
                ) if level in _LEVELS and "log" in ast.unparse(logger):
                    fields = tuple(sorted(keyword.arg or "…" for keyword in keywords))
                    found[name].append((level, path, fields))
    return dict(sorted(found.items()))


def _log_events_page() -> str:
    rows = []
    for name, places in log_events().items():
        levels = ", ".join(sorted({level for level, _, _ in places}))
        fields = ", ".join(sorted({f"`{field}`" for _, _, own in places for field in own}))
        where = ", ".join(sorted({f"`{path}`" for _, path, _ in places}))
        rows.append(f"| `{name}` | {levels} | {fields} | {where} |\n")
    return _LOG_EVENTS + "".join(rows)


def _reasons_page() -> str:
    return _REASONS + "".join(
        f"| `{code}` | {reason.meaning} | {', '.join(reason.judges)} |\n"
        for code, reason in sorted(REASONS.items())
    )


def _flags_page() -> str:
    return _FLAGS + "".join(
        f"\n## `{name}`\n\n{_sentence(text.meaning)} {_sentence(text.cause)}\n\n"
        f"What to do: {text.remedy}.\n"
        for name, text in sorted(FLAGS.items())
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _limits_page() -> str:
    page = _LIMITS
    for heading, limits in LIMITS.items():
        page += f"\n## {heading}\n\n| what | at most | beyond | why |\n|---|---|---|---|\n"
        for limit in limits:
            most = f"{limit.value:,}".replace(",", " ") + f" {limit.unit}".rstrip()
            page += f"| {limit.about} | {most} | {', '.join(limit.effect) or '-'} | {limit.why} |\n"
    return page


def _metrics_page() -> str:
    page = _METRICS
    for one in metrics():
        page += f"| `{one.name}` | {one.kind} | {one.description} |\n"
    page += _PROCESS_METRICS
    for name, description in PROCESS.items():
        page += f"| `{name}` | {description} |\n"
    return page


PAGES: dict[str, Callable[[], str]] = {
    "docs/flags.md": _flags_page,
    "docs/limits.md": _limits_page,
    "docs/log-events.md": _log_events_page,
    "docs/permissions.md": permissions.page,
    "docs/metrics.md": _metrics_page,
    "docs/reasons.md": _reasons_page,
}
"""Path -> what makes the page."""


def main() -> int:
    """Write the pages, or check them; 1 where one differs."""
    return settle({ROOT / path: page() for path, page in PAGES.items()}, "the sources say")


if __name__ == "__main__":
    sys.exit(main())
