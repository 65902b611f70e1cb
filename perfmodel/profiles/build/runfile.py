"""Write `run.toml`, the record of where each table of a profile comes from and how accurate it is.

The file needs no TOML library to write, and its keys have a fixed order, so equal tables give equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hwdb import outfile
from perfmodel.profiles.store import read_toml


def _value(value: Any) -> str:
    """Spell a value as TOML text (strings, numbers and booleans are spelled as in JSON)."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def text(device: str, entries: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of a run file: the device, then one [[table]] per family and framework.

    >>> print(text("a10", [{"family": "gemm", "rows": 3}]))
    device = "a10"
    <BLANKLINE>
    [[table]]
    family = "gemm"
    rows = 3
    <BLANKLINE>
    """
    lines = [f"device = {_value(device)}", ""]
    for entry in entries:
        lines += ["[[table]]", *(f"{key} = {_value(value)}" for key, value in entry.items()), ""]
    return "\n".join(lines)


def update(path: Path, device: str, entries: Sequence[Mapping[str, Any]]) -> None:
    """Write `entries` into the run file at `path`. Entries that it already has for other npz files are kept."""
    old = read_toml(path).get("table", []) if path.is_file() else []
    merged = {e["file"]: e for e in [*old, *entries]}
    outfile.write_text(path, text(device, [merged[f] for f in sorted(merged)]))
