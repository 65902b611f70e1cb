"""Accuracy of operator times on devices that were not measured: writes docs/accuracy-transfer.md.

    python -m benchmarks.transfer [--only DEVICE ...] [--other-architectures] [-o docs/accuracy-transfer.md]

Hides each measured device in turn and predicts it from its ceilings and its relatives
(`perfmodel.fitting.transferred`). The spreads of the calibrated basis are learned from the same residuals by
`python -m perfmodel.fitting transfer --write data/profiles/spread.toml`.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

from perfmodel.fitting import SAMPLE, Transferred, error_quantile, measured_devices, pooled, transferred

HEAD = """# Operator times of devices that were not measured

Each measured device is hidden in turn and predicted by `Calibrated`: from its own ceilings in hwdb and the tables of
its measured relatives. Truth is its own table, up to {sample} measured cells per format and framework, tiny shapes
included. Errors are |predicted / measured - 1| in percent; the roofline beside them has the efficiencies of its kind
of device. Made by `python -m benchmarks.transfer -o docs/accuracy-transfer.md`; the calibrated spreads of
`data/profiles/spread.toml` are the 80 % quantiles of these residuals, by family and by how near the relative is;
`python -m perfmodel.fitting transfer --write data/profiles/spread.toml` learns them.

"""
COLUMNS = "| {} | cells | median | p90 | roofline median | roofline p90 |\n|{}---:|---:|---:|---:|---:|"


def line(head: str, parts: list[Transferred]) -> str:
    """One Markdown row: number of cells, median and 90th percentile of |error| of both cost models."""
    calibrated, roofline = pooled([t.calibrated for t in parts]), pooled([t.roofline for t in parts])
    figures = [error_quantile(r, rank) for r in (calibrated, roofline) for rank in (0.5, 0.9)]
    return f"| {head} | {len(calibrated)} | " + " | ".join(f"{100 * f:.1f}" for f in figures) + " |"


def device_rows(every: list[Transferred]) -> list[str]:
    """Markdown rows by device, family and nearest relative."""
    groups: dict[tuple[str, str], list[Transferred]] = defaultdict(list)
    for one in every:
        groups[(one.device, one.family)].append(one)
    return [
        line(f"{device} | {family} | {parts[0].relative}", parts) for (device, family), parts in sorted(groups.items())
    ]


def document(every: list[Transferred]) -> str:
    """The page: by family, by device, by both."""
    families, devices = sorted({t.family for t in every}), sorted({t.device for t in every})
    lines = [HEAD.format(sample=SAMPLE) + "## By family\n", COLUMNS.format("family", "---|")]
    lines += [line(f, [t for t in every if t.family == f]) for f in families]
    lines += [line("all", every), "\n## By device\n", COLUMNS.format("device", "---|")]
    lines += [line(d, [t for t in every if t.device == d]) for d in devices]
    lines += ["\n## By device and family\n", COLUMNS.format("device | family | nearest relative", "---|---|---|")]
    return "\n".join([*lines, *device_rows(every)]) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Print the page, and write it where asked."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.transfer", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", default=[], metavar="DEVICE", help="hide only these devices")
    parser.add_argument("--other-architectures", action="store_true", help="hide the device's architecture too")
    parser.add_argument("-o", "--output", type=Path, help="write the page here")
    chosen = parser.parse_args(arguments)
    names = chosen.only or measured_devices()
    every = [t for n in names for t in transferred(n, same_architecture=not chosen.other_architectures)]
    print(document(every))
    if chosen.output:
        chosen.output.write_text(document(every), encoding="utf-8")


if __name__ == "__main__":
    main()
