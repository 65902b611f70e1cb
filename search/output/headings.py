"""Turn column names into headings: words, then the unit in which the column counts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

#: Headings that do not follow from the column's name.
HEADINGS = {
    "energy_j_per_output_token": "Device energy J per output token",
    "site_energy_j_per_output_token": "Site energy J per output token",
    "slo_chance": "Sure %",
    "utilisation": "Used %",
    "utilisation_percent": "Used %",
    "headroom": "Headroom %",
    "concurrency_per_replica": "In flight per replica",
    "normalised_ms": "Normalised latency ms per token",
    "qoe": "QoE",
    "kv_kb_per_token": "KV kB per token",
    "memory_capacity_gb": "Memory capacity GB per device",
    "paper_name": "Name in papers",
    "input_usd_per_million": "$ per M input tokens",
    "cached_usd_per_million": "$ per M cached tokens",
    "output_usd_per_million": "Decode $ per M output tokens",
    "api_break_even_utilisation": "Below API from used %",
    "own_break_even_utilisation": "Own below it from used %",
    "own_pay_back_months": "Own pays back months",
    "pj_per_flop": "pJ per FLOP",
    "operator_w": "W",
    "joules": "J",
    "gco2_per_kwh": "gCO2 per kWh",
    "co2_kg_per_month": "kg CO2 per month",
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
    "kb": "kB",
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
    "_usd_per_hour": " $ per hour",
    "_usd_per_million_tokens": " $ per M output tokens",
    "_tok_s_per_device": " tok/s per device",
    "_tok_s": " tok/s",
    "_gb_s": " GB/s",
    "_usd_per_million_total_tokens": " $ per M tokens",
    "_tb_s": " TB/s",
    "_per_hour": " per hour",
    "_flop_per_byte": " FLOP per byte",
    "_gb_per_device": " GB per device",
    "_w_per_device": " W per device",
    "_per_s": " per s",
    "_j_per_output_token": " J per output token",
    "_gco2_per_million_tokens": " gCO2 per M output tokens",
    "_usd_per_request": " $ per request",
    "_usd_per_month": " $ per month",
    "_gco2_per_request": " gCO2 per request",
}
#: End of a column with the chance that one bound holds.
CHANCE = "_chance"
#: Number formats keep their lower case at the start of a heading.
DTYPES = {"bf16", "fp16", "fp32", "fp64", "tf32", "fp8", "fp4", "int8", "int4"}
ACRONYMS = {
    *("isl", "osl", "ttft", "tpot", "itl", "e2e", "slo"),
    *("api", "tp", "pp", "ep", "dp", "cp", "kvp", "kv", "gpu", "l2", "tdp"),
}


def heading(column: str) -> str:
    """Return the heading of a column name: its words, then its unit.

    >>> heading("ttft_ms_p99"), heading("cost_usd_per_hour"), heading("model"), heading("ttft_ms_chance")
    ('TTFT p99 ms', 'Cost $ per hour', 'Model', 'TTFT sure %')
    """
    if column in HEADINGS:
        return HEADINGS[column]
    if column.endswith(CHANCE):
        bounded = [w for w in column.removesuffix(CHANCE).split("_") if w not in UNITS]
        return f"{_capitalised(bounded)} sure %"
    if f"_{column}" in ENDINGS:
        return ENDINGS[f"_{column}"].strip()
    for ending, unit in ENDINGS.items():
        if column.endswith(ending):
            return _capitalised(column.removesuffix(ending).split("_")) + unit
    words = column.split("_")
    units = [w for w in words[1:] if w in UNITS]
    names = [w for i, w in enumerate(words) if i == 0 or w not in UNITS]
    return " ".join([_capitalised(names), *(UNITS[u] for u in units)])


def columns_of_heading(text: str, *, begun: bool = False) -> list[str]:
    """Return the columns that the glossary knows under this heading; case and spaces do not matter.

    begun: True for the columns whose heading begins with the text and goes on.

    >>> columns_of_heading("$ per hour"), columns_of_heading("ttft P99 ms")
    (['usd_per_hour'], ['ttft_ms_p99'])
    """
    plain = " ".join(text.lower().split())
    if begun:
        longer = (columns for heading, columns in _columns_by_heading().items() if heading.startswith(f"{plain} "))
        return list(dict.fromkeys(c for columns in longer for c in columns))
    return list(_columns_by_heading().get(plain, ()))


@cache
def _columns_by_heading() -> dict[str, list[str]]:
    """Return the columns of the glossary by their headings in lower case."""
    from perfmodel import glossary

    found: dict[str, list[str]] = {}
    for entry in glossary.entries():
        if "column" in entry.places:
            for column in _variants(entry.name):
                found.setdefault(heading(column).lower(), []).append(column)
    return {text: list(dict.fromkeys(columns)) for text, columns in found.items()}


def _variants(name: str) -> list[str]:
    """Return a column of the glossary with every prefix, suffix and number format that it may have."""
    from hwdb import PEAKS
    from perfmodel.glossary import FORMAT, PREFIXES, SUFFIXES

    names = [name.replace(FORMAT, dtype) for dtype in PEAKS] if FORMAT in name else [name]
    percentiles = [end for end in SUFFIXES if end.startswith("_p")]
    endings = ["", *percentiles, CHANCE, *(f"{end}{CHANCE}" for end in percentiles)]
    return [f"{start}{n}{end}" for n in names for start in ("", *PREFIXES) for end in endings]


def _capitalised(words: Sequence[str]) -> str:
    """Join words, the first one with a capital letter."""
    shown = [w.upper() if w in ACRONYMS else w for w in words]
    keep = shown[0].isupper() or shown[0] in DTYPES
    return " ".join([shown[0] if keep else shown[0].capitalize(), *shown[1:]])
