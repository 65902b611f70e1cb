"""Command line of the fits.

    python -m perfmodel.fitting engines CASES.csv TRUTH.csv [--engine NAME ...] [--cross-validate 4] [--write]
                                         [--engine-pull 8] [--family-pull 4] [--device-pull 3]
                                         [--hold-constants]
    python -m perfmodel.fitting devices CASES.csv TRUTH.csv --device NAME ... [--engine NAME ...] [--write]
    python -m perfmodel.fitting levels CASES.csv TRUTH.csv [--cross-validate 5] [--keep FOLDER] [--write]
    python -m perfmodel.fitting intervals CASES.csv TRUTH.csv [--keep FOLDER] [--write]
    python -m perfmodel.fitting power CASES.csv TRUTH.csv [--write]
    python -m perfmodel.fitting caps CASES.csv TRUTH.csv [--rates RATES.csv] [--write]
    python -m perfmodel.fitting kernels FOLDER [--write]
    python -m perfmodel.fitting transfer [--only DEVICE ...] [--write data/profiles/spread.toml]
    python -m perfmodel.fitting decisions CASES.csv PREDICTIONS.csv TRUTH.csv [--prices PRICES.csv]

`engines` fits host constants and kernel factors of all engines and devices at once, each device drawn to what its
engine and its chip family share; the strength of the pull is judged on models that a fit left out (`--cross-validate`).
With `--engine`, chip families are fitted on the runs of these engines alone. `devices` fits kernel factors of some
devices, drawn to those of their class, while engines stay as they are. `levels` fits how much longer all kernels of an
architecture take under an engine on a family of chips, while factors stay; `--cross-validate` says how far predictions
lie off on parts of the runs that neither factors nor levels were fitted on. `intervals` fits the spreads behind 80 %
intervals of whole deployments (some minutes), `power` the constants of watts with their intervals, `caps` how power
limits slow work, on sweeps of the limit among the runs and in a table (RATES.csv: device, op, tok_s, note). `kernels`
makes the table of watts of single kernels from a folder of AIConfigurator's tables, `transfer` fits the spreads of
operator times that are borrowed from other devices. `decisions` scores whether the configuration with the best
prediction is the one that measured best. CASES and TRUTH are described in `perfmodel/fitting/measured.py`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from hwdb import PerfmodelError
from perfmodel.fitting import (
    EngineFit,
    Part,
    by_data_set,
    caps_text,
    counted,
    decisions,
    error_lines,
    fit_devices,
    fit_engines,
    fit_intervals,
    fit_levels,
    fitted_caps,
    fitted_kernels,
    fitted_power,
    intervals_text,
    measured_devices,
    measured_slopes,
    power_text,
    transfer_spreads,
    transferred,
    write_caps,
    write_constants,
    write_device_factors,
    write_factors,
    write_intervals,
    write_kernels,
    write_levels,
    write_power,
    write_transfer_spreads,
)
from perfmodel.fitting.pooling import Pulls
from perfmodel.fitting.report import device_lines, engine_lines


def _engines(asked: argparse.Namespace) -> None:
    """Fit engines together; write them when all are done."""
    fits = []
    part = Part(folds=asked.folds, left_out=asked.left_out)
    given = {"engine": asked.engine_pull, "family": asked.family_pull, "device": asked.device_pull}
    stated = {name: value for name, value in given.items() if value is not None}
    pulls = Pulls(**stated) if stated else None
    how: dict[str, Any] = {"part": part, "pulls": pulls, "hold": asked.hold_constants, "folds": asked.cross_validate}
    for fitted in fit_engines(asked.cases, asked.truth, engines=asked.engine, **how):
        print("\n".join(engine_lines(fitted)), flush=True)
        if isinstance(fitted, EngineFit) and fitted.holds:
            fits.append(fitted)
            if asked.write:
                write_constants(fitted)
    if asked.write:
        write_factors(fits)


def _devices(asked: argparse.Namespace) -> None:
    """Fit kernel factors of devices and their classes; engines keep their constants and their own factors."""
    fits = []
    for engine, part in fit_devices(asked.cases, asked.truth, asked.device, engines=asked.engine):
        print("\n".join(device_lines(engine.name, part)), flush=True)
        fits.append((engine, part))
    if asked.write:
        write_device_factors(fits)


def _levels(asked: argparse.Namespace) -> None:
    """Fit levels of models by engine and family of chips; kernel factors stay."""
    slopes = measured_slopes(asked.cases, asked.truth, asked.engine, asked.keep)
    if asked.cross_validate > 1:
        print("\n".join(error_lines(slopes, asked.cross_validate)))
    fits = fit_levels(slopes)
    for fit in fits:
        print(f"{fit.engine}, {fit.chips}, {fit.architecture}: {fit.level} ({fit.values} values, {fit.groups} groups)")
    if asked.write:
        write_levels(fits)


def _intervals(asked: argparse.Namespace) -> None:
    """Fit the intervals of predictions for whole deployments."""
    found = fit_intervals(asked.cases, asked.truth, asked.keep)
    print(intervals_text(found.spreads))
    print(f"left-out values, present ranges: {found.before}\nleft-out values, these ranges: {found.after}")
    if asked.write:
        write_intervals(found.spreads)


def _power(asked: argparse.Namespace) -> None:
    """Fit the watts of devices by what they do."""
    found = fitted_power(asked.cases, asked.truth)
    print(power_text(found))
    if asked.write:
        write_power(found)


def _caps(asked: argparse.Namespace) -> None:
    """Fit how much longer work takes under a power limit."""
    found = fitted_caps(asked.cases, asked.truth, asked.rates)
    print(caps_text(found))
    if asked.write:
        write_caps(found)


def _kernels(asked: argparse.Namespace) -> None:
    """Make the table of the watts of single kernels."""
    found = fitted_kernels(asked.folder)
    print("\n".join(found.lines()))
    if asked.write:
        write_kernels(found)


def _transfer(asked: argparse.Namespace) -> None:
    """Fit the spreads of borrowed operator times."""
    every = [t for name in asked.only or measured_devices() for t in transferred(name)]
    spreads = transfer_spreads(every)
    for family, widths in spreads.items():
        print(f"{family}: {', '.join(f'{k} {v}' for k, v in widths.items())}")
    if asked.write:
        write_transfer_spreads(asked.write, spreads)


def _decisions(asked: argparse.Namespace) -> None:
    """Score the decisions that predictions lead to."""
    import pandas as pd

    cases = pd.read_csv(asked.cases, dtype=str, keep_default_na=False)
    if "split" in cases:
        cases = cases[counted(cases, asked.split)]
    prices = dict(pd.read_csv(asked.prices)[["device", "usd_per_hour"]].to_numpy()) if asked.prices else None
    made = decisions(cases, pd.read_csv(asked.predictions, low_memory=False), pd.read_csv(asked.truth), prices)
    if asked.output:
        made.to_csv(asked.output, index=False)
    print(by_data_set(made).to_string(index=False, float_format=lambda value: f"{value:.3f}"))


def _add_fits(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands that fit on runs."""
    runs = {"engines": _engines, "devices": _devices, "levels": _levels}
    runs |= {"intervals": _intervals, "power": _power, "caps": _caps}
    for name, run in runs.items():
        command = commands.add_parser(name, help=run.__doc__)
        command.set_defaults(run=run)
        command.add_argument("cases", type=Path)
        command.add_argument("truth", type=Path)
        command.add_argument("--write", action="store_true", help="put the result into the package")
        if name in ("levels", "intervals"):
            command.add_argument(
                "--keep", type=Path, metavar="FOLDER", help="keep what takes minutes here for next time"
            )
        if name == "devices":
            command.add_argument("--device", action="append", required=True, help="fit this device; repeatable")
        if name in ("engines", "devices", "levels"):
            command.add_argument("--engine", action="append", default=[], help="fit only this engine; repeatable")
        if name == "caps":
            command.add_argument("--rates", type=Path, help="CSV with rates of a device under limits")
        if name in ("engines", "levels"):
            command.add_argument(
                "--cross-validate", type=int, default=1, metavar="PARTS", help="compare pulls on parts left out"
            )
        if name == "engines":
            command.add_argument("--folds", type=int, default=1, help="parts that groups of runs are dealt into")
            command.add_argument("--left-out", type=int, default=-1, help="the part to leave out of the fit")
            command.add_argument("--engine-pull", type=float, help="weight that draws an engine's factors to 1")
            command.add_argument("--family-pull", type=float, help="weight that draws a chip family's factors to 1")
            command.add_argument("--device-pull", type=float, help="weight that draws a device to what it shares")
            command.add_argument("--hold-constants", action="store_true", help="fit kernel factors alone")


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the commands and their options."""
    parser = argparse.ArgumentParser(
        prog="python -m perfmodel.fitting", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    _add_fits(commands)
    command = commands.add_parser("kernels", help=_kernels.__doc__)
    command.set_defaults(run=_kernels)
    command.add_argument("folder", type=Path)
    command.add_argument("--write", action="store_true", help="put the result into the package")
    command = commands.add_parser("transfer", help=_transfer.__doc__)
    command.set_defaults(run=_transfer)
    command.add_argument("--only", nargs="*", default=[], metavar="DEVICE", help="hide only these devices")
    command.add_argument("--write", type=Path, metavar="SPREAD.toml", help="put the spreads into this file")
    command = commands.add_parser("decisions", help=_decisions.__doc__)
    command.set_defaults(run=_decisions)
    for name in ("cases", "predictions", "truth"):
        command.add_argument(name, type=Path)
    command.add_argument("--prices", type=Path, help="CSV with device, usd_per_hour: compare hardware too")
    command.add_argument("--split", default="test", choices=("test", "train"))
    command.add_argument("-o", "--output", type=Path, help="write every decision here")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return 0, or 2 when the input is wrong."""
    asked = _parser().parse_args(arguments)
    try:
        asked.run(asked)
    except PerfmodelError as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
