"""A lint for the pure core: what could make the same events give another state."""

from __future__ import annotations

import ast
from collections.abc import Iterator

ALLOWED_IMPORTS = (
    "__future__",
    "bisect",
    "collections.abc",
    "datetime",
    "decimal",
    "enum",
    "functools",
    "hashlib",
    "msgspec",
    "types",
    "typing",
    "zlib",
)
"""Everything else a module of the domain imports must be `psm.contracts` or `psm.domain`."""

FORBIDDEN_BUILTINS = (
    *("round", "abs", "pow", "divmod", "sum"),  # in the thread's context
    *("id", "hash", "open", "input", "print", "eval", "exec", "globals", "vars"),
)
FORBIDDEN_NAMES = (
    *("float", "complex", "set"),
    *("now", "utcnow", "today", "fromtimestamp", "perf_counter", "monotonic"),
    *("getcontext", "setcontext", "localcontext", "DefaultContext", "uuid1", "uuid4"),
)
NEEDS_CONTEXT = (
    *("quantize", "normalize", "scaleb", "sqrt", "fma", "exp", "ln", "log10", "remainder_near"),
    *("compare", "compare_signal", "to_integral_value", "to_integral_exact", "next_plus"),
)
"""Methods of decimals that take the thread's context unless one is named."""

WHOLE = (
    *("number", "version", "place", "end", "found", "places_back", "clock", "before"),
    *("interval", "ordinal", "cycle", "time_ns", "held_from", "log_sequence", "PARKED_MAX"),
    *("WINDOW", "_SIZE", "SEQUENCE_AHEAD_MAX", "PUBLISHED_DECIMALS"),
    *("count", "open_order_count", "_undefined", "_unrated"),  # integers
    *("packed", "ids", "hashes", "chain", "ledger_hash", "_EPOCH", "NAMESPACE", "text"),  # bytes...
)
"""Names that are known to hold integers, text, bytes or times, never decimals."""


def findings(source: str, name: str = "module") -> list[str]:
    """Return what is wrong with a module of the domain, each with its line."""
    tree = ast.parse(source)
    frozen = [
        id(argument)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _name(node.func) == "frozenset"
        for argument in node.args
    ]
    found = [
        (getattr(node, "lineno", 0), text)
        for node in ast.walk(tree)
        if id(node) not in frozen
        for text in _problems(node)
    ]
    return [f"{name}:{line}: {text}" for line, text in sorted(found)]


def _problems(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Constant(value=float() | complex()):
            yield f"binary float {node.value!r}"
        case ast.Set() | ast.SetComp():
            yield "a set: its order differs from run to run"
        case ast.Import():
            yield from (f"import {alias.name}" for alias in node.names if not _allowed(alias.name))
        case ast.ImportFrom():
            if not _allowed(node.module or ""):
                yield f"import {node.module}"
        case ast.Call():
            yield from _call(node)
        case ast.Name() | ast.Attribute() if _name(node) in FORBIDDEN_NAMES:
            yield f"use of {_name(node)}"
        case ast.BinOp(left=left, right=right) | ast.AugAssign(target=left, value=right):
            yield from _operator(node.op, left, right)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand) if not _whole(operand):
            yield "unary sign: use money.negate"
        case ast.AsyncFunctionDef() | ast.Await() | ast.Global():
            yield type(node).__name__


def _call(node: ast.Call) -> Iterator[str]:
    match node:
        case ast.Call(func=ast.Attribute(attr=attr)) if attr in NEEDS_CONTEXT:
            if not any(keyword.arg == "context" for keyword in node.keywords):
                yield f"{attr}() without a context"
        case ast.Call(func=ast.Name(id="sum"), args=[ast.GeneratorExp(elt=ast.Constant())]):
            pass  # counting
        case ast.Call(func=ast.Name(id=called)) if called in FORBIDDEN_BUILTINS:
            yield f"call of {called}()"


def _operator(operator: ast.operator, left: ast.AST, right: ast.AST) -> Iterator[str]:
    """Arithmetic must be told to be of integers, text or bytes; decimals go through `money`."""
    if isinstance(operator, ast.BitOr | ast.BitAnd | ast.BitXor):
        if any(
            isinstance(n, ast.Call) and _name(n.func) in ("keys", "items") for n in (left, right)
        ):
            yield "a set: its order differs from run to run"
    elif isinstance(operator, ast.Div):
        yield "operator Div: true division makes floats, or uses the thread's context"
    elif not (_whole(left) or _whole(right)):
        yield f"operator {type(operator).__name__}: decimals go through psm.domain.money"


def _whole(node: ast.AST) -> bool:
    """Return whether this is known to be an integer, text, bytes or a time."""
    match node:
        case ast.Constant(value=value):
            return isinstance(value, int | str | bytes)
        case ast.JoinedStr():
            return True
        case ast.BinOp(left=left, right=right):
            return _whole(left) or _whole(right)
        case ast.Call(func=func):
            return _name(func) in ("len", "int", "encode", "strftime")
        case ast.Subscript(value=value):
            return _whole(value)
    return _name(node) in WHOLE


def _name(node: ast.AST) -> str:
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def _allowed(module: str) -> bool:
    return module in ALLOWED_IMPORTS or module.startswith(("psm.contracts", "psm.domain"))
