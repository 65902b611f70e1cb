"""Read the arguments of a sweep: one value or a list of each, and every combination of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from hwdb import Device, InputError, nearest
from perfmodel.arrays import Array
from perfmodel.deployment import CP_METHOD_CODE
from perfmodel.dtypes import COMPUTE_CODE, FORMAT_CODE, storage

#: Argument of a sweep -> column of a deployment.
PLACED = {
    "tp": "tp",
    "pp": "pp",
    "ep": "ep",
    "dp_attention": "dp",
    "cp": "cp",
    "kvp": "kvp",
    "replicas": "replicas",
    "max_num_batched_tokens": "max_num_batched_tokens",
    "max_num_seqs": "max_num_seqs",
    "power_cap_w": "power_cap",
    "host_weights": "host_weights",
    "host_experts": "host_experts",
    "host_kv": "host_kv",
}
#: Argument -> column of a deployment, for arguments that are words.
WORDS = {"weights": "weight", "activations": "act", "kv": "kv", "cp_method": "cp_method"}
#: Argument with the load -> how requests then arrive.
LOADS = {"concurrency": "closed", "batch": "static", "request_rate_rps": "open"}
#: Lengths of requests, tokens, and the cached share of a prompt -> value where it is not given.
LENGTHS = {"isl": 1024.0, "osl": 256.0, "prefix_hit": 0.0}
#: Columns of a deployment, which are taken for the arguments of those columns.
ALSO = {"dp": "dp_attention", "weight": "weights", "act": "activations", "power_cap": "power_cap_w"}
#: Arguments that count whole things, 1 or more.
COUNTS = ("tp", "pp", "ep", "dp_attention", "cp", "kvp", "replicas")
#: Arguments that are shares, 0 to 1.
SHARES = ("prefix_hit", "host_weights", "host_experts", "host_kv")
ARGUMENTS = ("device", *PLACED, *WORDS, *LOADS, *LENGTHS)
#: Most combinations of one call. Chosen: a frame of them takes some seconds and 1 GB.
MOST_ROWS = 200_000


@dataclass(frozen=True)
class Axes:
    """Every combination of the values of the arguments, as columns of N rows.

    columns: argument -> its values, (N,) numbers, texts or devices. swept: arguments with more than one value. load:
    the argument of `LOADS` that states the load.
    """

    columns: Mapping[str, Sequence[Any]]
    swept: tuple[str, ...]
    load: str

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def arrival(self) -> str:
        """Return how requests arrive."""
        return LOADS[self.load]

    def numbers(self, name: str) -> Array:
        """Return an argument as numbers, (N,); its default where it was not given."""
        return np.array(self.columns[name], float) if name in self.columns else np.full(len(self), LENGTHS[name])

    def placed(self) -> dict[str, Any]:
        """Return the columns of the deployments, by their names there, but the device."""
        found = {column: list(self.columns[name]) for name, column in PLACED.items() if name in self.columns}
        return found | {column: list(self.columns[name]) for name, column in WORDS.items() if name in self.columns}


def read_axes(given: Mapping[str, Any], most: int = MOST_ROWS) -> Axes:
    """Return every combination of the values of `given`: argument -> one value, or a list of them.

    The last argument changes fastest. most: rows. Raises `InputError` that names the argument and the value.
    """
    if given.get("device", "") is None:
        raise InputError("sweep: device None is no device; give a name, as `hw list` prints it")
    names = {ALSO.get(name, name): values for name, values in given.items() if values is not None}
    for name in names:
        if name not in ARGUMENTS:
            near = nearest(name, ARGUMENTS)
            text = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(ARGUMENTS)}"
            raise InputError(f"sweep: unknown argument {name!r}; {text}")
    lists = {name: _values(name, values) for name, values in names.items()}
    loads = [name for name in LOADS if name in lists]
    if len(loads) > 1:
        raise InputError(f"sweep: {' and '.join(loads)} exclude each other; give one of them")
    if not loads:
        loads, lists = ["concurrency"], {**lists, "concurrency": [1.0]}
    rows = math.prod(len(values) for values in lists.values())
    if rows > most:
        sizes = " x ".join(f"{len(v)} {n}" for n, v in lists.items() if len(v) > 1)
        raise InputError(f"sweep: {sizes} are {rows} rows; give at most {most}")
    columns = dict(zip(lists, zip(*product(*lists.values()), strict=True), strict=True))
    swept = tuple(name for name, values in lists.items() if len(values) > 1)
    return Axes(columns, swept, loads[0])


def _values(name: str, given: Any) -> list[Any]:
    """Return the values of an argument, each once; `InputError` for one that the argument cannot have."""
    if isinstance(given, str | Device) or not hasattr(given, "__iter__"):
        items = [given]
    elif isinstance(given, Mapping):
        raise InputError(f"sweep: {name} is a mapping; give one value, or a list of values")
    else:
        items = np.ravel(given).tolist() if isinstance(given, np.ndarray) else list(given)
    if not items:
        raise InputError(f"sweep: {name} is an empty list; give one value or more, or leave it out")
    if name == "device":
        return list(dict.fromkeys(_device(item) for item in items))
    return list(dict.fromkeys(_word(name, item) if name in WORDS else _number(name, item) for item in items))


def _device(item: Any) -> Any:
    """Return a device or the name of one."""
    if isinstance(item, str | Device):
        return item
    raise InputError(f"sweep: device {item!r} is no device; give a name, as `hw list` prints it")


def _word(name: str, item: Any) -> str:
    """Return the standard spelling of a number format, or of a way to exchange keys."""
    known = {"activations": COMPUTE_CODE, "cp_method": CP_METHOD_CODE}.get(name, FORMAT_CODE)
    if not isinstance(item, str):
        raise InputError(f"sweep: {name} {item!r} is no word; give one of {', '.join(known)}")
    if name in ("weights", "kv"):
        try:
            return storage(item).name
        except InputError as error:
            raise InputError(f"sweep: {name}: {error}") from None
    if item not in known:
        raise InputError(f"sweep: {name} {item!r} is unknown; give one of {', '.join(known)}")
    return item


def _number(name: str, item: Any) -> float:
    """Return a number; `InputError` for what is none, and for one that the argument cannot be."""
    if isinstance(item, bool | np.bool_):
        raise InputError(f"sweep: {name} {item!r} is no number; give one")
    try:
        value = float(item)
    except (TypeError, ValueError):
        raise InputError(f"sweep: {name} {item!r} is no number; give one, or a list of numbers") from None
    if name in SHARES:
        possible, told = 0.0 <= value <= 1.0, "a share from 0 to 1"
    elif name in COUNTS:
        possible, told = value >= 1.0 and value % 1.0 == 0.0, "a whole number of 1 or more"
    elif name in ("request_rate_rps", "power_cap_w"):
        possible, told = value > 0.0, "more than 0"
    else:
        possible, told = value >= 1.0, "1 or more"
    if not (math.isfinite(value) and possible):
        raise InputError(f"sweep: {name} {value:g} is impossible; give {told}")
    return value
