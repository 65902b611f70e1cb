"""The commands `perfmodel op ...`: time, watts and joules of single operators."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from hwdb import InputError
from search.commands.shared.option_groups import grouped
from search.commands.shared.options import DataOutputOptions
from search.options import COUNT, NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfmodel.arrays import Array
    from perfmodel.operators import Demand

GEMM_EXAMPLES = """\
perfmodel op gemm 4096 4096 4096 --device rtx-4070 --dtype fp16
perfmodel op gemm 1,16,256,4096 8192 8192 --device h100-sxm --dtype fp8"""
ATTENTION_EXAMPLES = """\
perfmodel op attention 32 1 4096 --device h100-sxm
perfmodel op attention 1 2048 0 --device h100-sxm --heads 64 --kv-heads 8"""
ALL_REDUCE_EXAMPLES = """\
perfmodel op all-reduce 1e6,1e8 --device h100-sxm --group 8
perfmodel op all-reduce 65536 --device mi300x --group 4 --json"""
#: Columns of the table, and those that go first where it is narrow.
DROP = ("power_basis", "achieved_tflops", "achieved_gb_s", "bound", "basis")
#: Largest size that is read. Chosen: beyond any tensor; more is taken for a typing error.
MOST = 1e12
#: Most shapes of one call. Chosen: a table that people read, or a sweep for a plot.
MOST_SHAPES = 10_000
_option = partial(typer.Option, rich_help_panel="Device")


@dataclass(frozen=True)
class PlaceOptions:
    """The device that an operator runs on."""

    section: ClassVar[str] = "Device"

    device: Annotated[list[str], _option(metavar=NAME, help="Device, as `hw list` names it; repeatable.")]
    power_cap_w: Annotated[float, _option(metavar="W", help="Power limit set on it (default: its own).")] = math.nan


@dataclass(frozen=True)
class HeadOptions:
    """The heads of an attention kernel on one device."""

    section: ClassVar[str] = "Heads"

    heads: Annotated[int, typer.Option(min=1, metavar=COUNT, help="Query heads of the device.")] = 32
    kv_heads: Annotated[int, typer.Option(min=1, metavar=COUNT, help="KV heads of the device.")] = 8
    head_dim: Annotated[int, typer.Option(min=1, metavar="WIDTH", help="Width of a head.")] = 128
    kv: Annotated[str, typer.Option(metavar="FORMAT", help="Number format of the KV cache.")] = "bf16"


@grouped
def gemm_command(
    m: Annotated[str, typer.Argument(metavar="M", help="Rows of the activations; several with commas between.")],
    n: Annotated[str, typer.Argument(metavar="N", help="Columns of the weights.")],
    k: Annotated[str, typer.Argument(metavar="K", help="Summed dimension.")],
    place: PlaceOptions,
    output: DataOutputOptions,
    dtype: Annotated[str, typer.Option(metavar="FORMAT", help="Number format of the weights.")] = "bf16",
) -> None:
    """Estimate GEMMs (M, K) x (K, N): time, watts and joules of one call, back to back, by shape.

    Weight-only formats (int4, q4_k_m, ...) multiply in 16 bits.
    """
    from perfmodel.operators import gemm_alone

    columns = _columns({"m": m, "n": n, "k": k})
    _print(columns, lambda c: gemm_alone(c["m"], c["n"], c["k"], dtype), place, output, {"dtype": dtype})


@grouped
def attention_command(
    batch: Annotated[str, typer.Argument(metavar="BATCH", help="Sequences; several with commas between.")],
    query: Annotated[str, typer.Argument(metavar="QUERY", help="New tokens of each; 1 for decode.")],
    context: Annotated[str, typer.Argument(metavar="CONTEXT", help="Tokens in the KV cache before them.")],
    place: PlaceOptions,
    output: DataOutputOptions,
    sizes: HeadOptions,
) -> None:
    """Estimate causal attention kernels: time, watts and joules of one layer on one device."""
    from perfmodel.operators import attention_alone

    columns = _columns({"sequences": batch, "query": query, "context": context}, zero="context")
    heads = (sizes.heads, sizes.kv_heads, sizes.head_dim)
    if (columns["query"] == 1).any() and not (columns["query"] == 1).all():
        raise InputError("QUERY: 1 is decode and more is prefill; ask for them one after the other")
    _print(
        columns, lambda c: attention_alone(c["sequences"], c["query"], c["context"], heads, sizes.kv), place, output, {}
    )


@grouped
def all_reduce_command(
    message: Annotated[str, typer.Argument(metavar="BYTES", help="Bytes on each device; several with commas between.")],
    place: PlaceOptions,
    output: DataOutputOptions,
    group: Annotated[int, typer.Option(min=2, metavar=COUNT, help="Devices that take part.")] = 2,
) -> None:
    """Estimate all-reduces: time and watts of one device, joules of all that take part."""
    import numpy as np

    from perfmodel.operators import all_reduce_alone

    columns = _columns({"message_bytes": message})
    size = np.full(len(columns["message_bytes"]), float(group))
    _print(columns, lambda c: all_reduce_alone(c["message_bytes"], size), place, output, {"group": group})


def _columns(texts: dict[str, str], zero: str = "") -> dict[str, Array]:
    """Return every combination of the sizes, a column (N,) each. zero: the size that may be 0."""
    import numpy as np

    sizes = {
        name: [_size(name, part, 0.0 if name == zero else 1.0) for part in text.split(",")]
        for name, text in texts.items()
    }
    rows = list(product(*sizes.values()))
    if len(rows) > MOST_SHAPES:
        raise InputError(f"{len(rows)} shapes are more than {MOST_SHAPES}; give fewer sizes")
    return {name: np.array([row[i] for row in rows]) for i, name in enumerate(sizes)}


def _size(name: str, text: str, least: float) -> float:
    """Return one size of an operator; raise `InputError` where the text is none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= MOST or value != int(value):
        raise InputError(f"{name.upper()} {text!r} is no size; give a whole number from {least:g} to {MOST:g}")
    return value


