"""A lint for the pure core: what could make the same events give another state.

`python -m scripts.purity` reads `psm.domain`, `psm.analytics`, `psm.risk` and every module of
`psm.contracts` that the domain imports, directly or not, and prints `file:line: what is wrong and
what to do instead`; exit 1 if there is anything. It reads source, runs nothing, and errs on the
strict side.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOMAIN = ROOT / "workers" / "psm" / "domain"
BESIDE = ("analytics", "risk")
CONTRACTS = ROOT / "contracts" / "psm" / "contracts"

PURE = ("psm.contracts", "psm.domain", *(f"psm.{name}" for name in BESIDE))
ALLOWED_IMPORTS = (
    "__future__",
    "abc",
    "bisect",
    "collections.abc",
    "datetime",
    "decimal",
    "enum",
    "functools",
    "hashlib",
    "heapq",
    "msgspec",
    "types",
    "typing",
    "zlib",
)
"""Everything else a module of the domain imports must be of `PURE`; the layers say who is above."""

OF_CONTRACTS = (
    *ALLOWED_IMPORTS,
    *("collections", "inspect", "re", "uuid"),
)
"""What modules of the contracts may import, too. `uuid1` and `uuid4` stay forbidden."""

FORBIDDEN_BUILTINS = (
    *("round", "abs", "pow", "divmod", "sum"),  # in the thread's context
    *("id", "hash"),  # differ from process to process
    *("open", "input", "print", "breakpoint"),  # input and output
    *("eval", "exec", "compile", "__import__", "globals", "locals", "vars", "dir"),
)
FORBIDDEN_NAMES = (
    *("float", "complex", "set"),
    *("now", "utcnow", "today", "fromtimestamp", "utcfromtimestamp", "perf_counter", "monotonic"),
    *("getcontext", "setcontext", "localcontext", "DefaultContext", "uuid1", "uuid4"),
    *("environ", "getenv", "urandom", "__del__", "__hash__"),
)
FORBIDDEN_METHODS = {
    "timestamp": "makes a float; count nanoseconds",
    "total_seconds": "makes a float; divide by a timedelta with //",
    "from_float": "reads a binary float",
    "astimezone": "reads the machine's time zone unless told",
    "popitem": "depends on insertion order, which is not a defined one",
}
LOCALE_FORMATS = ("%a", "%A", "%b", "%B", "%c", "%x", "%X", "%p", "%Z")
_INTEGER_SPEC = re.compile(r"0?\d*[dxX]?")
_ITERATES = ("list", "tuple", "iter", "enumerate", "fromkeys", "join", "next", "map", "filter")
NEEDS_CONTEXT = (
    *("quantize", "normalize", "scaleb", "sqrt", "fma", "exp", "ln", "log10", "remainder_near"),
    *("compare", "compare_signal", "to_integral_value", "to_integral_exact", "next_plus"),
)
"""Methods of decimals that take the thread's context unless one is named."""

WHOLE = (
    *("number", "version", "place", "end", "found", "places_back", "clock", "before"),
    *("interval", "ordinal", "cycle", "time_ns", "held_from", "log_sequence", "PARKED_MAX"),
    *("WINDOW", "_SIZE", "SEQUENCE_AHEAD_MAX", "VOID_MAX", "PUBLISHED_DECIMALS"),
    *("good", "bad", "middle", "opened", "closed", "fills"),  # lots, counted; nanoseconds
    *("count", "open_order_count", "_undefined", "_unrated"),  # integers
    *(
        "MINUTE",
        "MINUTE_NS",
        "MS",
        "fast_ms",
        "mid_ms",
        "slow_ms",
        "minute",
        "marked_at",
    ),  # times, whole
    *("packed", "ids", "hashes", "chain", "ledger_hash", "_EPOCH", "NAMESPACE", "text"),  # bytes...
)
"""Names that are known to hold integers, text, bytes or times, never decimals."""


EXCEPTIONS = {
    ("upcasters.py", "use of float"): "asserts that there is none",
}
"""Findings that are none, by module and text, and why."""


def main() -> int:
    """Print every finding; 1 if there is one."""
    found: list[str] = []
    domain, contracts = modules_of_the_domain(), contracts_of_the_domain()
    beside = modules_beside_the_domain()
    for path in (*domain, *beside):
        found += findings(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))
    for path in contracts:
        source = path.read_text(encoding="utf-8")
        found += [
            text
            for text in findings(source, str(path.relative_to(ROOT)), contracts=True)
            if (path.name, text.partition(": ")[2]) not in EXCEPTIONS
        ]
    for text in found:
        print(text)
    if found:
        print(f"{len(found)} findings; the domain must be pure", file=sys.stderr)
        return 1
    print(
        f"pure: {len(domain)} modules of the domain, {len(beside)} of risk and analytics, "
        f"{len(contracts)} of the contracts"
    )
    return 0


def modules_of_the_domain() -> list[Path]:
    """Return every module of the domain, those of its sub-packages too."""
    return sorted(DOMAIN.rglob("*.py"))


def modules_beside_the_domain() -> list[Path]:
    """Return every module of the packages that are pure like the domain and stand on it."""
    return sorted(path for name in BESIDE for path in (DOMAIN.parent / name).rglob("*.py"))


def contracts_of_the_domain() -> list[Path]:
    """Return the modules of the contracts that the domain imports, directly or not."""
    found: dict[str, Path] = {}
    todo = modules_of_the_domain()
    while todo:
        for name in _imported(ast.parse(todo.pop().read_text(encoding="utf-8"))):
            path = CONTRACTS / f"{name}.py"
            if name not in found and path.exists():
                found[name] = path
                todo.append(path)
    return [path for _, path in sorted(found.items())]


