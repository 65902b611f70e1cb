"""The HTML report of a plan, and the roofline plot of measured operators."""

from __future__ import annotations

from search.report import charts
from search.report.charts import Figure
from search.report.live_data import live_data
from search.report.page_of_plan import FORMS, figures, render_report
from search.report.roofline_plot import write_roofline

__all__ = ["FORMS", "Figure", "charts", "figures", "live_data", "render_report", "write_roofline"]
