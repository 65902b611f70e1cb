"""Sweep: estimate every combination of lists of devices, degrees, formats and loads in one call, as one table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdb import Device, Hwdb, InputError, load, plain
from perfmodel import Engine, ModelSpec, Objective, Slo, Workload, engine, model, read_config, simulate
from perfmodel.workload import SLO_KEYS
from search.planning import term_row
from search.sweeps.axes import LENGTHS, MOST_ROWS, read_axes
from search.sweeps.part import Asked, Part

if TYPE_CHECKING:
    import pandas as pd

    from perfmodel.simulator import Simulation

#: Columns of the table that a notebook shows of a sweep, beside those that differ between its rows.
SHOWN = (
    "devices",
    "ttft_ms",
    "tpot_ms",
    "output_tok_s",
    "memory_gb_per_device",
    "power_w",
    "usd_per_hour",
    "usd_per_million_tokens",
    "fits",
    "basis",
)
#: Columns that say what a row is, shown where they differ.
IDENTITY = (
    *("model", "device", "tp", "pp", "ep", "dp", "cp", "kvp", "replicas", "weight", "kv", "engine"),
    *("max_num_batched_tokens", "max_num_seqs", "isl", "osl", "prefix_hit", "concurrency", "batch", "request_rate_rps"),
    *("power_cap_w", "activations", "cp_method", "host_weights", "host_experts", "host_kv"),
)

#: Columns that hold whole numbers, unless one of them is not.
WHOLE = ("tp", "pp", "ep", "dp", "cp", "kvp", "replicas", "devices", "isl", "osl", "concurrency", "batch")


@dataclass(frozen=True, eq=False)
class SweepTable:
    """Estimates of every combination of some lists, one row each: a table, and explanations of single rows.

    parts: the rows by model and engine, in their order. swept: arguments with more than one value.
    """

    parts: tuple[Part, ...]
    swept: tuple[str, ...]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    @cached_property
    def _frame(self) -> pd.DataFrame:
        """Return the table, made once."""
        import pandas as pd

        found = pd.concat([pd.DataFrame(part.columns()) for part in self.parts], ignore_index=True)
        whole = [c for c in WHOLE if c in found.columns and np.isfinite(found[c]).all() and not (found[c] % 1).any()]
        return found.astype(dict.fromkeys(whole, np.int64))

    def frame(self) -> pd.DataFrame:
        """Return all rows as a table: what was asked (device, degrees, formats, load), then the answer with its units.

        A row that no engine can start has no figures and the `reason`; one that does not fit in memory keeps its
        figures, with `fits` False.
        """
        return self._frame.copy()

    def explain(self, row: int = 0) -> pd.DataFrame:
        """Return the operators of a prefill and of a decode step of one row as a table: time, share, bound, basis."""
        import pandas as pd

        part, at = self.part(row, "explain")
        terms = part.terms(at)
        return pd.DataFrame([{**term_row(t), "flop": t.flop, "moved_bytes": t.moved} for t in terms])

    def simulate(self, row: int = 0, *, requests: int = 0, seed: int = 0) -> Simulation:
        """Replay the load of one row request by request. requests: 0 for as many as its figures need."""
        part, at = self.part(row, "simulate")
        if part.refused[at]:
            raise InputError(f"simulate: row {row}: {part.refused[at]}")
        one = part.deployments.take(np.array([at]))
        return simulate(part.model, one, part.workload(at), engine=part.engine, count=requests, seed=seed)

    def best(self, by: str = "usd_per_million_tokens", *, least: bool = True) -> int:
        """Return the number of the best row that fits and is not saturated. by: a column. least: less is better."""
        frame = self._frame
        if by not in frame.columns:
            raise InputError(f"best: by {by!r} is no column of the frame; give one such as usd_per_hour or tpot_ms")
        usable = frame[by][frame["fits"] & ~frame["saturated"]].astype(float).dropna()
        if usable.empty:
            why = next((text for text in frame["reason"] if text), "the load exceeds what each of them serves")
            raise InputError(f"best: no row fits and serves its load ({why}); try more devices or a smaller load")
        at = usable.to_numpy()
        return int(usable.index[int(at.argmin() if least else at.argmax())])

    def part(self, row: int, who: str) -> tuple[Part, int]:
        """Return the part that a row belongs to and its place there; `InputError` for a row that does not exist.

        who: asks for it, for the message.
        """
        if isinstance(row, bool) or not isinstance(row, int | np.integer) or not 0 <= row < len(self):
            raise InputError(f"{who}: row {row!r} does not exist; give a whole number from 0 to {len(self) - 1}")
        for part in self.parts:
            if row < len(part):
                return part, int(row)
            row -= len(part)
        raise AssertionError("rows are counted above")

    def differing(self) -> list[str]:
        """Return the columns that say what a row is and differ between rows."""
        frame, asked = self._frame, "request_rate_rps"
        own = [c for c in IDENTITY if c in frame.columns and (c != asked or asked in self.swept)]
        return [c for c in own if len(set(frame[c].astype(str))) > 1]

    def name(self, row: int) -> str:
        """Return what a row is called: its device, degrees, and what differs."""
        frame = self._frame
        differ = [c for c in self.differing() if c not in ("device", "tp")]
        values = [(c, frame[c].iloc[row]) for c in differ]
        texts = [v if isinstance(v, str) else f"{c} {plain(v)}" for c, v in values]
        return ", ".join([f"{frame['device'].iloc[row]} TP{frame['tp'].iloc[row]:g}", *texts])

    def shown(self) -> pd.DataFrame:
        """Return the part of the table that a notebook shows: what differs between rows, and the main figures."""
        frame, differ = self._frame, self.differing()
        always = [c for c in ("device", "tp") if c not in differ]
        chance = [c for c in frame.columns if c == "slo_chance"]
        return frame[[*always, *differ, *SHOWN, *chance]]

    def __repr__(self) -> str:
        return f"Sweep of {len(self)} rows over {', '.join(self.swept) or 'one deployment'}"


# size: the arguments of every question that a sweep answers
def sweep_table(
    models: str | Mapping[str, Any] | ModelSpec | Sequence[Any],
    device: Any,
    workload: Workload | None = None,
    *,
    engine: str | Engine | Sequence[Any] = "vllm",
    slo: Slo | Mapping[str, float] | None = None,
    usd_per_hour: Mapping[str, float] | None = None,
    nodes: str | Sequence[str] = (),
    hwdb: str | Path | Sequence[str | Path] = (),
    allow_long_context: bool = False,
    most: int = MOST_ROWS,
    **axes: Any,
) -> SweepTable:
    """Estimate every combination of the values of its arguments, each one value or a list.

    >>> sweep_table("llama-3.1-8b", ["h100-sxm", "l40s"], tp=[1, 2], concurrency=[1, 32]).frame().shape[0]
    8

    Args:
        models: name of the catalogue, path of a `config.json`, its content, or a model; or a list of them.
        device: devices or their names.
        workload: the lengths of the requests; None where `isl`, `osl` and `prefix_hit` state them.
        engine: engines or their names.
        slo: bounds in ms, such as `{"ttft_ms_p95": 500}`; the frame then has their chance, `slo_chance`.
        usd_per_hour: your price of a device, by its name.
        nodes: nodes that hold the devices: whole nodes are paid, and their hosts draw power.
        hwdb: folders of your own device files.
        allow_long_context: True where requests may exceed the model's context.
        most: rows that are allowed.
        axes: tp, pp, ep, dp_attention, cp, kvp, replicas, weights, activations, kv, cp_method, max_num_batched_tokens,
            max_num_seqs, power_cap_w, host_weights, host_experts, host_kv; the lengths isl, osl, prefix_hit; and one
            load: concurrency (requests in flight), batch (sequences that start together) or request_rate_rps.

    Raises:
        InputError: names the argument and the value that is not known or not possible. A combination that no engine
            can start is a row with a `reason`; where none can be started, that is the error.
    """
    if workload is not None and not isinstance(workload, Workload):
        raise InputError(f"sweep: workload {workload!r} is no Workload; make one with Workload.from_lengths(isl, osl)")
    stated = [name for name in LENGTHS if name in axes and workload is not None]
    if stated:
        raise InputError(f"sweep: {stated[0]} and workload both state lengths; give one of them")
    given = read_axes({"device": device, **axes}, most)
    database = load([hwdb] if isinstance(hwdb, str | Path) else hwdb)
    cards = {one if isinstance(one, Device) else database.device(one) for one in given.columns["device"]}
    asked = Asked(
        hwdb=database,
        requests=workload,
        slo=_slo(slo),
        prices=_prices(usd_per_hour, database, cards),
        nodes=_nodes([nodes] if isinstance(nodes, str) else list(nodes), database, cards),
        allow_long_context=allow_long_context,
    )
    specs, engines = [_model(m) for m in _listed(models, "model")], [_engine(e) for e in _listed(engine, "engine")]
    if len(given) * len(specs) * len(engines) > most:
        raise InputError(f"sweep: {len(given) * len(specs) * len(engines)} rows; give at most {most}")
    parts = tuple(Part(spec, runs, given, asked) for spec in specs for runs in engines)
    refusals = [part.refused for part in parts]
    if all((why != "").all() for why in refusals):
        raise InputError(f"sweep: {refusals[0][0]}")
    several = [name for name, found in (("model", specs), ("engine", engines)) if len(found) > 1]
    return SweepTable(parts, (*several, *given.swept))


def _listed(given: Any, name: str) -> list[Any]:
    """Return one value or a list of values as a list. name: of the argument."""
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        return [given]
    found = list(given)
    if not found:
        raise InputError(f"sweep: {name} is an empty list; give one value or more")
    return found


def _prices(given: Any, database: Hwdb, cards: Iterable[Device]) -> dict[str, float]:
    """Return the user's prices by the names of devices; `InputError` for a device or a price that means nothing."""
    if given is not None and not isinstance(given, Mapping):
        raise InputError(f'sweep: usd_per_hour {given!r} is no mapping; give one such as {{"h100-sxm": 2.5}}')
    own, found = {card.name for card in cards}, {}
    for name, price in (given or {}).items():
        if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < math.inf:
            raise InputError(f"sweep: usd_per_hour of {name} is {price!r}; give USD per hour of one device, 0 or more")
        found[name if name in own else database.device(str(name)).name] = float(price)
    return found


