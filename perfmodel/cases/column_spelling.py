"""Read the columns of a table that bear another name of an input: those that other tools and the flags use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache

from perfmodel.cases.table import INPUT
from perfmodel.glossary import elsewhere, plain
from perfmodel.vocabulary import FORMER_NAMES

#: Words of other tools whose values say something else than the column: a switch, a number of layers, gigabytes, whole
#: replicas, a file, the format of weights or of arithmetic, how much a row counts. They are told and not read.
_OTHER_VALUES = frozenset(
    [
        "enable_prefix_caching",
        "prefix_caching",
        "enable_expert_parallel",
        "n_gpu_layers",
        "ngl",
        "gpu_layers",
        "cpu_offload_gb",
        "dp",
        "dp_size",
        "data_parallel_size",
        "dataset_name",
        "dtype",
        "on",
        "devices",
        "server",
        "weight",
    ]
)


def read_columns(names: Iterable[str]) -> dict[str, str]:
    """Return column of a table -> the input column as which it is read, where it is another name of that input.

    A column is read so where the table lacks the input column itself and no other column means the same.

    >>> read_columns(["model", "GPU", "weights", "concurency", "qps", "rps"])
    {'GPU': 'device', 'weights': 'weight_dtype'}
    """
    given = [str(name) for name in names]
    own = {FORMER_NAMES.get(name, name) for name in map(str.strip, given)}
    known = _input_called()
    meant = {n: known[plain(n)] for n in given if n.strip() not in FORMER_NAMES and plain(n) in known}
    columns = Counter(meant.values())
    return {n: c for n, c in meant.items() if c not in own and columns[c] == 1}


@cache
def _input_called() -> dict[str, str]:
    """Return name, as `plain` gives it -> the one input column whose values a column of that name holds."""
    found = {column.name: column.name for column in INPUT}
    for word, entries in elsewhere().items():
        inputs = [entry.name for entry in entries if entry.name in found and "case" in entry.places]
        if len(inputs) == 1 and word not in _OTHER_VALUES:
            found.setdefault(word, inputs[0])
    return found
