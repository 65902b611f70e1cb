"""The command `perfmodel calibrate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from hwdb import InputError, outfile
from search.commands.shared.option_groups import grouped
from search.commands.shared.options import DataOutputOptions
from search.options import COUNT, NAME

if TYPE_CHECKING:
    from perfmodel.engines import Adjustment, Engine
    from perfmodel.user_calibration import Calibration, MeasuredRun, PowerLog
    from search.planning import Plan
    from search.scenario import Scenario as PlanScenario

EXAMPLES = """\
perfmodel calibrate bench.json --device h100-sxm --tp 4 -o mine.toml
perfmodel calibrate bench.json mine.toml --scenario chat.toml -o both.toml"""

Results = Annotated[
    list[Path],
    typer.Argument(metavar="RESULT…", help="Results of benchmarks, calibration files, and power logs of the runs."),
]
Target = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE.toml", help="File to write the calibration to.", rich_help_panel="Output"
    ),
]


@dataclass(frozen=True)
class RunOptions:
    """What was run, where a result does not say it."""

    section: ClassVar[str] = "What was run, where the result does not say"

    model: Annotated[
        str, typer.Option(metavar=NAME, help="Model; also where the result has a path or a served name.")
    ] = ""
    device: Annotated[str, typer.Option(metavar=NAME, help="Device, as `hw list` names it.")] = ""
    engine: Annotated[str, typer.Option(metavar=NAME, help="Serving engine (default: the result's, else vllm).")] = ""
    engine_version: Annotated[str, typer.Option(metavar="X.Y", help="Version of the engine (default: newest).")] = ""
    tp: Annotated[int | None, typer.Option(min=1, metavar=COUNT, help="Tensor parallelism (default: 1).")] = None
    n_devices: Annotated[
        int | None, typer.Option(min=1, metavar=COUNT, help="Devices in all (default: one replica's).")
    ] = None
    weights: Annotated[str, typer.Option(metavar="FORMAT", help="Format of the weights.")] = ""
    kv: Annotated[str, typer.Option(metavar="FORMAT", help="Format of the KV cache.")] = ""
    watts: Annotated[
        float | None, typer.Option(min=0.1, metavar="W", help="Measured watts per device of every run without any.")
    ] = None
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Any column of a table of cases, such as pp=2; repeatable."),
    ] = None

    def columns(self) -> dict[str, str]:
        """Return the columns of a table of cases that the options give."""
        given = {
            "model": self.model,
            "device": self.device,
            "engine": self.engine,
            "engine_version": self.engine_version,
            "tp": "" if self.tp is None else str(self.tp),
            "n_devices": "" if self.n_devices is None else str(self.n_devices),
            "weight_dtype": self.weights,
            "kv_dtype": self.kv,
            **dict(_column(text) for text in self.column or ()),
        }
        return {name: value for name, value in given.items() if value}


def _column(text: str) -> tuple[str, str]:
    """Return (name, value) of a column given as NAME=VALUE."""
    from difflib import get_close_matches

    from perfmodel.cases import columns

    name, sign, value = text.partition("=")
    known = [name for name, _, _ in columns()]
    if not sign or not value:
        raise InputError(f"--column {text!r} has no value; give NAME=VALUE, such as pp=2")
    if name not in known:
        near = get_close_matches(name, known, 1)
        sentence = f"did you mean {near[0]}?" if near else "docs/cases.md lists the columns"
        raise InputError(f"--column: {name!r} is no column of a table of cases; {sentence}")
    return name, value


Planned = Annotated[
    Path | None, typer.Option("--scenario", metavar="FILE.toml", help="Scenario that is planned before and after.")
]


@grouped
def calibrate_command(
    results: Results, asked: RunOptions, output: DataOutputOptions, target: Target = None, scenario: Planned = None
) -> None:
    """Learn from your own benchmarks what your systems do differently.

    Prints what the runs say of each part of a step, and each measured value beside the estimate before and after; with
    a scenario, what its plan was and is. The file that -o writes is named by [calibration] in a scenario and by
    --calibration.
    """
    from perfmodel.user_calibration import PowerLog, calibrate, with_watts, write_calibration
    from search.output import print_rows, progress_bar
    from search.scenario import load_scenario

    asked_for = None if scenario is None else load_scenario(scenario, output.folders)
    form = output.form
    if target is not None:
        outfile.check(target, *results)
    read = [_read(path) for path in dict.fromkeys(results)]
    logs = [one for one in read if isinstance(one, PowerLog)]
    runs = [run for one in read if not isinstance(one, PowerLog) for run in one]
    if not runs and logs:
        raise InputError(f"{results[0]}: a log of watts alone; give the result of the run with it")
    if not runs:
        raise InputError(f"{results[0]}: there is no run in it; give a file with at least one")
    runs = [_of_known_model(run, asked.model) for run in runs]
    runs = [run.completed(_filled(run, asked.columns())) for run in runs]
    runs = _each_once([_with_figure(run, asked.watts) for run in with_watts(runs, logs)])
    with progress_bar("calibrating") as update:
        found = calibrate(runs, hwdb=output.database(), progress=update)
    if target is not None:
        write_calibration(target, found)
    plans = [] if asked_for is None else plan_rows(asked_for, found)
    if form != "table":
        print_rows(plans or [row for one in found for row in value_rows(one)], form)
        return
    _print_tables(found, target, wide=output.wide)
    if plans:
        _print_plans(plans, wide=output.wide)


def _read(path: Path) -> PowerLog | list[MeasuredRun]:
    """Return the runs of a result, or those behind a calibration, or the samples of a power log."""
    from perfmodel.user_calibration import read_log_or_results, read_runs

    return read_runs(path) if path.suffix == ".toml" else read_log_or_results(path)


def _each_once(runs: Sequence[MeasuredRun]) -> list[MeasuredRun]:
    """Return the runs without those that come again, as where two calibration files hold the same ones."""
    same = {(tuple(sorted(run.given.items())), tuple(sorted(run.measured.items()))): run for run in reversed(runs)}
    return list(reversed(same.values()))


def plan_rows(scenario: PlanScenario, found: Sequence[Calibration]) -> list[dict[str, Any]]:
    """Return the best candidate of a scenario's plan without the runs and with them, a row each."""
    from search.planning import plan

    own = [one.adjustment for one in found]
    model = scenario.described.name if scenario.described else scenario.model
    later = scenario.with_engines(with_runs(one, own, model) for one in scenario.engines)
    return [_plan_row(when, plan(asked)) for when, asked in (("before", scenario), ("after", later))]


