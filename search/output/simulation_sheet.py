"""Print the result of a simulation: what was measured, latencies with their intervals, objectives, rates, memory."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from search.output.clean_text import printable
from search.output.row_printer import SHEET_NAME_WIDTH
from search.output.terminal import console_on
from search.output.value_format import Row, is_known, number

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

#: Latencies and how they are headed.
LATENCIES = {
    "ttft_ms": "TTFT ms",
    "tpot_ms": "TPOT ms",
    "itl_ms": "ITL ms",
    "e2e_ms": "E2E ms",
    "normalised_ms": "E2E ms/token",
}
STATISTICS = {"": "mean", "_p50": "p50", "_p90": "p90", "_p95": "p95", "_p99": "p99"}
#: Other figures, by section: column -> heading.
CANDIDATE = {"candidate": "Candidate", "engine": "Engine", "router": "Router"}
RUN = {
    "measured": "Measured",
    "requests": "Requests replayed",
    "rejected": "Requests rejected",
    "measured_requests": "Requests measured",
    "warm_up_s": "Warm-up left out, s",
    "window_s": "Measurement window, s",
    "drain_s": "Drain left out, s",
}
RATES = {
    "request_rate_rps": "Request rate, req/s",
    "goodput_rps": "Goodput, req/s",
    "output_tok_s": "Output, tokens/s",
    "input_tok_s": "Input, tokens/s",
    "capacity_rps": "Capacity, req/s",
}
PACE = {"slo_attainment": "Share that keeps all limits", "fluidity_index": "Fluidity index", "qoe": "QoE"}
POWER = {
    "power_w_per_device": "Mean, W per device",
    "power_w_per_device_p99": "p99 over time, W per device",
    "power_w_per_device_peak": "Peak, W per device",
    "prefill_pool_power_w_per_device": "Prefill pool, W per device",
    "decode_pool_power_w_per_device": "Decode pool, W per device",
    "devices_power_w": "All devices, mean W",
    "devices_power_w_p99": "All devices, p99 W",
    "devices_power_w_peak": "All devices, peak W",
    "power_w": "At the meter of the site, mean W",
    "energy_j_per_output_token": "Device energy, J per output token",
    "energy_j_per_request": "Device energy, J per request",
    "site_energy_j_per_output_token": "Site energy, J per output token",
}
COST = {"usd_per_hour": "$ per hour", "usd_per_million_tokens": "$ per M output tokens"}
OCCUPANCY = {
    "running": "Running, requests",
    "waiting": "Waiting, requests",
    "kv_share": "KV cache in use",
    "cached_share": "Prefix cache hits",
    "preemptions": "Preemptions",
}
#: Kinds of step, as columns name them.
PHASES = ("prefill", "decode", "mixed", "idle")
#: Significant digits of a half width. Chosen: intervals are known no better.
_MARGIN_DIGITS = 2
#: Most decimals of a half width, and the share of its value below which it is rounding. Chosen.
_MOST_DECIMALS, _ROUNDING = 4, 1e-6
#: Columns that are printed in percent.
SHARES = ("slo_attainment", "fluidity_index", "qoe", "kv_share", "cached_share")
_EXPLAINED = "± is the half width of the 95 % interval; `perfmodel explain WORD` explains a word."


def print_simulation(row: Row, *, stream: TextIO | None = None) -> None:
    """Print one simulation, the row that `verify.simulated` returns. stream: stdout by default."""
    console = console_on(sys.stdout if stream is None else stream)
    _print_figures(console, "Candidate", row, CANDIDATE)
    _print_figures(console, "Run", row, RUN)
    _print_table(console, "Latency", _latency_table(row))
    objectives = [name.removesuffix("_limit") for name in row if name.endswith("_limit")]
    if objectives:
        _print_table(console, f"SLO: {'kept' if row['meets'] else 'missed'}", _slo_table(row, objectives))
    _print_figures(console, "Rates", row, RATES)
    _print_figures(console, "Power", row, POWER)
    if is_known(row.get("power_w_per_device")):
        _print_table(console, "Power by kind of step", _phase_table(row))
    _print_figures(console, "Cost of the whole plan", row, COST)
    _print_figures(console, "Pace of the tokens", row, PACE)
    _print_figures(console, "Occupancy, mean over the window", row, OCCUPANCY)
    for title, column in (("Remark", "remark"), ("Trace", "trace_remark")):
        if row.get(column):
            _print_line(console, f"{title}: {row[column]}.")
    _print_line(console, _EXPLAINED)


def with_margin(row: Row, column: str) -> str:
    """Write a value of a row with its 95 % interval, where the row has one.

    >>> with_margin({"ttft_ms": 70.1, "ttft_ms_ci95": 1.42}, "ttft_ms")
    '70.1 ±1.4'
    >>> with_margin({"a_rps": 31.0, "a_rps_ci95_low": 30.5, "a_rps_ci95_high": 31.5}, "a_rps")
    '31 (30.5–31.5)'
    """
    low, high = row.get(f"{column}_ci95_low"), row.get(f"{column}_ci95_high")
    value = _share(row[column]) if column in SHARES else number(row.get(column))
    if is_known(row.get(f"{column}_lo")):
        return f"{value} ({number(row[f'{column}_lo'])}–{number(row[f'{column}_hi'])})"
    if low is not None and high is not None:
        return f"{value} ({number(low)}–{number(high)})"
    return f"{value} {_margin(row, column)}".rstrip()


def _margin(row: Row, column: str) -> str:
    """Write the half width of a column's interval, such as "±1.4"; "" where there is none worth printing."""
    half = row.get(f"{column}_ci95", math.nan)
    if not (math.isfinite(half) and half > _ROUNDING * abs(row[column])):
        return ""
    decimals = min(max(0, _MARGIN_DIGITS - 1 - math.floor(math.log10(half))), _MOST_DECIMALS)
    return f"±{half:,.{decimals}f}"


