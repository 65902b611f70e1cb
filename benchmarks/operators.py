"""Accuracy of operator times: held-out error by device and family beside simpler models, coverage, speed.

    python -m benchmarks.operators [--sources DIR] [--only DEVICE ...] -o docs/accuracy-operators.md

Every table is fitted without a part of its rows and predicts that part: random points, whole sites (the (n, k) of a
GEMM, the heads of an attention), the last octave of its axis or of its sites. Beside it, fitted on the same rows: the
ideal roofline (rated peaks), a roofline with two fitted shares of peak (compute, memory), and a random forest on the
logarithms of the coordinates.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import hwdb
from perfmodel.arrays import Array
from perfmodel.costs import Profiled
from perfmodel.dtypes import FORMAT_CODE
from perfmodel.fitting import error_quantile, one_device
from perfmodel.operators import Demand
from perfmodel.profiles import FAMILY, Family, Reference, Variant, bound, shape_at, store
from perfmodel.profiles.build import (
    Points,
    aiconfigurator,
    files,
    fitted_table,
    half_width,
    heldout,
    located,
    package_rows,
    polynomial,
    split,
)
from perfmodel.profiles.importers import Rows
from perfmodel.vocabulary import BASES

MODELS = ("tables", "ideal roofline", "fitted roofline", "random forest")
#: Most rows that a random forest learns from, and its number of trees. Chosen: a table takes seconds.
FOREST_ROWS, FOREST_TREES = 8000, 20
#: Look-ups of the speed test. The peer looks up one shape per call, so fewer are timed and scaled up.
LOOKUPS, PEER_LOOKUPS = 1_000_000, 5_000


@dataclass
class Result:
    """One device and family.

    residuals: ln(predicted/measured) by test and model. bases: codes of what the tables' times rest on, by test.
    """

    device: str
    family: str
    residuals: dict[tuple[str, str], list[Array]] = field(default_factory=dict)
    bases: dict[str, list[NDArray[np.int8]]] = field(default_factory=dict)

    def joined(self, test: str, model: str) -> Array:
        """All residuals of a test and model."""
        parts = self.residuals.get((test, model), [])
        return np.concatenate(parts) if parts else np.zeros(0)


def limits(family: Family, data: Points, variant: Variant, reference: Reference) -> tuple[Array, NDArray[np.int8]]:
    """(ln of the lower bound on time, code of what binds) of every row."""
    least, kind = bound(family, shape_at(family, data.site, data.axis), variant, reference)
    return np.log(np.maximum(least, 1e-15)), kind


def forest(place: Array, target: Array, query: Array, seed: int) -> Array:
    """Predictions of a random forest."""
    from sklearn.ensemble import RandomForestRegressor  # type: ignore[import-not-found]

    rows = np.random.default_rng(seed).permutation(len(target))[:FOREST_ROWS]
    model = RandomForestRegressor(FOREST_TREES, min_samples_leaf=1, random_state=seed)
    return np.asarray(model.fit(place[rows], target[rows]).predict(query))


def fitted_roofline(kind: NDArray[np.int8], value: Array, hidden: NDArray[np.bool_]) -> Array:
    """ln(utilisation) of the hidden rows: the median of the others that the same limit binds. kind: (R,) what binds."""
    told = np.full(int(hidden.sum()), float(np.median(value[~hidden])))
    for k in np.unique(kind):
        mine = (kind == k) & ~hidden
        if mine.sum() >= 5:
            told[kind[hidden] == k] = np.median(value[mine])
    return told


def examine(result: Result, family: Family, item: tuple[Variant, Reference, Points], closed: bool) -> None:
    """Add the residuals of one table to `result`."""
    variant, reference, data = item
    least, kind = limits(family, data, variant, reference)
    place = np.concatenate([data.site, data.axis], axis=1)
    for test in heldout.TESTS:
        hidden = heldout.masks(data, test, 0)
        if not hidden.any() or hidden.sum() > 0.6 * len(data):
            continue
        truth = data.value[hidden]
        fit = polynomial if closed else fitted_table
        told, basis = fit(family, data.take(~hidden)).read(
            list(data.site[hidden].T), list(data.axis[hidden].T), family.growth
        )
        by_tree = forest(place[~hidden], (least - data.value)[~hidden], place[hidden], 0)
        answers = (told, np.zeros_like(truth), fitted_roofline(kind, data.value, hidden), least[hidden] - by_tree)
        for model, value in zip(MODELS, answers, strict=True):
            result.residuals.setdefault((test, model), []).append(truth - value)
        result.bases.setdefault(test, []).append(basis)


def sources(only: set[str], folder: Path | None) -> Iterator[tuple[str, Rows, bool]]:
    """(device, rows, whether the licence allows only fitted coefficients to be kept) of everything readable here."""
    root, _ = aiconfigurator.installed()
    for system, device in sorted(aiconfigurator.SYSTEMS.items()):
        if not only or device in only:
            yield device, package_rows(root, system, device, "package", raw=True), False
    if folder is None:
        return
    for rows, closed in ((files.open_rows(folder), False), (files.closed_rows(folder), True)):
        for device in sorted(set(rows["device"])):
            if not only or device in only:
                yield str(device), rows.take(rows["device"] == device), closed


def results(only: set[str], folder: Path | None) -> list[Result]:
    """One result per device and family, from the first framework that has the family."""
    out: dict[tuple[str, str], Result] = {}
    for device, rows, closed in sources(only, folder):
        parts: dict[str, dict[str, Rows]] = {}
        for framework, part in split(rows):
            parts.setdefault(str(part["family"][0]), {})[framework] = part
        for family, by_framework in parts.items():
            name = next(f for f in (*store.FRAMEWORKS, *sorted(by_framework)) if f in by_framework)
            result = out.setdefault((device, family), Result(device, family))
            for item in located(by_framework[name], hwdb.device(device)).values():
                if item[0].routing in ("", "0", "1.01"):
                    examine(result, FAMILY[family], item, closed)
        print(device, flush=True)
    return [r for r in out.values() if r.residuals]


def table_of(every: list[Result], test: str) -> list[str]:
    """Markdown rows of one test: each device and family, then devices and families pooled, then all."""
    ordered = sorted(every, key=lambda r: (r.device, r.family))
    lines = [_line(f"{r.device} | {r.family}", [r], test) for r in ordered]
    for name in sorted({r.device for r in every}):
        lines.append(_line(f"{name} | **all**", [r for r in every if r.device == name], test))
    for name in sorted({r.family for r in every}):
        lines.append(_line(f"**all** | {name}", [r for r in every if r.family == name], test))
    return [x for x in (*lines, _line("**all** | **all**", every, test)) if x]


def _line(head: str, every: list[Result], test: str) -> str:
    count = sum(len(r.joined(test, MODELS[0])) for r in every)
    return f"| {head} | {count} | {_figures(every, test)} |" if count >= 4 else ""


def _figures(every: list[Result], test: str) -> str:
    cells = []
    for model in MODELS:
        residual = np.concatenate([r.joined(test, model) for r in every])
        cells.append(f"{100 * error_quantile(residual, 0.5):.1f} / {100 * error_quantile(residual, 0.9):.1f}")
    return " | ".join(cells)


def coverage(every: list[Result]) -> list[str]:
    """Markdown rows: share of held-out times inside the 80 % interval, learned on the other half of them."""
    residual, basis, family = [], [], []
    for r in every:
        for test, bases in r.bases.items():
            value = r.joined(test, "tables")
            residual.append(value)
            basis.append(np.concatenate(bases))
            family.append(np.full(len(value), r.family, dtype=object))
    e, b, f = np.concatenate(residual), np.concatenate(basis), np.concatenate(family)
    half = np.random.default_rng(1).random(len(e)) < 0.5
    inside = np.zeros(len(e), bool)
    for name in np.unique(f.astype(str)):
        for code in np.unique(b):
            mine = (f == name) & (b == code)
            if (mine & half).sum() >= 10:
                inside[mine] = np.abs(e[mine]) <= half_width(e[mine & half])
    lines = [
        f"| {BASES[c]} | {int(((b == c) & ~half).sum())} | {100 * inside[(b == c) & ~half].mean():.1f} |"
        for c in np.unique(b)
    ]
    return [*lines, f"| **all** | {int((~half).sum())} | {100 * inside[~half].mean():.1f} |"]


def speed() -> list[str]:
    """Markdown rows: CPU seconds of a million GEMM look-ups, ours and of aiconfigurator-core, on the same shapes."""
    rng = np.random.default_rng(0)
    sites = rng.integers(64, 16385, (400, 2)).astype(float)[rng.integers(0, 400, LOOKUPS)]
    m = np.exp2(rng.uniform(0.0, 14.0, LOOKUPS)).round()
    n, k = sites.T
    shape: dict[str, Array | float] = {"m": m, "n": n, "k": k, "weight": float(FORMAT_CODE["bf16"]), "act": 2.0}
    demand = Demand("gemm", "gemm", 2 * m * n * k, 2 * (m * n + n * k + m * k), np.ones(LOOKUPS), 2, 0.0, shape)
    model, there = Profiled("vllm"), one_device(hwdb.device("h100-sxm"), LOOKUPS)
    model.cost(demand, there)
    start = time.process_time()
    ours = model.cost(demand, there).time
    mine = time.process_time() - start
    lines = [f"| perfmodel, `Profiled` | {LOOKUPS} | {mine:.2f} | {1e6 * mine / LOOKUPS:.2f} |"]
    theirs, seconds = peer(m[:PEER_LOOKUPS], n[:PEER_LOOKUPS], k[:PEER_LOOKUPS])
    scaled = seconds / PEER_LOOKUPS
    lines.append(f"| aiconfigurator-core, one call per shape | {PEER_LOOKUPS} | {seconds:.2f} | {1e6 * scaled:.2f} |")
    apart = error_quantile(np.log(ours[:PEER_LOOKUPS] / theirs), 0.5)
    return [
        *lines,
        "",
        f"The two answers differ by {100 * apart:.1f} % in the median (same measurements, other interpolation).",
    ]


def peer(m: Array, n: Array, k: Array) -> tuple[Array, float]:
    """(seconds of each shape by aiconfigurator-core on H100 under vLLM 0.24.0, CPU seconds it took).

    Release 0.12.0 has no public look-up of one operator left; this is the one that its own fall-backs use.
    """
    from aiconfigurator_core.sdk import common
    from aiconfigurator_core.sdk.operations import GEMM
    from aiconfigurator_core.sdk.perf_database import get_database

    database = get_database("h100_sxm", "vllm", "0.24.0")
    ask = [(int(a), int(b), int(c)) for a, b, c in zip(m, n, k, strict=True)]
    operators = {site: GEMM("gemm", 1.0, *site, common.GEMMQuantMode.bfloat16) for site in {a[1:] for a in ask}}
    for x, *site in ask[:100]:  # loads its tables before the clock runs
        operators[(site[0], site[1])]._engine_query(database, x=x)
    start = time.process_time()
    told = [float(operators[(rows, depth)]._engine_query(database, x=x)) for x, rows, depth in ask]
    return np.array(told) * 1e-3, time.process_time() - start


HEAD = """# Accuracy of operator times

