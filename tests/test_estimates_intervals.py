"""Widths of intervals: what no table supports is never surer than what one does."""

from __future__ import annotations

import pytest

from perfmodel.estimates.intervals import METRICS, _table, half_width
from perfmodel.workload import ARRIVALS


@pytest.mark.parametrize("arrival", [*ARRIVALS, "overload"])
@pytest.mark.parametrize("metric", METRICS)
def test_an_unmeasured_device_is_never_surer_than_a_measured_one(metric: str, arrival: str) -> None:
    table, calibrated, roofline = (half_width(metric, arrival, kind) for kind in ("table", "calibrated", "roofline"))
    assert roofline >= max(table, calibrated)
    assert roofline >= _table().table(metric).number("any-roofline")  # what roofline answers were off by in all runs


def test_a_learned_width_of_tables_and_of_donors_counts_as_it_is() -> None:
    for metric in METRICS:
        learned = _table().table(metric)
        for name in learned.keys():  # noqa: SIM118 - a Table is no mapping
            arrival, _, kind = name.partition("-")
            if kind in ("table", "calibrated") and arrival != "any":
                assert half_width(metric, arrival, kind) == learned.number(name)
