"""Is a device that is better or equal in every figure ever predicted slower than its lesser sibling?

    python -m benchmarks.device_order [--engine NAME] [--worst 30] [--cells FILE]

Pairs (better, lesser) come from the facts in hwdb by rule (`perfmodel.hardware.no_worse`): the same vendor, kind,
generation and kind of memory, and no figure of the better device below that of the lesser one. Both are priced on a
grid: engines, models and formats, decode steps of several batches, prompts of several lengths, and degrees of tensor
parallelism. A cell is violated where the better device takes more than `TOLERANCE` longer. Its cause is the first part
of the model that turns the order round, from the kernels timed alone to the wall time of the step.

The second table holds one device against itself: more tokens, a larger batch and wider weights never take less time,
and more tensor parallelism never makes the operators that arithmetic or memory limits slower.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import hwdb
from hwdb import Device
from perfmodel import deployments, model
from perfmodel.arrays import Array, Index, Mask
from perfmodel.costs import default, unfitted
from perfmodel.engines import Engine
from perfmodel.engines import engine as engine_of
from perfmodel.estimates.estimation.estimator import Prepared, prepare
from perfmodel.hardware import no_worse
from perfmodel.vocabulary import BASES, COMPUTE_BOUND, MEMORY_BOUND
from perfmodel.workload import Workload, load_of

#: Excess of time above which an order counts as violated.
TOLERANCE = 0.02
#: Engine -> vendors of the devices that it is asked about; () for all.
ENGINES: dict[str, tuple[str, ...]] = {"vllm": (), "sglang": ("NVIDIA", "AMD"), "trtllm": ("NVIDIA",), "llamacpp": ()}
#: Models and stored formats of weights ("" for the model's own) of engines with kernels of libraries, and of llama.cpp.
MODELS = (
    ("meta-llama/Llama-3.2-1B", "bf16"),
    ("meta-llama/Llama-3.1-8B", "bf16"),
    ("meta-llama/Llama-3.1-8B", "fp8"),
    ("meta-llama/Llama-3.1-8B", "int4"),
    ("meta-llama/Llama-3.1-70B", "fp8"),
    ("meta-llama/Llama-3.1-70B", "int4"),
    ("Qwen/Qwen3-30B-A3B", "bf16"),
    ("openai/gpt-oss-120b", ""),
    ("deepseek-ai/DeepSeek-V2-Lite", "bf16"),
    ("deepseek-ai/DeepSeek-V3", ""),
)
GGUF = (
    ("meta-llama/Llama-3.2-1B", "q8_0"),
    ("meta-llama/Llama-3.1-8B", "q8_0"),
    ("meta-llama/Llama-3.1-8B", "q4_k_m"),
    ("meta-llama/Llama-3.1-70B", "q4_k_m"),
    ("Qwen/Qwen3-30B-A3B", "q4_k_m"),
    ("deepseek-ai/DeepSeek-V2-Lite", "q4_k_m"),
)
BATCHES, PROMPTS, TP = (1.0, 2.0, 16.0, 64.0, 256.0), (256.0, 2048.0, 16384.0), (1, 2, 8)
#: Tokens that a decoding sequence attends to.
CONTEXT = 2048.0
#: Share of device memory that weights may take in a cell that counts.
ROOM = 0.9
#: Causes, in the order in which they are asked for.
CAUSES = ("kernels", "factors", "host")


@cache
def all_devices() -> tuple[Device, ...]:
    """Return all shipped devices."""
    built_in = hwdb.built_in()
    return tuple(built_in.device(name) for name in built_in.names())


def pairs(devices: Sequence[Device], *, own: bool, link: bool) -> Index:
    """Return all pairs (better, lesser) among devices, as indices, (P, 2)."""
    found = [
        (i, j)
        for i, one in enumerate(devices)
        for j, other in enumerate(devices)
        if no_worse(one, other, own_kernels=own, link=link)
    ]
    return np.array(found, np.intp).reshape(-1, 2)


@dataclass(frozen=True)
class Grid:
    """Hold what cells of one engine, model and format take, seconds, (S, N): S loads by N devices and degrees of TP.

    alone: kernels as timed alone. fitted: with the engine's factors. wall: with its host. roofs: operators that
    arithmetic or memory limits. basis: codes of what `alone` rests on. fits: (N,) whether weights fit in memory.
    """

    engine: Engine
    name: str
    weight: str
    devices: tuple[Device, ...]
    device: Index
    tp: Array
    alone: Array
    fitted: Array
    wall: Array
    roofs: Array
    basis: Array
    fits: Mask


#: Names of the loads of a grid, decode steps first.
LOADS = (*(f"decode of {b:.0f}" for b in BATCHES), *(f"prompt of {t:.0f}" for t in PROMPTS))


def grid(engine: Engine, name: str, weight: str, devices: Sequence[Device]) -> Grid:
    """Price all loads of the grid for one engine, model and format on all devices and degrees of TP."""
    spec, count = model(name), len(devices)
    index, tp = np.repeat(np.arange(count), len(TP)), np.tile(np.array(TP, float), count)
    formats: dict[str, Any] = {"weight": weight} if weight else {}
    rows = deployments(list(devices), device=index, tp=tp, **formats)
    load = load_of(Workload.from_lengths(CONTEXT, 128, concurrency=16, arrival="static"), len(rows))
    plain, full = (prepare(spec, rows, engine, costs, load) for costs in (unfitted(engine), default(engine)))
    alone, fitted = _priced(plain), _priced(full)
    return Grid(
        engine=engine,
        name=spec.name.rpartition("/")[2],
        weight=weight,
        devices=tuple(devices),
        device=index,
        tp=tp,
        alone=alone["time"],
        fitted=fitted["time"],
        wall=fitted["wall"],
        roofs=fitted["roofs"],
        basis=alone["basis"],
        fits=full.memory.weights <= ROOM * np.array([d.memory for d in devices])[index],
    )


def _priced(made: Prepared) -> dict[str, Array]:
    """Return device time, wall time, seconds that arithmetic and memory limit, and basis of all loads, (S, N) each."""
    steps, count = made.steps, len(made.sharding.tp)
    every = np.ones(count)
    decode = steps.decode(np.array(BATCHES)[:, None] * every, CONTEXT * every, 0.0 * every)
    cost, n_steps, wall = steps.prefill(np.array(PROMPTS)[:, None] * every, 0.0 * every)
    roofs = [COMPUTE_BOUND, MEMORY_BOUND]
    both = {
        "time": (decode.cost.time, cost.time * n_steps),
        "wall": (decode.wall, wall),
        "roofs": (decode.cost.bound[roofs].sum(axis=0), cost.bound[roofs].sum(axis=0) * n_steps),
        "basis": (decode.cost.basis, cost.basis),
    }
    return {name: np.concatenate(parts) for name, parts in both.items()}


def grids(engine: Engine, devices: Sequence[Device]) -> Iterator[Grid]:
    """Yield the grid of each model and format under one engine."""
    for name, weight in GGUF if engine.kernel_source == "own" else MODELS:
        yield grid(engine, name, weight, devices)


def offered(engine: str) -> list[Device]:
    """Return the devices that an engine is asked about."""
    vendors = ENGINES[engine]
    return [d for d in all_devices() if not vendors or d.vendor in vendors]


def between_devices(found: Grid) -> pd.DataFrame:
    """Return a line for each cell and pair of devices: excess of the better one, cause and bases of both."""
    own = found.engine.kernel_source == "own"
    alone, linked = (pairs(found.devices, own=own, link=link) for link in (False, True))
    lines = []
    for tp_at, tp in enumerate(TP):
        chosen = alone if tp == 1 else linked
        one, other = (chosen[:, side] * len(TP) + tp_at for side in (0, 1))
        counts = found.fits[one] & found.fits[other]
        one, other = one[counts], other[counts]
        excess = {k: getattr(found, k)[:, one] / getattr(found, k)[:, other] - 1.0 for k in ("alone", "fitted", "wall")}
        shape = excess["wall"].shape
        names = [d.name for d in found.devices]
        lines.append(
            pd.DataFrame(
                {
                    "engine": found.engine.name,
                    "model": found.name,
                    "weight": found.weight,
                    "tp": tp,
                    "load": np.repeat(LOADS, shape[1]),
                    "better": np.tile(np.array(names)[found.device[one]], shape[0]),
                    "lesser": np.tile(np.array(names)[found.device[other]], shape[0]),
                    "excess": excess["wall"].ravel(),
                    "cause": _cause(excess).ravel(),
                    "basis": np.array(BASES)[found.basis[:, one]].ravel(),
                    "lesser_basis": np.array(BASES)[found.basis[:, other]].ravel(),
                }
            )
        )
    return pd.concat(lines, ignore_index=True)


def _cause(excess: dict[str, Array]) -> Array:
    """Return the first part of the model that turns the order of two devices round, "" where none does."""
    stages = [excess[name] > TOLERANCE for name in ("alone", "fitted", "wall")]
    return np.where(stages[2], np.select(stages, CAUSES, ""), "")


def within_devices(found: Grid) -> pd.DataFrame:
    """Return a line for each cell and neighbouring cell of the same device that must take no less time."""
    shape = (len(LOADS), len(found.devices), len(TP))
    wall, roofs = found.wall.reshape(shape), found.roofs.reshape(shape)
    fits = found.fits.reshape(shape[1:])
    first = len(BATCHES)
    kinds = {
        "a larger batch": (wall[: first - 1], wall[1:first], fits),
        "a longer prompt": (wall[first:-1], wall[first + 1 :], fits),
        "less tensor parallelism": (roofs[..., 1:], roofs[..., :-1], fits[:, :-1]),
    }
    return pd.concat([_lines(found, kind, *parts) for kind, parts in kinds.items()], ignore_index=True)


def _lines(found: Grid, kind: str, less: Array, more: Array, fits: Mask) -> pd.DataFrame:
    """Return a line for each cell that fits; less, more: seconds of what must not take longer than the other."""
    with np.errstate(invalid="ignore"):  # nothing is limited by arithmetic or memory where launches limit all
        excess = np.nan_to_num(less / more - 1.0)
    loads, rows, columns = np.nonzero(np.broadcast_to(fits, excess.shape))
    return pd.DataFrame(
        {
            "kind": kind,
            "engine": found.engine.name,
            "model": found.name,
            "weight": found.weight,
            "device": np.array([d.name for d in found.devices])[rows],
            "tp": np.array(TP)[columns],
            "load": np.array(LOADS)[loads + (len(BATCHES) if kind == "a longer prompt" else 0)],
            "excess": excess[loads, rows, columns],
        }
    )


#: Wider and narrower stored formats of one model, and the compute type that a device must have for the narrower one.
NARROWER = (("bf16", "fp8", "fp8"), ("bf16", "int4", "bf16"))


def between_formats(found: dict[tuple[str, str], Grid]) -> pd.DataFrame:
    """Return a line for each device and model: decode of one sequence with narrower weights against wider ones."""
    lines = []
    for (name, weight), wide in found.items():
        for wider, narrow, needs in NARROWER:
            other = found.get((name, narrow))
            if weight != wider or other is None:
                continue
            native = np.array([np.isfinite(d.peak(needs)) for d in wide.devices])[wide.device]
            rows = np.flatnonzero(wide.fits & native)
            excess = other.wall[:1, rows] / wide.wall[:1, rows] - 1.0
            lines.append(
                pd.DataFrame(
                    {
                        "kind": f"{narrow} weights against {wider}",
                        "engine": wide.engine.name,
                        "model": name,
                        "weight": narrow,
                        "device": np.array([d.name for d in wide.devices])[wide.device[rows]],
                        "tp": wide.tp[rows],
                        "load": LOADS[0],
                        "excess": excess[0],
                    }
                )
            )
    return pd.concat(lines, ignore_index=True) if lines else pd.DataFrame()


def tables(engines: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the cells between devices and those within a device, of all models under the engines."""
    across, within = [], []
    for name in engines:
        made = {(g.name, g.weight): g for g in grids(engine_of(name), offered(name))}
        across += [between_devices(g) for g in made.values()]
        within += [within_devices(g) for g in made.values()]
        within.append(between_formats(made))
    return pd.concat(across, ignore_index=True), pd.concat(within, ignore_index=True)


