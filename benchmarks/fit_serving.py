"""Fit the serving engines' host constants and kernel factors on measured cases, and show what the fit leaves.

    python benchmarks/fit_serving.py CASES.csv TRUTH.csv [--write] [--engine NAME ...]

CASES is a table as `perfmodel predict` reads it, with the columns `case_id, dataset, group, split, trust`; TRUTH has
`case_id, metric, value`. Only rows of split `train`, trust A or B, without speculative decoding, are used. Least
squares on log ratios, soft above 15 %, every group of rows weighing the square root of its size; factors are drawn
towards 1 or those of the engine's next newer era, whichever is closer to the measurements (for a device towards the
engine's), so that few values move them little. `--write` puts the constants
into the engine files and the factors into `perfmodel/costs/corrections.toml`.
"""

from __future__ import annotations

import argparse
import re
import tomllib
import zlib
from collections import defaultdict
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from hwdb import load as load_hwdb
from perfmodel.cases import Prediction, read_cases
from perfmodel.costs import BOUNDS, KERNELS, combined, default, kernel, priced, summed
from perfmodel.engines import FOLDER, Engine
from perfmodel.estimates import assemble, per_replica, prepare
from perfmodel.operators import step_shape
from perfmodel.serving import StepModel, serve

#: Field of Engine -> (key in its file, SI to file, lower and upper bound in the file's unit).
CONSTANTS = {
    "step_host_time": ("step_host_us", 1e6, 20.0, 20000.0),
    "step_host_per_seq": ("step_host_per_seq_us", 1e6, 0.1, 200.0),
    "step_host_parallel": ("step_host_parallel_us", 1e6, 1.0, 10000.0),
    "request_time": ("request_ms", 1e3, 0.2, 150.0),
    "launch_time": ("launch_us", 1e6, 0.5, 120.0),
    "synchronised": ("synchronised", 1.0, 0.02, 1.0),
}
METRICS = (
    "tpot_ms",
    "tpot_ms_p50",
    "itl_ms_p50",
    "ttft_ms",
    "ttft_ms_p50",
    "e2e_ms",
    "output_tok_s",
    "total_tok_s",
    "prefill_tok_s",
    "decode_tok_s",
)


#: Data sets that do not say which release ran and are older than the newest era, so that they tell of none: Splitwise's
#: are of a vLLM of 2023.
UNDATED = ("splitwise_a100_h100",)
#: Fewest measured values that an engine, or a device under it, is fitted on.
FEWEST = 12
#: Weights that draw the factors towards 1, and those of a device towards the engine's.
PULL, PULL_DEVICE = 1.5, 2.5
#: Log ratio from which the loss grows linearly.
SOFT = 0.15
#: Factors beyond these would hide a fault of the model rather than describe an engine.
LEAST, MOST = 0.4, 2.5


class Remembered(StepModel):
    """Passes that price each step once: the constants change nothing that a stand-alone kernel takes."""

    def price(self, step):  # type: ignore[no-untyped-def]
        memory = self.__dict__["memory"]
        key = hash(tuple(np.asarray(getattr(step, f.name), float).tobytes() for f in fields(step)))
        if key not in memory["costs"]:
            memory["costs"][key] = self._parts(step)
        cost, parts = memory["costs"][key]
        return replace(cost, time=np.tensordot(memory["factors"], parts, axes=((0, 1), (0, 1))))

    def _parts(self, step):  # type: ignore[no-untyped-def]
        """(cost of a step, its seconds by limit and kind of kernel (BOUNDS, KERNELS, ...))."""
        terms = list(priced(self.sharding, self.hardware, self.costs, step))
        whole = summed(terms, step_shape(step, self.sharding.tp))
        parts = np.zeros((len(BOUNDS), len(KERNELS), *whole.time.shape))
        for demand, cost in terms:
            time = np.where(demand.count > 0, demand.count * cost.time, 0.0)
            limit, kind = np.broadcast_arrays(cost.bound, kernel(demand), whole.time)[:2]
            for b, k in {(int(x), int(y)) for x, y in zip(limit.ravel(), kind.ravel(), strict=True)}:
                parts[b, k] += np.where((limit == b) & (kind == k), time, 0.0)
        return whole, parts


