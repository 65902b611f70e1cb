"""Rows, tables and summaries for the terminal, for JSON and for CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwdb.lazy import lazy_names

if TYPE_CHECKING:
    from search.output.catalogue_rows import (
        DEVICE_COLUMNS,
        DEVICE_NOTE,
        MODEL_COLUMNS,
        comparison_rows,
        device_row,
        device_rows,
        figure_rows,
        matching_rows,
        model_row,
        node_row,
        transposed,
    )
    from search.output.fleet_summary import fleet_rows, print_fleet
    from search.output.headings import heading
    from search.output.plan_sentences import headline, question, ranking_note
    from search.output.plan_tables import (
        candidate_columns,
        operator_group,
        operator_layout,
        print_operators,
        print_plan,
        step_time_rows,
        with_kilowatts,
    )
    from search.output.row_export import write_predictions, write_text
    from search.output.row_printer import Form, print_rows, print_sheet
    from search.output.table_fit import Layout, known_columns
    from search.output.terminal import error_lines, print_text, progress_bar
    from search.output.value_format import Row, json_value, money, number, percent, with_range

__all__ = [
    "DEVICE_COLUMNS",
    "DEVICE_NOTE",
    "MODEL_COLUMNS",
    "Form",
    "Layout",
    "Row",
    "candidate_columns",
    "comparison_rows",
    "device_row",
    "device_rows",
    "error_lines",
    "figure_rows",
    "fleet_rows",
    "heading",
    "headline",
    "json_value",
    "known_columns",
    "matching_rows",
    "model_row",
    "money",
    "node_row",
    "number",
    "operator_group",
    "operator_layout",
    "percent",
    "print_fleet",
    "print_operators",
    "print_plan",
    "print_rows",
    "print_sheet",
    "print_text",
    "progress_bar",
    "question",
    "ranking_note",
    "step_time_rows",
    "transposed",
    "with_kilowatts",
    "with_range",
    "write_predictions",
    "write_text",
]

__getattr__ = lazy_names(
    __name__,
    {
        "catalogue_rows": [
            "DEVICE_COLUMNS",
            "DEVICE_NOTE",
            "MODEL_COLUMNS",
            "comparison_rows",
            "device_row",
            "device_rows",
            "figure_rows",
            "matching_rows",
            "model_row",
            "node_row",
            "transposed",
        ],
        "fleet_summary": ["fleet_rows", "print_fleet"],
        "headings": ["heading"],
        "plan_sentences": ["headline", "question", "ranking_note"],
        "plan_tables": [
            "candidate_columns",
            "operator_group",
            "operator_layout",
            "print_operators",
            "print_plan",
            "step_time_rows",
            "with_kilowatts",
        ],
        "row_export": ["write_predictions", "write_text"],
        "row_printer": ["Form", "print_rows", "print_sheet"],
        "table_fit": ["Layout", "known_columns"],
        "terminal": ["error_lines", "print_text", "progress_bar"],
        "value_format": ["Row", "json_value", "money", "number", "percent", "with_range"],
    },
)