def _share(value: float) -> str:
    """Write a share of 1 in percent, with three significant digits."""
    return f"{100 * value:.3g} %"


def _print_line(console: Console, text: str) -> None:
    """Print a sentence, wrapped between words."""
    from rich.text import Text

    console.print(Text(printable(text)))


def _print_figures(console: Console, title: str, row: Row, columns: dict[str, str]) -> None:
    """Print a section of figures, one per line; those that are not known are left out."""
    from rich.table import Table
    from rich.text import Text

    known = [(heading, with_margin(row, c)) for c, heading in columns.items() if is_known(row.get(c))]
    if not known:
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=SHEET_NAME_WIDTH)
    for heading, value in known:
        table.add_row(Text(f"  {heading}"), Text(printable(value)))
    _print_table(console, title, table)


def _print_table(console: Console, title: str, table: Table) -> None:
    """Print a table below its title."""
    from rich.text import Text

    console.print(Text(title, style="bold cyan"))
    console.print(table)


def _empty_table(headings: Sequence[str]) -> Table:
    """Return a table without rows: names to the left, figures to the right."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="")
    for place, heading in enumerate(headings):
        table.add_column(Text(heading), justify="right" if place else "left")
    return table


def _latency_table(row: Row) -> Table:
    """Return a table of all latencies: mean and percentiles beside each other, and the half widths below."""
    from rich.text import Text

    table = _empty_table(["", *STATISTICS.values()])
    for metric, heading in LATENCIES.items():
        margins = [_margin(row, f"{metric}{s}") for s in STATISTICS]
        table.add_row(Text(f"  {heading}"), *(Text(number(row[f"{metric}{s}"])) for s in STATISTICS))
        if any(margins):
            table.add_row("", *(Text(cell) for cell in margins))
    return table


def _phase_table(row: Row) -> Table:
    """Return a table of the kinds of step that occur: watts of a device and share of its time."""
    from rich.text import Text

    table = _empty_table(["", "W per device", "share of time"])
    for phase in PHASES:
        if row[f"{phase}_time_share"]:
            cells = (number(row[f"{phase}_power_w_per_device"]), _share(row[f"{phase}_time_share"]))
            table.add_row(Text(f"  {phase}"), *(Text(cell) for cell in cells))
    return table


def _slo_table(row: Row, objectives: Sequence[str]) -> Table:
    """Return a table of the objectives: limit, closed form and simulation side by side, and whether it is kept."""
    from rich.text import Text

    table = _empty_table(["", "limit", "closed form", "simulated", "kept"])
    for key in objectives:
        table.add_row(*(Text(cell) for cell in _slo_cells(row, key)))
    return table


def _slo_cells(row: Row, key: str) -> Iterator[str]:
    """Yield the cells of one objective, such as `ttft_ms_p95`."""
    metric, _, statistic = key.partition("_ms")
    yield f"  {metric.upper()} {statistic.removeprefix('_') or 'mean'} ms"
    yield number(row[f"{key}_limit"])
    yield number(row.get(f"closed_form_{key}"))
    yield with_margin(row, key)
    yield number(row[f"{key}_kept"])
