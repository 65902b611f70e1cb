"""The HTML report of a plan or a fleet, and the roofline plot of measured operators."""

from __future__ import annotations

from search.report import charts, curve_charts
from search.report.charts import Figure
from search.report.html_page import Page
from search.report.images import PICTURES, write_pictures
from search.report.live_data import live_data
from search.report.page_of_fleet import fleet_figures, page_of_fleet, render_fleet_report
from search.report.page_of_plan import figures, page_of, render_report
from search.report.roofline_plot import write_roofline
from search.report.text_forms import FORMS, form_of

__all__ = [
    "FORMS",
    "PICTURES",
    "Figure",
    "Page",
    "charts",
    "curve_charts",
    "figures",
    "fleet_figures",
    "form_of",
    "live_data",
    "page_of",
    "page_of_fleet",
    "render_fleet_report",
    "render_report",
    "write_pictures",
    "write_roofline",
]