def _imported(tree: ast.Module) -> Iterator[str]:
    """Yield the names of modules of the contracts that a module imports."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module="psm.contracts"):
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(module=str(module)) if module.startswith("psm.contracts."):
                yield module.removeprefix("psm.contracts.")


def findings(source: str, name: str = "module", *, contracts: bool = False) -> list[str]:
    """Return what is wrong with a module, each as `name:line: text`.

    Args:
        source: of a module of the domain.
        name: shown in front.
        contracts: it is a module of the contracts, which holds no money arithmetic: a few more
            imports are allowed, and operators but division.
    """
    tree = ast.parse(source)
    rules = _Rules(tree, contracts=contracts)
    found = [
        (getattr(node, "lineno", 0), text) for node in ast.walk(tree) for text in rules.of(node)
    ]
    return [f"{name}:{line}: {text}" for line, text in sorted(found)]


class _Rules:
    """The rules, with what must be known of the whole module to judge a node."""

    def __init__(self, tree: ast.Module, *, contracts: bool) -> None:
        self._contracts = contracts
        self._harmless = dict.fromkeys(_harmless(tree))
        self._frozen = dict.fromkeys(_frozen_names(tree))

    def of(self, node: ast.AST) -> Iterator[str]:
        """Yield what is wrong with a node itself."""
        if id(node) not in self._harmless:
            yield from self._imports(node)
            yield from _values(node)
            yield from self._iteration(node)
            if not self._contracts or _is_division(node):
                yield from _arithmetic(node)

    def _imports(self, node: ast.AST) -> Iterator[str]:
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        for module in modules:
            if not self._allowed(module):
                yield f"import {module}: take the value as an argument"

    def _iteration(self, node: ast.AST) -> Iterator[str]:
        """Yield where a frozenset is iterated, whose order differs from run to run, too."""
        match node:
            case ast.For(iter=over) | ast.comprehension(iter=over) | ast.Starred(value=over):
                iterated = [over]
            case ast.Call(func=func, args=iterated) if _name(func) in _ITERATES:
                pass
            case _:
                return
        for over in iterated:
            if _name(over) in self._frozen or _is_frozenset(over):
                yield "iteration over a frozenset: its order differs from run to run; sort it"

    def _allowed(self, module: str) -> bool:
        allowed = OF_CONTRACTS if self._contracts else ALLOWED_IMPORTS
        return module in allowed or module.startswith(PURE)


def _values(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Constant(value=float() | complex()):
            yield f'binary float {node.value!r}: write Decimal("...")'
        case ast.Set() | ast.SetComp():
            yield "a set: its order differs from run to run; use dict.fromkeys"
        case ast.Name() | ast.Attribute() if _name(node) in FORBIDDEN_NAMES:
            yield f"use of {_name(node)}"
        case ast.Name(id=called, ctx=ast.Load()) if called in FORBIDDEN_BUILTINS:
            yield f"use of {called}()"
        case ast.Call(func=ast.Attribute()):
            yield from _method(node)
        case ast.FormattedValue(format_spec=ast.JoinedStr(values=spec)):
            if not all(_is_integer_spec(part) for part in spec):
                yield "a format of numbers rounds in the thread's context; use money's texts"
        case ast.AsyncFunctionDef() | ast.Await() | ast.Global():
            yield f"{type(node).__name__}: the fold is a function of its arguments"


def _harmless(tree: ast.Module) -> Iterator[int]:
    """Yield nodes that look wrong and are not: members of a frozenset, and counting with sum()."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=func, args=arguments) if _name(func) == "frozenset":
                yield from map(id, arguments)
            case ast.Call(
                func=ast.Name(id="sum") as func, args=[ast.GeneratorExp(elt=ast.Constant())]
            ):
                yield id(func)


def _frozen_names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=targets, value=value) if _is_frozenset(value):
                yield from map(_name, targets)
            case ast.AnnAssign(target=target, annotation=annotation, value=value):
                if _is_frozenset(value) or "frozenset" in ast.unparse(annotation):
                    yield _name(target)
            case ast.arg(arg=name, annotation=ast.expr() as annotation):
                if "frozenset" in ast.unparse(annotation):
                    yield name


def _is_frozenset(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Call) and _name(node.func) == "frozenset"


def _is_integer_spec(part: ast.AST) -> bool:
    return isinstance(part, ast.Constant) and bool(_INTEGER_SPEC.fullmatch(str(part.value)))


def _method(node: ast.Call) -> Iterator[str]:
    name = _name(node.func)
    if name in NEEDS_CONTEXT and not any(keyword.arg == "context" for keyword in node.keywords):
        yield f"{name}() without a context"
    if name in FORBIDDEN_METHODS:
        yield f"{name}() {FORBIDDEN_METHODS[name]}"
    if name == "strftime":
        for argument in node.args:
            text = str(argument.value) if isinstance(argument, ast.Constant) else ""
            if any(directive in text for directive in LOCALE_FORMATS):
                yield "strftime() of names that depend on the locale or the time zone"


def _is_division(node: ast.AST) -> bool:
    return isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div)


def _arithmetic(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.BinOp(left=left, right=right) | ast.AugAssign(target=left, value=right):
            yield from _operator(node.op, left, right)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand) if not _whole(operand):
            yield "unary sign: use money.negate"


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


if __name__ == "__main__":
    sys.exit(main())