def with_runs(engine: Engine, own: Sequence[Adjustment], model: str) -> Engine:
    """Return an engine with further factors, which replace those of the same system.

    The others stay as they are: the scenario has read them as they hold for its model.
    """
    from dataclasses import replace

    kept = [one for one in engine.adjustments if not _replaced(one, own)]
    return replace(engine, adjustments=(*kept, *engine.adjusted_by(own, model).adjustments))


def _plan_row(when: str, made: Plan) -> dict[str, Any]:
    """Return the best candidate of a plan as a flat row, with how often it beats the second."""
    if not made.feasible:
        return {"plan": when, "candidate": "none qualifies", "why": made.message}
    first, *others = made.rows(2)
    odds = [100.0 * row["best_beats_chance"] for row in others[:1] if "best_beats_chance" in row]
    return {"plan": when, **first, **({"beats_second_percent": odds[0]} if odds else {})}


def _replaced(one: Adjustment, by: Sequence[Adjustment]) -> bool:
    """Return whether others speak of the same device under the same engine."""
    return any((one.device, one.engine) == (other.device, other.engine) for other in by)


#: Columns of a plan that are compared, where it has them.
PLAN_COLUMNS = (
    "plan",
    "candidate",
    "usd_per_hour",
    "ttft_ms",
    "tpot_ms",
    "power_w",
    "slo_chance",
    "beats_second_percent",
)


def _print_plans(rows: Sequence[dict[str, Any]], *, wide: bool) -> None:
    """Print the plan before and after, and say whether another candidate wins."""
    from search.output import Layout, print_rows, print_text

    columns = tuple(name for name in PLAN_COLUMNS if any(name in row for row in rows))
    print_rows(list(rows), layout=Layout(title="The plan before and after", columns=columns, wide=wide))
    first, later = rows
    if first["candidate"] == later["candidate"]:
        print_text("The same candidate is best.")
    else:
        print_text(f"The best candidate changes from {first['candidate']} to {later['candidate']}.")


def _with_figure(run: MeasuredRun, watts: float | None) -> MeasuredRun:
    """Return a run with the watts per device that are given for it, where it has none of its own."""
    from dataclasses import replace

    if watts is None or "power_w_per_device" in run.measured:
        return run
    return replace(run, measured={**run.measured, "power_w_per_device": watts})


def _of_known_model(run: MeasuredRun, model: str) -> MeasuredRun:
    """Return a run without its model where that is a path or a served name, and `model` says what it stands for."""
    from dataclasses import replace

    from perfmodel import model as model_of

    written = run.given.get("model", "")
    if not written:
        return run
    try:
        model_of(written)
    except InputError as error:
        if not model:
            raise InputError(f"{run.place}: {error}; --model says what a path or a served name stands for") from None
        return replace(run, given={**run.given, "model": ""})
    return run


