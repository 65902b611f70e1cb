"""How numba compiles the functions of the event loop.

Most of them are called by compiled functions only and need no wrappers for Python, and none allocates memory, so
numba's reference counting is off. Both together more than halve the time of compilation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def inner(function: Function) -> Function:
    """Compile `function` for callers that are compiled themselves; Python cannot call it."""
    options: dict[str, Any] = {"_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    made: Function = numba.njit(**options)(function)
    return made


def outer(function: Function) -> Function:
    """Compile `function` for calls from Python, and keep the result on disk where a folder can be written."""
    options: dict[str, Any] = {"_nrt": False}
    made: Function
    try:
        made = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba's "no locator available": neither the package's folder nor the user's can be written
        made = numba.njit(**options)(function)
    return made
