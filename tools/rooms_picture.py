"""Draw the rooms of the code and which room imports which: `python tools/rooms_picture.py` writes docs/rooms.svg.

The picture is made from the imports themselves, by the same code that `tests/test_architecture.py` checks them with.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

import rooms  # noqa: E402

PICTURE = ROOT / "docs" / "rooms.svg"
BOX_WIDTH, BOX_HEIGHT, GAP, FLOOR_HEIGHT, MARGIN = 150, 46, 22, 92, 24
#: Fill of a box by package.
COLOURS = {"hwdb": "#e8e1f5", "perfmodel": "#dcebf7", "search": "#e2f3e4", "cli": "#f7ead8"}
PACKAGES = ("hwdb", "perfmodel", "search")


def edges_between_rooms() -> dict[str, set[str]]:
    """Return for each room the rooms that it imports, over all packages; the ground of perfmodel is one box."""
    texts = rooms.modules(ROOT, PACKAGES) | {"cli": (ROOT / "cli.py").read_text(encoding="utf-8")}
    found: dict[str, set[str]] = {}
    for name, text in texts.items():
        here = _box(name)
        found.setdefault(here, set())
        for one in rooms.imports_of(name, text):
            inner = f"{one.target}.{one.name}"
            there = _box(inner if one.target in PACKAGES else one.target)
            if one.target.split(".")[0] in PACKAGES and there != here:
                found[here].add(there)
    return {box: found[box] for box in sorted(found) if box not in ("perfmodel", "search")}


def _box(module: str) -> str:
    """Return the box that a module is drawn in."""
    package, _, rest = module.partition(".")
    first = rest.split(".")[0]
    if package == "perfmodel" and first in rooms.GROUND:
        return "perfmodel.ground"
    if package == "perfmodel" and first and not (ROOT / "perfmodel" / first).exists():
        return "perfmodel.ground"  # a name of the package's own front door
    return package if package in ("hwdb", "cli") or not first else f"{package}.{first}"


def reduced(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the edges that no longer way replaces (transitive reduction)."""

    def reach(start: str, seen: set[str]) -> set[str]:
        for other in edges.get(start, set()) - seen:
            seen.add(other)
            reach(other, seen)
        return seen

    return {
        box: {b for b in below if not any(b in reach(other, set()) for other in below - {b})}
        for box, below in edges.items()
    }


def drawn(edges: dict[str, set[str]]) -> str:
    """Return the SVG of the rooms, the ground at the bottom, each room above all that it imports."""
    known = {box: {b for b in below if b in edges} for box, below in edges.items()}
    floor = rooms.floors(known)
    top = max(floor.values())
    by_floor = [sorted(box for box in floor if floor[box] == level) for level in range(1, top + 1)]
    width = MARGIN * 2 + max(len(row) for row in by_floor) * (BOX_WIDTH + GAP) - GAP
    height = MARGIN * 2 + top * FLOOR_HEIGHT - (FLOOR_HEIGHT - BOX_HEIGHT)
    place = {}
    for level, row in enumerate(by_floor, 1):
        left = (width - len(row) * (BOX_WIDTH + GAP) + GAP) / 2
        for number, box in enumerate(row):
            place[box] = (left + number * (BOX_WIDTH + GAP), height - MARGIN - BOX_HEIGHT - (level - 1) * FLOOR_HEIGHT)
    lines = [_arrow(place[a], place[b]) for a, below in reduced(known).items() for b in sorted(below)]
    boxes = [_rectangle(box, *place[box]) for box in sorted(place)]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" font-family="sans-serif">'
        "<title>Rooms of the code; an arrow points from a room to one that it imports</title>"
        '<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
        '<path d="M0,1 L7,4 L0,7 z" fill="#667"/></marker></defs>'
        f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>'
    )
    return "\n".join([head, *lines, *boxes, "</svg>", ""])


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    """Return the SVG of an arrow between two points (x, y)."""
    x1, y1, x2, y2 = start[0] + BOX_WIDTH / 2, start[1] + BOX_HEIGHT, end[0] + BOX_WIDTH / 2, end[1]
    bend = (y2 - y1) / 2
    path = f"M{x1:g},{y1:g} C{x1:g},{y1 + bend:g} {x2:g},{y2 - bend:g} {x2:g},{y2 - 1:g}"
    return f'<path d="{path}" fill="none" stroke="#99a" stroke-width="1.2" marker-end="url(#tip)"/>'


def _rectangle(box: str, left: float, top: float) -> str:
    """Return the SVG of a box with its name; (left, top) is its upper left corner."""
    package, _, name = box.partition(".")
    lines = [f"{package}/" if name else package, name] if name else [package]
    spoken = "arrays, dtypes, equations, vocabulary, workload" if name == "ground" else ""
    text = "".join(
        f'<text x="{left + BOX_WIDTH / 2:g}" y="{top + (27 if len(lines) == 1 else 18 + 18 * k):g}" '
        f'text-anchor="middle" font-size="{14 if k == len(lines) - 1 else 11}" fill="#223">{escape(line)}</text>'
        for k, line in enumerate(lines)
    )
    return (
        f'<g><title>{escape(spoken or box)}</title><rect x="{left:g}" y="{top:g}" width="{BOX_WIDTH}" '
        f'height="{BOX_HEIGHT}" rx="6" fill="{COLOURS[package]}" stroke="#889"/>{text}</g>'
    )


def main() -> None:
    """Write the picture."""
    PICTURE.write_text(drawn(edges_between_rooms()), encoding="utf-8")


if __name__ == "__main__":
    main()