def _filled(run: MeasuredRun, more: dict[str, str]) -> dict[str, str]:
    """Return the columns to add to a run: those given, and as many devices as one replica has where none are stated."""
    cells = {**more, **{k: v for k, v in run.given.items() if v}}
    degrees = [cells.get(name, "1") for name in ("tp", "pp", "dp_attention")]
    pooled = any(name.startswith(("prefill_", "decode_")) for name in cells)
    if cells.get("n_devices") or pooled or not all(d.isdigit() for d in degrees):
        return more
    count = 1
    for degree in degrees:
        count *= int(degree)
    return {**more, "tp": cells.get("tp", "1"), "n_devices": str(count)}


def _print_tables(found: Sequence[Calibration], target: Path | None, *, wide: bool) -> None:
    """Print factors, values and what is odd about them, of each device and engine."""
    from search.output import Layout, print_rows, print_text

    for one in found:
        system = f"{one.adjustment.device} under {one.adjustment.engine}"
        count = "one run says" if one.adjustment.runs == 1 else f"{one.adjustment.runs} runs say"
        print_rows(factor_rows(one), layout=Layout(title=f"What {count} of {system}", notes=[FACTORS_NOTE], wide=wide))
        several = one.adjustment.runs > 1
        print_rows(
            value_rows(one),
            layout=Layout(
                title="Measured and estimated",
                columns=VALUE_COLUMNS if several else tuple(c for c in VALUE_COLUMNS if c != "left_out"),
                notes=[VALUES_NOTE] if several else (),
                footnotes=("remark",),
                wide=wide,
            ),
        )
        for number, run in enumerate(one.runs, 1):
            for remark in run.remarks:
                print_text(f"Run {number}: {remark}.")
        print_text(_verdict(one))
    if target is not None:
        print_text(
            f"Written to {target}: name it with --calibration {target} (plan: --set calibration.file={target}), or in "
            "[calibration] of a scenario."
        )


#: Columns of the table of values that the terminal prints.
VALUE_COLUMNS = ("run", "metric", "measured", "before", "calibrated", "left_out", "remark")
FACTORS_NOTE = "factor: time (of power: watts) over what the shipped model answers. prior: the runs do not tell."
VALUES_NOTE = "left out: the estimate where this run is not used."


def factor_rows(one: Calibration) -> list[dict[str, Any]]:
    """Return a row per part: its factor, the 80 % range, and whether the runs say so."""
    import numpy as np

    from perfmodel.estimates import DEVIATE_80

    spreads = dict(one.adjustment.spreads)
    rows = []
    for (part, factor), told in zip(one.adjustment.factors, one.told, strict=True):
        width = DEVIATE_80 * spreads[part]
        rows.append(
            {
                "part": part,
                "factor": factor,
                "factor_lo": factor * float(np.exp(-width)),
                "factor_hi": factor * float(np.exp(width)),
                "from": "runs" if told else "prior",
            }
        )
    return rows


def value_rows(one: Calibration) -> list[dict[str, Any]]:
    """Return a row per measured value: the estimate before, with the factors, and without its own run."""
    import numpy as np

    from perfmodel.user_calibration import outliers

    several = one.adjustment.runs > 1
    odd = {(o.place, o.metric): o for o in outliers(one)}
    rows = []
    for at, (run, metric, value) in enumerate(
        zip(one.measured.run, one.measured.metric, one.measured.value, strict=True)
    ):
        place = one.runs[run].place
        far = odd.get((place, str(metric)))
        rows.append(
            {
                "device": one.adjustment.device,
                "engine": one.adjustment.engine,
                "run": int(run) + 1,
                "place": place,
                "metric": str(metric),
                "measured": float(value),
                "before": float(one.predicted[at]),
                "calibrated": float(one.after[at]),
                "left_out": float(value * np.exp(-one.posterior.left_out[at])) if several else np.nan,
                "remark": "" if far is None else _odd(far.ratio, far.reason, several=several),
            }
        )
    return rows


def _odd(ratio: float, reason: str, *, several: bool) -> str:
    """Say that a value is far from what the other runs say, or the estimate where there are none, and why."""
    by = "what the other runs say" if several else "the estimate before"
    return f"{ratio:.2f} times {by}" + (f": {reason}" if reason else "")


def _verdict(one: Calibration) -> str:
    """Say how far estimates were off before, are off with the factors, and are off for a run that is left out."""
    import numpy as np

    before, after, left = (
        100.0 * float(np.median(np.abs(np.expm1(-r))))
        for r in (one.posterior.before, one.posterior.after, one.posterior.left_out)
    )
    text = f"Median error {before:.1f} % before, {after:.1f} % after"
    return f"{text}; {left:.1f} % for a run that the factors do not know." if one.adjustment.runs > 1 else f"{text}."
