"""Progress of work in stages, each with a bar and a count of its own."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType

from psm.workers.cli.shared.output import Output, Steps


class Stages:
    """Shows the stage that is going on: what is counted there, how far it is, and where it ends.

    Counts of stages are never added: most of them go over the same log again.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._open = ExitStack()
        self._what: str | None = None
        self._bar: Steps | None = None
        self._reached = 0

    def __enter__(self) -> Stages:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    def __call__(self, what: str, reached: int, end: int) -> None:
        """Show that `reached` of `end` is done of a stage, whose name says what is counted."""
        if what != self._what or self._bar is None:
            self._open.close()
            self._bar = self._open.enter_context(self._output.progress(what))
            self._what, self._reached = what, 0
        self._bar.total(end)
        self._bar.advance(reached - self._reached)
        self._reached = reached
