"""Compiled loops, loaded where a process reads enough for it to pay: the reader of grids, the count of equal rows, and
isotonic regression.

They give the same numbers as array code, to the last bit, so it does not matter which of both runs.
numba takes most of a second to import and some seconds to compile, once on a machine: short runs never load it.
"""

from __future__ import annotations

import logging
import pickle
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple, cast

from perfmodel import cache_folder
from perfmodel.profiles import equal_rows, isotonic, reader

#: Seconds that array code takes per read and per row that is read. Measured on a server core of 2020; they decide only
#: when compiled code is loaded.
SECONDS_PER_READ, SECONDS_PER_ROW = 4e-4, 4e-7
#: Seconds that array code takes per value along a row in isotonic regression, and per pair of values of a row. Measured
#: on the same machine.
SECONDS_PER_PLACE, SECONDS_PER_PAIR = 2e-6, 4e-9
#: Rows that `read_rows` reads uncompiled in less time than array code, and seconds that it takes for each.
FEW_ROWS, SECONDS_PER_FEW = 16, 2e-5
#: Seconds of reading without compiled code from which loading kept code pays, and from which compiling it pays.
#: Chosen: what each takes, so that a process never spends more than twice what it had to (Karlin et al., Competitive
#: Snoopy Caching, Algorithmica 3, 1988).
LOAD_FROM, COMPILE_FROM = 1.0, 3.0
#: Functions that `read_rows` calls.
_INNER = ("_axis", "_corners", "_clip", "_place", "_back", "_mean", "_part", "_flags")
#: As numpy, so that a division by zero gives what arrays give.
_OPTIONS: dict[str, Any] = {"error_model": "numpy"}


class Effort:
    """Counts what reading grids and isotonic regression without compiled code have taken in this process."""

    def __init__(self) -> None:
        """Begin with nothing spent."""
        self.seconds = 0.0

    def add(self, rows: int) -> None:
        """Count one read of `rows` rows."""
        few = rows <= FEW_ROWS
        self.seconds += SECONDS_PER_FEW * rows if few else SECONDS_PER_READ + SECONDS_PER_ROW * rows

    def add_regression(self, rows: int, places: int) -> None:
        """Count one isotonic regression of `rows` rows of `places` values."""
        self.seconds += places * (SECONDS_PER_PLACE + SECONDS_PER_PAIR * rows * places / 2.0)

    @property
    def pays(self) -> bool:
        """Return whether it pays to load compiled code, or to compile it where none is kept."""
        return self.seconds >= LOAD_FROM and (self.seconds >= COMPILE_FROM or kept())


EFFORT = Effort()


def expect_reads(seconds: float) -> None:
    """Say how long this process is about to read without compiled code, so that this is loaded at once if it pays."""
    EFFORT.seconds = max(EFFORT.seconds, seconds)


#: Held while compiled code is loaded, so that it is compiled once.
_LOADING = threading.Lock()
LOG = logging.getLogger("perfmodel.profiles")
#: What numba raises where its folder can no longer be written, or where a file in it is damaged: they hold pickles.
_NOT_KEPT = (
    *(RuntimeError, OSError, pickle.UnpicklingError, EOFError, ImportError),
    *(AttributeError, ArithmeticError, LookupError, TypeError, ValueError),
)
#: Said once where there is no compiled code.
NOT_COMPILED = "perfmodel: numba cannot be imported ({}); answers are the same, large searches take a few times as long"


def wanted(rows: int) -> Callable[..., None] | None:
    """Return `read_rows`, compiled where this process reads enough for it to pay, else for few rows as it is, or None.

    rows: rows that are about to be read.
    """
    if not _loops.cache_info().currsize:
        EFFORT.add(rows)
        if not EFFORT.pays:
            return reader.read_rows if rows <= FEW_ROWS else None
    loops = _locked()
    return loops.read_rows if loops else None


@lru_cache(maxsize=1)
def kept() -> bool:
    """Return whether compiled code of this version is kept on disk."""
    folder = _folder()
    return folder is not None and all(any(folder.rglob(f"*.{name}-*.nbc")) for name in Loops._fields)


