"""The HTML report of a plan or a fleet, and the roofline plot of measured operators."""

from __future__ import annotations

from search.report.live_data import live_data
from search.report.page_of_fleet import render_fleet_report
from search.report.page_of_plan import figures, render_report
from search.report.roofline_plot import write_roofline
from search.report.text_forms import FORMS

__all__ = ["FORMS", "figures", "live_data", "render_fleet_report", "render_report", "write_roofline"]
