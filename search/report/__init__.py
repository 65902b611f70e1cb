"""The HTML report."""

from __future__ import annotations

from search.report import roofline_plot
from search.report.report import render_report

__all__ = ["render_report", "roofline_plot"]
