"""The compiled reader of grids, loaded where a process reads enough for it to pay.

Both readers give the same numbers to the last bit (`perfmodel.profiles.reader`), so it does not matter which one reads.
numba takes most of a second to import and some seconds to compile, once on a machine: short runs never load it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import FunctionType
from typing import Any

from perfmodel import cache_folder
from perfmodel.profiles import reader

#: Seconds that array code takes per read and per row that is read. Measured on a server core of 2020; they decide only
#: when compiled code is loaded.
SECONDS_PER_READ, SECONDS_PER_ROW = 4e-4, 4e-7
#: Seconds of reading by array code from which loading kept code pays, and from which compiling it pays. Chosen: twice
#: what each takes.
LOAD_FROM, COMPILE_FROM = 2.0, 6.0
#: Functions that `read_rows` calls.
_INNER = ("_clip", "_place", "_back", "_mean", "_part", "_flags")
#: As numpy, so that a division by zero gives what arrays give.
_OPTIONS: dict[str, Any] = {"error_model": "numpy"}


class Effort:
    """Counts what array code has spent on reading grids in this process."""

    def __init__(self) -> None:
        """Begin with nothing spent."""
        self.seconds = 0.0

    def add(self, rows: int) -> None:
        """Count one read of `rows` rows."""
        self.seconds += SECONDS_PER_READ + SECONDS_PER_ROW * rows


EFFORT = Effort()


def wanted(rows: int) -> Callable[..., None] | None:
    """Return the compiled `read_rows` where this process reads enough for it to pay, else None.

    rows: rows that are about to be read.
    """
    if _read_rows.cache_info().currsize:
        return _read_rows()
    EFFORT.add(rows)
    if EFFORT.seconds < LOAD_FROM or (EFFORT.seconds < COMPILE_FROM and not kept()):
        return None
    return _read_rows()


@lru_cache(maxsize=1)
def kept() -> bool:
    """Return whether compiled code of this version is kept on disk."""
    folder = _folder()
    return folder is not None and any(folder.rglob("*.read_rows-*.nbc"))


@lru_cache(maxsize=1)
def _folder() -> Path | None:
    """Return where compiled code of this version is kept; None where no folder can be written."""
    sources = (Path(__file__), Path(reader.__file__))
    return cache_folder.folder(zlib.crc32(b"".join(path.read_bytes() for path in sources)), "reader")


@lru_cache(maxsize=1)
def _read_rows() -> Callable[..., None]:
    """Return `perfmodel.profiles.reader.read_rows`, compiled."""
    import numba
    from numba import types

    t: Any = types

    space = dict(vars(reader))
    for name in _INNER:
        space[name] = numba.njit(**_OPTIONS)(_in_space(getattr(reader, name), space))
    function = _in_space(reader.read_rows, space)
    line, plane, box = t.float64[::1], t.float64[:, ::1], t.float64[:, :, ::1]
    rows, out = t.Tuple((t.intp[::1], line, line, line)), t.Tuple((line, t.int8[::1], plane, plane))
    known, axes = t.boolean[:, :, ::1], t.UniTuple(line, 2)
    signature = t.void(t.UniTuple(box, 3), known, axes, rows, out, t.UniTuple(t.float64, reader.CONSTANTS))
    folder, settings = _folder(), numba.config
    made: Any = None
    before: Any = settings.CACHE_DIR  # type: ignore[attr-defined]
    try:
        if folder is not None:
            settings.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
            made = numba.njit(signature, cache=True, **_OPTIONS)(function)
    except (RuntimeError, OSError):  # the folder can no longer be written
        pass
    finally:
        settings.CACHE_DIR = before  # type: ignore[attr-defined]
    return made if made is not None else numba.njit(signature, **_OPTIONS)(function)


def _in_space(function: Any, space: dict[str, Any]) -> FunctionType:
    """Return a copy of `function` that finds the names it uses in `space`."""
    return FunctionType(function.__code__, space, function.__name__, function.__defaults__)
