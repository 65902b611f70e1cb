"""How the functions of the event loop are compiled by numba.

The functions are plain Python: `perfmodel.simulator.kernel.interpreted` runs them as they are, which suits short
simulations, and `compiled_spaces` compiles them for long ones.

Most of them are called by compiled functions only and need no wrappers for Python, and none allocates memory, so
numba's reference counting is off. Both together more than halve the time of compilation.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

from perfmodel.cache_folder import kept_in

Function = TypeVar("Function", bound=Callable[..., Any])
#: Functions to compile, in the order of their definitions.
_INNER: list[FunctionType] = []
#: Options of all compiled functions, and those of functions that only compiled functions call.
_OPTIONS: dict[str, Any] = {"_nrt": False}
_INNER_OPTIONS: dict[str, Any] = {**_OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def inner(function: Function) -> Function:
    """Mark `function` as a part of the event loop, which `compiled_spaces` compiles; it stays plain Python itself."""
    assert isinstance(function, FunctionType)
    _INNER.append(function)
    return function


def compiled_spaces() -> dict[str, dict[str, Any]]:
    """Return the names of each module of the loop (by its dotted name), with compiled functions in place of plain ones.

    numba compiles a function when it is first called.
    """
    import numba

    spaces = {name: dict(vars(sys.modules[name])) for name in {f.__module__ for f in _INNER}}
    made = {f: numba.njit(**_INNER_OPTIONS)(_in_space(f, spaces[f.__module__])) for f in _INNER}
    for space in spaces.values():
        space.update({name: made[v] for name, v in space.items() if isinstance(v, FunctionType) and v in made})
    return spaces


def _in_space(function: FunctionType, space: dict[str, Any]) -> FunctionType:
    """Return a copy of `function` that finds the names it uses in `space`."""
    return FunctionType(function.__code__, space, function.__name__, function.__defaults__)


def outer(make: Callable[[int], Any], fingerprint: int, space: dict[str, Any], folder: Path | None) -> Any:
    """Compile the function that `make(fingerprint)` returns for calls from Python.

    space: names that the function uses, from `compiled_spaces`. folder: where the result is kept; None keeps none.
    """
    import numba

    assert isinstance(make, FunctionType)
    function = _in_space(make, space)(fingerprint)
    if folder is None:
        return numba.njit(**_OPTIONS)(function)
    try:
        with kept_in(folder, numba.config):
            return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # numba's "no locator available": the folder can no longer be written
        return numba.njit(**_OPTIONS)(function)
