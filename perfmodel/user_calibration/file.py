"""Write calibrations as one readable TOML file, and read them back: the factors of each system and the runs behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hwdb import outfile
from hwdb.tomlfile import Table, quoted, read_toml
from perfmodel.cases import columns
from perfmodel.engines import PARTS, Adjustment
from perfmodel.user_calibration.calibrate import Calibration
from perfmodel.user_calibration.run import METRICS, MeasuredRun

HEAD = """\
# What own benchmarks say of own systems, made by `perfmodel calibrate`.
# Name it in a scenario ([calibration] file = "...") or on the command line (--calibration).
# factors: seconds (of power: watts above those of a waiting server) over what the shipped model answers.
# spreads: log standard deviation that is left. [[run]]: the runs behind; with more of them,
# `perfmodel calibrate` fits all of them together.
"""
WHAT = "calibration"


def write_calibration(path: str | Path, found: Sequence[Calibration]) -> None:
    """Write calibrations with their runs; raises `InputError` where the file cannot be written."""
    parts = [HEAD, *(_system(one.adjustment) for one in found)]
    parts += [_run(run) for one in found for run in one.runs]
    outfile.write_text(path, "\n".join(parts))


def _system(one: Adjustment) -> str:
    """Return the text of the factors of one device under one engine."""
    lines = ["[[system]]", f"device = {quoted(one.device)}", f"engine = {quoted(one.engine)}"]
    lines += [f"models = [{', '.join(map(quoted, one.models))}]", f"runs = {one.runs}"]
    for name, values in (("factors", one.factors), ("spreads", one.spreads)):
        lines += [f"[system.{name}]", *(f"{part} = {value:.4g}" for part, value in values)]
    return "\n".join(lines) + "\n"


def _run(run: MeasuredRun) -> str:
    """Return the text of one run."""
    given = (f"{name} = {quoted(value)}" for name, value in run.given.items() if value)
    values = (f"{metric} = {value:.6g}" for metric, value in run.measured.items())
    return (
        "\n".join(["[[run]]", f"from = {quoted(run.place)}", "[run.given]", *given, "[run.measured]", *values]) + "\n"
    )


def read_adjustments(path: str | Path) -> tuple[Adjustment, ...]:
    """Read the factors of a calibration file.

    Raises `InputError` with file, line, key, value and remedy.
    """
    top = read_toml(path, WHAT)
    found = tuple(_adjustment(table) for table in top.tables("system"))
    top.done(also=("run",))
    seen: set[tuple[str, str]] = set()
    for table, one in zip(top.tables("system"), found, strict=True):
        if (one.device, one.engine) in seen:
            raise table.error("device", f"{one.device!r} under {one.engine} is listed twice; keep one of them")
        seen.add((one.device, one.engine))
    return found


def _adjustment(table: Table) -> Adjustment:
    """Read one `[[system]]`."""
    factors, spreads = (_by_part(table.table(name), least) for name, least in (("factors", 0.0), ("spreads", 0.0)))
    one = Adjustment(
        device=table.text("device"),
        engine=table.text("engine"),
        factors=factors,
        spreads=spreads,
        models=table.texts("models", ()),
        runs=table.whole("runs", least=1),
    )
    table.done()
    return one


def _by_part(table: Table, above: float) -> tuple[tuple[str, float], ...]:
    """Read a number for each part; those that are not listed keep their factor of 1."""
    found = tuple((part, table.number(part, above=above)) for part in PARTS if part in table)
    table.done()
    return found


def read_runs(path: str | Path) -> list[MeasuredRun]:
    """Read the runs of a calibration file, to fit them together with further ones."""
    top = read_toml(path, WHAT)
    return [_measured_run(table) for table in top.tables("run", [])]


def _measured_run(table: Table) -> MeasuredRun:
    """Read one `[[run]]`."""
    given, measured = table.table("given"), table.table("measured")
    known = [name for name, _, _ in columns()]
    cells: Mapping[str, str] = {name: given.text(name) for name in known if name in given}
    values = {metric: measured.number(metric, above=0.0) for metric in METRICS if metric in measured}
    run = MeasuredRun(place=table.text("from"), given=cells, measured=values)
    for part in (given, measured, table):
        part.done()
    return run
