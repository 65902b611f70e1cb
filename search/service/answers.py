"""Answer what the server is asked, with the functions that the command line and Python use."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwdb import InputError, load
from perfmodel.models import model, names, read_config
from search.fleet import alternative_rows, latency_rows, plan_fleet
from search.options import answered, inputs, operator_rows
from search.output import device_rows, figure_rows, fleet_headline, fleet_rows, headline, matching_rows, model_row
from search.planning import Plan, plan, space_of, tariff_of, terms_of
from search.report import render_fleet_report, render_report
from search.scenario import Scenario, load_scenario
from search.service import bodies
from search.service.bounds import Bounds
from search.service.inputs import laid_out, refuse_place, refuse_places_in_change
from search.sweeps import WORDS, sweep_table
from search.whatif import moved_candidates, shared_columns, trial_count, try_changes

#: Fields of an estimate that are no argument of a sweep of the same name.
NO_AXES = (
    "model",
    "device",
    "nodes",
    "engine",
    "slo",
    "usd_per_hour",
    "allow_long_context",
    "explain",
    "hardware_files",
)
#: Fields of a deployment that are no input of the same name, and those that name a file.
NO_INPUTS = ("explain", "files", "hardware_files")
PATHS = tuple(one.name for one in inputs() if one.kind is Path)
#: File that holds a model which is sent.
CONFIG = "config.json"
#: Endings of names that mean a file.
FILES = (".json", ".toml")
#: Command that a plan says it was made by.
COMMAND = "perfmodel serve"
Answer = dict[str, Any]


@dataclass(frozen=True)
class Operation:
    """One thing that may be asked. body: the model of the request. run: makes the answer, plain data for JSON.

    reads: whether it takes no more than words, so that HTTP offers it as GET.
    """

    name: str
    body: type[bodies.Body]
    run: Callable[[Any, Bounds], Answer]
    reads: bool = False

    @property
    def summary(self) -> str:
        """Return what it does, in one sentence."""
        return (self.body.__doc__ or "").split("\n")[0]


def _estimate(asked: bodies.Estimate, bounds: Bounds) -> Answer:
    """Estimate every combination of the lists."""
    for field in ("model", "device", "nodes", "engine", *WORDS):
        _refuse_files(getattr(asked, field), field)
    given = {name: value for name, value in asked.model_dump().items() if name not in NO_AXES}
    with _field_named(), laid_out(None, {}, asked.hardware_files) as (_, folders):
        spec = read_config(asked.model) if isinstance(asked.model, dict) else model(asked.model)
        table = sweep_table(
            spec,
            asked.device,
            engine=asked.engine,
            nodes=asked.nodes or (),
            slo=asked.slo or None,
            usd_per_hour=asked.usd_per_hour,
            hwdb=(*bounds.folders, *folders),
            allow_long_context=asked.allow_long_context,
            most=bounds.rows,
            **given,
        )
        rows = table.frame().to_dict(orient="records")
        terms = {} if asked.explain is None else {"operators": table.explain(asked.explain).to_dict(orient="records")}
    return {"rows": rows, **terms}


def _deployment(asked: bodies.Deployment, bounds: Bounds) -> Answer:
    """Estimate one deployment, as the command `estimate` does."""
    stated = {name: getattr(asked, name) for name in asked.model_fields_set if name not in NO_INPUTS}
    files = dict(asked.files)
    for one in inputs():
        if one.kind is not Path:
            _refuse_files(stated.get(one.name), one.name)
        elif stated.get(one.name) is not None and stated[one.name] not in files:
            raise InputError(f"{one.name}: {stated[one.name]!r} is not among the files; send its content in files")
    config = isinstance(asked.model, dict)
    files |= {CONFIG: json.dumps(asked.model)} if config else {}
    with _fields_for_flags(), laid_out(None, files, asked.hardware_files) as (path, folders):
        own = {n: path.parent / v for n, v in stated.items() if n in PATHS and v is not None}
        own |= {"model": str(path.parent / CONFIG)} if config else {}
        found = answered({**stated, **own}, load((*bounds.folders, *folders)))
        terms = {"operators": operator_rows(found.asked)} if asked.explain else {}
        row = found.row | ({"model": "the model sent"} if config else {})
    return {"keeps_slo": found.keeps_slo, "rows": [row], **terms}


@contextmanager
def _fields_for_flags() -> Iterator[None]:
    """Let errors of options name fields of the request in place of flags of the command line."""
    try:
        yield
    except InputError as error:
        told = re.sub(r"--([a-z][a-z0-9-]*)", lambda flag: flag[1].replace("-", "_"), str(error))
        raise InputError(told.replace("MODEL is", "model is")) from None


@contextmanager
def _field_named() -> Iterator[None]:
    """Let errors of a sweep name the field of the request in place of the function of Python."""
    try:
        yield
    except InputError as error:
        _, of_sweep, told = str(error).partition("sweep: ")
        if not of_sweep or not str(error).startswith(of_sweep):
            raise
        field = told.partition(" ")[0]
        raise InputError(f"{field if field in bodies.EstimateBody.model_fields else 'estimate'}: {told}") from None


def _refuse_files(given: Any, field: str) -> None:
    """Raise `InputError` where a name means a file."""
    for name in [given] if isinstance(given, str) else given if isinstance(given, list) else ():
        refuse_place(name, field)
        if name.strip().lower().endswith(FILES):
            raise InputError(f"{field}: {name[:80]!r} is a file; send its content, or name one that perfmodel knows")


def _read(path: Any, folders: Sequence[Any], bounds: Bounds) -> Scenario:
    """Return the scenario of a request; `InputError` where its plan would try too many candidates."""
    scenario = load_scenario(path, folders)
    if scenario.model and scenario.request is not None and scenario.offer.devices:
        size = space_of(scenario, scenario.model_called(scenario.model), tariff_of(scenario)).size
        size *= len(scenario.engines)
        if size > bounds.candidates:
            raise InputError(
                f"scenario: {size:,} candidates are more than the {bounds.candidates:,} of one request; "
                "give fewer values in [search], or fewer devices"
            )
    return scenario


@contextmanager
def _scenario(asked: bodies.ScenarioBody, bounds: Bounds) -> Iterator[Scenario]:
    """Yield the scenario of a request; its files are there meanwhile."""
    with laid_out(asked.scenario, asked.files, asked.hardware_files) as (path, own):
        yield _read(path, (*bounds.folders, *own), bounds)


def _plan(asked: bodies.PlanBody, bounds: Bounds) -> Answer:
    """Rank the candidates of a scenario; with the near misses, and the operators of the winner where asked for."""
    with _scenario(asked, bounds) as scenario:
        found = plan(scenario, command=COMMAND)
        terms = {"operators": terms_of(found)} if asked.explain and found.feasible else {}
        return {**_headline(found), "notes": found.notes, "rows": found.rows(asked.top, asked.misses), **terms}


def _headline(found: Plan) -> Answer:
    """Return whether anything qualifies, and the recommendation, else what comes nearest."""
    return {"feasible": found.feasible, "headline": headline(found) if found.feasible else found.message}


def _whatif(asked: bodies.WhatIf, bounds: Bounds) -> Answer:
    """Plan a scenario as it is, and with changes."""
    for place, texts in (("set", asked.set), ("grid", asked.grid)):
        for text in texts:
            refuse_places_in_change(text, place)
    plans = trial_count(asked.set, asked.grid)
    if plans > bounds.plans:
        raise InputError(f"grid: {plans} plans are more than the {bounds.plans} of one request; give fewer values")
    with laid_out(asked.scenario, asked.files, asked.hardware_files) as (path, own):
        folders = (*bounds.folders, *own)
        _read(path, folders, bounds)
        found = try_changes(path, asked.set, asked.grid, folders=folders)
        return {"feasible": found.feasible, "grids": list(found.grids), "rows": found.rows()}


def _compare(asked: bodies.Compare, _bounds: Bounds) -> Answer:
    """Compare the best candidates of two plans."""
    best = []
    for place, rows in (("before", asked.before), ("after", asked.after)):
        lacking = [name for name in ("rank", "candidate") if any(name not in row for row in rows)]
        if lacking:
            raise InputError(
                f"{place}: {lacking[0]} is missing in a row; send the rows that the operation plan returns"
            )
        first = next((row for row in rows if row["rank"] == 1), None)
        if first is None:
            raise InputError(f"{place}: no row has rank 1, so nothing qualifies in this plan; send one with an answer")
        best.append(first)
    both, single = shared_columns(*best)
    changed = [{"column": c, "before": best[0][c], "after": best[1][c]} for c in both if best[0][c] != best[1][c]]
    moved = moved_candidates(asked.before, asked.after)
    return {"best": best, "changed": changed, "in_one_alone": single, "candidates": moved}


def _fleet(asked: bodies.Fleet, bounds: Bounds) -> Answer:
    """Find the least-cost fleet of a scenario."""
    with _scenario(asked, bounds) as scenario:
        found = plan_fleet(scenario)
        others = {"alternatives": alternative_rows(found)} if asked.alternatives else {}
        told = {"feasible": True, "headline": fleet_headline(found)}
        return {**told, "rows": fleet_rows(found), "latency": latency_rows(found), **others}


def _report(asked: bodies.Report, bounds: Bounds) -> Answer:
    """Make the report of the plan of a scenario, or of its fleet where it has one."""
    with _scenario(asked, bounds) as scenario:
        if scenario.fleet is not None:
            fleet = plan_fleet(scenario, command=COMMAND)
            content = render_fleet_report(fleet, asked.form, scenario.path, scenario.title, scenario)
            return {"form": asked.form, "feasible": True, "headline": fleet_headline(fleet), "content": content}
        found = plan(scenario, command=COMMAND)
        return {"form": asked.form, **_headline(found), "content": render_report(found, None, asked.form)}


def _models(asked: bodies.Models, _bounds: Bounds) -> Answer:
    """List models, or show one."""
    if asked.name:
        _refuse_files(asked.name, "name")
        return {"total": 1, "rows": [model_row(model(asked.name))]}
    found = [name for name in names() if asked.like.lower() in name.lower()]
    return {"total": len(found), "rows": [model_row(model(name)) for name in found[: asked.limit]]}


def _hardware(asked: bodies.Hardware, bounds: Bounds) -> Answer:
    """List devices, or show the figures of one."""
    database = load(bounds.folders)
    if asked.name:
        device = database.device(asked.name)
        rows = figure_rows(device, database.prices(device.name))
    else:
        rows = matching_rows(device_rows(database), kind=asked.kind, vendor=asked.vendor)
    return {"total": len(rows), "rows": list(rows[: asked.limit])}


#: Everything that may be asked, by name.
OPERATIONS = {
    one.name: one
    for one in (
        Operation("estimate", bodies.EstimateBody, _estimate),
        Operation("deployment", bodies.DeploymentBody, _deployment),
        Operation("plan", bodies.PlanBody, _plan),
        Operation("whatif", bodies.WhatIf, _whatif),
        Operation("compare", bodies.Compare, _compare),
        Operation("fleet", bodies.Fleet, _fleet),
        Operation("report", bodies.Report, _report),
        Operation("models", bodies.Models, _models, reads=True),
        Operation("hardware", bodies.Hardware, _hardware, reads=True),
    )
}
