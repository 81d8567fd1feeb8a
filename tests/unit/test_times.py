"""Times as people give them: dates, offsets, intervals, and nothing that could mean two things."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psm.contracts.errors import ConfigError
from psm.workers.cli import main
from psm.workers.process.times import utc_time

UTC_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", re.ASCII)
NOW = datetime(2025, 12, 12, 10, 30, 0, 250_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2025-12-12T10:30:00Z", "2025-12-12T10:30:00Z"),
        ("2025-12-12T10:30:00.123456789Z", "2025-12-12T10:30:00.123456789Z"),
        ("2025-12-12T10:30:00.5+01:00", "2025-12-12T09:30:00.5Z"),
        ("2025-12-12T00:15-0530", "2025-12-12T05:45:00Z"),
        ("2025-12-12 10:30z", "2025-12-12T10:30:00Z"),
        ("2025-12-12", "2025-12-12T00:00:00Z"),
        ("0001-01-01", "0001-01-01T00:00:00Z"),
        ("now", "2025-12-12T10:30:00.250000Z"),
        ("-1h", "2025-12-12T09:30:00.250000Z"),
        ("-2d", "2025-12-10T10:30:00.250000Z"),
        ("90s", "2025-12-12T10:28:30.250000Z"),
    ],
)
def test_times_are_read(text: str, utc: str) -> None:
    """Everything becomes RFC 3339 in UTC, as events carry it."""
    assert utc_time(text, NOW) == utc
    assert UTC_TIME.fullmatch(utc_time(text, NOW))


@pytest.mark.parametrize(
    "text",
    [
        "2025-12-12T10:30:00", "2025-12-12T24:00:00Z", "2025-02-30", "2025-12-12T10:30:60Z",
        "2025-12-12T10:30Z+01:00", "0001-01-01T00:00+01:00", "9999-12-31T23:59-01:00", "yesterday",
        "-1y", "-999999w", "", "2025-12-12T10:30:00+24:00", "\uff12025-12-12",
    ],
)  # fmt: skip
def test_what_is_no_time_is_said(text: str) -> None:
    """A time without a zone could be two; others are none."""
    with pytest.raises(ConfigError, match="expected a time such as"):
        utc_time(text, NOW)


@given(st.text())
def test_any_text_is_a_time_or_an_error(text: str) -> None:
    """Nothing else ever comes out."""
    try:
        assert UTC_TIME.fullmatch(utc_time(text, NOW))
    except ConfigError:
        return


@pytest.mark.parametrize(
    "arguments",
    [
        ["state", "acc_001", "--at", "-1x"],
        ["diff", "acc_001", "-1x", "now"],
        ["replay", "acc_001", "--from", "-1x"],
        ["explain", "acc_001", "equity", "--at", "-1x"],
        ["stats", "--since", "-1x"],
    ],
)
def test_every_command_asks_alike(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An interval may begin with its hyphen, and what is none is told with the rule."""
    assert main(arguments) == 2
    assert "expected a time such as" in capsys.readouterr().err
