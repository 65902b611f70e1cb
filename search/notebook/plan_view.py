"""Add tables, charts and explanations for notebooks to a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwdb import InputError
from hwdb.tomlfile import parse_toml
from perfmodel import explain
from perfmodel.estimates import Term, explain_disaggregated
from perfmodel.vocabulary import FORMER_NAMES
from search import planning
from search.notebook.one_row import OF_ONE, Row, of_one
from search.notebook.show import checked, shown, table
from search.output import candidate_columns, headline
from search.planning import Plan, terms_of, verify
from search.report import figures
from search.scenario import Scenario, load_scenario, read_scenario

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

#: Kind of chart -> chart of the report.
OF_REPORT = {"front": "front-ttft_ms", "front-tpot": "front-tpot_ms", "memory": "memory", "devices": "devices"}
KINDS = (*OF_REPORT, *OF_ONE, "power")
#: Rows of the table that a notebook shows.
SHOWN_ROWS = 8


@dataclass(frozen=True, repr=False)
class PlanView(Plan):
    """A plan with tables and charts for notebooks."""

    def frame(self, most: int | None = 20, misses: int = 0) -> pd.DataFrame:
        """Return the ranked candidates as a table: device, degrees, formats, figures with units in their names.

        most: candidates that qualify, None for all. misses: so many that do not qualify follow, with their `reason`.
        """
        import pandas as pd

        return pd.DataFrame(self.rows(most, misses))

    def explain(self, number: int | None = None) -> pd.DataFrame:
        """Return the operators of a prefill and of a decode step of one candidate. number: None for the winner."""
        import pandas as pd

        return pd.DataFrame(terms_of(self, self._chosen(number, "explain")))

    def plot(self, kind: str = "front", *, number: int | None = None, requests: int = 0) -> go.Figure:
        """Return a chart, a Plotly figure that shows itself in a notebook.

        Args:
            kind: front (cost against TTFT), front-tpot, devices (cost of the best of each), memory, and of one
                candidate: waterfall, roofline, latency, power (watts over the time of a replay).
            number: of the candidate; None for the winner.
            requests: to replay, for latency (0: none) and power (0: as many as its figures need).
        """
        kind = checked(kind, KINDS)
        if kind in OF_REPORT:
            found = figures(self)
            if OF_REPORT[kind] not in found:
                raise InputError(
                    f"plot: kind {kind!r} has nothing to compare: one kind of device, or no price, is left"
                )
            return shown(found[OF_REPORT[kind]].to_plotly_json())
        if isinstance(requests, bool) or not isinstance(requests, int) or requests < 0:
            raise InputError(f"plot: requests is {requests!r}; give a whole number of 0 or more")
        at = self._chosen(number, "plot")
        settings = verify.Settings(count=requests)
        if kind == "power":
            return shown(watts(self.name(at), verify.replay(self, at, settings)))
        one = Row(self.name(at), self.estimates(at), self._terms(at), self._cards(at))
        drawn = verify.replay(self, at, settings) if kind == "latency" and requests else None
        return shown(of_one(kind, one, drawn))

    def _chosen(self, number: int | None, who: str) -> int:
        """Return the number of a candidate, by default the winner. `Infeasible` where there is none."""
        if number is None:
            return self.best
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(self):
            raise InputError(f"{who}: number {number!r} is no candidate; give one from 0 to {len(self) - 1}")
        return number

    def _cards(self, number: int) -> list[Any]:
        """Return the devices of a candidate."""
        return [self.scorer.tariff.devices[at] for at in self.device_types(number)]

    def _terms(self, number: int) -> Sequence[Term]:
        """Return the operators of a candidate."""
        target, work = self.scorer.target, self.scorer.workload_of(float(self.columns["offered"][number]))
        settings: dict[str, Any] = {"engine": target.engine, "costs": target.costs}
        if not self.disaggregated(number):
            return explain(target.model, work, self.deployment(number), **settings)
        c = self.columns
        workers = c["prefill_workers"][[number]], c["decode_workers"][[number]]
        return explain_disaggregated(target.model, work, self.pool_deployments(number), workers, **settings)

    def _told(self) -> str:
        """Return the recommendation in words, or what comes nearest."""
        return headline(self) if self.feasible else self.message

    def __repr__(self) -> str:
        return f"Plan of {self.scenario.title!r}, {len(self)} candidates. {self._told()}"

    def _repr_html_(self) -> str:
        """Return the recommendation and the ranked candidates as notebooks show them."""
        told = self._told()
        frame = self.frame(SHOWN_ROWS, 0 if self.feasible else SHOWN_ROWS)
        kept = [c for c in candidate_columns(self) if c in frame.columns]
        kinds = ", ".join(KINDS)
        return f"<p><b>{escape(told)}</b></p>{table(frame[kept], SHOWN_ROWS)}<p>.plot(kind): {kinds}; .explain()</p>"


def watts(name: str, replayed: Any) -> dict[str, Any]:
    """Draw the watts per device over the time of a replay, one line per replica."""
    from perfmodel.simulator import power_series
    from search.report import charts

    series = power_series(replayed)
    if not series:
        raise InputError(f"plot: power: the power of {name} is not known")
    data = []
    for place, replica in enumerate(dict.fromkeys(series["replica"].tolist())):
        own = series["replica"] == replica
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": f"replica {replica:g}",
                "x": series["time_s"][own].tolist(),
                "y": series["power_w_per_device"][own].tolist(),
                "line": {"color": charts.PALETTE[place % len(charts.PALETTE)], "width": 1},
            }
        )
    axes = {
        "xaxis": {"title": {"text": "time, s"}},
        "yaxis": {"title": {"text": "W per device"}, "rangemode": "tozero"},
    }
    return {"data": data, "layout": {"meta": {"title": f"Power over a replay: {name}"}, **axes}}


@wraps(planning.plan)
def plan(scenario: Scenario | str | Path | Mapping[str, Any], **given: Any) -> PlanView:
    """Do as `search.planning.plan`, with tables and charts for notebooks.

    scenario: also a path, the text of a TOML file, or a mapping with the same tables.
    """
    found = planning.plan(scenario_of(scenario), **given)
    return PlanView(**{f.name: getattr(found, f.name) for f in fields(found)})


def scenario_of(given: Any, who: str = "plan") -> Scenario:
    """Return the scenario that an argument means; without a path, files are looked for in the present folder.

    who: asks for it, for the message.
    """
    if isinstance(given, Scenario):
        return given
    if isinstance(given, Mapping):
        return load_scenario(given)
    if isinstance(given, str) and "\n" in given:
        return read_scenario(parse_toml(given, "scenario", FORMER_NAMES), Path())
    if isinstance(given, str | Path):
        return load_scenario(given)
    raise InputError(f"{who}: scenario {given!r} is no scenario; give a path, the text of a TOML file, or a mapping")
