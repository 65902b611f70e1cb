"""Add tables, charts and explanations for notebooks to a fleet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property, wraps
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwdb import InputError, nearest
from perfmodel import explain
from search import fleet
from search.fleet import FleetPlan, alternative_rows, busiest_mixes, latency_rows, workload_of
from search.notebook.plan_view import scenario_of
from search.notebook.show import checked, shown, table
from search.output import fleet_headline
from search.planning import term_row
from search.report import fleet_figures
from search.scenario import Scenario

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

#: Kind of chart -> chart of the page of a fleet.
OF_PAGE = {
    "used": "utilisation",
    "sure": "slo-chances",
    "shares": "shares",
    "rate": "hours-rate",
    "replicas": "hours-replicas",
    "cost": "hours-cost",
    "power": "hours-power",
    "limits": "limits",
}
#: Columns of the table that a notebook shows.
SHOWN = (
    "option",
    "serves",
    "period",
    "replicas",
    "devices",
    "usd_per_hour",
    "power_w",
    "utilisation_percent",
    "slo_chance",
)
#: Rows of that table.
SHOWN_ROWS = 12


@dataclass(frozen=True, repr=False)
class FleetView(FleetPlan):
    """A fleet with tables and charts for notebooks."""

    def frame(self) -> pd.DataFrame:
        """Return one row per option and period in use, with units in the names of columns."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def latency(self) -> pd.DataFrame:
        """Return the latency of each class beside each bound of its SLO, at the busiest period of its option."""
        import pandas as pd

        return pd.DataFrame(latency_rows(self))

    def alternatives(self) -> pd.DataFrame:
        """Return the fleet and the next best ones, which are planned now: what each costs, and why it is not it."""
        import pandas as pd

        return pd.DataFrame(alternative_rows(self))

    def explain(self, option: str = "") -> pd.DataFrame:
        """Return the operators of an option under its mix of classes at its busiest, as a table: time, share, bound.

        option: its name as in the frame; by default the modelled one with the most devices. Raises `InputError` for a
        name that is no option, and where the throughput of the option is stated, not modelled.
        """
        import pandas as pd

        found = [] if self.modelled is None else busiest_mixes(self, self.modelled)
        devices = {row["option"]: row["devices"] for row in self.rows()}
        known = {self.problem.options[mix.option].name: mix for mix in found if not mix.paired}
        name = option or max(known, key=lambda one: devices[one], default="")
        if name and name not in devices:
            near = nearest(name, list(devices)) or list(devices)
            raise InputError(f"explain: option {name!r} is not in use; did you mean {near[0]!r}?")
        if name not in known or self.modelled is None:
            text = f"option {name!r} has no operators" if name else "no option of this fleet has operators"
            raise InputError(f"explain: {text}: its throughput is stated, or it is a pair of pools")
        mix = known[name]
        target, one = mix.served.batch.target, mix.served.batch.layouts
        work = workload_of(mix, self.modelled, 1.0)
        terms = explain(target.model, work, one, mix.row, engine=target.engine, costs=target.costs)
        return pd.DataFrame([term_row(t) for t in terms])

    @cached_property
    def _figures(self) -> Mapping[str, Any]:
        """Return the charts of the page, made once."""
        return fleet_figures(self)

    def plot(self, kind: str = "") -> go.Figure:
        """Return a chart, a Plotly figure that shows itself in a notebook.

        kind: used (how busy each option is), sure (the chance of its SLOs), shares (who serves each class), limits
        (what each limit costs); over the periods of the day rate, replicas, cost and power. "": cost by the hour where
        there are several periods, else used. Raises `InputError` for a kind that is unknown, or not of this fleet.
        """
        kind = checked(kind or ("cost" if self.problem.periods > 1 else "used"), OF_PAGE)
        drawn = self._figures
        if OF_PAGE[kind] not in drawn:
            known = ", ".join(k for k, name in OF_PAGE.items() if name in drawn)
            raise InputError(f"plot: kind {kind!r} has nothing to show for this fleet; it has {known}")
        return shown(drawn[OF_PAGE[kind]])

    def __repr__(self) -> str:
        return f"Fleet for {', '.join(self.problem.classes)}. {fleet_headline(self)}"

    def _repr_html_(self) -> str:
        """Return the fleet and its options as notebooks show them."""
        frame = self.frame()
        kept = [c for c in SHOWN if c in frame.columns and frame[c].notna().any()]
        kinds = ", ".join(k for k, name in OF_PAGE.items() if name in self._figures)
        more = f"<p>.plot(kind): {kinds}; .latency(), .alternatives(), .explain(option)</p>"
        return f"<p><b>{escape(fleet_headline(self))}</b></p>{table(frame[kept], SHOWN_ROWS)}{more}"


@wraps(fleet.plan_fleet)
def plan_fleet(scenario: Scenario | str | Path | Mapping[str, Any], **given: Any) -> FleetView:
    """Do as `search.fleet.plan_fleet`, with tables and charts for notebooks.

    scenario: also a path, the text of a TOML file, or a mapping with the same tables.
    """
    found = fleet.plan_fleet(scenario_of(scenario, "plan_fleet"), **given)
    return FleetView(**{f.name: getattr(found, f.name) for f in fields(found)})
