"""What the studies of mixed fleets share: a line of their page, the scenario of a study, and its cheapest fleet."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hwdb import Infeasible
from search import load_scenario
from search.fleet import FleetPlan, FleetProblem, fleet_plan
from search.fleet.solution.from_scenario import prepare


class Line(NamedTuple):
    """One line of the page: what was studied, published and ours, and what was assumed."""

    study: str
    published: str
    ours: str
    told: str


class Setup(NamedTuple):
    """The scenario of a study: one class, and options as (name, lines of TOML)."""

    model: str
    lengths: str
    slo: str
    options: Sequence[tuple[str, str]]
    more: str = ""


def problem_of(setup: Setup) -> FleetProblem:
    """Model the options of a study; its class has 1 request/s."""
    text = [setup.more, '[[fleet.class]]\nname = "requests"', f'model = "{setup.model}"', setup.lengths]
    text += ["request_rate_rps = 1", f"slo = {{ {setup.slo} }}"]
    text += [f'[[fleet.option]]\nname = "{name}"\n{lines}' for name, lines in setup.options]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.toml"
        path.write_text("\n".join(text), encoding="utf-8")
        return prepare(load_scenario(path)).problem


def least(problem: FleetProblem, rate: float, names: Iterable[str] = ()) -> FleetPlan | None:
    """Return the least-cost fleet at `rate` times the problem's rates, of the options whose names begin so; None
    without one."""
    some, starts = problem, tuple(f"{name}:" for name in names)
    if starts:
        some = problem.of_options(np.array([o.name.startswith(starts) for o in problem.options]))
    if not len(some.options):
        return None
    try:
        return fleet_plan(replace(some, rate=some.rate * rate))
    except Infeasible:
        return None
