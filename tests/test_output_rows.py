"""Rows as tables, JSON and CSV: nothing lost, nothing invented."""

from __future__ import annotations

import csv
import io
import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdb import InputError
from search.commands.shared.options import OutputOptions
from search.output import Form, Layout, heading, number, print_rows, progress_bar, terminal

ROWS = [
    {
        "name": "a",
        "ttft_ms": 120.0,
        "ttft_ms_lo": 100.0,
        "ttft_ms_hi": 150.0,
        "fits": np.True_,
        "tdp_w": np.float64(700),
    },
    {"name": "b", "ttft_ms": float("nan"), "fits": np.False_, "tdp_w": float("inf"), "note": "first, of two\nlines"},
]


def shown(form: Form, layout: Layout | None = None) -> str:
    stream = io.StringIO()
    print_rows(ROWS, form, layout, stream=stream)
    return stream.getvalue()


def test_json_is_an_array_of_flat_objects_and_unknown_is_null() -> None:
    rows = json.loads(shown("json"))
    assert rows[0] == {
        "name": "a",
        "ttft_ms": 120.0,
        "ttft_ms_lo": 100.0,
        "ttft_ms_hi": 150.0,
        "fits": True,
        "tdp_w": 700.0,
    }
    assert rows[1]["ttft_ms"] is None
    assert rows[1]["tdp_w"] is None


def test_csv_holds_every_column_and_unknown_is_empty() -> None:
    rows = list(csv.DictReader(io.StringIO(shown("csv"))))
    assert list(rows[0]) == ["name", "ttft_ms", "ttft_ms_lo", "ttft_ms_hi", "fits", "tdp_w", "note"]
    assert [r["ttft_ms"] for r in rows] == ["120.0", ""]
    assert rows[1]["note"] == "first, of two\nlines"


def test_table_folds_ranges_in_and_leaves_empty_columns_out() -> None:
    text = shown("table", Layout(columns=["name", "ttft_ms", "fits", "absent"], title="Two", notes=["a note"]))
    assert "120 (100–150)" in text
    assert "TTFT ms" in text
    assert "Absent" not in text
    assert text.splitlines()[0].startswith("Two")
    assert "a note" in text


def test_columns_that_tell_rows_apart_become_footnotes_where_they_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(label="class", keep=("class",), numbered=("option",))
    rows = [{"class": "chat", "option": f"{name} {'x' * 30}", "limit_ms": 5.0} for name in ("one", "two", "one")]
    for width, text in ((40, "[2]"), (80, f"two {'x' * 30}")):
        monkeypatch.setenv("COLUMNS", str(width))
        stream = io.StringIO()
        print_rows(rows, "table", layout, stream=stream)
        table = stream.getvalue().splitlines()
        assert [text in line for line in table[2:5]] == [False, True, False]
        assert f"two {'x' * 30}" in stream.getvalue().replace("\n  ", " ")


def test_brackets_are_text_not_markup() -> None:
    stream = io.StringIO()
    print_rows([{"name": "[bold]x[/bold]"}], stream=stream)
    assert "[bold]x[/bold]" in stream.getvalue()


def test_two_forms_at_once_are_refused() -> None:
    with pytest.raises(InputError, match="exclude each other"):
        _ = OutputOptions(as_json=True, as_csv=True).form


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15))
def test_numbers_keep_three_digits(value: float) -> None:
    text = number(value).replace(",", "")
    assert "e" not in text
    if 0 < abs(value) < 1e-6:
        assert text in ("< 0.000001", "> -0.000001")
    else:
        assert float(text) == pytest.approx(value, rel=6e-3)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("usd_per_hour", "$ per hour"),
        ("output_tok_s", "Output tok/s"),
        ("bf16_tflops", "bf16 TFLOP/s"),
        ("ttft_ms_p99", "TTFT p99 ms"),
        ("slo_chance", "Sure %"),
        ("ttft_ms_p90_chance", "TTFT p90 sure %"),
        ("output_tok_s_per_device", "Output tok/s per device"),
        ("request_rate_rps", "Request rate req/s"),
        ("energy_j_per_output_token", "Device energy J per output token"),
        ("site_energy_j_per_output_token", "Site energy J per output token"),
    ],
)
def test_headings_carry_the_unit(column: str, expected: str) -> None:
    assert heading(column) == expected


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_bar_where_nobody_looks() -> None:
    stream = io.StringIO()
    with progress_bar("work", stream) as update:
        update(1, 2)
    assert stream.getvalue() == ""


def test_quick_work_draws_no_bar_and_slow_work_does(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Terminal()
    with progress_bar("work", quick) as update:
        update(1, 2)
    assert "work" not in quick.getvalue()
    monkeypatch.setattr(terminal, "SECONDS_BEFORE_A_BAR", 0.01)
    slow, start = Terminal(), time.monotonic()
    with progress_bar("work", slow):  # one long step, which tells nothing
        while "work" not in slow.getvalue() and time.monotonic() - start < 20:
            time.sleep(0.01)
    assert "work" in slow.getvalue()