def _print(
    columns: dict[str, Array],
    demand: Callable[[dict[str, Array]], Demand],
    place: PlaceOptions,
    output: DataOutputOptions,
    more: dict[str, Any],
) -> None:
    """Print one row per device and shape."""
    from perfmodel.estimates import BEYOND
    from perfmodel.power import refused_limit, unneeded_limit
    from search.output import Layout, print_rows

    form, database = output.form, output.database()
    if not math.isnan(place.power_cap_w) and not 0.0 < place.power_cap_w < math.inf:
        raise InputError(f"--power-cap-w {place.power_cap_w:g} is impossible; give watts above 0")
    devices = [database.device(name) for name in place.device]
    refused = [text for one in devices if (text := refused_limit(one, place.power_cap_w))]
    if refused:
        raise InputError(f"--power-cap-w: {refused[0]}")
    asked = demand(columns)
    rows = [row for one in devices for row in _rows(columns, asked, one, place, more)]
    notes = ["Back to back on a device that does nothing else. In brackets: 80 % ranges."]
    if any(BEYOND in row["power_basis"] for row in rows):
        notes.append(f"--power-cap-w {place.power_cap_w:g}: {BEYOND}.")
    notes += [f"{text[0].upper()}{text[1:]}." for one in devices if (text := unneeded_limit(one, place.power_cap_w))]
    print_rows(rows, form, Layout(drop=DROP, keep=["time_us", "operator_w", "joules"], notes=notes, wide=output.wide))


def _rows(
    columns: dict[str, Array], asked: Demand, device: Any, place: PlaceOptions, more: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the flat rows of the operators on one device."""
    import numpy as np

    from perfmodel.estimates import operator_use

    found = operator_use(asked, device, place.power_cap_w)
    values = {"time_us": found.time * 1e6, "operator_w": found.watts, "joules": found.joules}
    spreads = dict(zip(values, (found.spreads[name] for name in ("time", "watts", "joules")), strict=True))
    return [
        {
            "device": device.name,
            **{name: int(column[i]) for name, column in columns.items()},
            **more,
            **{name: float(value[i]) for name, value in values.items()},
            **{f"{name}_lo": float(value[i] * np.exp(-spreads[name][i])) for name, value in values.items()},
            **{f"{name}_hi": float(value[i] * np.exp(spreads[name][i])) for name, value in values.items()},
            # the limiter holds the mean of many kernels, however wide the range is
            "operator_w_hi": float(np.fmin(found.watts[i] * np.exp(spreads["operator_w"][i]), found.limit)),
            "achieved_tflops": float(found.flop[i] / found.time[i] / 1e12),
            "achieved_gb_s": float(found.moved[i] / found.time[i] / 1e9),
            "pj_per_flop": float(found.joules[i] / found.flop[i] * 1e12) if found.flop[i] > 0 else math.nan,
            "bound": found.bound[i],
            "basis": found.basis[i],
            "power_basis": found.power_basis[i],
        }
        for i in range(len(found.time))
    ]
