"""The house in figures: rooms, floors, arrows and circles, and lists that may only get shorter.

`python -m scripts.rooms` prints the figures and checks the lists of `scripts/ratchets.json`; exit 1
where something is new that is on no list, where a list names what is no longer there (`--write`
takes it off), or where modules import each other in a circle. `--folding` also folds golden logs
and counts the calls that reach up: from a room into one that stands higher.

A room is a folder of a package, or a module beside the folders. Its floor is one above the highest
room it imports. An arrow is an import from one room into another.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parent.parent
SOURCES = ("contracts", "workers", "projections")
RATCHETS = ROOT / "scripts" / "ratchets.json"
LONG_FUNCTION = 50
LONG_MODULE = 400
COMPLEX = 12
_SUBJECT = re.compile(r"(subject|pattern|prefix|stored)\w*\.(r?partition|split)\([\"']\.[\"']")

Graph = dict[str, set[str]]


@cache
def modules() -> Mapping[str, Path]:
    """Return every module of PSM by its dotted name; packages by theirs."""
    found = {}
    for source in SOURCES:
        for path in sorted((ROOT / source / "psm").rglob("*.py")):
            parts = path.relative_to(ROOT / source).with_suffix("").parts
            found[".".join(part for part in parts if part != "__init__")] = path
    return found


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def imports() -> Graph:
    """Return which module imports which when it is loaded; what only types need is left out."""
    graph: Graph = {name: set() for name in modules()}
    for name, path in modules().items():
        for node in _loaded(_tree(path)):
            for target in _targets(node):
                if target != name:
                    graph[name].add(target)
    return graph


def _loaded(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run when a module is imported: no functions, nothing for types alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _loaded(node)


def _targets(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names if alias.name in modules())
        case ast.ImportFrom(module=str(module), names=names):
            for alias in names:
                whole = f"{module}.{alias.name}"
                if whole in modules():
                    yield whole
                elif module in modules():
                    yield module


def circles(graph: Graph) -> list[list[str]]:
    """Return every group of nodes that reach each other, each ascending."""
    order: list[str] = []
    seen: set[str] = set()

    def visit(node: str, edges: Mapping[str, set[str]], into: list[str]) -> None:
        stack = [(node, iter(sorted(edges.get(node, ()))))]
        seen.add(node)
        while stack:
            at, following = stack[-1]
            for other in following:
                if other not in seen:
                    seen.add(other)
                    stack.append((other, iter(sorted(edges.get(other, ())))))
                    break
            else:
                into.append(at)
                stack.pop()

    for node in sorted(graph):
        if node not in seen:
            visit(node, graph, order)
    back: Graph = defaultdict(set)
    for node, others in graph.items():
        for other in others:
            back[other].add(node)
    seen.clear()
    found = []
    for node in reversed(order):
        if node not in seen:
            group: list[str] = []
            visit(node, back, group)
            if len(group) > 1:
                found.append(sorted(group))
    return found


def room_of(module: str, package: str) -> str | None:
    """Return the room of a module in a package; None outside of it and for the package itself."""
    rest = module.removeprefix(f"{package}.")
    return rest.partition(".")[0] if rest != module else None


def rooms(package: str) -> Graph:
    """Return which room of a package imports which."""
    graph: Graph = defaultdict(set)
    for module, others in imports().items():
        room = room_of(module, package)
        if room is None:
            continue
        graph[room] |= {
            other for name in others if (other := room_of(name, package)) not in (None, room)
        }
    return dict(graph)


def floors(graph: Graph) -> dict[str, int]:
    """Return the floor of each room, 1 for those that import none; circles stand on one floor."""
    group = {room: min(circle) for circle in circles(graph) for room in circle}
    known: dict[str, int] = {}

    def floor(room: str) -> int:
        name = group.get(room, room)
        if name not in known:
            known[name] = 0
            members = [r for r in graph if group.get(r, r) == name]
            below = {o for member in members for o in graph[member] if group.get(o, o) != name}
            known[name] = 1 + max((floor(other) for other in below), default=0)
        return known[name]

    return {room: floor(room) for room in sorted(graph)}


# --- lists that may only get shorter --------------------------------------------------------------


def offenders() -> dict[str, list[str]]:
    """Return what each list may name, ascending."""
    found: dict[str, list[str]] = {
        f"functions over {LONG_FUNCTION} lines": [],
        f"modules over {LONG_MODULE} lines": [],
        f"complexity over {COMPLEX}": [],
        "subjects taken apart outside of contracts/subjects.py": [],
    }
    long, large, complex_, apart = found.values()
    for name, path in modules().items():
        text = path.read_text("utf-8")
        if text.count("\n") > LONG_MODULE:
            large.append(name)
        if name != "psm.contracts.subjects":
            lines = text.splitlines()
            apart += [f"{name}: {line.strip()}" for line in lines if _SUBJECT.search(line)]
        for scope, node in _functions(_tree(path), name):
            if (node.end_lineno or 0) - node.lineno >= LONG_FUNCTION:
                long.append(scope)
            if _complexity(node) > COMPLEX:
                complex_.append(scope)
    return {kind: sorted(names) for kind, names in found.items()}


def _functions(
    node: ast.AST, scope: str
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for child in ast.iter_child_nodes(node):
        name = scope
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{scope}.{child.name}"
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield name, child
        yield from _functions(child, name)


def _complexity(function: ast.AST) -> int:
    """Return 1 plus the number of decisions, each part of a condition counted."""
    count = 1
    for node in ast.walk(function):
        match node:
            case ast.If() | ast.For() | ast.AsyncFor() | ast.While() | ast.ExceptHandler():
                count += 1
            case ast.IfExp() | ast.comprehension() | ast.match_case() | ast.Assert():
                count += 1
            case ast.BoolOp(values=values):
                count += len(values) - 1
    return count


def check_lists(*, write: bool) -> list[str]:
    """Return what is wrong with the lists: new offenders, and old ones that are none any more."""
    kept: dict[str, list[str]] = (
        json.loads(RATCHETS.read_text("utf-8")) if RATCHETS.exists() else {}
    )
    wrong = []
    now = offenders()
    for kind, names in now.items():
        before = Counter(kept.get(kind, names if write else []))
        found = Counter(names)
        wrong += [f"{kind}: {name}" for name in (found - before).elements()]
        if not write:
            wrong += [
                f"{kind}: {name} is no longer one: python -m scripts.rooms --write takes it off"
                for name in (before - found).elements()
            ]
    if write and not wrong:
        RATCHETS.write_text(json.dumps(now, indent=2) + "\n", "utf-8")
    return wrong


# --- calls that reach up --------------------------------------------------------------------------


def reaching_up() -> Counter[tuple[str, str]]:
    """Return how often folding calls from one room of the domain into a higher one."""
    from scripts.mutation.__main__ import FOLDER
    from scripts.mutation.handovers import handed_over

    from psm.workers.proof.validation.source import spool_file

    of_file = {str(path): room_of(name, "psm.domain") for name, path in modules().items()}
    levels, found = floors(rooms("psm.domain")), Counter[tuple[str, str]]()

    def watch(frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or frame.f_back is None:
            return
        callee = of_file.get(frame.f_code.co_filename)
        caller = of_file.get(frame.f_back.f_code.co_filename)
        if callee and caller and levels[callee] > levels[caller]:
            up = (f"{caller}: {_name(frame.f_back)}", f"{callee}: {_name(frame)}")
            found[up] += 1

    for name in ("corners", "rare"):
        with tempfile.NamedTemporaryFile(suffix=".spool") as spool:
            spool_file(FOLDER / "written" / f"{name}.jsonl.gz", spool, partitions=16)
            sys.setprofile(watch)
            try:
                for _ in handed_over(spool.name):
                    pass
            finally:
                sys.setprofile(None)
    return found


def _name(frame: FrameType) -> str:
    return frame.f_code.co_qualname


def main() -> int:
    """Print the figures, check the lists; 1 where something is wrong."""
    for package in ("psm.workers", "psm.domain"):
        graph = rooms(package)
        arrows = sum(map(len, graph.values()))
        high = max(floors(graph).values())
        found = circles(graph)
        print(
            f"{package}: {len(graph)} rooms on {high} floors, {arrows} arrows, {len(found)} circles"
        )
    wrong = [f"circle of modules: {' -> '.join(group)}" for group in circles(imports())]
    print(f"modules: {len(modules())}, {len(wrong)} circles")
    wrong += check_lists(write="--write" in sys.argv)
    if "--folding" in sys.argv:
        up = reaching_up()
        wrong += [f"reaches up {count} times: {a} -> {b}" for (a, b), count in up.most_common()]
        print(f"calls that reach up while folding: {sum(up.values())}")
    for text in wrong:
        print(text, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
