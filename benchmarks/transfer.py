"""Hides each measured device in turn and predicts it from its ceilings and its relatives.

`python -m benchmarks.transfer --write` writes docs/accuracy-transfer.md and the calibrated spreads of
data/profiles/spread.toml.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.operators_common import SAMPLE, Cells, device, error, measured_cells, priced, tables
from perfmodel.arrays import Array
from perfmodel.costs import TWIN_DISTANCE, UNRELATED_DEVICE, Calibrated, Roofline, relatives
from perfmodel.profiles import store
from perfmodel.profiles.build import half_width, merge

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Carried:
    """Residuals ln(predicted/measured) of one table of a hidden device. near: its closest relative, at `distance`."""

    device: str
    family: str
    framework: str
    near: str
    distance: float
    calibrated: Array
    roofline: Array


def residual(cost_time: Array, cells: Cells) -> Array:
    """ln(predicted/measured) where a prediction was made."""
    value = np.log(cost_time / cells.time)
    return value[np.isfinite(value)]


def carried(name: str, same_architecture: bool = True) -> list[Carried]:
    """Every table of device `name`, predicted without it (and without its architecture if so asked)."""
    own = device(name)
    hidden = {name}
    if not same_architecture:
        hidden |= {n for n in store.names() if device(n).arch.split()[0] == own.arch.split()[0]}
    out = []
    for family, framework, item in tables(name):
        model = Calibrated(framework, item.variant.routing or "1.01", hidden=frozenset(hidden))
        cells = measured_cells(item, family)
        found = relatives(model, own, family, item.variant)
        if not found:
            continue
        told = residual(priced(model, own, cells).time, cells)
        plain = residual(priced(Roofline(), own, cells).time, cells)
        nearest = found[0]
        out.append(Carried(name, family, framework, nearest.device.name, nearest.distance, told, plain))
    return out


def joined(parts: list[Array]) -> Array:
    """All residuals together."""
    return np.concatenate(parts) if parts else np.zeros(0)


def learn(every: list[Carried]) -> dict[str, dict[str, float]]:
    """family -> spreads of the calibrated basis by distance of the relative; each device has the same weight."""
    out: dict[str, dict[str, float]] = {}
    for family in sorted({c.family for c in every}):
        mine = [c for c in every if c.family == family]
        classes = {
            "calibrated_twin": [c for c in mine if c.distance < TWIN_DISTANCE],
            "calibrated": [c for c in mine if TWIN_DISTANCE <= c.distance < UNRELATED_DEVICE],
            "calibrated_stranger": [c for c in mine if c.distance >= UNRELATED_DEVICE],
        }
        out[family] = {k: round(half_width(evened(found)), 4) for k, found in classes.items() if found}
    return out


def evened(parts: list[Carried], each: int = 3000) -> Array:
    """Residuals of all devices, at most `each` of one."""
    rng = np.random.default_rng(0)
    by_device = [joined([c.calibrated for c in parts if c.device == d]) for d in sorted({c.device for c in parts})]
    return joined([rng.permutation(r)[:each] for r in by_device])


def rows(every: list[Carried]) -> list[str]:
    """Markdown rows: device, family, nearest relative, errors."""
    groups: dict[tuple[str, str], list[Carried]] = defaultdict(list)
    for c in every:
        groups[(c.device, c.family)].append(c)
    return [line(f"{name} | {family} | {parts[0].near}", parts) for (name, family), parts in sorted(groups.items())]


def line(head: str, parts: list[Carried]) -> str:
    """One Markdown row: counts, median and 90th percentile of |error| of both models."""
    told, plain = joined([c.calibrated for c in parts]), joined([c.roofline for c in parts])
    figures = (error(told, 0.5), error(told, 0.9), error(plain, 0.5), error(plain, 0.9))
    return f"| {head} | {len(told)} | " + " | ".join(f"{100 * f:.1f}" for f in figures) + " |"


HEAD = """# Operator times of devices that were not measured

Each measured device is hidden in turn and predicted by `Calibrated`: from its own ceilings in hwdb and the tables of
its measured relatives. Truth is its own table, up to {sample} measured cells a format and framework, tiny shapes
included. Errors are |predicted / measured - 1| in percent; the roofline beside them has the efficiencies of its kind
of device. Made by `python -m benchmarks.transfer --write`; the calibrated spreads of `data/profiles/spread.toml` are
the 80 % quantiles of these residuals, by family and by how near the relative is.

"""
COLUMNS = "| {} | cells | median | p90 | roofline median | roofline p90 |\n|{}---:|---:|---:|---:|---:|"


def document(every: list[Carried]) -> str:
    """The page: by family, by device, by both."""
    parts = [HEAD.format(sample=SAMPLE), "## By family\n\n", COLUMNS.format("family", "---|"), "\n"]
    families = sorted({c.family for c in every})
    parts += [line(f, [c for c in every if c.family == f]) + "\n" for f in families]
    parts += [line("all", every) + "\n"]
    parts += ["\n## By device\n\n", COLUMNS.format("device", "---|"), "\n"]
    parts += [line(d, [c for c in every if c.device == d]) + "\n" for d in sorted({c.device for c in every})]
    parts += [
        "\n## By device and family\n\n",
        COLUMNS.format("device | family | nearest relative", "---|---|---|"),
        "\n",
    ]
    return "".join(parts) + "\n".join(rows(every)) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=__doc__)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--other-architectures", action="store_true", help="hide the device's architecture too")
    parser.add_argument("--write", action="store_true", help="write the document and the spreads")
    chosen = parser.parse_args(arguments)
    every = [c for n in chosen.only or store.names() for c in carried(n, not chosen.other_architectures)]
    print(document(every))
    if chosen.write:
        (ROOT / "docs" / "accuracy-transfer.md").write_text(document(every), encoding="utf-8")
        merge(ROOT / "data" / "profiles" / "spread.toml", learn(every))


if __name__ == "__main__":
    main()
