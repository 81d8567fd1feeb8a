"""The doctor's parts that need no server: histograms, verdicts, redaction, commands, the load."""

from __future__ import annotations

import math
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from benchmarks.load import Step, summary, told

from psm.adapters.jetstream.facts import server_time
from psm.projections.schema.roles import roles_sql, table_grants
from psm.workers.cli import COMMANDS
from psm.workers.doctor import broker
from psm.workers.doctor.conditions import CONDITIONS
from psm.workers.doctor.examine import CHECKS
from psm.workers.doctor.given import Given
from psm.workers.doctor.histograms import Histogram, of_bounds, summed
from psm.workers.doctor.objectives import OBJECTIVES, latency_row
from psm.workers.doctor.recorded import samples
from psm.workers.doctor.redaction import Scrubber, shortened
from psm.workers.doctor.verdict import CheckLine, Level, Reading, judged

ROOT = Path(__file__).parents[2]
INF = math.inf
NOW = datetime(2026, 1, 31, tzinfo=UTC)


def thousand() -> Histogram:
    """Return 900 up to 1 ms, 90 more up to 10 ms, 10 beyond."""
    return of_bounds({INF: 1000, 0.01: 990, 0.001: 900})


def test_quantiles_and_shares_of_a_histogram() -> None:
    """As Prometheus counts them; a share at a bound is exact."""
    found = thousand()
    assert found.quantile(0.5) == pytest.approx(0.001 * 500 / 900)
    assert found.quantile(0.99) == pytest.approx(0.01)
    assert found.quantile(0.999) == 0.01  # beyond the last bound nobody knows
    assert found.within(0.01) == 0.99
    assert found.within(0.001) == 0.9
    assert found.within(0.0055) == pytest.approx(0.945)
    assert found.within(7.0) == 0.99  # what is beyond may be slower
    assert of_bounds({}).within(1.0) is None


@pytest.mark.parametrize(("count", "share", "known"), [(99, 0.99, False), (100, 0.99, True)])
def test_a_quantile_of_few_is_not_told(count: int, share: float, *, known: bool) -> None:
    assert (of_bounds({0.1: count, INF: count}).quantile(share) is not None) is known


def test_histograms_of_processes_are_added_up_and_subtracted() -> None:
    """A process that began anew counts as a whole."""
    both = summed([thousand(), thousand()])
    assert (both.count, both.within(0.001)) == (2000, 0.9)
    assert both.since(thousand()) == thousand()
    assert thousand().since(both) == thousand()


def test_an_objective_is_met_where_each_goal_is() -> None:
    """The worst of several goals is told; nothing measured is nothing met."""
    update = next(one for one in OBJECTIVES if one.name == "update")
    row = latency_row(update, thousand())
    assert (row.met, row.reached, row.p99, row.goal) == (True, 0.99, 10.0, "p99 10 ms")
    check = next(one for one in OBJECTIVES if one.from_specification)
    row = latency_row(check, thousand())
    assert row.goal == "p50 0.5 ms, p99 2 ms, p999 10 ms"
    assert row.met is False
    assert row.reached == pytest.approx(0.91, abs=0.001)
    assert latency_row(update, of_bounds({})).met is None


def test_samples_of_an_exposition() -> None:
    text = '# TYPE x histogram\nx_bucket{le="0.1",route="/a"} 3\nx_bucket{le="+Inf",route="/a"} 4\n'
    assert [(one.labels["le"], one.value) for one in samples(text)] == [("0.1", 3), ("+Inf", 4)]


@pytest.mark.parametrize(
    ("value", "falling", "level"),
    [(0, False, 0), (2, False, 1), (5, False, 2), (9, True, 0), (4, True, 1), (1, True, 2)],
)
def test_a_number_and_its_limits(value: float, level: int, *, falling: bool) -> None:
    """Rising numbers are bad from their limits on, falling ones below them."""
    line = judged(
        "x", Reading(value, "a|b\nc"), warning=2 if not falling else 5,
        critical=5 if not falling else 2, falling=falling, unit="s",
    )  # fmt: skip
    limits = "5:;2:" if falling else "2;5"
    assert line.level == level
    assert str(line) == f"{Level(level).name} - {value}s a/b c | 'x'={value}s;{limits}"


def test_a_line_without_a_number() -> None:
    line = judged("x", Reading(None, "none"), warning=1, critical=2, falling=False, unit="")
    assert str(line) == "OK - none"
    assert str(CheckLine(check="x", level=Level.UNKNOWN, text="away")) == "UNKNOWN - away"


def test_clocks_and_certificates() -> None:
    """One second is the most; thirty days before its end a certificate is to be renewed."""
    for seconds, ok in ((0.9, True), (-0.9, True), (1.1, False), (-5, False)):
        found = broker.clock_finding("clock", "the broker", timedelta(seconds=seconds))
        assert (found.ok, bool(found.command)) == (ok, not ok)
    for days, verdict in ((40, "ok"), (29, "soon"), (13, "fault"), (-1, "fault")):
        ends = NOW + timedelta(days=days, hours=1)
        assert broker.certificate("c", "its", ends, NOW, "x").verdict == verdict
    assert server_time("2026-11-30T01:52:58.519745427Z").microsecond == 519745
    assert server_time("2026-11-30T01:52:58Z").microsecond == 0


