"""Line numbers of keys and tables in TOML text, for error messages.

`tomllib` does not report where a value stood. The text is scanned only when a message needs a line, so that reading
valid files costs nothing extra.
"""

from __future__ import annotations

import re

#: Where a table stands: the keys (and positions in lists of tables) that lead to it from the top.
Path = tuple[str | int, ...]

_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY_PART = re.compile(r""""([^"]*)"|'([^']*)'|([^.\s"']+)""")


def line_of(text: str, path: Path, key: str = "") -> int:
    r"""Return the line (from 1) of `key` in the table at `path`; of the table's header where `key` is "" or not found.

    A table that is written inline (`key = { ... }`) counts as standing on the line of its key. 0: nothing was found.

    >>> line_of("a = 1\n[b]\nc = { d = 2 }", ("b", "c"), "d")
    3
    """
    found = _scan(text, path, key)
    if found or len(path) < 2:
        return found
    inner = max((depth for depth, step in enumerate(path) if isinstance(step, str)), default=0)
    return _scan(text, path[:inner], str(path[inner])) if inner else 0


def _scan(text: str, path: Path, key: str) -> int:
    """Search the text line by line for `line_of`."""
    here: Path = ()
    counts: dict[Path, int] = {}
    inline = path[-1] if path and isinstance(path[-1], str) else ""
    header = 0
    for number, line in enumerate(text.splitlines(), 1):
        opened = _HEADER.match(line)
        if opened:
            here = _enter(opened.group(1) == "[[", _parts(opened.group(2)), counts)
            if key and here[: len(path) + 1] == (*path, key):
                return number
            if here == path:
                header = number
        elif key and here == path and _states(line, key):
            return number
        elif inline and not header and here == path[:-1] and _states(line, inline):
            header = number
    return header


def _states(line: str, key: str) -> bool:
    """Return whether a line gives `key` a value, or a value within it (`key.inner = 1`)."""
    return re.match(rf"""\s*["']?{re.escape(key)}["']?\s*[=.]""", line) is not None


def _parts(name: str) -> tuple[str, ...]:
    """Split a dotted header into its keys; a quoted key may hold dots."""
    return tuple("".join(groups) for groups in _KEY_PART.findall(name))


def _enter(listed: bool, names: tuple[str, ...], counts: dict[Path, int]) -> Path:
    """Return the path of the table that a header opens. `counts` holds the position reached in each list of tables."""
    place: Path = ()
    for depth, name in enumerate(names):
        place = (*place, name)
        if listed and depth == len(names) - 1:
            counts[place] = counts.get(place, -1) + 1
        if place in counts:
            place = (*place, counts[place])
    return place
