"""Who stays behind: judged by progress towards what a leader had, never by being idle.

At a look, what the leader has last becomes a goal; it counts as reached when the position passes
it. A goal that is open for more than `LATE_S`, in each of `LOOKS` looks, makes its partition late.
No clock but this process's own is compared. Lateness is an alert and never readiness: taking away
what lags makes an outage of a delay.
"""

from __future__ import annotations

from collections.abc import Mapping

LATE_S = 10.0
LOOKS = 3
EVERY_S = 3.0


class Lateness:
    """Goals of several partitions, by name."""

    def __init__(self, late_s: float | None = None) -> None:
        """Nothing was looked at yet.

        Args:
            late_s: how long a goal may be open; `LATE_S` unless told otherwise.
        """
        self._late_s = late_s
        self._goals: dict[str, tuple[int, float]] = {}  # and since when
        self._looks: dict[str, int] = {}

    def look(self, now: float, ends: Mapping[str, tuple[int, int]]) -> list[str]:
        """Take in (position, the leader's last) of each; return the names of those that are late.

        Args:
            now: seconds that never run backwards.
            ends: of everything that is judged; what is not there any more is forgotten.
        """
        goals = {}
        for name, (position, last) in ends.items():
            goal, since = self._goals.get(name, (0, now))
            goals[name] = (goal, since) if position < goal else (last, now)
        self._goals = goals
        late_s = LATE_S if self._late_s is None else self._late_s
        behind = {n for n, (goal, at) in goals.items() if ends[n][0] < goal and now - at > late_s}
        self._looks = {name: self._looks.get(name, 0) + 1 for name in behind}
        return sorted(name for name, looks in self._looks.items() if looks >= LOOKS)