def _nodes(names: Sequence[str], database: Hwdb, cards: Iterable[Device]) -> tuple[str, ...]:
    """Return the names of nodes; `InputError` for one that is unknown, or that holds none of the devices."""
    swept = sorted({card.name for card in cards})
    for name in names:
        held = database.node(name).device
        if held not in swept:
            raise InputError(f"sweep: nodes: {name} holds {held}, and not {' or '.join(swept)}; give a node of those")
    return tuple(names)


def _model(given: Any) -> ModelSpec:
    """Return the model that an argument means."""
    if isinstance(given, ModelSpec):
        return given
    if isinstance(given, Mapping):
        return read_config(given)
    if isinstance(given, str | Path):
        return model(str(given))
    raise InputError(f"sweep: model {given!r} is no model; give a name, a config.json or its content")


def _engine(given: Any) -> Engine:
    """Return the engine that an argument means."""
    if isinstance(given, Engine):
        return given
    if isinstance(given, str):
        return engine(given)
    raise InputError(f"sweep: engine {given!r} is no engine; give a name such as vllm or sglang")


def _slo(given: Any) -> Slo:
    """Return the SLO that an argument means."""
    if given is None or isinstance(given, Slo):
        return given or Slo()
    if not isinstance(given, Mapping):
        raise InputError(f'sweep: slo {given!r} is no mapping of bounds; give one such as {{"ttft_ms_p95": 500}}')
    for key, value in given.items():
        if key not in SLO_KEYS:
            raise InputError(f"sweep: slo {key!r} is no bound; give one of {', '.join(SLO_KEYS)}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"sweep: slo {key} {value!r} is no number; give milliseconds")
    return Slo(tuple(Objective.from_key(key, float(value)) for key, value in given.items()))
