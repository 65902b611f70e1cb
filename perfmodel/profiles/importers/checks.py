"""Validation of canonical rows: impossible rows are set aside, with reason and count; a misread file is refused.

A single bad row is set aside and counted. A table is refused if all its times are off by a factor of 10^3 (wrong unit),
or if more than half of its rows are bad: then the file was misread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from hwdb import Device, InputError, UnknownName
from perfmodel.arrays import Array, Index, Mask
from perfmodel.dtypes import ALIASES, COMPUTE_CODE, FORMATS
from perfmodel.profiles.importers.bounds import bound
from perfmodel.profiles.importers.rows import COLLECTIVES, SHAPES, Rows, concat, each, key_columns, known_families

#: Share by which a time may be below the rated bound, because boost clocks exceed the rated clock. Chosen.
TOLERANCE = 0.10
#: Repeated measurements that differ by more than this factor disagree, and are set aside. Chosen.
REPEAT_FACTOR = 2.0
#: A time is an outlier if it exceeds both its neighbours on its curve by the factor `SPIKE`, while these differ by less
#: than the factor `AGREE`. Chosen.
SPIKE, AGREE = 2.5, 1.6
#: The shape column along which rows of a family form a curve.
CURVES = {
    "gemm": "m",
    "grouped_gemm": "tokens",
    "attention_prefill": "query",
    "attention_decode": "context",
    "mla_prefill": "query",
    "mla_decode": "context",
    "recurrent_prefill": "query",
    "recurrent_decode": "batch",
    **dict.fromkeys(COLLECTIVES, "message_bytes"),
}
#: Reason for which repeated rows leave the table although they are valid.
MERGED = "repeat merged into its median"
#: Number formats that rows of a family must state: they determine bytes and peak rate. One that a row need not state
#: has to be known all the same.
FORMATTED = {
    "gemm": ("weight", "act"),
    "grouped_gemm": ("weight", "act"),
    "attention_prefill": ("act", "kv"),
    "attention_decode": ("kv",),
    "mla_prefill": ("kv",),
    "mla_decode": ("kv",),
}
#: Share of bad rows above which the table is refused. Chosen.
MOST_BAD_SHARE = 0.5
#: Operators with a bound above this many seconds are dominated by work, not by launch overhead. Their times show
#: whether the table's unit is right. Chosen.
UNIT_FLOOR = 50e-6
#: The unit is wrong if the median of time / bound is outside this range; real kernels lie between 1 and about 30.
UNIT_LOW, UNIT_HIGH = 1.0 / 20.0, 300.0
#: The floor is divided by this to detect nanoseconds, for which shorter operators suffice. Chosen.
UNIT_FLOOR_REDUCTION = 10.0
#: Fewest such operators by which a unit is judged. Chosen.
LEAST_LONG_ROWS = 3
#: No operator on any device takes less time, in s. A table with a lower median has milliseconds in place of us.
SHORTEST = 0.2e-6
#: Shape columns that may be 0; all others must be at least 1.
MAY_BE_ZERO = ("window", "skew", "context", "moved_bytes", "message_bytes")


@dataclass(frozen=True)
class Quarantined:
    """Report the rows that were set aside for one reason: their number, and a description of the first."""

    reason: str
    count: int
    example: str


@dataclass(frozen=True)
class Checked:
    """Hold the result of validation: usable rows, rows set aside by reason, and notes on what could not be checked."""

    rows: Rows
    quarantined: tuple[Quarantined, ...]
    notes: tuple[str, ...]

    @property
    def bad(self) -> int:
        """Return the total number of rows set aside."""
        return sum(q.count for q in self.quarantined)

    def report(self) -> list[dict[str, object]]:
        """Return one row per family that was read, then one per reason for which rows were set aside or merged."""
        families, counts = np.unique(self.rows["family"].astype(str), return_counts=True)
        read = [
            {"outcome": "read", "what": str(family), "rows": int(count), "first": ""}
            for family, count in zip(families, counts, strict=True)
        ]
        bad = [
            {"outcome": "set aside", "what": q.reason, "rows": q.count, "first": q.example} for q in self.quarantined
        ]
        return [*read, *bad]


def describe(table: Rows, index: int) -> str:
    """Describe row `index` for messages: family, shape, formats, time."""
    family = str(table["family"][index])
    shape = " ".join(f"{key}={table[key][index]:g}" for key in SHAPES[family])
    formats = "/".join(str(table[f][index]) for f in ("weight", "act", "kv") if table[f][index])
    return f"{family} {shape} {formats} at {table['time'][index] * 1e6:.6g} us".replace("  ", " ")


def check(table: Rows, device: Callable[[str], Device] | None, place: str = "table") -> Checked:
    """Set aside impossible rows and outliers; merge repeated measurements into their median.

    Args:
        table: rows in SI units.
        device: function from an hwdb name to the device; None skips the check against physical bounds.
        place: name of the table in messages.

    Raises `UnknownName` for an unknown family. Raises `InputError` for a table without rows, for times that are off by
    10^3 as a whole, or if more than half of the rows are bad.
    """
    for family in sorted(set(table["family"])):
        if family not in SHAPES:
            raise UnknownName("operator family", str(family), known_families(), f"(in {place})")
    if not len(table):
        raise InputError(f"{place}: no rows; nothing to import")
    notes: list[str] = []
    set_aside: list[Quarantined] = []
    good = _drop(table, _malformed(table), set_aside)
    if len(good) and float(np.median(good["time"])) < SHORTEST:
        raise InputError(f"{place}: half of the times are under {SHORTEST * 1e6:g} us; they look like ms not us")
    if device is not None:
        good = _drop(good, _impossible(good, device, place, notes), set_aside)
    good, repeats = _merge_repeats(good)
    set_aside += repeats
    good = _drop(good, [(f"over {SPIKE:g} times both neighbours on its curve", _spikes(good))], set_aside)
    refused = sum(q.count for q in set_aside if q.reason not in ("exact duplicate", MERGED))
    if refused > MOST_BAD_SHARE * len(table):
        worst = max(set_aside, key=lambda q: q.count)
        raise InputError(
            f"{place}: {refused} of {len(table)} rows cannot be used, most of them: {worst.reason} "
            f"({worst.count}, first {worst.example}); check units and columns"
        )
    return Checked(good, tuple(set_aside), tuple(notes))


#: Reasons to set rows aside, each with the mask (R,) of its rows.
Faults = list[tuple[str, Mask]]


def _drop(table: Rows, faults: Faults, set_aside: list[Quarantined]) -> Rows:
    """Return the rows without faults; report each fault by appending it to `set_aside`. A row counts for its first
    fault only."""
    keep = np.ones(len(table), dtype=bool)
    for reason, mask in faults:
        fresh = mask & keep
        if fresh.any():
            first = int(np.argmax(fresh))
            set_aside.append(Quarantined(reason, int(fresh.sum()), describe(table, first)))
            keep &= ~fresh
    return table.take(keep) if not keep.all() else table


def _malformed(table: Rows) -> Faults:
    """Find rows with an impossible time, power or shape, or without a number format that their family needs."""
    time, power = table["time"], table["power"]
    faults: Faults = [
        ("time is no finite number", ~np.isfinite(time)),
        ("time is zero or negative", np.isfinite(time) & (time <= 0.0)),
        ("power is negative or infinite", np.isinf(power) | (power < 0.0)),
    ]
    families = table["family"].astype(str)
    for family in sorted(set(families)):
        mine = families == family
        for key in SHAPES[family]:
            least = 0.0 if key in MAY_BE_ZERO else 1.0
            with np.errstate(invalid="ignore"):
                faults.append((f"{family} without a valid {key}", mine & ~(table[key] >= least)))
        for column in ("weight", "act", "kv"):
            absent = np.zeros(len(table), bool) if column in FORMATTED.get(family, ()) else table[column] == ""
            known = absent | (each(table[column], partial(_is_format, column)) > 0.0)
            faults.append((f"{family} without a known {column} format", mine & ~known))
    return faults


def _is_format(column: str, name: str) -> bool:
    """True if `name` is a known compute type (column `act`) or storage format (other columns)."""
    key = ALIASES.get(name.lower(), name.lower())
    return key in (COMPUTE_CODE if column == "act" else FORMATS)


def _impossible(table: Rows, device: Callable[[str], Device], place: str, notes: list[str]) -> Faults:
    """Find rows that are faster than the physical bound of their device. Devices that hwdb does not know are reported
    in `notes`.

    device: function from an hwdb name to the device. place: name of the table in messages.
    """
    below = np.zeros(len(table), dtype=bool)
    for name in sorted(set(table["device"])):
        try:
            facts = device(str(name))
        except UnknownName:
            notes.append(f"device {name!r} is not in hwdb: its rows were not checked against physical bounds")
            continue
        mine = table["device"] == name
        part = table.take(mine)
        least = bound(part, facts)
        _refuse_wrong_unit(part["time"], least, f"{place}, device {name}")
        below[mine] = part["time"] < least * (1.0 - TOLERANCE)
    return [("faster than the device's rated peak or bandwidth allows", below)]


def _refuse_wrong_unit(time: Array, least: Array, place: str) -> None:
    """Raise `InputError` if the measured times, in s, are off by 10^3 as a whole.

    time: (R,) measured. least: (R,) physical bound of each row, in s. place: name of the table in the message.
    """
    for factor, wrong, low in ((1e-3, "ms not us", True), (1e3, "ns not us", False)):
        telling = (least > UNIT_FLOOR) if low else (least > UNIT_FLOOR / UNIT_FLOOR_REDUCTION)
        if telling.sum() < LEAST_LONG_ROWS:
            continue  # too few to judge the file; each row is still compared with its own bound
        ratio = float(np.median(time[telling] / least[telling]))
        if (low and ratio < UNIT_LOW) or (not low and ratio > UNIT_HIGH):
            raise InputError(
                f"{place}: times look like {wrong}: the median of {int(telling.sum())} long operators is {ratio:.3g} "
                f"times the least the device allows; multiply them by {1.0 / factor:g}"
            )


def _merge_repeats(table: Rows) -> tuple[Rows, list[Quarantined]]:
    """Reduce repeated measurements of the same operator to one row, and report the rows that left the table.

    Rows are repeats if all `key_columns` are equal. Exact duplicates are dropped, repeats become their median, and
    repeats that disagree by more than `REPEAT_FACTOR` are set aside.
    """
    if not len(table):
        return table, []
    dropped: dict[str, list[Any]] = {reason: [0, ""] for reason in ("exact duplicate", MERGED, "repeats disagree")}
    parts = [_merge_family(table.family(f), key_columns(f), dropped) for f in dict.fromkeys(table["family"])]
    found = [Quarantined(reason, int(n), str(example)) for reason, (n, example) in dropped.items() if n]
    return concat(parts), found


def _merge_family(table: Rows, keys: tuple[str, ...], dropped: dict[str, list[Any]]) -> Rows:
    """Do the work of `_merge_repeats` for the rows of one family.

    keys: columns that identify a measurement. dropped: reason -> [number of rows, first example], updated in place.
    """
    group = _group_ids(table, keys)
    order = np.argsort(group, kind="stable")
    sorted_group, time = group[order], table["time"][order]
    start = np.flatnonzero(np.r_[True, sorted_group[1:] != sorted_group[:-1]])
    size = np.diff(np.r_[start, len(group)])
    if (size == 1).all():
        return table
    keep, median = np.ones(len(table), dtype=bool), table["time"].copy()
    for begin, count in zip(start[size > 1], size[size > 1], strict=True):
        members, values = order[begin : begin + count], time[begin : begin + count]
        different = len(np.unique(values)) - 1
        _count(dropped["exact duplicate"], count - 1 - different, table, members[0])
        if values.max() > REPEAT_FACTOR * values.min():
            _count(dropped["repeats disagree"], different + 1, table, members[0])
            keep[members] = False
            continue
        _count(dropped[MERGED], different, table, members[0])
        keep[members[1:]] = False
        median[members[0]] = np.median(values)
    return table.replace(time=median).take(keep)


def _count(entry: list[Any], more: int, table: Rows, index: int) -> None:
    """Add `more` rows to the number in `entry` ([number of rows, first example]); the first call takes row `index` as
    the example."""
    if more > 0:
        entry[1] = entry[1] or describe(table, int(index))
        entry[0] += int(more)


def _spikes(table: Rows) -> Mask:
    """Mark outliers, as a mask (R,): rows far above both neighbours on their curve (a stall, a retry, a clock drop)."""
    out = np.zeros(len(table), dtype=bool)
    for family, axis in CURVES.items():
        mine = np.flatnonzero(table["family"] == family)
        if len(mine) < 3:  # a point and two neighbours
            continue
        part = table.take(mine)
        group = _group_ids(part, tuple(key for key in key_columns(family) if key != axis))
        order = np.lexsort((part[axis], group))
        time, curve = part["time"][order], group[order]
        left, here, right = time[:-2], time[1:-1], time[2:]
        together = (curve[:-2] == curve[1:-1]) & (curve[1:-1] == curve[2:])
        agree = np.maximum(left, right) < AGREE * np.minimum(left, right)
        out[mine[order[1:-1][together & agree & (here > SPIKE * np.maximum(left, right))]]] = True
    return out


def _group_ids(table: Rows, keys: tuple[str, ...]) -> Index:
    """Number the rows (R,) so that two numbers are equal exactly where all columns `keys` are equal."""
    import pandas as pd

    group = np.zeros(len(table), dtype=np.intp)
    for key in keys:
        code, seen = pd.factorize(table[key], use_na_sentinel=False)
        group, _ = pd.factorize(group * (len(seen) + 1) + code)
    return group