@dataclass
class Group:
    """One group of rows, laid out once."""

    setup: object
    load: object
    placed: object
    ids: np.ndarray
    device: str
    memory: dict[str, object]

    def predict(self, engine: Engine, factors: np.ndarray) -> dict[str, np.ndarray]:
        """Columns of the estimate with other constants of the engine and factors (BOUNDS, KERNELS)."""
        self.memory["factors"] = factors
        passes = Remembered(**{**vars(self.setup.steps), "engine": engine})  # type: ignore[attr-defined]
        passes.__dict__["memory"] = self.memory
        served = serve(passes, self.load, self.setup.memory.room_for())  # type: ignore[attr-defined, arg-type]
        return assemble(passes, self.setup.memory, self.load, served, self.placed).columns()  # type: ignore[attr-defined, arg-type]


def fold_of(group: str, folds: int) -> int:
    """Which of `folds` parts a group of rows belongs to."""
    return zlib.crc32(group.encode()) % folds


def groups_of(cases_path: str, folds: int = 1, fold: int = -1) -> dict[str, list[tuple[Engine, Group]]]:
    """Groups of fitting rows by engine file; open loops and separate pools are left out (their steps move), and part
    `fold` of `folds`."""
    table = read_cases(cases_path)
    frame = table.frame
    keep = (frame.split == "train") & frame.trust.isin(["A", "B"]) & (frame.spec_decode == "")
    keep &= ~frame.dataset.isin(UNDATED)
    keep &= np.array([fold_of(g, folds) != fold for g in frame.group], bool)
    table.refuse(~keep.to_numpy(), "not for fitting")
    run = Prediction(table, load_hwdb())
    out: dict[str, list[tuple[Engine, Group]]] = defaultdict(list)
    devices = frame.device.to_numpy()
    for whole in run.groups():
        if whole.mode == "open" or run.pooled[whole.rows[0]]:
            continue
        for device in np.unique(devices[whole.rows]):
            group = replace(whole, rows=whole.rows[devices[whole.rows] == device])
            load, placed = run.prepare(group)
            setup = prepare(group.spec, placed, group.engine, default(group.engine.family), load)
            replica = per_replica(load, placed.replicas)
            ids = frame.case_id.to_numpy()[group.rows]
            one = Group(setup, replica, placed, ids, device, {"costs": {}})
            out[group.engine.name].append((group.engine, one))
    return out


class Target:
    """Measured values of some groups, matched once."""

    def __init__(self, groups: list[Group], truth: pd.DataFrame) -> None:
        self.groups = groups
        spans, start = [], 0
        for group in groups:
            spans.append(pd.DataFrame({"case_id": group.ids, "at": np.arange(start, start + len(group.ids))}))
            start += len(group.ids)
        self.rows = pd.concat(spans).merge(truth[truth.metric.isin(METRICS)], on="case_id")
        size = self.rows.groupby("group").value.transform("size").to_numpy(float)
        self.weight = size**-0.25
        self.weight = self.weight / np.sqrt(np.mean(self.weight**2))

    def ratios(self, engine: Engine, factors: np.ndarray) -> np.ndarray:
        """Log ratio of prediction and measurement, a measured value each."""
        columns = [g.predict(engine, factors) for g in self.groups]
        out = np.zeros(len(self.rows))
        for metric in METRICS:
            mine = (self.rows.metric == metric).to_numpy()
            if mine.any():
                predicted = np.concatenate([c[metric] for c in columns])[self.rows["at"].to_numpy()[mine]]
                with np.errstate(divide="ignore", invalid="ignore"):
                    out[mine] = np.log(predicted / self.rows.value.to_numpy()[mine])
        return np.where(np.isfinite(out), np.clip(out, -2.5, 2.5), 0.0)


def both(factors: np.ndarray) -> np.ndarray:
    """(BOUNDS, KERNELS) out of the fitted factors, by limit and then by kind of kernel."""
    return combined(factors[: len(BOUNDS)], factors[len(BOUNDS) :])


