"""The table `predict` reads: which columns it knows, how their cells become numbers, and what is wrong with a row."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwdb import InputError
from perfmodel.arrays import Array
from perfmodel.vocabulary import FORMER_NAMES

if TYPE_CHECKING:
    import pandas as pd

MODES = ("static", "closed", "open", "offline", "single")
TEXT = (
    "case_id",
    "model",
    "device",
    "engine",
    "engine_version",
    "weight_dtype",
    "act_dtype",
    "kv_dtype",
    "mode",
    "isl_dist",
    "spec_decode",
    "trace",
    "recipe",
)
#: Number columns: (least value allowed, whether it must be whole).
NUMBERS: dict[str, tuple[float, bool]] = {
    "n_devices": (1, True),
    "isl": (0, False),
    "osl": (0, False),
    "batch": (0, False),
    "concurrency": (0, False),
    "request_rate_rps": (0, False),
    "n_requests": (0, False),
    "tp": (1, True),
    "pp": (1, True),
    "ep": (1, True),
    "dp_attention": (1, True),
    "prefix_hit": (0, False),
    "prefill_workers": (1, True),
    "prefill_tp": (1, True),
    "prefill_ep": (1, True),
    "prefill_dp": (1, True),
    "prefill_batch": (0, False),
    "decode_workers": (1, True),
    "decode_tp": (1, True),
    "decode_ep": (1, True),
    "decode_dp": (1, True),
    "decode_batch": (0, False),
    "max_num_batched_tokens": (1, True),
    "max_num_seqs": (1, True),
}
POOL_COLUMNS = tuple(c for c in NUMBERS if c.startswith(("prefill_", "decode_")))
#: What the column `recipe` may say: settings left blank are those of a published recipe, or the engine's defaults.
RECIPES = ("published", "default")
EMPTY = ("", "nan", "none", "null", "na", "n/a")
_UNIFORM = re.compile(r"uniform:(\d*\.?\d+)-(\d*\.?\d+)")
#: Longer prompts or answers than any model serves: a slip of the keyboard or a wrong unit.
LONGEST = 1e8


@dataclass
class Cases:
    """R rows of cases: text columns, number columns (NaN: not given), and what is wrong with each row ('' if nothing).

    frame: the table as read, every cell text, passed through untouched.
    """

    frame: pd.DataFrame
    text: dict[str, np.ndarray]
    number: dict[str, Array]
    error: np.ndarray
    path: str = field(default="")

    def __len__(self) -> int:
        return len(self.error)

    def refuse(self, rows: np.ndarray, reasons: str | Sequence[str]) -> None:
        """Note why rows (a mask) cannot be answered; the first reason stays."""
        texts = np.broadcast_to(np.asarray(reasons, dtype=object), rows.shape)
        fresh = rows & (self.error == "")
        self.error[fresh] = texts[fresh]


def read_cases(path: str | Path) -> Cases:
    """Read a CSV file, plain or gzipped. Raises `InputError` when it is no such table or lacks model or device.

    A cell that is no number where one belongs refuses its row, not the table.
    """
    import pandas as pd

    where = Path(path)
    if not where.is_file():
        raise InputError(f"{path}: no such file; give a CSV (or .csv.gz) with a header line")
    try:
        frame = pd.read_csv(where, dtype=str, keep_default_na=False, low_memory=False)
    except (
        pd.errors.ParserError,
        pd.errors.EmptyDataError,
        UnicodeDecodeError,
        OSError,
        EOFError,
        zlib.error,
    ) as problem:
        raise InputError(f"{path}: not a readable CSV table: {problem}") from problem
    return cases_of(frame, str(path))


def cases_of(frame: pd.DataFrame, path: str = "table") -> Cases:
    """Check a table of text cells; see `read_cases`."""
    missing = [c for c in ("model", "device") if c not in frame.columns]
    if missing:
        raise InputError(
            f"{path}: lacks the column {' and '.join(missing)}; it has {', '.join(map(str, frame.columns[:12]))}"
        )
    rows = len(frame)
    blank = np.full(rows, "", dtype=object)
    known = {new: old for old, new in FORMER_NAMES.items() if old in frame.columns and new not in frame.columns}
    text = {c: _text(frame[c]) if c in frame.columns else blank for c in TEXT}
    cases = Cases(frame, text, {}, np.full(rows, "", dtype=object), path)
    for column, (least, whole) in NUMBERS.items():
        cases.number[column] = _number(cases, known.get(column, column), least, whole)
    mode = text["mode"]
    cases.refuse((mode != "") & ~np.isin(mode, MODES), [f"mode {m!r} is none of {', '.join(MODES)}" for m in mode])
    wanted = text["recipe"]
    odd = (wanted != "") & ~np.isin(wanted, RECIPES)
    cases.refuse(odd, [f"recipe {w!r} is none of {', '.join(RECIPES)}" for w in wanted])
    hit = cases.number["prefix_hit"]
    cases.refuse(hit > 1.0, [f"prefix_hit {h:g} is a share; give it between 0 and 1" for h in hit])
    for column in ("isl", "osl"):
        values = cases.number[column]
        cases.refuse(values > LONGEST, [f"{column} {v:g} is longer than any request; tokens are meant" for v in values])
    return cases


def check_degrees(cases: Cases, pooled: np.ndarray) -> None:
    """Refuse rows whose parallelism takes more devices than there are; pooled: rows with separate prefill workers."""
    number = {c: np.nan_to_num(v, nan=1.0) for c, v in cases.number.items()}
    together = number["tp"] * number["pp"] * number["dp_attention"]
    pools = [number[f"{p}_workers"] * number[f"{p}_tp"] * number[f"{p}_dp"] for p in ("prefill", "decode")]
    devices = cases.number["n_devices"]
    for rows, taken, what in (
        (~pooled, together, "tp x pp x dp_attention"),
        (pooled, pools[0] + pools[1], "workers x tp x dp of both pools"),
    ):
        texts = [f"{what} takes {t:g} devices, more than n_devices {d:g}" for t, d in zip(taken, devices, strict=True)]
        cases.refuse(rows & (taken > devices), [f"{t}; lower the degrees or raise n_devices" for t in texts])


def longest_prompt(mean: Array, spread: np.ndarray) -> Array:
    """Tokens of the longest prompt of each row, from the mean and how lengths spread: `uniform:low-high` (shares of the
    nominal length); any other spread counts as none. (N,)

    >>> longest_prompt(np.array([900.0, 900.0]), np.array(["uniform:0.8-1.0", "fixed"])).tolist()
    [1000.0, 900.0]
    """
    kinds, where = np.unique(spread.astype(str), return_inverse=True)
    ends = [_UNIFORM.fullmatch(kind) for kind in kinds.tolist()]
    shares = [(float(m[1]), float(m[2])) if m else (1.0, 1.0) for m in ends]
    factors = np.array([2.0 * high / (low + high) if high >= low and high > 0 else 1.0 for low, high in shares])
    return mean * factors[where]


def _text(column: pd.Series) -> np.ndarray:
    return column.str.strip().to_numpy(dtype=object)


def _number(cases: Cases, column: str, least: float, whole: bool) -> Array:
    import pandas as pd

    if column not in cases.frame.columns:
        return np.full(len(cases), np.nan)
    cells = cases.frame[column].str.strip()
    values = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=float)
    given = ~cells.str.lower().isin(EMPTY).to_numpy()
    shown = cells.to_numpy(dtype=object)
    cases.refuse(given & np.isnan(values), [f"{column} {c!r} is no number" for c in shown])
    values = np.where(given, values, np.nan)
    wrong = np.isfinite(values) & (values < least) | np.isinf(values)
    cases.refuse(wrong, [f"{column} {c} is out of range; give {least:g} or more" for c in shown])
    if whole:
        odd = np.isfinite(values) & (values != np.floor(values))
        cases.refuse(odd, [f"{column} {c} must be a whole number" for c in shown])
    return values
