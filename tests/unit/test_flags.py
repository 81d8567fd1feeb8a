"""Flags: what the domain can set is what the table explains."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator

import pytest
from scripts.make_docs import modules

from psm.contracts import flags
from psm.projections.current_state.accounts import ACCOUNT_STATEMENTS
from psm.projections.current_state.reads import READ_STATEMENTS
from psm.workers.cli import main
from psm.workers.explain.flags import FLAGS


def _set() -> Iterator[str]:
    """Yield every text that the domain puts among flags."""
    for path, tree in modules():
        if not path.startswith("workers/psm/domain/"):
            continue
        for node in ast.walk(tree):
            match node:
                case (
                    ast.Assign(targets=[ast.Name(id=name)], value=value)
                    | ast.AnnAssign(target=ast.Name(id=name), value=value)
                    | ast.keyword(arg=name, value=value)
                    | ast.Call(
                        func=ast.Attribute(value=ast.Name(id=name), attr="append"), args=[value]
                    )
                ) if "flags" in (name or ""):
                    yield from _texts(value)
                case ast.FunctionDef(name=name) if name.endswith("flags"):
                    for inner in ast.walk(node):
                        if isinstance(inner, ast.Return):
                            yield from _texts(inner.value)


def _texts(node: ast.AST | None) -> Iterator[str]:
    for inner in ast.walk(node) if node else ():
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value


def test_every_flag_is_explained_and_no_other() -> None:
    """The table is neither short of a flag nor keeps one that nothing sets any more.

    One is set by reads: its place is their statements.
    """
    statements = (*READ_STATEMENTS.items(), *ACCOUNT_STATEMENTS.items())
    assert {*_set(), flags.VIEW_STALE} == {*FLAGS}
    for name, statement in statements:
        assert (flags.VIEW_STALE in statement) == (name not in ("reached", "counts")), name
    assert sorted(FLAGS) == list(flags.FLAGS)


@pytest.mark.parametrize("flag", FLAGS)
def test_explain_says_what_a_flag_means(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without any server: meaning, cause and remedy."""
    assert main(["explain", flag, "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["flag"] == flag
    for text in (document["meaning"], document["cause"], document["remedy"]):
        assert text[0].islower() or text[0].isupper()
        assert not text.endswith(".")


def test_a_slip_of_the_finger_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    """What is no flag gets the nearest, or all there are."""
    assert main(["explain", "overdarft"]) == 2
    assert 'did you mean "overdraft"' in capsys.readouterr().err
    assert main(["explain", "xyzzy"]) == 2
    assert "rate_missing" in capsys.readouterr().err