def test_commands_that_change_a_setting(tmp_path: Path) -> None:
    """A variable is changed where it is: in the environment or in `.env`; values stay unseen."""
    file = tmp_path / ".env"
    file.write_text("PSM_PARTITIONS=8\nPSM_HTTP_PROT=1\n")
    given = Given({"PSM_ENV_FILE": str(file), "PSM_LOG_LEVEL": "loud", "PSM_NATS_PASWORD": "s3cr"})
    commands = {problem: given.command_for(problem) for problem in given.problems}
    assert given.settings is not None
    assert given.settings.partitions == 8
    assert "s3cr" not in repr(commands)
    assert any(text == "unset PSM_LOG_LEVEL" for text in commands.values())
    assert any(
        text.startswith("sed -i -E 's/^(export +)?PSM_HTTP_PROT") for text in commands.values()
    )
    assert any(
        text == 'export PSM_NATS_PASSWORD="$PSM_NATS_PASWORD"; unset PSM_NATS_PASWORD'
        for text in commands.values()
    )
    assert given.setting("PSM_REPLICAS", "3") == f"echo PSM_REPLICAS=3 >> {file}"
    assert Given({"PSM_ENV_FILE": os.devnull}).problems == []


SECRETS: list[tuple[str, Any]] = [
    ("password s3cret!", "s3cret!"),
    ("at postgresql://psm:pass%20word@h/d", "pass%20word"),
    ("nats://who:unknown-one@host", "unknown-one"),
    ("psm_abcdefgh_" + "a2" * 16, "a2a2"),
    ("SUAM" + "A2" * 27, "SUAM"),
    ("Authorization: Bearer abc.def", "abc.def"),
    ("-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----", "MC4CAQ"),
    ("token eyJhbGciOiJFZ.eyJzdWIi.c2ln", "eyJzdWIi"),
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_secrets_are_taken_out(text: str, secret: str) -> None:
    """Known ones, those in addresses, and what looks like one."""
    scrub = Scrubber(["s3cret!", "postgresql://psm:pass%20word@h/d"])
    assert secret not in scrub(text)
    assert "***" in scrub(text)
    assert scrub("nothing here") == "nothing here"


def test_a_log_line_keeps_what_holds_nothing_of_an_account() -> None:
    line = '{"event":"x","level":"error","detail":"acc_1 has 4711","partition":3}'
    assert shortened(line) == '{"event":"x","level":"error","partition":3,"left_out":["detail"]}'
    assert shortened("no JSON") is None


def test_grants_are_those_of_the_file() -> None:
    """The statements that grant on tables are all understood."""
    found = table_grants()
    assert ("psm_views_writer", "INSERT", "balances_view") in found
    assert ("psm_access", "SELECT", "access.tokens") not in found  # on columns: as a whole or not
    understood = {(role, table) for role, _, table in found}
    whole = re.findall(
        r"^GRANT (?!USAGE)[A-Z, ]+\s+ON ([\w.,\s]+?)\s+TO (\w+);", roles_sql(), re.MULTILINE
    )
    assert understood == {(role, t.strip()) for tables, role in whole for t in tables.split(",")}


def test_names_are_unique_and_alerts_are_those_of_the_chart() -> None:
    """A condition that names an alert is of one that exists."""
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert len({one.name for one in CONDITIONS}) == len(CONDITIONS)
    text = "".join(path.read_text() for path in (ROOT / "k8s" / "psm").rglob("*.yaml"))
    alerts = set(re.findall(r"alert: (\w+)", text))
    assert {name for one in CONDITIONS for name in one.alerts} <= alerts


def test_the_load_tells_what_it_found() -> None:
    """A step whose backlog grows is not kept; one line sums up."""
    row = latency_row(OBJECTIVES[0], thousand())
    kept = Step(per_s=200, sent=12_000, failed=0, behind_s=0.1, backlog=(3, 4),
                seen_ms=(5.0, 9.0, 20.0), objectives=[row])  # fmt: skip
    grows = Step(per_s=400, sent=20_000, failed=1, behind_s=0.1, backlog=(100, 9000), seen_ms=(),
                 objectives=[])  # fmt: skip
    assert (kept.is_kept, grows.is_kept) == (True, False)
    assert told(kept)[0].startswith("200/s: kept; 12000 sent")
    assert "p99 10 ms, 99.00% within: met" in told(kept)[2]
    line = summary([kept, grows])
    assert "200/s kept, 400/s not; update at 200/s p50 5 p99 9 ms; met at 200/s: update" in line
    assert line.endswith("32000 events, 1 failed")


def test_printed_commands_of_psm_exist() -> None:
    """No finding sends anybody to a command that there is not."""
    known = {name for name, *_ in COMMANDS}
    for path in (ROOT / "workers/psm/workers/doctor").glob("*.py"):
        for command in re.findall(r'"psm ([a-z-]+)', path.read_text()):
            assert command in known, (path, command)


def test_the_page_names_everything() -> None:
    """docs/doctor.md has each check, condition and objective."""
    page = (ROOT / "docs" / "doctor.md").read_text()
    names = {check.name for check in CHECKS} | {one.name for one in CONDITIONS}
    names |= {objective.name for objective in OBJECTIVES}
    assert {name for name in names if f"`{name}`" not in page} == set()
