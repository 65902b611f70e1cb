"""Name deployments in words, and list the columns that describe a layout."""

from __future__ import annotations

from typing import Any

from perfmodel import Deployments
from perfmodel.dtypes import FORMAT_NAMES

#: Degrees of parallelism, in the order in which they are named.
DEGREES = ("tp", "pp", "ep", "dp", "cp")
#: What may be kept in host memory.
OFFLOADED = ("weights", "experts", "kv")


def deployment_words(deployment: Deployments) -> str:
    """Describe a deployment (a batch of one) in words: `4 h100-sxm, TP4, fp8`."""
    d = deployment
    parts = [f"{d.devices_per_replica[0]:g} {d.devices[int(d.device[0])].name}"]
    parts += [f"{k.upper()}{getattr(d, k)[0]:g}" for k in DEGREES if getattr(d, k)[0] > 1]
    weight = int(d.weight[0])
    parts += [FORMAT_NAMES[weight]] if weight >= 0 else []
    shares = {what: float(getattr(d, f"host_{what}")[0]) for what in OFFLOADED}
    offloaded = [f"{share:.0%} of {what}" for what, share in shares.items() if share]
    return ", ".join([*parts, *([f"{' and '.join(offloaded)} in host memory"] if offloaded else [])])


def layout_columns(deployments: Deployments, row: int) -> dict[str, Any]:
    """Return device, degrees, engine limits, formats and host shares of the deployment at `row`, as a flat record."""
    d = deployments
    return {
        "device": d.devices[int(d.device[row])].name,
        **{k: int(getattr(d, k)[row]) for k in DEGREES},
        "max_num_batched_tokens": float(d.max_num_batched_tokens[row]),
        "max_num_seqs": float(d.max_num_seqs[row]),
        "weight": _format(int(d.weight[row])),
        "kv": _format(int(d.kv[row])),
        **{f"host_{what}": float(getattr(d, f"host_{what}")[row]) for what in OFFLOADED},
    }


def _format(code: int) -> str:
    """Return the name of the number format with this code; `own` for a negative code, the model's own format."""
    return FORMAT_NAMES[code] if code >= 0 else "own"
