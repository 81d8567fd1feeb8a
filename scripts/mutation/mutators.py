"""Mutators: small changes of a module's source that a test worth its name must notice."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import Any

import msgspec

_COMPARE: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_PAIRS = (
    *(("add", "subtract"), ("add_wide", "subtract_wide"), ("multiply", "quotient")),
    *(("min", "max"), ("any", "all"), ("ZERO", "ONE")),
)
_NAMES = {**dict(_PAIRS), **{other: name for name, other in _PAIRS}}
_IDENTITY = ("negate", "absolute", "sorted", "whole_units")
_SILENT = ("InvariantError", "UnknownRulesError", "AssertionError", "NotImplementedError")
"""Raised for what cannot happen in a healthy log: their texts are for people."""


class Mutant(msgspec.Struct, frozen=True, order=True):
    """One change.

    Attributes:
        module: its path in the domain.
        line: where it is.
        place: the node's ordinal in `ast.walk` of the module.
        variant: ordinal of the mutation among those of the node.
        kind: what sort of change.
        scope: function or class around it.
        text: `before -> after`.
        code: the line, without what surrounds it.
    """

    module: str
    line: int
    place: int
    variant: int
    kind: str
    scope: str
    text: str
    code: str = ""

    @property
    def name(self) -> str:
        """What it is called: stays the same while lines move."""
        return f"{self.module} {self.scope}: {self.text}"


def mutants(module: str, source: str) -> list[Mutant]:
    """Return every mutant of a module, in order of the source."""
    tree = ast.parse(source)
    passive = _passive(tree)
    scopes = _scopes(tree)
    lines = source.splitlines()
    found = []
    for place, node in enumerate(ast.walk(tree)):
        if id(node) in passive:
            continue
        for variant, (kind, changed) in enumerate(_changes(node)):
            text = f"{_short(node)} -> {_short(changed)}"
            scope = scopes.get(id(node), "module")
            line = getattr(node, "lineno", 0)
            code = lines[line - 1].strip()
            found.append(Mutant(module, line, place, variant, kind, scope, text, code))
    return sorted(found)


def mutated(source: str, mutant: Mutant) -> str:
    """Return the source with one mutation."""
    tree = ast.parse(source)
    node = list(ast.walk(tree))[mutant.place]
    changed = list(_changes(node))[mutant.variant][1]
    new = _Replace(node, changed).visit(tree)
    return ast.unparse(ast.fix_missing_locations(new))


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old = old
        self._new = new

    def visit(self, node: ast.AST) -> Any:
        if node is self._old:
            return ast.copy_location(self._new, node)
        return self.generic_visit(node)


def _changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:  # noqa: C901 - a case a mutator
    """Yield (kind, replacement) for every mutation of a node itself."""
    match node:
        case ast.Compare(ops=[operator]):
            for other in _COMPARE[type(operator)]:
                yield "comparison", _with(node, ops=[other()])
        case ast.BinOp(op=operation) | ast.AugAssign(op=operation) if type(operation) in _OPERATORS:
            yield "operator", _with(node, op=_OPERATORS[type(operation)]())
        case ast.BoolOp(op=ast.And()):
            yield "and/or", _with(node, op=ast.Or())
        case ast.BoolOp(op=ast.Or()):
            yield "and/or", _with(node, op=ast.And())
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "not", operand
        case ast.If(test=test) | ast.IfExp(test=test):
            yield "condition", _with(node, test=ast.UnaryOp(op=ast.Not(), operand=test))
        case ast.Constant(value=value):
            yield from _constants(value)
        case ast.Name(id=name, ctx=ast.Load()) if name in _NAMES:
            yield "name", ast.Name(id=_NAMES[name], ctx=ast.Load())
        case ast.Call(func=ast.Name(id=name), args=[argument]) if name in _IDENTITY:
            yield "call", argument
        case ast.Return(value=ast.expr() as value) if not _is_none(value):
            yield "return", _with(node, value=ast.Constant(value=None))
        case ast.Expr(value=ast.Call()) | ast.Delete() | ast.Continue():
            yield "statement", ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield "statement", ast.Pass()
    if isinstance(node, ast.AugAssign):
        yield "statement", ast.Pass()


def _constants(value: object) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(value, bool):
        yield "constant", ast.Constant(value=not value)
    elif isinstance(value, int):
        yield "constant", ast.Constant(value=value + 1)
        if value > 1:
            yield "constant", ast.Constant(value=value - 1)
    elif isinstance(value, str) and value:
        yield "constant", ast.Constant(value=value + value[-1])
    elif isinstance(value, bytes) and value:
        yield "constant", ast.Constant(value=value + value[-1:])


def _with(node: ast.AST, **fields: Any) -> ast.AST:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _short(node: ast.AST) -> str:
    text = ast.unparse(ast.fix_missing_locations(copy.deepcopy(node)))
    if isinstance(node, ast.If):
        text = text.splitlines()[0]
    return " ".join(text.split())[:90]


def _passive(tree: ast.Module) -> dict[int, None]:
    """Return the nodes that decide nothing: docstrings, annotations, asserts, error texts."""
    found: dict[int, None] = {}
    for node in ast.walk(tree):
        for part in _passive_parts(node):
            found.update((id(inner), None) for inner in ast.walk(part))
    return found


def _passive_parts(node: ast.AST) -> Iterator[ast.AST]:  # noqa: C901 - a case a place
    match node:
        case ast.Expr(value=ast.Constant()):
            yield node
        case ast.Delete(targets=[ast.Name(), *_]):  # of an argument that is not used
            yield node
        case ast.AnnAssign(annotation=annotation, value=value):
            yield annotation
            if isinstance(value, ast.Subscript):  # an alias of types
                yield value
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in (
            "__slots__",
            "__all__",
        ) or isinstance(value, ast.Subscript):
            yield value
        case ast.arg(annotation=ast.expr() as annotation):
            yield annotation
        case ast.FunctionDef(returns=returns, decorator_list=decorators):
            yield from decorators
            if returns is not None:
                yield returns
        case ast.Call(func=ast.Name(id="cast" | "TypeVar"), args=[first, *_]):
            yield first
        case ast.ClassDef(keywords=keywords):
            yield from (keyword.value for keyword in keywords)
        case ast.Assert():
            yield node
        case ast.Raise(exc=ast.Call(func=ast.Name(id=name))) if name in _SILENT:
            yield node
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            yield node
        case ast.JoinedStr(values=values):
            for value in values:
                if isinstance(value, ast.FormattedValue) and value.format_spec is not None:
                    yield value.format_spec


def _scopes(tree: ast.Module) -> dict[int, str]:
    found: dict[int, str] = {}

    def walk(node: ast.AST, scope: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = scope
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inner = child.name if scope == "module" else f"{scope}.{child.name}"
            found[id(child)] = inner
            walk(child, inner)

    walk(tree, "module")
    return found