Held-out error |predicted / measured - 1| in percent, median / 90th percentile. Each table is fitted without the hidden
rows. *tables* is what perfmodel ships; beside it on the same rows an ideal roofline (rated peaks), a roofline with two
fitted shares, and a random forest ({trees} trees on up to {rows} rows). One framework per device and family (vLLM where
it was measured), every number format of it, experts with the milder routing skew. Sources without an open licence are
represented by a polynomial, here too. Made by `python -m benchmarks.operators`; how tables work: docs/profiles.md.

"""
COLUMNS = "| device | family | hidden | tables | ideal roofline | fitted roofline | random forest |\n"
RULE = "|---|---|---:|---:|---:|---:|---:|\n"
TITLES = {
    "points": "## Random points (a tenth of the rows)",
    "sites": "## Whole sites (a tenth of the (n, k), head, expert or state shapes)",
    "octave": "## One octave beyond the table (last axis)",
    "border": "## One octave beyond the sites (their most varied coordinate)",
}


def document(every: list[Result], quick: list[str]) -> str:
    """The page."""
    parts = [HEAD.format(trees=FOREST_TREES, rows=FOREST_ROWS)]
    for test, title in TITLES.items():
        parts += [title, "\n\n", COLUMNS, RULE, "\n".join(table_of(every, test)), "\n\n"]
    parts += ["## All-reduce from 64 KiB on\n\n", *large_messages(every)]
    parts += [
        "## Intervals\n\nShare of held-out times inside the 80 % interval; its width by family and basis was learned on"
    ]
    parts += [" the other half of the hidden rows.\n\n| basis | held-out times | inside, % |\n|---|---:|---:|\n"]
    parts += [
        "\n".join(coverage(every)),
        "\n\n## Speed\n\nGEMM times of the same random shapes (400 sites) on one core.\n\n",
    ]
    parts += ["| model | look-ups | CPU s | us each |\n|---|---:|---:|---:|\n", "\n".join(quick), "\n"]
    return "".join(parts)


def large_messages(every: list[Result]) -> list[str]:
    """Error of all-reduces of at least 64 KiB whose point was hidden, one at a time."""
    parts = [r.joined("large", "tables") for r in every if r.family == "all_reduce"]
    residual = np.concatenate(parts) if parts else np.zeros(0)
    figures = (len(residual), 100 * error_quantile(residual, 0.5), 100 * error_quantile(residual, 0.9))
    return ["{} points, each hidden alone: median {:.1f} %, 90th percentile {:.1f} %.\n\n".format(*figures)]


def leave_one_out(every: list[Result], only: set[str]) -> None:
    """Hide each measured all-reduce of at least 64 KiB alone and predict it from the rest of its table."""
    family = FAMILY["all_reduce"]
    for result in (r for r in every if r.family == "all_reduce" and (not only or r.device in only)):
        profile = store.load(result.device)
        if profile is None or "all_reduce" not in profile.files:
            continue
        item = profile.tables("all_reduce", profile.frameworks("all_reduce", "vllm")[0])[0]
        cells = np.argwhere(item.table.known)
        place = (item.table.sites[cells[:, 0]], item.table.axes[0][cells[:, 1]][:, None])
        data = Points(*place, item.table.values[tuple(cells.T)].astype(float))
        inner = (data.axis[:, 0] >= np.log(65536)) & (data.axis[:, 0] < data.axis[:, 0].max() - 1e-6)
        for row in np.flatnonzero(inner):
            keep = np.arange(len(data)) != row
            told, _ = fitted_table(family, data.take(keep)).read(list(data.site[[row]].T), list(data.axis[[row]].T))
            result.residuals.setdefault(("large", "tables"), []).append(data.value[[row]] - told)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operators", description=__doc__)
    parser.add_argument("--sources", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("-o", "--output", type=Path)
    chosen = parser.parse_args(arguments)
    every = results(set(chosen.only), chosen.sources)
    leave_one_out(every, set(chosen.only))
    text = document(every, speed())
    if chosen.output:
        chosen.output.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
