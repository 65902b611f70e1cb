"""The HTML report of a plan or a fleet, and the roofline plot of measured operators.

Which part may import which, from the ground up; tests/test_architecture.py checks it, and each docstring
says what its part holds:

- `chart_drawing`: nothing
- `live_controls`: nothing
- `page_parts`: `chart_drawing`
- `plan_page`: `chart_drawing`, `live_controls`, `page_parts`
- `fleet_page`: `chart_drawing`, `page_parts`, `plan_page`
"""

from __future__ import annotations

from search.report.chart_drawing import charts, curve_charts
from search.report.chart_drawing.charts import Figure
from search.report.chart_drawing.images import PICTURES, write_pictures
from search.report.chart_drawing.roofline_plot import write_roofline
from search.report.fleet_page.page_of_fleet import fleet_figures, page_of_fleet, render_fleet_report
from search.report.live_controls.live_data import live_data
from search.report.page_parts.html_page import Page
from search.report.page_parts.text_forms import FORMS, form_of
from search.report.plan_page.page_of_plan import figures, page_of, render_report

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
