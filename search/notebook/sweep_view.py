"""Add charts and a table for notebooks to a sweep."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from search.notebook.many_rows import front, over_load
from search.notebook.one_row import OF_ONE, Row, of_one
from search.notebook.show import checked, shown, table
from search.sweeps import SweepTable, sweep_table

if TYPE_CHECKING:
    import plotly.graph_objects as go

#: Kinds of chart of all rows.
OF_ROWS = ("sweep", "front", "power")
#: Rows of the table that a notebook shows.
SHOWN_ROWS = 20


class Sweep(SweepTable):
    """A sweep with charts: `plot` draws it, and a notebook shows its table."""

    def plot(self, kind: str = "", *, x: str = "", y: str = "", row: int | None = None, requests: int = 0) -> go.Figure:
        """Return a chart, a Plotly figure that shows itself in a notebook.

        Args:
            kind: sweep (`y` over `x`, one line per device and other argument), front (cost against latency), power
                (watts per device over `x`), and of one row: waterfall (what adds up to TTFT and TPOT), roofline (its
                operators under the limits of the device), latency (its percentiles). "": sweep where rows differ, else
                waterfall.
            x, y: columns of numbers; by default those that the kind is named for.
            row: the row that waterfall, roofline and latency show; None: the cheapest per token.
            requests: for latency: replay so many requests and draw their distribution as well; 0: none.

        Raises `InputError` for a kind, a column or a row that does not exist.
        """
        kind = checked(kind or ("sweep" if len(self) > 1 else "waterfall"), (*OF_ROWS, *OF_ONE))
        if kind == "front":
            return shown(front(self.frame(), [self.name(i) for i in range(len(self))], x, y))
        if kind in OF_ROWS:
            y = y or ("power_w_per_device" if kind == "power" else "")
            return shown(over_load(self.frame(), self.differing(), x, y))
        at = self._usable() if row is None else row
        part, own = self.part(at, "plot")
        placed = part.deployments
        device = placed.devices[int(placed.device[own])]
        one = Row(self.name(at), part.estimates.take(np.array([own])), part.terms(own), [device])
        drawn = self.simulate(at, requests=requests) if kind == "latency" and requests else None
        return shown(of_one(kind, one, drawn))

    def _usable(self) -> int:
        """Return the row that is shown where none is named: the cheapest per token, else that of the most tokens."""
        priced = bool(self.frame()["usd_per_million_tokens"].notna().any())
        return self.best() if priced else self.best("output_tok_s_per_device", least=False)

    def _repr_html_(self) -> str:
        """Return the table as notebooks show it."""
        kinds = ", ".join((*OF_ROWS, *OF_ONE))
        return table(self.shown(), SHOWN_ROWS) + f"<p>.plot(kind): {kinds}; .explain(row): a line per operator</p>"


@wraps(sweep_table)
def sweep(*args: Any, **given: Any) -> Sweep:
    """Do as `sweep_table`, with charts."""
    found = sweep_table(*args, **given)
    return Sweep(found.parts, found.swept)
