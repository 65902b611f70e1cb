"""Name deployments in words, and list the columns that describe a layout."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from perfmodel import Deployments
from perfmodel.deployment import CP_METHODS
from perfmodel.dtypes import FORMAT_NAMES

#: Degrees of parallelism, in the order in which they are named.
DEGREES = ("tp", "pp", "ep", "dp", "cp", "kvp")
#: What may be kept in host memory.
OFFLOADED = ("weights", "experts", "kv")
#: Settings of an engine that a name has only where they tell two candidates apart, as flags are called, with the word
#: for each in the short form of a name.
SETTINGS = {
    "max_num_seqs": "seqs",
    "max_num_batched_tokens": "tok",
    "gpu_memory_utilization": "memory",
    "act": "products",
    "cp_method": "exchange",
}
#: Columns of the prefill pool have this before the names of the decode pool's.
PREFILL = "prefill_"


def deployment_words(deployment: Deployments, checkpoints: Collection[int] = ()) -> str:
    """Describe a deployment (a batch of one) in words: `4 h100-sxm, TP4, fp8, KV fp8`.

    Formats that are the model's own are left out. checkpoints: codes of formats that need a quantised checkpoint of the
    model, which the words say: `4 h100-sxm, TP4, int4 checkpoint`.
    """
    d = deployment
    parts = [f"{d.devices_per_replica[0]:g} {d.devices[int(d.device[0])].name}"]
    parts += [f"{k.upper()}{getattr(d, k)[0]:g}" for k in DEGREES if getattr(d, k)[0] > 1]
    weight = int(d.weight[0])
    parts += [FORMAT_NAMES[weight] + " checkpoint" * (weight in checkpoints)] if weight >= 0 else []
    parts += [f"KV {FORMAT_NAMES[int(d.kv[0])]}"] if d.kv[0] >= 0 else []
    parts += [f"{d.speculation.known.title} {d.drafts[0]:g}"] if d.drafts[0] > 0 else []
    parts += [f"limit {d.power_cap[0]:g} W"] if d.power_cap[0] == d.power_cap[0] else []
    shares = {what: float(getattr(d, f"host_{what}")[0]) for what in OFFLOADED}
    offloaded = [f"{100.0 * share:.0f} % of {what}" for what, share in shares.items() if share]
    return ", ".join([*parts, *([f"{' and '.join(offloaded)} in host memory"] if offloaded else [])])


def told_apart(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return candidate rows with different names: equal ones get the settings in which they differ added.

    `4 h100-sxm, TP4` becomes `4 h100-sxm, TP4, max_num_seqs 256` where another row of that name has another limit.
    """
    namesakes: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        namesakes[row["candidate"]].append(row)
    return [{**row, "candidate": _with_settings(row, namesakes[row["candidate"]])} for row in rows]


def _with_settings(row: Mapping[str, Any], namesakes: Sequence[Mapping[str, Any]]) -> str:
    """Return the name of a row with the settings added in which it differs from its namesakes."""
    settings = [f"{pool}{setting}" for pool in (PREFILL, "") for setting in SETTINGS]
    differing = [s for s in settings if len({_setting(other, s) for other in namesakes}) > 1]
    return ", ".join([row["candidate"], *(f"{s} {_setting(row, s)}" for s in differing)])


def _setting(row: Mapping[str, Any], setting: str) -> str:
    """Return the value of a setting as text; `default` where the row has none of its own."""
    value = row.get(setting)
    if value is None or value != value:
        return "default"
    return value if isinstance(value, str) else f"{value:.10g}"


def short_name(name: str) -> str:
    """Return the name of a candidate in a shorter form, for narrow tables.

    >>> short_name("prefill 3 x 8 h200-sxm, TP2, fp8 + decode 1 x 8 b200-sxm, DP8, fp8, max_num_seqs 256")
    '3x8 h200-sxm TP2 fp8 + 1x8 b200-sxm DP8 fp8 256 seqs'
    """
    text = name.removeprefix("prefill ").replace(" + decode ", " + ").replace(" x ", "x").replace(", ", " ")
    text = text.replace(" checkpoint", " ckpt")
    for setting, word in SETTINGS.items():
        text = re.sub(rf"\b{PREFILL}{setting} (\S+)", rf"prefill \1 {word}", text)
        text = re.sub(rf"\b{setting} (\S+)", rf"\1 {word}", text)
    return text


def layout_columns(deployments: Deployments, row: int) -> dict[str, Any]:
    """Return device, degrees, engine limits, formats and host shares of the deployment at `row`, as a flat record."""
    d = deployments
    return {
        "device": d.devices[int(d.device[row])].name,
        **{k: int(getattr(d, k)[row]) for k in DEGREES},
        "max_num_batched_tokens": float(d.max_num_batched_tokens[row]),
        "max_num_seqs": float(d.max_num_seqs[row]),
        **({} if np.isnan(d.power_cap).all() else {"power_cap_w": float(d.power_cap[row])}),
        "weight": _format(int(d.weight[row])),
        "kv": _format(int(d.kv[row])),
        "cp_method": CP_METHODS[int(d.cp_method[row])],
        **{f"host_{what}": float(getattr(d, f"host_{what}")[row]) for what in OFFLOADED},
        **drafting_columns(d, row),
    }


def drafting_columns(d: Deployments, row: int) -> dict[str, Any]:
    """Return method, draft tokens and tokens per step where some deployment drafts tokens; nothing elsewhere."""
    if not d.speculation.method:
        return {}
    low, high = d.speculation.range(d.drafts[row])
    return {
        "speculation": d.speculation.method if d.drafts[row] > 0 else "none",
        "draft_tokens": int(d.drafts[row]),
        "tokens_per_step": float(d.tokens_per_step[row]),
        "tokens_per_step_lo": float(low),
        "tokens_per_step_hi": float(high),
    }


def _format(code: int) -> str:
    """Return the name of the number format with this code; `own` for a negative code, the model's own format."""
    return FORMAT_NAMES[code] if code >= 0 else "own"
