"""Add tables and charts for notebooks to what-ifs, and to studies of settings."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import wraps
from html import escape
from typing import TYPE_CHECKING, Any

from hwdb import InputError
from search import studies, whatif
from search.notebook.show import checked, shown, table
from search.output import heading
from search.report import charts, figures
from search.studies import Tuned
from search.whatif import Trials

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

#: Figures of the bars of what-ifs without a grid.
OF_CHANGES = ("usd_per_hour", "power_w", "devices", "slo_chance")
OF_STUDY = ("front", "trials")
#: Rows of the tables that a notebook shows.
SHOWN_ROWS = 12


@dataclass(frozen=True, repr=False)
class TrialsView(Trials):
    """What-ifs with charts: `plot` draws them, and a notebook shows their table."""

    def plot(self, kind: str = "usd_per_hour") -> go.Figure:
        """Return a chart, a Plotly figure that shows itself in a notebook.

        kind: a figure of the answers, such as usd_per_hour, devices, power_w, slo_chance, ttft_ms: over the values of a
        grid of numbers, else one bar per change. Raises `InputError` for a figure that is unknown, or known of no plan.
        """
        if self.grids and all(isinstance(value, int | float) for trial in self.trials for value in trial.levels[:1]):
            drawn = figures(self)
            return shown(drawn[checked(kind, drawn)].to_plotly_json())
        rows = [row for row in self.rows() if row[checked(kind, OF_CHANGES)] == row[kind]]
        if not rows:
            raise InputError(f"plot: kind {kind!r} is known of no plan; give one of {', '.join(OF_CHANGES)}")
        titles = charts.Titles(f"{heading(kind)} with each change", x=heading(kind))
        return shown(charts.ranked_bars([r["what_if"] for r in rows], [r[kind] for r in rows], titles))

    def __repr__(self) -> str:
        return f"{len(self.trials)} changes of {self.before.scenario.title!r}"

    def _repr_html_(self) -> str:
        """Return what each change does, as notebooks show it."""
        frame = self.frame().dropna(axis=1, how="all")
        kept = [c for c in ("grid_value", "second_grid_value", "answer", *OF_CHANGES, "change_percent") if c in frame]
        return f"{table(frame[kept], SHOWN_ROWS)}<p>.plot(figure): {', '.join(OF_CHANGES)}, ...; .frame()</p>"


@dataclass(frozen=True, repr=False)
class TunedView(Tuned):
    """A study with tables and charts for notebooks."""

    def frame(self) -> pd.DataFrame:
        """Return one row per trial: its state, settings and figures; `front` marks those that no other beats."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def plot(self, kind: str = "") -> go.Figure:
        """Return a chart, a Plotly figure that shows itself in a notebook.

        kind: front (the second objective against the first, trials that miss the SLO left out), or trials (the first
        objective over the number of the trial). "": front where there are two objectives. Raises `InputError` for an
        unknown kind, and where no trial has the figures.
        """
        aims = self.aims.objectives
        kind = checked(kind or ("front" if len(aims) > 1 else "trials"), OF_STUDY)
        if kind == "front" and len(aims) < len(OF_STUDY):
            raise InputError("plot: kind 'front' needs two objectives; this study has one, give 'trials'")
        x, y = aims[:2] if kind == "front" else ("trial", aims[0])
        able = [r for r in self.rows if r["state"] == "complete" and r["meets_slo"] and r[x] == r[x] and r[y] == r[y]]
        if not able:
            raise InputError("plot: no complete trial keeps the SLO; see the remarks in .frame()")
        groups = {}
        for name in dict.fromkeys(row["candidate"] for row in able):
            own = [row for row in able if row["candidate"] == name]
            settings = ["<br>".join(f"{a.name} {row[a.name]}" for a in self.axes) for row in own]
            groups[name] = charts.Points([row[x] for row in own], [row[y] for row in own], settings)
        best = sorted((row for row in self.front if kind == "front"), key=lambda row: row[x])
        titles = charts.Titles(f"{heading(y)} against {heading(x)}", x=heading(x), y=heading(y))
        edge = charts.Points([row[x] for row in best], [row[y] for row in best])
        return shown(charts.scatter(groups, front=edge, chosen=charts.Points([], []), titles=titles))

    def __repr__(self) -> str:
        return f"Study of {', '.join(self.aims.objectives)}: {self.counts['trials']} trials. {' '.join(self.sentences)}"

    def _repr_html_(self) -> str:
        """Return what the study found, and the trials that no other beats, as notebooks show them."""
        import pandas as pd

        sentence = "".join(f"<p><b>{escape(text)}</b></p>" for text in self.sentences)
        counted = ", ".join(f"{name} {count}" for name, count in self.counts.items())
        front = pd.DataFrame(self.front).drop(columns=["front", "state", "remark"], errors="ignore")
        return (
            f"{sentence}{table(front, SHOWN_ROWS)}<p>{counted}</p><p>.plot(kind): {', '.join(OF_STUDY)}; .frame()</p>"
        )


@wraps(whatif.try_changes)
def try_changes(*args: Any, **given: Any) -> TrialsView:
    """Do as `search.whatif.try_changes`, with charts."""
    found = whatif.try_changes(*args, **given)
    return TrialsView(**{f.name: getattr(found, f.name) for f in fields(found)})


@wraps(studies.tune)
def tune(*args: Any, **given: Any) -> TunedView:
    """Do as `search.studies.tune`, with tables and charts."""
    found = studies.tune(*args, **given)
    return TunedView(**{f.name: getattr(found, f.name) for f in fields(found)})
