"""Every slot of the books is written by its owner alone: the domain's syntax trees are walked."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from scripts.purity import DOMAIN, modules_of_the_domain

from psm.domain.account import Account
from psm.domain.books import Books
from psm.domain.delivery.delivery import Delivery
from psm.domain.ledger.digests import PartDigests
from psm.domain.ledger.ledger import Ledger
from psm.domain.ledger.order_store import OrderStore
from psm.domain.market.slots import Agenda
from psm.domain.market.tables import Market
from psm.domain.valuation.state import ValuationState
from psm.domain.valuation.totals import ValuationTotals
from psm.domain.valuation.unpublished import Unpublished

OWNERS: Mapping[str, tuple[str, ...]] = {
    "Ledger": tuple(Ledger.__slots__),
    "OrderStore": tuple(OrderStore.__slots__),
    "PartDigests": tuple(PartDigests.__slots__),
    "Delivery": tuple(Delivery.__slots__),
    "ValuationState": tuple(ValuationState.__slots__),
    "ValuationTotals": tuple(ValuationTotals.__slots__),
    "Market": tuple(Market.__slots__),
    "Account": tuple(Account.__slots__),
    "Books": tuple(vars(Books(partitions=1))),
    "Unpublished": tuple(Unpublished.__slots__),
    "Agenda": tuple(Agenda.__slots__),
}
"""Class -> slots that its own methods alone may write."""

_CHANGES = (
    *("add", "append", "clear", "discard", "extend", "insert", "pop", "remove", "setdefault"),
    *("update", "sort", "reverse", "add_voided", "popitem"),
)
_SLOTS = {slot: owner for owner, slots in OWNERS.items() for slot in slots}


def _owners(slot: str) -> list[str]:
    return [owner for owner, slots in OWNERS.items() if slot in slots]


def writes(source: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line, class around it, slot) of every write to something that has a slot's name.

    A write is an assignment, a deletion, or a call that changes a collection, to the attribute or
    to an item of it. Writes through `self` are the owner's if the class is.
    """
    tree = ast.parse(source)
    for scope, node in _scoped(tree, ""):
        for target in _targets(node):
            slot = _slot_of(target)
            if slot is not None and slot.attr in _SLOTS:
                yield target.lineno, scope, slot.attr


def _scoped(node: ast.AST, scope: str) -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        inner = child.name if isinstance(child, ast.ClassDef) else scope
        yield scope, child
        yield from _scoped(child, inner)


def _targets(node: ast.AST) -> Iterator[ast.expr]:
    match node:
        case ast.Assign(targets=targets) | ast.Delete(targets=targets):
            for target in targets:
                yield from target.elts if isinstance(target, ast.Tuple) else [target]
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
            yield target
        case ast.Call(func=ast.Attribute(attr=name, value=collection)) if name in _CHANGES:
            yield collection


def _slot_of(target: ast.expr) -> ast.Attribute | None:
    """Return the attribute that a write goes to: `a.cash` of `a.cash`, `a.cash["x"]`."""
    while isinstance(target, ast.Subscript):
        target = target.value
    return target if isinstance(target, ast.Attribute) else None


@pytest.mark.parametrize(
    "module", modules_of_the_domain(), ids=lambda path: path.relative_to(DOMAIN).as_posix()
)
def test_slots_are_written_by_their_owner_alone(module: Path) -> None:
    """A class shows everything that changes its objects."""
    source = module.read_text("utf-8")
    wrong = [
        f"line {line}: {slot} of {' or '.join(_owners(slot))} in {scope or 'the module'}"
        for line, scope, slot in writes(source)
        if scope not in _owners(slot) and not _is_own(source, line, slot, scope)
    ]
    assert wrong == []


def _is_own(source: str, line: int, slot: str, scope: str) -> bool:
    """Return whether the write goes to a slot of that name of the class around it."""
    return bool(scope) and f"self.{slot}" in source.splitlines()[line - 1]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("account.ledger.cash = {}", ["cash"]),
        ("account.ledger.cash['USD'] = x", ["cash"]),
        ("del delivery.parked[3]", ["parked"]),
        ("delivery.refused.append(3)", ["refused"]),
        ("books.market.marks.pop('x')", ["marks"]),
        ("books.position += 1", ["position"]),
        ("state.totals.dirty.update(x)", ["dirty"]),
        ("a.performance, b = 1, 2", ["performance"]),
        ("x = account.ledger.cash", []),
        ("cash['USD'] = x", []),
    ],
)
def test_walk_sees_every_kind_of_write(source: str, found: list[str]) -> None:
    """The walk itself can find something."""
    assert [slot for _, _, slot in writes(source)] == found


def test_every_class_of_the_books_is_watched() -> None:
    """A slot that moves to a new class must not escape."""
    account = Account("a", Market())
    ledger, valuation = account.ledger, account.valuation
    of_ledger, of_valuation = (ledger.orders, ledger.digests), (valuation.totals,)
    held = (account, ledger, account.delivery, valuation, *of_ledger, *of_valuation)
    assert {type(one).__name__ for one in held} <= {*OWNERS}
