"""The event loop as plain Python, for simulations that end before the compiled loop would be ready.

Records become objects with the same fields and arrays of numbers become memory views, so that the functions of the loop
run as they are, with the same results. Python takes about 50 us per event and compiled code less than 1, which
compiling for 20 s does not repay in less than half a million events.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.simulator.kernel import core, tokenwalk
from perfmodel.simulator.kernel.records import ALL_DONE, LOG_FULL, RUN, STINT
from perfmodel.simulator.kernel.state import Arrays

#: Events that a process takes in plain Python before it compiles the loop. Chosen: 14 s, about half of a compilation.
MOST_EVENTS = 300_000
#: Events per request that are expected. Chosen: chat loads take 3 to 8.
_EVENTS_PER_REQUEST = 4
#: Nodes of prefix caches beyond which the state takes too long to convert. Chosen: 1 s.
_MOST_NODES = 1_000_000
#: Events between two calls for progress. Chosen: a fraction of a second.
_EVENTS_PER_CALL = 5_000
#: Tokens that are scored in plain Python before the walk is compiled. Chosen: 2 s, about as long as compiling it.
MOST_TOKENS = 1_000_000
#: Rows by which a full log grows.
_MORE_ROWS = 4096


class Allowance:
    """How many events this process may still take in plain Python."""

    def __init__(self, events: int) -> None:
        self.left = events

    def covers(self, arrays: Arrays) -> bool:
        """Return whether a simulation is likely to end within what is left."""
        return len(arrays.requests) * _EVENTS_PER_REQUEST <= self.left and arrays.nodes.size <= _MOST_NODES

    def play(self, arrays: Arrays, progress: Callable[[int], None]) -> tuple[Arrays, bool]:
        """Run the loop until nothing is left to happen or no event is allowed any more.

        Returns the state, and whether the simulation has ended. progress: called with the number of finished requests.
        """
        view, status = _objects(arrays), -1
        loop = view.loop[0]
        while status != ALL_DONE and self.left > 0:
            before = loop.processed_events
            with np.errstate(over="ignore"):  # the random numbers wrap around
                status = core.advance(view, min(_EVENTS_PER_CALL, self.left))
            self.left -= loop.processed_events - before
            if status == LOG_FULL:
                view.runs.extend(_empty(RUN, _MORE_ROWS))
                view.stints.extend(_empty(STINT, _MORE_ROWS))
            progress(loop.finished)
        return _arrays(view, arrays), status == ALL_DONE


@lru_cache(maxsize=16)
def _kind(dtype: np.dtype[np.void]) -> tuple[type, Callable[[Any], tuple[Any, ...]]]:
    """Return the class whose objects have the fields of a record, and what reads all fields of an object."""
    names = dtype.names or ()
    return type("Record", (), {"__slots__": names}), operator.attrgetter(*names)


def _record(dtype: np.dtype[np.void], values: Sequence[Any]) -> Any:
    """Return the object of one record."""
    made = _kind(dtype)[0]()
    for name, value in zip(dtype.names or (), values, strict=True):
        setattr(made, name, value)
    return made


def _empty(dtype: np.dtype[np.void], count: int) -> list[Any]:
    """Return objects whose fields are all zero."""
    return [_record(dtype, row) for row in np.zeros(count, dtype).tolist()]


class _Grid:
    """Objects in rows and columns, found by `grid[row, column]`."""

    def __init__(self, records: NDArray[np.void]) -> None:
        self.rows = [[_record(records.dtype, cell) for cell in row] for row in records.tolist()]

    def __getitem__(self, at: tuple[int, int]) -> Any:
        return self.rows[at[0]][at[1]]


def _objects(arrays: Arrays) -> Arrays:
    """Return the state with objects for records and memory views of arrays of numbers."""
    made: dict[str, Any] = {}
    for name, array in arrays._asdict().items():
        if array.dtype.names is None:
            made[name] = memoryview(array)
        elif array.ndim > 1:
            made[name] = _Grid(array)
        else:
            made[name] = [_record(array.dtype, row) for row in array.tolist()]
    return Arrays(**made)


def _arrays(view: Arrays, before: Arrays) -> Arrays:
    """Return the state as arrays again. before: the arrays that it was made from, which number arrays still share."""
    made: dict[str, Any] = {}
    for name, array in before._asdict().items():
        if array.dtype.names is None:
            continue
        found, read = getattr(view, name), _kind(array.dtype)[1]
        if array.ndim > 1:
            made[name] = np.array([[tuple(read(cell)) for cell in row] for row in found.rows], array.dtype)
        else:
            made[name] = np.array([tuple(read(item)) for item in found], array.dtype)
    return before._replace(**made)


def walk(issued: Any, first: Any, line: Any, reader: tuple[float, float], scores: Any) -> None:
    """`perfmodel.simulator.kernel.tokenwalk.walk` in plain Python."""
    arrays: list[Any] = [np.ascontiguousarray(part) for part in line]
    views = type(line)(*(memoryview(part) for part in arrays))
    tokenwalk.walk(memoryview(issued), memoryview(first), views, reader, scores)
