"""The canonical row table: one measured operator a row, whatever tool measured it.

In memory a table is a dict of equally long numpy arrays in SI; on disk ("plain CSV") the same columns with the unit in
the name where SI is unhandy. docs/profiling.md lists both. Every importer returns this table and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwdb import InputError, UnknownName
from perfmodel.vocabulary import FAMILIES

COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p")

#: Shape columns that a row of a family must carry; `window` 0 means none, `skew` 0 means balanced routing.
SHAPES: dict[str, tuple[str, ...]] = {
    "gemm": ("m", "n", "k"),
    "grouped_gemm": ("tokens", "hidden", "inter", "experts", "top_k", "ep", "tp", "skew"),
    "attention_prefill": ("batch", "query", "context", "heads", "kv_heads", "head_dim", "window"),
    "attention_decode": ("batch", "context", "heads", "kv_heads", "head_dim", "window"),
    "mla_prefill": ("batch", "query", "context", "heads"),
    "mla_decode": ("batch", "context", "heads"),
    "recurrent_prefill": ("batch", "query", "heads", "key_dim", "value_dim"),
    "recurrent_decode": ("batch", "heads", "key_dim", "value_dim"),
    "elementwise": ("moved_bytes",),
    **dict.fromkeys(COLLECTIVES, ("message_bytes", "group")),
    # Whole forward passes, from tools that time models and not operators. They set ceilings, never tables.
    "model_prefill": ("batch", "query", "context", "parameters", "moved_bytes"),
    "model_decode": ("batch", "context", "parameters", "moved_bytes"),
}

TEXT = ("device", "software", "kernel", "family", "weight", "act", "kv", "source", "licence")
SHAPE_COLUMNS = tuple(dict.fromkeys(key for keys in SHAPES.values() for key in keys))
NUMBERS = (*SHAPE_COLUMNS, "time", "power")
COLUMNS = (*TEXT, *NUMBERS)

#: Columns whose number is not SI or whose unit the name must carry on disk: name there, factor to SI.
ON_DISK: dict[str, tuple[str, float]] = {"time": ("latency_us", 1e-6), "power": ("power_w", 1.0)}
#: Shape columns that a row may leave empty, and what empty then means.
DEFAULTS = {"window": 0.0, "skew": 0.0, "ep": 1.0, "tp": 1.0}


@dataclass(frozen=True)
class Rows:
    """Measured operators as columns.

    columns: every name of `COLUMNS` -> array (R,). Text columns are object arrays of str ("" unknown), numbers are
    float64 with NaN for "does not apply" or unknown: `time` s, `power` W, the rest counts and bytes. `weight` and
    `kv` are storage formats and `act` a compute type (`perfmodel.dtypes`).
    """

    columns: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.columns["time"])

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def take(self, select: NDArray[Any]) -> Rows:
        """The rows that `select` (mask or indices) picks."""
        return Rows({name: values[select] for name, values in self.columns.items()})

    def family(self, name: str) -> Rows:
        """The rows of one family."""
        return self.take(self.columns["family"] == name)

    def replace(self, **columns: Any) -> Rows:
        """The same rows with some columns changed; scalars are repeated."""
        return Rows({**self.columns, **_filled(columns, len(self))})

    def frame(self) -> Any:
        """pandas frame with the plain CSV's names and units; columns that no row uses are left out."""
        import pandas as pd

        named = {}
        for name in COLUMNS:
            title, unit = ON_DISK.get(name, (name, 1.0))
            values = self.columns[name]
            if name in TEXT:
                named[title] = values
            elif not np.all(np.isnan(values)) or name == "time":
                named[title] = values / unit
        return pd.DataFrame(named)


def _filled(columns: Mapping[str, Any], count: int) -> dict[str, NDArray[Any]]:
    out = {}
    for name, values in columns.items():
        if name not in COLUMNS:
            raise UnknownName("column", name, COLUMNS)
        kind = object if name in TEXT else np.float64
        array = np.full(count, values, dtype=kind) if np.ndim(values) == 0 else np.asarray(values, dtype=kind)
        if array.shape != (count,):
            raise InputError(f"column {name!r} has shape {array.shape}, the table has {count} rows")
        out[name] = array
    return out


def rows_of(count: int, **columns: Any) -> Rows:
    """A table of `count` rows from some columns; the others become "" or NaN (or the default that empty means).

    >>> table = rows_of(2, family="gemm", m=[1, 8], n=4096, k=4096, time=[1e-5, 2e-5], device="a100-sxm-80gb")
    >>> len(table), float(table["m"][1]), table["weight"][0]
    (2, 8.0, '')
    """
    empty: dict[str, Any] = {name: "" if name in TEXT else np.nan for name in COLUMNS}
    table = Rows(_filled({**empty, **columns}, count))
    return _with_defaults(table)


def _with_defaults(table: Rows) -> Rows:
    changed = {}
    for key, value in DEFAULTS.items():
        uses = [family for family, keys in SHAPES.items() if key in keys]
        blank = np.isnan(table[key]) & np.isin(table["family"].astype(str), uses)
        if blank.any():
            changed[key] = np.where(blank, value, table[key])
    return table.replace(**changed) if changed else table


def concat(tables: Iterable[Rows]) -> Rows:
    """All rows of all tables, in order; an empty table if there are none."""
    parts = [t for t in tables if len(t)]
    if not parts:
        return rows_of(0)
    return Rows({name: np.concatenate([p[name] for p in parts]) for name in COLUMNS})


def each(names: NDArray[Any], answer: Callable[[str], float]) -> NDArray[np.float64]:
    """`answer` of every name in a text column (R,), asked once a different name.

    >>> each(np.array(["a", "bb", "a"], dtype=object), len).tolist()
    [1.0, 2.0, 1.0]
    """
    import pandas as pd

    code, found = pd.factorize(names, use_na_sentinel=False)
    return np.array([answer(str(name)) for name in found], dtype=float)[code] if len(names) else np.zeros(0)


def key_columns(family: str) -> tuple[str, ...]:
    """Columns that tell one measurement of a family from another: all but the measured values and their source."""
    if family not in SHAPES:
        raise UnknownName("operator family", family, SHAPES)
    return ("device", "software", "kernel", "family", "weight", "act", "kv", *SHAPES[family])


def known_families() -> tuple[str, ...]:
    """Families that a row may name: the cost models' own and the whole-model ones.

    >>> known_families()[0]
    'gemm'
    """
    return (*FAMILIES, "model_prefill", "model_decode")
