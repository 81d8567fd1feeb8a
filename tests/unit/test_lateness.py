"""Late is who does not get where a leader was; idle and busy are well."""

from __future__ import annotations

from psm.workers.process.lateness import LATE_S, LOOKS, Lateness


def looks(*ends: tuple[float, int, int]) -> list[list[str]]:
    """Return what each look at one partition said: (now, position, last)."""
    lateness = Lateness()
    return [lateness.look(now, {"3": (position, last)}) for now, position, last in ends]


def test_idle_is_well() -> None:
    """Nothing new for a day is no lag."""
    assert looks(*((hour * 3600.0, 17, 17) for hour in range(24))) == [[]] * 24


def test_busy_is_well() -> None:
    """One that is always some messages behind, and goes on, is not late."""
    assert looks(*((n * 3.0, n * 100, n * 100 + 50) for n in range(20))) == [[]] * 20


def test_one_that_stands_is_late_after_three_looks() -> None:
    """The age counts from the look at which the leader was seen ahead."""
    assert looks(
        (0, 5, 9), (LATE_S, 5, 9), (LATE_S + 1, 5, 9), (LATE_S + 4, 5, 12), (LATE_S + 7, 5, 12)
    ) == [[], [], [], [], ["3"]]
    assert LOOKS == 3


def test_one_that_lags_in_spite_of_progress_is_late() -> None:
    """It gets to each goal, but only a minute later."""
    found = looks(*((n * 3.0, n * 30, n * 30 + 600) for n in range(15)))
    assert found[-1] == ["3"]


def test_one_that_caught_up_is_well_at_once() -> None:
    """Three old looks do not outlast the progress."""
    found = looks((0, 5, 9), *((LATE_S + n, 5, 9) for n in (1, 2, 3)), (LATE_S + 4, 9, 9))
    assert found[-2:] == [["3"], []]


def test_one_that_is_gone_is_forgotten() -> None:
    """A partition that moved to another worker is that one's to judge."""
    lateness = Lateness()
    for n in range(5):
        lateness.look(n * LATE_S, {"3": (5, 9)})
    assert lateness.look(60.0, {}) == []
    assert lateness.look(61.0, {"3": (5, 9)}) == []
