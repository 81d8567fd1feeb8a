"""The domain stays pure: no clock, no floats, no sets, no operators on decimals."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.purity import findings

import psm.domain

MODULES = sorted(Path(psm.domain.__file__).parent.glob("*.py"))


def test_there_is_something_to_look_at() -> None:
    """A moved folder would make the other test pass in vain."""
    assert "fold.py" in [module.name for module in MODULES]


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.name)
def test_module_of_the_domain_is_pure(module: Path) -> None:
    """Nothing in it could make the same events give another state."""
    assert findings(module.read_text(encoding="utf-8"), module.name) == []


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("x = 0.5", "binary float 0.5"),
        ("x = 1e3", "binary float"),
        ("x = 2j", "binary float"),
        ("x = float(y)", "use of float"),
        ("x = list(map(float, y))", "use of float"),
        ("def f(x: float) -> None: ...", "use of float"),
        ("x = {1, 2}", "a set"),
        ("x = {y for y in z}", "a set"),
        ("x = set()", "use of set"),
        ("x = sorted(set(y))", "use of set"),
        ("for x in a.keys() & b.keys(): ...", "a set"),
        ("import time", "import time"),
        ("import random as r", "import random"),
        ("import os.path", "import os.path"),
        ("from asyncio import sleep", "import asyncio"),
        ("from psm.adapters import jetstream", "import psm.adapters"),
        ("from psm.workers.config import Settings", "import psm.workers"),
        ("x = datetime.now()", "use of now"),
        ("x = datetime.now", "use of now"),
        ("x = datetime.datetime.utcnow()", "use of utcnow"),
        ("x = date.today()", "use of today"),
        ("x = datetime.fromtimestamp(1)", "use of fromtimestamp"),
        ("x = decimal.getcontext()", "use of getcontext"),
        ("x = uuid.uuid4()", "use of uuid4"),
        ("x = hash(y)", "call of hash()"),
        ("x = id(y)", "call of id()"),
        ("x = sum(prices)", "call of sum()"),
        ("x = sum(p.size for p in y)", "call of sum()"),
        ("x = round(y)", "call of round()"),
        ("x = abs(y)", "call of abs()"),
        ("x = price * size", "operator Mult"),
        ("x = price + fee", "operator Add"),
        ("x += fee", "operator Add"),
        ("x = cash - fee", "operator Sub"),
        ("x = price / 2", "operator Div"),
        ("x = price % tick", "operator Mod"),
        ("x = price ** y", "operator Pow"),
        ("x = -price", "unary sign"),
        ("x = +price", "unary sign"),
        ("x = price.quantize(tick)", "quantize() without a context"),
        ("x = price.normalize()", "normalize() without a context"),
        ("async def f(): ...", "AsyncFunctionDef"),
    ],
)
def test_lint_finds(source: str, text: str) -> None:
    """Each way to be impure is found."""
    assert any(text in finding for finding in findings(source)), findings(source)


@pytest.mark.parametrize(
    "source",
    [
        "X = frozenset({'a', 'b'})",
        "x = version + 1",
        "x = len(y) - 1",
        "x = -1",
        "x = f'{a}' + b",
        "x = sum(1 for p in y if p.size)",
        "x = price.quantize(tick, context=EXACT)",
        "x = EXACT.add(price, fee)",
        "x: int | None = None",
        "x = raw[6] & 0x0F | 0x50",
        "for x in sorted({**a, **b}): ...",
        "from psm.contracts.errors import ContractError",
    ],
)
def test_lint_allows(source: str) -> None:
    """What is deterministic is left alone."""
    assert findings(source) == []
