"""`run.toml`: what each table of a profile rests on. Written with the standard library alone, in a fixed order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perfmodel.profiles.store import read_toml


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def text(device: str, entries: Sequence[Mapping[str, Any]]) -> str:
    """A run file: the device, then one [[table]] a family and framework.

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
    """Write `entries`, keeping those of other files that `path` already lists."""
    old = read_toml(path).get("table", []) if path.is_file() else []
    merged = {e["file"]: e for e in [*old, *entries]}
    path.write_text(text(device, [merged[f] for f in sorted(merged)]), encoding="utf-8")