def firm(values: np.ndarray) -> np.ndarray:
    """Values whose soft loss is their square: what draws factors towards 1 must not weaken far from it."""
    return SOFT * np.sqrt(np.square(1.0 + np.square(values) / (2.0 * SOFT**2)) - 1.0) * np.sign(values)


def fit(
    engine: Engine, target: Target, start: np.ndarray, constants: tuple[str, ...], pull: float
) -> tuple[Engine, np.ndarray]:
    """(engine with fitted constants, factors); `pull` weighs the factors' distance from where they start."""
    low = np.array([np.log(CONSTANTS[n][2]) for n in constants] + [np.log(LEAST)] * len(start))
    high = np.array([np.log(CONSTANTS[n][3]) for n in constants] + [np.log(MOST)] * len(start))
    first = [np.log(max(getattr(engine, n) * CONSTANTS[n][1], CONSTANTS[n][2])) for n in constants]
    begin = np.clip(np.array([*first, *np.log(start)]), low + 1e-6, high - 1e-6)

    def made(point: np.ndarray) -> tuple[Engine, np.ndarray]:
        values = np.exp(point)
        settings = {n: v / CONSTANTS[n][1] for n, v in zip(constants, values, strict=False)}
        return replace(engine, **settings), values[len(constants) :]

    def misses(point: np.ndarray) -> np.ndarray:
        better, factors = made(point)
        ratios = target.ratios(better, both(factors)) * target.weight
        drawn = pull * (point[len(constants) :] - np.log(start))
        # an engine's factors serve every device; a device's own may lie far off where its kernels do
        drawn = firm(drawn) if constants else drawn
        return np.concatenate([ratios, drawn, 0.3 * (point - begin)[: len(constants)]])

    found = least_squares(
        misses,
        begin,
        bounds=(low, high),
        loss="soft_l1",
        f_scale=SOFT,
        diff_step=0.05,
        max_nfev=12,
        xtol=1e-3,
        ftol=1e-3,
    )
    return made(found.x)


def write(engine: Engine, rows: int, before: float, after: float) -> None:
    """Put the constants into the engine's file."""
    path = FOLDER / f"{engine.name}.toml"
    text = path.read_text()
    for field, (key, factor, *_) in CONSTANTS.items():
        value = getattr(engine, field) * factor
        source = (
            f"benchmarks/fit_serving.py on {rows} measured values of the train split: "
            f"mean absolute log ratio {before:.3f} to {after:.3f}"
        )
        line = f'{key} = {{ value = {float(f"{value:.3g}"):g}, kind = "fitted", source = "{source}" }}'
        text = re.sub(rf"(?m)^{key} = .*$", line, text)
    path.write_text(text)


def write_factors(entries: list[dict[str, object]]) -> None:
    """Replace the factors of the engines fitted; those of others stay."""
    path = FOLDER.parent / "costs" / "corrections.toml"
    fitted = {e["engine"] for e in entries}
    others = [e for e in tomllib.loads(path.read_text()).get("correction", []) if e["engine"] not in fitted]
    entries = sorted([*others, *entries], key=lambda e: str(e["engine"]))
    head = (
        "# Time of an engine's passes over the sum of stand-alone kernels, by what limits them and by kind of kernel;\n"
        "# fitted by benchmarks/fit_serving.py on measured serving runs (train split): perfmodel/costs/engine_factors.py\n"
    )
    parts = []
    for entry in entries:
        lines = [f"{k} = {v!r}" if not isinstance(v, str) else f'{k} = "{v}"' for k, v in entry.items()]
        parts.append("[[correction]]\n" + "\n".join(lines) + "\n")
    path.write_text("\n".join([head, *parts]))


