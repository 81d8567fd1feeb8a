"""What the tests of containers measured, before the last line of the run."""

from __future__ import annotations

import pytest

SEEN: list[str] = []
"""Lines to print."""


@pytest.fixture(scope="session")
def seen() -> list[str]:
    """Where a test writes what it measured, one line each."""
    return SEEN


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured."""
    if SEEN:
        terminalreporter.section("containers")
        for line in SEEN:
            terminalreporter.line(line)
