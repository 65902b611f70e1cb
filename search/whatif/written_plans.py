"""Read plans that were written as JSON, also by other versions, and compare them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hwdb import InputError, infile, jsonfile

#: Columns that make a row a candidate of a plan.
OF_A_PLAN = ("rank", "candidate", "qualifies")
#: Columns that say what a candidate is, compared before its figures.
CONFIGURATION = ("candidate", "mode", "device", "weight", "kv", "engine", "price", "basis")
#: Columns that say nothing of the candidate itself.
LEFT_OUT = (*OF_A_PLAN, "front", "reason", "stands_for", "best_of", "remark", "launch")
WAY_OUT = "write one with perfmodel plan SCENARIO.toml --json > FILE"


def read_plan_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a plan that `perfmodel plan --json` wrote to `path`; `InputError` where it is no such file."""
    text = infile.read_text(path, "plan", WAY_OUT)
    if not text.strip():
        raise InputError(f"{path}: the file is empty, as where nothing qualifies; {WAY_OUT}")
    try:
        rows = jsonfile.parse(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg}); {WAY_OUT}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); {WAY_OUT}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}: no list of candidates; {WAY_OUT}")
    lacking = sorted({name for row in rows for name in OF_A_PLAN if name not in row})
    if lacking:
        raise InputError(f"{path}: {' and '.join(lacking)} missing, so it is no plan; {WAY_OUT}")
    for at, row in enumerate(rows, start=1):
        odd = next((name for name, value in row.items() if isinstance(value, list | dict)), None)
        if odd is not None:
            raise InputError(f"{path}, row {at}: {odd} is a list or an object, not one value; {WAY_OUT}")
    return rows


def best_row(rows: Sequence[Mapping[str, Any]], path: Path) -> Mapping[str, Any]:
    """Return the row of rank 1; `InputError` where nothing qualifies in the plan of the file `path`."""
    best = next((row for row in rows if row["rank"] == 1), None)
    if best is None:
        why = next((str(row["reason"]) for row in rows if row.get("reason")), "")
        text = f"; nearest is {rows[0]['candidate']}: {why}" if why else ""
        raise InputError(f"{path}: nothing qualifies in this plan{text}")
    return best


def shared_columns(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return (columns of either row that may be compared, those that only one of them has).

    What a candidate is comes first. Ends of intervals are left out.
    """
    names = [c for c in dict.fromkeys([*CONFIGURATION, *one, *other]) if not c.endswith(("_lo", "_hi"))]
    either = [c for c in names if ((c in one or c in other) and c not in LEFT_OUT) or c == "candidate"]
    return [c for c in either if c in one and c in other], [c for c in either if (c in one) != (c in other)]


def moved_candidates(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per candidate of either plan that qualifies: its rank and cost in both, best in the second first.

    None where a plan does not list it.
    """
    ranked = [{row["candidate"]: row for row in rows if row["rank"]} for rows in (one, other)]
    names = list(dict.fromkeys([*ranked[1], *ranked[0]]))
    return [
        {
            "candidate": name,
            "rank": ranked[1].get(name, {}).get("rank"),
            "former_rank": ranked[0].get(name, {}).get("rank"),
            "usd_per_hour": ranked[1].get(name, {}).get("usd_per_hour"),
            "former_usd_per_hour": ranked[0].get(name, {}).get("usd_per_hour"),
        }
        for name in names
    ]


def compared(one: Path, other: Path) -> list[dict[str, Any]]:
    """Return two rows, the best candidate of each of two plans in JSON files, and the changes from the first.

    `InputError` where a file holds no plan, or one in which nothing qualifies.
    """
    rows = [dict(best_row(read_plan_rows(path), path)) for path in (one, other)]
    return [{"plan": str(path), **row} for path, row in zip((one, other), rows, strict=True)]