def shares(cells: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return a line per group: cells, share violated, and the worst excess, the most violated cells first."""
    wrong = cells.assign(violated=cells.excess > TOLERANCE).groupby(by)
    out = wrong.agg(cells=("violated", "size"), violated=("violated", "sum"), worst=("excess", "max")).reset_index()
    out["share"] = out.violated / out.cells
    return out.sort_values(["violated", "worst"], ascending=False)


def main() -> None:
    """Print the shares of violated cells, by engine, by cause and by pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", action="append", choices=list(ENGINES), help="one or several; default: all")
    parser.add_argument("--worst", type=int, default=30, help="lines of the longest tables")
    parser.add_argument("--cells", type=Path, help="write all violated cells to this CSV file")
    given = parser.parse_args()
    across, within = tables(given.engine or list(ENGINES))
    wrong = across[across.excess > TOLERANCE]
    print(f"between devices: {len(wrong)} of {len(across)} cells violated, {len(wrong) / len(across):.1%}\n")
    print(_text(shares(across, ["engine"])))
    print(_text(shares(wrong, ["cause", "basis", "lesser_basis"])))
    print(_text(shares(across, ["engine", "better", "lesser"]).head(given.worst)))
    print("within a device\n")
    print(_text(shares(within, ["kind", "engine"])))
    bad = within[within.excess > TOLERANCE]
    print(_text(shares(bad, ["kind", "engine", "device"]).head(given.worst)))
    if given.cells:
        pd.concat([wrong, bad]).to_csv(given.cells, index=False)


def _text(table: pd.DataFrame) -> str:
    percent = dict.fromkeys(("share", "worst"), "{:.1%}".format)
    return str(table.to_string(index=False, formatters=percent)) + "\n"


if __name__ == "__main__":
    main()
