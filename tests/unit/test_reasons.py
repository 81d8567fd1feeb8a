"""Reason codes and log events: what the sources raise and log is what the tables and pages say."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from scripts.made import ROOT
from scripts.make_docs import PAGES, log_events, modules

from psm.contracts.reasons import REASONS

_NAMED = ("GAP_OVERFLOW", "THROUGH_NOT_LAST")
_RAISERS = ("ContractError", "UnknownEventError", "RefusedError")


def _raised() -> Iterator[str]:
    """Yield every literal that is the reason of a `ContractError`, or blocks a stream."""
    for _, tree in modules():
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=func, args=[first, *_]):
                    name = ast.unparse(func).rpartition(".")[2]
                    if name in _RAISERS:
                        yield from _literals(first)
                case ast.Assign(
                    targets=[ast.Name(id="GAP_OVERFLOW" | "THROUGH_NOT_LAST")], value=value
                ):
                    yield from _literals(value)
                case ast.Constant(value="sequence_gap"):
                    yield "sequence_gap"


def _literals(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from _literals(body)
            yield from _literals(orelse)


def test_every_reason_has_a_meaning_and_every_meaning_a_reason() -> None:
    """The table is neither short of a code nor keeps one that nothing gives any more."""
    raised = {*_raised()}
    assert len(raised) > 20
    assert raised == {*REASONS}


@pytest.mark.parametrize("code", REASONS)
def test_reason_is_one_line_in_snake_case(code: str) -> None:
    """Codes are for programs, meanings for people."""
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
    meaning = REASONS[code].meaning
    assert 10 < len(meaning) < 90
    assert meaning[0].islower() or meaning[0].isupper()
    assert not meaning.endswith(".")


def test_log_events_are_named_noun_and_past_verb() -> None:
    """`noun.past_verb`, each logged by one noun's module or few."""
    events = log_events()
    assert len(events) > 40
    wrong = [name for name in events if not re.fullmatch(r"[a-z_]+\.[a-z_]+", name)]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES)
def test_page_is_what_the_sources_say(page: str) -> None:
    """`make docs` would change nothing."""
    assert (ROOT / page).read_text("utf-8") == PAGES[page]()
