"""Turn column names into headings: words, then the unit in which the column counts."""

from __future__ import annotations

from collections.abc import Sequence

#: Headings that do not follow from the column's name.
HEADINGS = {
    "energy_j_per_output_token": "Device energy J/output token",
    "site_energy_j_per_output_token": "Site energy J/output token",
}
#: One-word units at the end of a column name, as a heading prints them.
UNITS = {
    "ms": "ms",
    "us": "µs",
    "s": "s",
    "w": "W",
    "kw": "kW",
    "gb": "GB",
    "mb": "MB",
    "kb": "KB",
    "tflops": "TFLOP/s",
    "tops": "TOP/s",
    "usd": "$",
    "percent": "%",
    "rps": "req/s",
    "kg": "kg",
    "j": "J",
    "flop": "FLOP",
}
#: Units of several words at the end of a column name; the first ending that fits counts.
ENDINGS = {
    "_usd_per_hour": " $/h",
    "_usd_per_million_tokens": " $/M output tokens",
    "_tok_s": " tok/s",
    "_gb_s": " GB/s",
    "_usd_per_million_total_tokens": " $/M tokens",
    "_tb_s": " TB/s",
    "_per_hour": "/h",
    "_flop_per_byte": " FLOP/B",
    "_gb_per_device": " GB/device",
    "_w_per_device": " W/device",
    "_per_s": "/s",
    "_j_per_output_token": " J/output token",
    "_tok_s_per_device": " tok/s/device",
    "_gco2_per_million_tokens": " gCO2/M output tokens",
}
#: Number formats keep their lower case at the start of a heading.
DTYPES = {"bf16", "fp16", "fp32", "fp64", "tf32", "fp8", "fp4", "int8", "int4"}
ACRONYMS = {"isl", "osl", "ttft", "tpot", "itl", "e2e", "tp", "pp", "ep", "dp", "cp", "kv", "slo", "gpu", "l2", "tdp"}


def heading(column: str) -> str:
    """Return the heading of a column name: its words, then its unit.

    >>> heading("ttft_ms_p99"), heading("cost_usd_per_hour"), heading("model")
    ('TTFT p99 ms', 'Cost $/h', 'Model')
    """
    if "-" in column:  # the name of a device or a model
        return column
    if column in HEADINGS:
        return HEADINGS[column]
    if f"_{column}" in ENDINGS:
        return ENDINGS[f"_{column}"].strip()
    for ending, unit in ENDINGS.items():
        if column.endswith(ending):
            return _capitalised(column.removesuffix(ending).split("_")) + unit
    words = column.split("_")
    units = [w for w in words[1:] if w in UNITS]
    names = [w for i, w in enumerate(words) if i == 0 or w not in UNITS]
    return " ".join([_capitalised(names), *(UNITS[u] for u in units)])


def _capitalised(words: Sequence[str]) -> str:
    """Join words, the first one with a capital letter."""
    shown = [w.upper() if w in ACRONYMS else w for w in words]
    keep = shown[0].isupper() or shown[0] in DTYPES
    return " ".join([shown[0] if keep else shown[0].capitalize(), *shown[1:]])
