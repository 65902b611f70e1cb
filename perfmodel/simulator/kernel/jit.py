"""How the loop's functions are compiled: for each other only.

Functions that Python never calls need no wrappers, and with no memory allocated inside the loop nothing is counted;
both together more than halve compilation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def inner(function: Function) -> Function:
    """Compile `function` for callers that are compiled themselves."""
    options: dict[str, Any] = {"_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    made: Function = numba.njit(**options)(function)
    return made


def outer(function: Function) -> Function:
    """Compile `function` for Python, and keep the result on disk where there is a place to write."""
    options: dict[str, Any] = {"_nrt": False}
    made: Function
    try:
        made = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba: no locator available, neither the package's folder nor the user's can be written
        made = numba.njit(**options)(function)
    return made
