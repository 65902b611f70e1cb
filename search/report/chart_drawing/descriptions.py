"""Describe a chart in words, for readers who hear the page or print it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from search.output import number

#: Most groups of a chart that are described.
MOST_DESCRIBED = 8
#: Kinds of charts in words.
KINDS = {"scatter": "Points", "lines": "Lines", "bar": "Bars", "waterfall": "Waterfall"}


def described(figure: Mapping[str, Any]) -> str:
    """Return what a chart shows in one or two sentences: its kind, its axes, and the range of each group."""
    layout, traces = figure["layout"], figure["data"]
    axes = [layout.get(f"{a}axis", {}).get("title", {}).get("text", "") for a in ("x", "y")]
    first = traces[0] if traces else {}
    kind = "lines" if first.get("mode", "").startswith("lines") else first.get("type", "")
    over = " against ".join(a for a in reversed(axes) if a)
    says = [f"{KINDS.get(kind, 'Chart')}: {layout['meta']['title']}{f', {over}' if over else ''}."]
    parts = [text for trace in traces[:MOST_DESCRIBED] if (text := _group(trace))]
    limits = [_limit(shape) for shape in layout.get("shapes", [])]
    return " ".join([*says, *(f"{p}." for p in [*parts, *limits])])


def _group(trace: Mapping[str, Any]) -> str:
    """Return the range of one group of a chart; "" where it has no name or no number."""
    flat = trace.get("orientation") == "h"
    names, values = (trace.get("y"), trace.get("x")) if flat else (trace.get("x"), trace.get("y"))
    known = [(n, v) for n, v in zip(names or (), values or (), strict=False) if _is_number(v)]
    if not known:
        return ""
    name = str(trace.get("name") or "")
    if trace["type"] in ("bar", "waterfall") and len(known) <= MOST_DESCRIBED:
        listed = "; ".join(f"{n} {number(v)}" for n, v in known)
        return f"{name}: {listed}" if name else listed
    least, most = (f(v for _, v in known) for f in (min, max))
    return f"{name or 'values'}: {len(known)} values from {number(least)} to {number(most)}"


def _limit(shape: Mapping[str, Any]) -> str:
    """Describe the dashed line of a limit."""
    value = shape["x0"] if shape.get("yref") == "paper" else shape["y0"]
    return f"Dashed line at {number(value)}"


def _is_number(value: Any) -> bool:
    """Return True for a known number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


__all__: Sequence[str] = ("described",)