@lru_cache(maxsize=1)
def _folder() -> Path | None:
    """Return where compiled code of this version is kept; None where no folder can be written."""
    sources = (Path(__file__), Path(reader.__file__), Path(equal_rows.__file__), Path(isotonic.__file__))
    return cache_folder.folder(zlib.crc32(b"".join(path.read_bytes() for path in sources)), "reader")


def numbering() -> Callable[..., int] | None:
    """Return `perfmodel.profiles.equal_rows.number_rows`, compiled, where this process has loaded compiled code.

    None where it has not, or where there is no numba.
    """
    loops = _loaded()
    return loops.number_rows if loops else None


def regression(rows: int, places: int) -> Callable[..., None] | None:
    """Return `perfmodel.profiles.isotonic.isotonic_rows`, compiled, where this process reads enough for it to pay.

    None where it does not, or where there is no numba. rows, places: rows of the regression, and values of each.
    """
    if not _loops.cache_info().currsize:
        EFFORT.add_regression(rows, places)
        if not EFFORT.pays:
            return None
    loops = _locked()
    return loops.isotonic_rows if loops else None


class Loops(NamedTuple):
    """Hold the compiled loops."""

    read_rows: Callable[..., None]
    number_rows: Callable[..., int]
    isotonic_rows: Callable[..., None]


def _loaded() -> Loops | None:
    """Return the compiled loops where this process has loaded them; None where it has not, or without numba."""
    return _locked() if _loops.cache_info().currsize else None


def _locked() -> Loops | None:
    """Return the compiled loops, which one thread loads or compiles; None without numba."""
    with _LOADING:
        return _loops()


@lru_cache(maxsize=1)
def _loops() -> Loops | None:
    """Compile all loops, or load them where they are kept; None, once said, where numba cannot be imported.

    All at once: where a process needed only some of them, the others would never be kept, and the next process would
    take none of them for kept.
    """
    try:
        import numba
    except ImportError as error:
        LOG.warning(NOT_COMPILED.format(error))
        return None
    from numba import types

    space, t = dict(vars(reader)), cast("Any", types)
    for name in _INNER:
        space[name] = numba.njit(**_OPTIONS)(_in_space(getattr(reader, name), space))
    plane = t.float64[:, ::1]
    counted = t.intp(t.uint64[:, ::1], t.intp[::1], t.intp[::1], t.intp[::1])
    return Loops(
        read_rows=_made("read_rows", _in_space(reader.read_rows, space), _signature()),
        number_rows=_made("number_rows", equal_rows.number_rows, counted),
        isotonic_rows=_made("isotonic_rows", isotonic.isotonic_rows, t.void(plane, plane, plane)),
    )


def _made(name: str, function: Any, signature: Any) -> Callable[..., Any]:
    """Compile a function, or load it where it is kept. name: under which it is kept."""
    import numba

    folder = _folder()
    if folder is not None:
        try:
            with cache_folder.kept_in(folder, numba.config):
                return _compiled(numba.njit(signature, cache=True, **_OPTIONS)(function))
        except _NOT_KEPT:
            _clear(folder, name)
    return _compiled(numba.njit(signature, **_OPTIONS)(function))


def _signature() -> Any:
    """Return the types with which `read_rows` is compiled."""
    from numba import types

    t: Any = types
    line, plane, numbers = t.float64[::1], t.float64[:, ::1], t.intp[::1]
    axes, rows = t.Tuple((line, numbers, numbers)), t.Tuple((numbers, line, line, line))
    tables, out = t.Tuple((line, line, line, t.boolean[::1])), t.Tuple((line, t.int8[::1], plane, plane))
    return t.void(tables, axes, t.UniTuple(numbers, 3), rows, out, t.UniTuple(t.float64, reader.CONSTANTS))


def _compiled(made: Any) -> Callable[..., Any]:
    """Return what numba made, with its type."""
    return cast("Callable[..., Any]", made)


def _clear(folder: Path, name: str) -> None:
    """Remove the kept code of the function `name`, so that the next process keeps it anew."""
    for path in folder.rglob(f"*.{name}-*.nb*"):
        with suppress(OSError):
            path.unlink()


def _in_space(function: Any, space: dict[str, Any]) -> FunctionType:
    """Return a copy of `function` that finds the names it uses in `space`."""
    return FunctionType(function.__code__, space, function.__name__, function.__defaults__)
