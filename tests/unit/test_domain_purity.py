"""The domain stays pure: no clock, no floats, no sets, no operators on decimals."""

from __future__ import annotations

import pkgutil
from pathlib import Path

import pytest
from scripts import purity
from scripts.mutation.__main__ import sources_of_the_domain
from scripts.purity import (
    CONTRACTS,
    DOMAIN,
    contracts_of_the_domain,
    findings,
    modules_beside_the_domain,
    modules_of_the_domain,
)

import psm.analytics
import psm.domain
import psm.risk

MODULES = modules_of_the_domain()


def test_every_module_is_looked_at() -> None:
    """A folder that is not walked would make lint and mutation pass in vain."""
    found = pkgutil.walk_packages(psm.domain.__path__, "psm.domain.")
    imported = ["psm.domain", *(module.name for module in found)]
    assert len(imported) > 30
    assert sorted(map(_name_of, MODULES)) == sorted(imported)
    assert len(sources_of_the_domain()) == len(imported)


def test_every_module_beside_it_is_looked_at() -> None:
    """Risk and analytics are as pure as the domain that they stand on."""
    found = [
        path.name
        for package in (psm.analytics, psm.risk)
        for path in Path(package.__path__[0]).rglob("*.py")
    ]
    assert len(found) > 10
    assert sorted(found) == sorted(path.name for path in modules_beside_the_domain())


@pytest.mark.parametrize("module", modules_beside_the_domain(), ids=str)
def test_module_beside_the_domain_is_pure(module: Path) -> None:
    """Nothing in it could make the same state give another decision or figure."""
    assert findings(module.read_text(encoding="utf-8"), module.name) == []


def _name_of(module: Path) -> str:
    parts = module.relative_to(DOMAIN).with_suffix("").parts
    return ".".join(["psm.domain", *(part for part in parts if part != "__init__")])


def test_contracts_of_the_domain_are_looked_at() -> None:
    """What the domain imports of the contracts must be as pure."""
    names = [module.name for module in contracts_of_the_domain()]
    assert {"codec.py", "envelope.py", "events.py", "subjects.py", "updates.py"} <= {*names}
    assert "publisher.py" not in names


@pytest.mark.parametrize("module", MODULES, ids=_name_of)
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
        ("from psm.workers.process.config import Settings", "import psm.workers"),
        ("x = datetime.now()", "use of now"),
        ("x = datetime.now", "use of now"),
        ("x = datetime.datetime.utcnow()", "use of utcnow"),
        ("x = date.today()", "use of today"),
        ("x = datetime.fromtimestamp(1)", "use of fromtimestamp"),
        ("x = decimal.getcontext()", "use of getcontext"),
        ("x = uuid.uuid4()", "use of uuid4"),
        ("x = hash(y)", "use of hash()"),
        ("x = id(y)", "use of id()"),
        ("x = sorted(y, key=hash)", "use of hash()"),
        ("x = list(map(abs, y))", "use of abs()"),
        ("print(x)", "use of print()"),
        ("x = open('f')", "use of open()"),
        ("x = __import__('os')", "use of __import__()"),
        ("x = y.environ['TZ']", "use of environ"),
        ("x = y.timestamp()", "timestamp() makes a float"),
        ("x = y.total_seconds()", "total_seconds() makes a float"),
        ("x = y.astimezone()", "astimezone() reads"),
        ("x = y.popitem()", "popitem() depends"),
        ("x = Decimal.from_float(y)", "from_float() reads"),
        ("x = y.strftime('%d %b')", "strftime() of names"),
        ("import locale", "import locale"),
        ("import logging", "import logging"),
        ("import json", "import json"),
        ("x = f'{price:.2f}'", "a format of numbers"),
        ("x = f'{price:{width}}'", "a format of numbers"),
        ("X = frozenset('ab')\nfor x in X: ...", "iteration over a frozenset"),
        ("X = frozenset('ab')\ny = [x for x in X]", "iteration over a frozenset"),
        ("X = frozenset('ab')\ny = ','.join(X)", "iteration over a frozenset"),
        ("X = frozenset('ab')\ny = [*X]", "iteration over a frozenset"),
        ("def f(x: frozenset[str]):\n    return list(x)", "iteration over a frozenset"),
        ("x = list(frozenset(y))", "iteration over a frozenset"),
        ("x = sum(prices)", "use of sum()"),
        ("x = sum(p.size for p in y)", "use of sum()"),
        ("x = round(y)", "use of round()"),
        ("x = abs(y)", "use of abs()"),
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
        "X = frozenset({'a', 'b'})\ny = 'a' in X",
        "X = frozenset({'a', 'b'})\nfor x in sorted(X): ...",
        "x = y.strftime('%Y-%m-%dT%H:%M:%S')",
        "x = f'{a:04d}{b:x}'",
        "x = self.timestamp",
        "x = 7 // 2",
        "x = sorted(y, key=len)",
        "x = b'%s' % y",
        "from functools import lru_cache",
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


def test_contracts_may_match_texts_but_not_divide() -> None:
    """The contracts' profile knows no money, so only what makes floats or sets is left."""
    assert findings("import re\nx = price * size", contracts=True) == []
    for source in ("x = price / 2", "import time", "x = {1}", "x = 0.1", "x = uuid.uuid4()"):
        assert len(findings(source, contracts=True)) == 1, source


def test_command_names_file_line_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `make lint` prints; exit 1."""
    monkeypatch.setattr(purity, "ROOT", tmp_path)
    monkeypatch.setattr(purity, "DOMAIN", tmp_path)
    (tmp_path / "bad.py").write_text("\n\nRATE = 0.5\n")
    assert purity.main() == 1
    assert capsys.readouterr().out == 'bad.py:3: binary float 0.5: write Decimal("...")\n'


def test_every_exception_is_still_needed() -> None:
    """An exception for what is gone would hide the next one."""
    for name, text in purity.EXCEPTIONS:
        source = (CONTRACTS / name).read_text(encoding="utf-8")
        texts = [found.partition(": ")[2] for found in findings(source, name, contracts=True)]
        assert text in texts, name


def test_domain_and_its_contracts_are_pure(capsys: pytest.CaptureFixture[str]) -> None:
    """The command itself finds nothing."""
    assert purity.main() == 0, capsys.readouterr().out
