"""Canonical rows: one measured operator per row, in the same columns for every measuring tool.

In memory, columns are numpy arrays of equal length in SI units. In a file ("plain CSV"), a column with another unit has
the unit in its name. docs/profiling.md lists the columns. Every importer returns such a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwdb import InputError, UnknownName
from perfmodel.arrays import Array
from perfmodel.dtypes import ALIASES, COMPUTE_CODE, FORMATS
from perfmodel.vocabulary import FAMILIES

#: Families of communication operators.
COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p")

#: Shape columns that a row of each family must have. `window` 0: full attention; `skew` 0: balanced expert routing.
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
    # Forward passes of whole models. They give measured ceilings of a device, never tables.
    "model_prefill": ("batch", "query", "context", "parameters", "moved_bytes"),
    "model_decode": ("batch", "context", "parameters", "moved_bytes"),
}

#: Text columns, shape columns, number columns, all columns.
TEXT = ("device", "software", "kernel", "family", "weight", "act", "kv", "source", "licence")
SHAPE_COLUMNS = tuple(dict.fromkeys(key for keys in SHAPES.values() for key in keys))
NUMBERS = (*SHAPE_COLUMNS, "time", "power")
COLUMNS = (*TEXT, *NUMBERS)

#: Columns with another name in a file, because the unit is part of it: (name in the file, factor to SI).
ON_DISK: dict[str, tuple[str, float]] = {"time": ("latency_us", 1e-6), "power": ("power_w", 1.0)}
#: Shape columns that may be empty, and the value that empty stands for.
DEFAULTS = {"window": 0.0, "skew": 0.0, "ep": 1.0, "tp": 1.0}


@dataclass(frozen=True)
class Rows:
    """Hold measured operators as columns.

    columns: each name of `COLUMNS` -> array (R,). Text columns are object arrays of str, "" where unknown. Number
    columns are float64, NaN where unknown or not applicable: `time` in s, `power` in W, all others counts or bytes.
    `weight` and `kv` are storage formats, `act` is a compute type (`perfmodel.dtypes`).
    """

    columns: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.columns["time"])

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def take(self, select: NDArray[Any]) -> Rows:
        """Return the rows that a mask or an array of row numbers selects."""
        return Rows({name: values[select] for name, values in self.columns.items()})

    def family(self, name: str) -> Rows:
        """Return the rows of one operator family."""
        return self.take(self.columns["family"] == name)

    def replace(self, **columns: Any) -> Rows:
        """Return the same rows with some columns replaced; a scalar is repeated for every row."""
        return Rows({**self.columns, **_filled(columns, len(self))})

    def frame(self) -> Any:
        """Return a pandas DataFrame with the column names and units of a plain CSV; columns without any number are left
        out."""
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


#: Columns with names of number formats.
FORMAT_COLUMNS = ("weight", "act", "kv")


def _filled(columns: Mapping[str, Any], count: int) -> dict[str, NDArray[Any]]:
    """Turn columns into arrays (count,) of the type of their column. Raises `UnknownName` or `InputError` for a bad
    name or length."""
    out = {}
    for name, values in columns.items():
        if name not in COLUMNS:
            raise UnknownName("column", name, COLUMNS)
        kind = object if name in TEXT else np.float64
        array = np.full(count, values, dtype=kind) if np.ndim(values) == 0 else np.asarray(values, dtype=kind)
        if array.shape != (count,):
            raise InputError(f"column {name!r} has shape {array.shape}, the table has {count} rows")
        out[name] = _named(name, array) if name in FORMAT_COLUMNS else array
    return out


def _named(column: str, values: NDArray[Any]) -> NDArray[Any]:
    """Return the names of formats as perfmodel writes them: in lower case, other names of a format by its own.

    Names that are not known stay as they are; validation sets their rows aside.
    """
    known = COMPUTE_CODE if column == "act" else FORMATS
    out = values.copy()
    for name in {v for v in values.tolist() if isinstance(v, str)}:
        plain = name.strip().lower()
        own = plain if plain in known else ALIASES.get(plain, plain)
        out[values == name] = own if own in known else name
    return out


def rows_of(count: int, **columns: Any) -> Rows:
    """Make a table of `count` rows from some columns. All others are "" or NaN, or the value in `DEFAULTS`.

    >>> table = rows_of(2, family="gemm", m=[1, 8], n=4096, k=4096, time=[1e-5, 2e-5], device="a100-sxm-80gb")
    >>> len(table), float(table["m"][1]), table["weight"][0]
    (2, 8.0, '')
    """
    empty: dict[str, Any] = {name: "" if name in TEXT else np.nan for name in COLUMNS}
    table = Rows(_filled({**empty, **columns}, count))
    return _with_defaults(table)


def _with_defaults(table: Rows) -> Rows:
    """Fill the values of `DEFAULTS` into empty shape columns that the family of the row has."""
    changed = {}
    for key, value in DEFAULTS.items():
        uses = [family for family, keys in SHAPES.items() if key in keys]
        blank = np.isnan(table[key]) & np.isin(table["family"].astype(str), uses)
        if blank.any():
            changed[key] = np.where(blank, value, table[key])
    return table.replace(**changed) if changed else table


def concat(tables: Iterable[Rows]) -> Rows:
    """Join tables, in order; an empty table if there are none."""
    parts = [t for t in tables if len(t)]
    if not parts:
        return rows_of(0)
    return Rows({name: np.concatenate([p[name] for p in parts]) for name in COLUMNS})


def each(names: NDArray[Any], function: Callable[[str], float]) -> Array:
    """Apply `function` to each name in a text column (R,) and return the numbers (R,); it is called once per different
    name.

    >>> each(np.array(["a", "bb", "a"], dtype=object), len).tolist()
    [1.0, 2.0, 1.0]
    """
    import pandas as pd

    code, found = pd.factorize(names, use_na_sentinel=False)
    return np.array([function(str(name)) for name in found], dtype=float)[code] if len(names) else np.zeros(0)


def key_columns(family: str) -> tuple[str, ...]:
    """Return the names of the columns that identify a measurement of a family: all except time, power, source and
    licence."""
    if family not in SHAPES:
        raise UnknownName("operator family", family, SHAPES)
    return ("device", "software", "kernel", "family", "weight", "act", "kv", *SHAPES[family])


def known_families() -> tuple[str, ...]:
    """Return the families that a row may have: those of the cost models, and those of whole models.

    >>> known_families()[0]
    'gemm'
    """
    return (*FAMILIES, "model_prefill", "model_decode")
