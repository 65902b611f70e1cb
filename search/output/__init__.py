"""Rows, tables and summaries for the terminal, for JSON and for CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwdb.lazy import lazy_names

if TYPE_CHECKING:
    from search.output.catalogue_rows import (
        DEVICE_COLUMNS,
        DEVICE_NOTE,
        DEVICES_DROP,
        MODEL_COLUMNS,
        MODELS_DROP,
        NODES_DROP,
        comparison_rows,
        device_row,
        device_rows,
        figure_rows,
        matching_rows,
        model_row,
        node_row,
    )
    from search.output.change_sheet import change_rows, print_changes, verdict
    from search.output.cost_sheet import print_ways
    from search.output.fleet_summary import (
        fleet_headline,
        fleet_rows,
        print_alternatives,
        print_fleet,
        print_growth,
        print_latencies,
        print_verified,
    )
    from search.output.headings import columns_of_heading, heading
    from search.output.plan_sentences import (
        headline,
        is_sure_enough,
        odds_note,
        power_note,
        price_note,
        question,
        ranking_note,
        reachable_confidence,
    )
    from search.output.plan_tables import (
        candidate_columns,
        operator_group,
        operator_layout,
        print_misses,
        print_operators,
        print_plan,
        step_time_rows,
        with_kilowatts,
    )
    from search.output.row_export import write_predictions, write_text
    from search.output.row_printer import Form, print_rows, print_sheet
    from search.output.simulation_sheet import print_simulation
    from search.output.table_fit import Layout, known_columns, whole_word
    from search.output.terminal import error_lines, print_text, progress_bar
    from search.output.value_format import Row, json_value, money, number, percent, with_range, without_nan
    from search.output.word_list import print_words

__all__ = [
    "DEVICES_DROP",
    "DEVICE_COLUMNS",
    "DEVICE_NOTE",
    "MODELS_DROP",
    "MODEL_COLUMNS",
    "NODES_DROP",
    "Form",
    "Layout",
    "Row",
    "candidate_columns",
    "change_rows",
    "columns_of_heading",
    "comparison_rows",
    "device_row",
    "device_rows",
    "error_lines",
    "figure_rows",
    "fleet_headline",
    "fleet_rows",
    "heading",
    "headline",
    "is_sure_enough",
    "json_value",
    "known_columns",
    "matching_rows",
    "model_row",
    "money",
    "node_row",
    "number",
    "odds_note",
    "operator_group",
    "operator_layout",
    "percent",
    "power_note",
    "price_note",
    "print_alternatives",
    "print_changes",
    "print_fleet",
    "print_growth",
    "print_latencies",
    "print_misses",
    "print_operators",
    "print_plan",
    "print_rows",
    "print_sheet",
    "print_simulation",
    "print_text",
    "print_verified",
    "print_ways",
    "print_words",
    "progress_bar",
    "question",
    "ranking_note",
    "reachable_confidence",
    "step_time_rows",
    "verdict",
    "whole_word",
    "with_kilowatts",
    "with_range",
    "without_nan",
    "write_predictions",
    "write_text",
]

__getattr__ = lazy_names(
    __name__,
    {
        "catalogue_rows": [
            "DEVICES_DROP",
            "DEVICE_COLUMNS",
            "DEVICE_NOTE",
            "MODELS_DROP",
            "MODEL_COLUMNS",
            "NODES_DROP",
            "comparison_rows",
            "device_row",
            "device_rows",
            "figure_rows",
            "matching_rows",
            "model_row",
            "node_row",
        ],
        "change_sheet": ["change_rows", "print_changes", "verdict"],
        "fleet_summary": [
            "fleet_headline",
            "fleet_rows",
            "print_alternatives",
            "print_fleet",
            "print_growth",
            "print_latencies",
            "print_verified",
        ],
        "headings": ["columns_of_heading", "heading"],
        "plan_sentences": [
            "headline",
            "is_sure_enough",
            "odds_note",
            "power_note",
            "price_note",
            "question",
            "ranking_note",
            "reachable_confidence",
        ],
        "plan_tables": [
            "candidate_columns",
            "operator_group",
            "operator_layout",
            "print_misses",
            "print_operators",
            "print_plan",
            "step_time_rows",
            "with_kilowatts",
        ],
        "row_export": ["write_predictions", "write_text"],
        "row_printer": ["Form", "print_rows", "print_sheet"],
        "simulation_sheet": ["print_simulation"],
        "table_fit": ["Layout", "known_columns", "whole_word"],
        "cost_sheet": ["print_ways"],
        "terminal": ["error_lines", "print_text", "progress_bar"],
        "word_list": ["print_words"],
        "value_format": ["Row", "json_value", "money", "number", "percent", "with_range", "without_nan"],
    },
)
