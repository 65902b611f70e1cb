"""Reasons for the worst rows of the accuracy page: docs/accuracy-reasons.toml holds them, this module matches them.

    [[reason]]
    group = "accelmark|Qwen/*|vllm|*"       # pattern of the group's name
    metric = "ttft_ms_p9*"                  # pattern of the metric; any metric if left out
    where = { mode = "open" }               # patterns of columns of the case; any row if left out
    kind = "overload"                       # one of KINDS
    text = "what was found, in a sentence or two"
    evidence = "the bound or the neighbouring rows that show it"

The first reason that matches a row is used. A listed row without one is printed as not explained, and fails the check.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.accuracy_tables import answered, plain
from hwdb import InputError
from hwdb.tomlfile import read_toml

KINDS = {
    "measurement": "the measured value contradicts physics or the rows next to it",
    "warm-up": "a start that the run did not leave out: compilation, first use of a kernel or a cache",
    "overload": "more was asked than is served: the wait grows with the length of the run, which no formula knows",
    "unknown setup": "a cap, a precision, lengths or an engine's state that the source does not state",
    "model": "ours: the prediction leaves out something that is known",
}
NOT_EXPLAINED = "not explained"
_KEYS = {"group", "metric", "where", "kind", "text", "evidence"}


@dataclass(frozen=True)
class Reason:
    """Why the rows that match are far off.

    group, metric, where: patterns of the row's group, metric and columns. kind: one of `KINDS`. text: what was found.
    evidence: what shows it.
    """

    group: str
    kind: str
    text: str
    evidence: str
    metric: str = "*"
    where: dict[str, str] = field(default_factory=dict)

    def holds(self, row: Any) -> bool:
        """Whether the reason applies to a row (a mapping of columns)."""
        patterns = {"group": self.group, "metric": self.metric, **self.where}
        return all(fnmatchcase(str(row[column]), pattern) for column, pattern in patterns.items())


def read_reasons(path: Path) -> list[Reason]:
    """Reasons of a TOML file, in its order. Raises `InputError` that names the entry and what is wrong with it."""
    found = []
    for number, entry in enumerate(read_toml(path, "file of reasons").get("reason", []), 1):
        place = f"{path}: reason {number} ({entry.get('group', 'no group')})"
        if unknown := set(entry) - _KEYS:
            raise InputError(f"{place}: unknown key {', '.join(sorted(unknown))}; known are {', '.join(sorted(_KEYS))}")
        if missing := {"group", "kind", "text", "evidence"} - {k for k, v in entry.items() if v}:
            raise InputError(f"{place}: {', '.join(sorted(missing))} missing; a reason says what was found and why")
        if entry["kind"] not in KINDS:
            raise InputError(f"{place}: kind {entry['kind']!r} is none of {', '.join(KINDS)}")
        found.append(Reason(**entry))
    return found


def worst_rows(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """The `count` rows furthest off by ratio, one per group and metric."""
    found = answered(rows)
    size = np.abs(np.log(found.predicted / found.value))
    ordered = found.assign(size=size).sort_values("size", ascending=False, kind="stable")
    return ordered.drop_duplicates(["group", "metric"]).head(count)


def reason_of(row: Any, reasons: list[Reason]) -> Reason | None:
    """The first reason that applies to a row; None without one."""
    return next((r for r in reasons if r.holds(row)), None)


def unexplained(rows: pd.DataFrame, reasons: list[Reason], count: int) -> list[str]:
    """Problems with the reasons: listed rows without one, and reasons that apply to no scored row."""
    listed = worst_rows(rows, count).to_dict("records")
    problems = [f"{NOT_EXPLAINED}: {r['group']} {r['metric']}" for r in listed if reason_of(r, reasons) is None]
    scored = rows.to_dict("records")
    return problems + [
        f"matches no scored row: {reason.group} {reason.metric} {reason.where or ''}".rstrip()
        for reason in reasons
        if not any(reason.holds(r) for r in scored)
    ]


def setup(row: Any) -> str:
    """Lengths and load of a case, for example `512/64, 4 users`."""
    loads = {
        "closed": ("concurrency", "{} users"),
        "open": ("request_rate_rps", "{} requests/s"),
        "static": ("batch", "{} at once"),
        "offline": ("n_requests", "{} requests"),
    }
    column, words = loads.get(row["mode"], ("", ""))
    load = words.format(row[column]) if column and row[column] else row["mode"]
    return f"{row['isl'] or '?'}/{row['osl'] or '?'}, {load}"


def worst_table(rows: pd.DataFrame, reasons: list[Reason], count: int) -> str:
    """The worst rows in Markdown, each with what was found."""
    lines = [
        "| group | tokens in/out, load | metric | measured | predicted | | what was found |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in worst_rows(rows, count).to_dict("records"):
        reason = reason_of(row, reasons)
        found = f"**{reason.kind}** | {reason.text} {reason.evidence}" if reason else f"**?** | {NOT_EXPLAINED}"
        values = (f"{row['value']:.4g}", f"{row['predicted']:.4g}")
        cells = (plain(row["group"]), setup(row), row["metric"], *values, found)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