def report(name: str, target: Target, before: np.ndarray, after: np.ndarray) -> None:
    """One line a metric: how many values, bias and median error before and after."""
    print(f"{name}: {len(after)} values, mean |log ratio| {np.abs(before).mean():.3f} -> {np.abs(after).mean():.3f}")
    for metric, rows in target.rows.reset_index(drop=True).groupby("metric"):
        at = rows.index.to_numpy()
        print(
            f"  {metric:15}{len(at):6}  bias {np.median(after[at]):+.3f}  median {np.median(np.abs(before[at])):.3f}"
            f" -> {np.median(np.abs(after[at])):.3f}",
            flush=True,
        )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--engine", action="append", default=[])
    parser.add_argument("--folds", type=int, default=1, help="parts that the groups of rows are dealt into")
    parser.add_argument("--fold", type=int, default=-1, help="the part to leave out")
    asked = parser.parse_args()
    truth = pd.read_csv(asked.truth)[["case_id", "metric", "value"]]
    frame = pd.read_csv(asked.cases, dtype=str, usecols=["case_id", "group"])
    truth = truth.merge(frame, on="case_id")
    entries: list[dict[str, object]] = []
    ones = np.ones(len(BOUNDS) + len(KERNELS))
    database = load_hwdb()
    newer: dict[str, np.ndarray] = {}
    ordered = sorted(
        groups_of(str(asked.cases), asked.folds, asked.fold).items(), key=lambda item: item[1][0][0].since, reverse=True
    )
    for name, found in ordered:
        if asked.engine and name not in asked.engine:
            continue
        engine, groups = found[0][0], [g for _, g in found]
        kinds = {g.device: database.device(g.device).kind for g in groups}
        # host constants show where devices are fast; slower kinds of device tell of their kernels only
        main = [g for g in groups if kinds[g.device] == "gpu"]
        target = Target(main, truth) if main else Target(groups, truth)
        target = target if len(target.rows) >= FEWEST else Target(groups, truth)
        if len(target.rows) < FEWEST:
            print(f"{name}: {len(target.rows)} values, too few to fit")
            continue
        before = target.ratios(engine, both(ones))
        constants = tuple(n for n in CONSTANTS if np.isfinite(getattr(engine, n)))
        starts = (ones, newer.get(engine.family, ones))
        start = min(starts, key=lambda s: np.abs(target.ratios(engine, both(s)) * target.weight).mean())
        better, factors = fit(engine, target, start, constants, PULL)
        newer[engine.family] = factors
        after = target.ratios(better, both(factors))
        report(name, target, before, after)
        print("  " + ", ".join(f"{CONSTANTS[c][0]} {getattr(better, c) * CONSTANTS[c][1]:.3g}" for c in constants))
        entries.append(_entry(name, {}, factors, len(target.rows)))
        by_kind = {}
        for kind in sorted(set(kinds.values())):
            own = Target([g for g in groups if kinds[g.device] == kind], truth)
            by_kind[kind] = factors
            if len(own.rows) >= FEWEST and kind != "gpu" and len(set(kinds.values())) > 1:
                _, by_kind[kind] = fit(better, own, ones, (), PULL)
                entries.append(_entry(name, {"kind": kind}, by_kind[kind], len(own.rows)))
                report(
                    f"  {name} on any {kind} {np.round(by_kind[kind], 2)}",
                    own,
                    own.ratios(better, both(factors)),
                    own.ratios(better, both(by_kind[kind])),
                )
        for device, kind in sorted(kinds.items()):
            own = Target([g for g in groups if g.device == device], truth)
            if len(own.rows) < FEWEST:
                continue
            _, mine = fit(better, own, by_kind[kind], (), PULL_DEVICE)
            entries.append(_entry(name, {"device": device}, mine, len(own.rows)))
            title = f"  {name} on {device} {np.round(mine, 2)}"
            report(title, own, own.ratios(better, both(by_kind[kind])), own.ratios(better, both(mine)))
        if asked.write:
            write(better, len(target.rows), float(np.abs(before).mean()), float(np.abs(after).mean()))
    if asked.write:
        write_factors(entries)


def _entry(engine: str, place: dict[str, str], factors: np.ndarray, values: int) -> dict[str, object]:
    rounded = {b: float(f"{f:.3g}") for b, f in zip((*BOUNDS, *KERNELS), factors, strict=True)}
    return {"engine": engine, **place, **rounded, "values": values}


if __name__ == "__main__":
    main()
