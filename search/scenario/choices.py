"""Read the `[search]` table of a scenario: which values to try on each axis, and how to search."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hwdb.tomlfile import Table
from perfmodel.deployment import CP_METHODS
from perfmodel.dtypes import COMPUTE, storage
from search.scenario.workload import relay, wholes

#: Largest counts that are read. Chosen: more is taken for a typing error; numpy's seeds have 32 bits.
MOST_TRIALS, MOST_FINALISTS, MOST_SEED = 1_000_000, 1000, 2**32 - 1
MODES = ("colocated", "disaggregated")
SEARCHERS = ("exhaustive", "optuna")
#: Stands for every format that the devices and the engine run.
AUTO_FORMATS = "auto"
#: Axes that take whole numbers of 1 or more.
WHOLE_AXES = ("tp", "pp", "dp", "cp", "kvp", "max_num_batched_tokens", "max_num_seqs", "concurrency")


@dataclass(frozen=True)
class Choices:
    """Values to try on each axis; an empty axis means the search's own range.

    tp, pp, ep, dp, cp, kvp: degrees of parallelism; inf in ep spreads the experts over all devices that share a layer.
    cp_method: how context parallelism exchanges keys.
    max_num_batched_tokens, max_num_seqs: tokens per step and running sequences, as the engine's flags count them.
    concurrency: requests in flight per replica.
    weight, act, kv: number formats; `AUTO_FORMATS` for all that the devices and the engine run. modes: colocated,
    disaggregated. power_cap: watts per device. trials: candidates that the optuna searcher proposes. finalists:
    candidates that a simulation checks.
    """

    tp: tuple[int, ...] = ()
    pp: tuple[int, ...] = ()
    ep: tuple[float, ...] = ()
    dp: tuple[int, ...] = ()
    cp: tuple[int, ...] = ()
    kvp: tuple[int, ...] = ()
    cp_method: tuple[str, ...] = ()
    max_num_batched_tokens: tuple[int, ...] = ()
    max_num_seqs: tuple[int, ...] = ()
    concurrency: tuple[int, ...] = ()
    weight: tuple[str, ...] = ()
    act: tuple[str, ...] = ()
    kv: tuple[str, ...] = ()
    modes: tuple[str, ...] = ("colocated",)
    power_cap: tuple[float, ...] = ()
    searcher: str = "exhaustive"
    trials: int = 1000
    finalists: int = 5
    seed: int = 0


def read_choices(table: Table) -> Choices:
    """Read the `[search]` table; a key that is absent gets its default."""
    default = Choices()
    choices = Choices(
        **{axis: wholes(table, axis) for axis in WHOLE_AXES},
        ep=_expert_degrees(table),
        weight=_formats(table, "weight"),
        kv=_formats(table, "kv"),
        act=_among(table, "act", (), COMPUTE),
        cp_method=_among(table, "cp_method", (), CP_METHODS),
        modes=_among(table, "modes", default.modes, MODES),
        power_cap=tuple(dict.fromkeys(table.numbers("power_cap_w", (), least=1))),
        searcher=table.text("searcher", default.searcher, choices=SEARCHERS),
        trials=table.whole("trials", default.trials, least=1, most=MOST_TRIALS),
        finalists=table.whole("finalists", default.finalists, least=0, most=MOST_FINALISTS),
        seed=table.whole("seed", default.seed, most=MOST_SEED),
    )
    table.done()
    return choices


def _formats(table: Table, key: str) -> tuple[str, ...]:
    """Read a list of number formats at `key`; returns their standard names, each once, and `AUTO_FORMATS` as it is."""
    names = table.texts(key, ())
    found = (name if name == AUTO_FORMATS else relay(table, key, storage, name).name for name in names)
    return tuple(dict.fromkeys(found))


def _among(table: Table, key: str, default: tuple[str, ...], allowed: tuple[str, ...]) -> tuple[str, ...]:
    """Read a list of texts at `key`, each one of `allowed`; `default` where the key is absent."""
    values = table.texts(key, default)
    for value in values:
        if value not in allowed:
            raise table.error(key, f"unknown value {value!r}; choose from {', '.join(allowed)}")
    return tuple(dict.fromkeys(values))


def _expert_degrees(table: Table) -> tuple[float, ...]:
    """Read the degrees of expert parallelism: whole numbers, or "all" (inf) for every device that shares a layer."""
    values = table.get("ep", [])
    items = values if isinstance(values, list) else [values]
    numbers = [v for v in items if v != "all"]
    wrong = next((v for v in numbers if isinstance(v, bool) or not isinstance(v, int) or v < 1), None)
    if wrong is not None:
        raise table.error("ep", f'{wrong!r} is no degree; give whole numbers of 1 or more, or "all"')
    return tuple(dict.fromkeys(math.inf if v == "all" else table.ranged("ep", v) for v in items))
