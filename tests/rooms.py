"""The import graph of the packages by room: a room is a folder directly under `perfmodel/` or `search/`.

What lies directly in a room such as `search/fleet/` or `perfmodel/costs/` is treated in the same way, as rooms of
the packages `search.fleet` and `perfmodel.costs`.

Every import counts, those inside functions and under `TYPE_CHECKING` too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

#: Modules and rooms that every room may use and that count as ground: floor 0. `glossary` is among them because it only
#: reads a file of names: it imports hwdb alone, and output, commands and docs all explain names from it.
GROUND = (
    "arrays",
    "cache_folder",
    "dtypes",
    "equations",
    "glossary",
    "lazy_fields",
    "cooperative_tasks",
    "unit_factors",
    "vocabulary",
    "workload",
)


@dataclass(frozen=True)
class Import:
    """One imported name. source, target: dotted modules; name: what is taken ("" for a plain import); line: where."""

    source: str
    target: str
    name: str
    line: int


def module_name(path: Path) -> str:
    """Dotted name of a module, given relative to the root."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


@cache
def imports_of(source: str, text: str) -> tuple[Import, ...]:
    """Every import of a module called `source` whose content is `text`; kept, since many tests ask for the same."""
    found: list[Import] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += (Import(source, alias.name, "", node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += (Import(source, node.module, alias.name, node.lineno) for alias in node.names)
    return tuple(found)


def modules(root: Path, packages: Iterable[str]) -> dict[str, str]:
    """Text of every module of the packages, by dotted name."""
    found = [p for package in packages for p in sorted((root / package).rglob("*.py"))]
    return {module_name(p.relative_to(root)): p.read_text(encoding="utf-8") for p in found}


def room(module: str, package: str) -> str:
    """`perfmodel.hardware` for `perfmodel.hardware.order`; a module directly in a package is a room of its own."""
    return ".".join(module.split(".")[: package.count(".") + 2])


def graph(texts: Mapping[str, str], package: str) -> dict[str, set[str]]:
    """Rooms of `package` -> rooms of it that they import; the ground is left out."""
    ground = {f"{package}.{name}" for name in GROUND}
    edges: dict[str, set[str]] = {}
    for name, text in texts.items():
        here = room(name, package)
        if not name.startswith(f"{package}.") or here in ground:
            continue
        edges.setdefault(here, set())
        for found in imports_of(name, text):
            target = found.target if found.target != package else f"{package}.{found.name}"
            there = room(target, package)
            if target.startswith(f"{package}.") and there != here and there not in ground:
                edges[here].add(there)
    return edges


def module_graph(texts: Mapping[str, str]) -> dict[str, set[str]]:
    """Modules -> modules that they import, each by its own name."""
    edges: dict[str, set[str]] = {name: set() for name in texts}
    for name, text in texts.items():
        for found in imports_of(name, text):
            inner = f"{found.target}.{found.name}"
            target = inner if inner in texts else found.target
            if target in texts and target != name:
                edges[name].add(target)
    return edges


def circles(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach one another (Tarjan 1972, doi:10.1137/0201010), sorted."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in edges.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in edges:
        if node not in index:
            visit(node)
    return sorted(found)


def floors(edges: Mapping[str, set[str]]) -> dict[str, int]:
    """Floor of each room: 1 plus the highest floor among the rooms that it imports. The graph has no circles."""
    known: dict[str, int] = {}

    def floor(node: str) -> int:
        if node not in known:
            known[node] = 1 + max((floor(other) for other in edges.get(node, ())), default=0)
        return known[node]

    return {node: floor(node) for node in edges}


def doors(texts: Mapping[str, str]) -> dict[str, set[str]]:
    """Packages with a front door -> the names it offers (`__all__`)."""
    found: dict[str, set[str]] = {}
    packages = {name for name in texts if any(other.startswith(f"{name}.") for other in texts)}
    for name in packages:
        offers = [
            node.value
            for node in ast.parse(texts[name]).body
            if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "__all__" for t in node.targets)
        ]
        for offer in offers:
            found[name] = {ast.literal_eval(e) for e in getattr(offer, "elts", [])}
    return found


def around_the_door(texts: Mapping[str, str], packages: Iterable[str]) -> list[str]:
    """Imports that reach into another room past its front door, or take a name that the door does not offer."""
    offered = doors(texts)
    rooms = {name for name in offered if name.count(".") >= 1}
    found = []
    for name, text in texts.items():
        for one in imports_of(name, text):
            if one.target.split(".")[0] not in packages:
                continue
            entered = max((r for r in rooms if f"{one.target}.".startswith(f"{r}.")), key=len, default="")
            if not entered or f"{name}.".startswith(f"{entered}."):
                continue
            if one.target != entered or (one.name and one.name not in offered[entered]):
                found.append(f"{name}, line {one.line}: {one.target}.{one.name}".rstrip("."))
    return found
