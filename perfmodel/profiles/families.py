"""What each operator family looks like to a table: its coordinates, and the bound that measurements are divided by.

A table of a family is a set of *sites* (a GEMM's (n, k), an attention's heads and head size), and at each site a grid
over one or two *axes* (m; batch and length). All coordinates are natural logarithms. What the grid holds is
ln(bound / measured), the logarithm of utilisation; `bound` is the larger of FLOP / peak and bytes / bandwidth, or bytes
over the link for collectives, with the constants that are stored beside the table, so that a measured time comes back
as it was measured whatever later happens to the hardware database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwdb import Device
from perfmodel import equations as eq
from perfmodel.arrays import Array
from perfmodel.dtypes import COMPUTE_BYTES, COMPUTE_CODE, FALLBACK, FORMAT_BYTES, FORMAT_CODE

Shape = Mapping[str, Array | float]

#: Windows at least this long count as full attention (no published window is longer).
FULL_WINDOW = 2.0**17
#: DeepSeek-V3's MLA sizes (arXiv:2412.19437, table of section 4.2): key 128 + 64, value 128; latent 512 + 64.
_MLA_KEY, _MLA_VALUE, _MLA_LATENT, _MLA_RANK = 192.0, 128.0, 576.0, 512.0


@dataclass(frozen=True)
class Formats:
    """Bytes a value that a variant of a family stores: `stored` for weights or KV entries, `act` for activations."""

    stored: float
    act: float


@dataclass(frozen=True)
class Work:
    """What a call asks for at least: FLOP, bytes of device memory, bytes over the link of one device."""

    flop: Array | float
    moved: Array | float
    linked: Array | float = 0.0


@dataclass(frozen=True)
class Family:
    """Coordinates and work of one family.

    site, axis: names of the coordinates. keys: shape keys that a canonical row must carry.
    locate: shape -> (site coordinates, axis coordinates), natural logarithms, each an array that broadcasts.
    work: (shape, formats) -> Work. scale: weight of each site coordinate in distances. link: True for collectives.
    growth: power by which the bound grows with each site coordinate; () where it hardly does.
    """

    name: str
    keys: tuple[str, ...]
    site: tuple[str, ...]
    axis: tuple[str, ...]
    locate: Callable[[Shape], tuple[list[Array], list[Array]]]
    work: Callable[[Shape, Formats], Work]
    scale: tuple[float, ...]
    link: bool = False
    growth: tuple[float, ...] = ()


def _log(value: Array | float, least: float = 1e-9) -> Array:
    return np.log(np.maximum(np.asarray(value, float), least))


def _window(shape: Shape) -> Array:
    window = np.asarray(shape.get("window", np.inf), float)
    return np.where((window > 0) & (window < FULL_WINDOW), window, FULL_WINDOW)


def _gemm_place(s: Shape) -> tuple[list[Array], list[Array]]:
    return [_log(s["n"]), _log(s["k"])], [_log(s["m"])]


def _gemm_work(s: Shape, f: Formats) -> Work:
    m, n, k = s["m"], s["n"], s["k"]
    return Work(eq.gemm_flop(m, n, k), eq.gemm_bytes(m, n, k, act_bytes=f.act, weight_bytes=f.stored))


def _grouped_place(s: Shape) -> tuple[list[Array], list[Array]]:
    inter = np.asarray(s["inter"], float) / s["tp"]
    site = [_log(s["hidden"]), _log(inter), _log(s["experts"]), _log(s["top_k"]), _log(s["ep"])]
    return site, [_log(s["tokens"])]


def _grouped_work(s: Shape, f: Formats) -> Work:
    """Gate, up and down matrices of the experts on this device, tokens spread evenly over the EP group."""
    hidden, inter = np.asarray(s["hidden"], float), np.asarray(s["inter"], float) / s["tp"]
    pairs = np.asarray(s["tokens"], float) * s["top_k"] / s["ep"]
    touched = np.minimum(eq.experts_touched(s["experts"], s["top_k"], s["tokens"]) / s["ep"], pairs)
    moved = 3.0 * touched * hidden * inter * f.stored + 2.0 * pairs * (2.0 * hidden + 3.0 * inter)
    return Work(3.0 * eq.gemm_flop(pairs, inter, hidden), moved)


def _causal_length(s: Shape) -> tuple[Array, Array]:
    """Batch and length of the prefill from nothing with as many rows of the mean length: q + 2c, b q / (q + 2c)."""
    query, cached = np.asarray(s["query"], float), np.asarray(s.get("context", 0.0), float)
    length = query + 2.0 * cached
    return np.asarray(s["batch"], float) * query / length, length


def _heads_place(s: Shape) -> list[Array]:
    heads, shared = np.asarray(s["heads"], float), np.asarray(s["kv_heads"], float)
    return [_log(heads / shared), _log(shared), _log(s["head_dim"]), _log(_window(s))]


def _prefill_place(s: Shape) -> tuple[list[Array], list[Array]]:
    batch, length = _causal_length(s)
    return _heads_place(s), [_log(batch * s["kv_heads"]), _log(length)]


def _prefill_work(s: Shape, f: Formats) -> Work:
    batch, query, cached = np.asarray(s["batch"], float), np.asarray(s["query"], float), s.get("context", 0.0)
    window, size = _window(s), np.asarray(s["head_dim"], float)
    pairs = eq.causal_pairs(query, cached, np.where(window < FULL_WINDOW, window, np.inf))
    seen = np.minimum(query + cached, window + query)
    moved = batch * size * (2.0 * seen * s["kv_heads"] * f.stored + 4.0 * query * s["heads"])
    return Work(eq.attention_flop(batch * pairs, s["heads"], size, size), moved)


def _decode_place(s: Shape) -> tuple[list[Array], list[Array]]:
    return _heads_place(s), [_log(np.asarray(s["batch"], float) * s["kv_heads"]), _log(s["context"], 1.0)]


def _decode_work(s: Shape, f: Formats) -> Work:
    batch, size = np.asarray(s["batch"], float), np.asarray(s["head_dim"], float)
    seen = np.minimum(np.maximum(s["context"], 1.0), _window(s))
    moved = batch * size * (2.0 * seen * s["kv_heads"] * f.stored + 4.0 * np.asarray(s["heads"], float))
    return Work(eq.attention_flop(batch * seen, s["heads"], size, size), moved)


def _mla_prefill_place(s: Shape) -> tuple[list[Array], list[Array]]:
    batch, length = _causal_length(s)
    return [_log(s["heads"])], [_log(batch), _log(length)]


def _mla_prefill_work(s: Shape, _: Formats) -> Work:
    batch, query, cached = np.asarray(s["batch"], float), np.asarray(s["query"], float), s.get("context", 0.0)
    pairs = eq.causal_pairs(query, cached)
    size = 2.0 * _MLA_KEY + 2.0 * _MLA_VALUE
    moved = batch * ((query + cached) * s["heads"] * size + query * s["heads"] * size)
    return Work(eq.attention_flop(batch * pairs, s["heads"], _MLA_KEY, _MLA_VALUE), moved)


def _mla_decode_place(s: Shape) -> tuple[list[Array], list[Array]]:
    return [_log(s["heads"])], [_log(s["batch"]), _log(s["context"], 1.0)]


def _mla_decode_work(s: Shape, f: Formats) -> Work:
    batch, seen = np.asarray(s["batch"], float), np.maximum(s["context"], 1.0)
    moved = batch * (seen * _MLA_LATENT * f.stored + 2.0 * np.asarray(s["heads"], float) * (_MLA_LATENT + _MLA_RANK))
    return Work(eq.attention_flop(batch * seen, s["heads"], _MLA_LATENT, _MLA_RANK), moved)


def _state_site(s: Shape) -> list[Array]:
    return [_log(s["heads"]), _log(s["key_dim"]), _log(s["value_dim"])]


def _recurrent_work(s: Shape, _: Formats) -> Work:
    batch, heads = np.asarray(s["batch"], float), np.asarray(s["heads"], float)
    tokens = batch * s.get("query", 1.0)
    key, value = np.asarray(s["key_dim"], float), np.asarray(s["value_dim"], float)
    moved = batch * heads * key * value * 8.0 + tokens * heads * (key + 2.0 * value) * 2.0
    return Work(eq.recurrent_flop(tokens, heads, key, value), moved)


def _bytes_place(s: Shape) -> tuple[list[Array], list[Array]]:
    return [np.zeros(())], [_log(s["moved_bytes"], 1.0)]


def _message_place(s: Shape) -> tuple[list[Array], list[Array]]:
    return [_log(s["group"])], [_log(s["message_bytes"], 1.0)]


def _crossing(passes: float) -> Callable[[Shape, Formats], Work]:
    def work(s: Shape, _: Formats) -> Work:
        """(g - 1)/g of the buffer crosses a device's link a pass (Thakur et al., IJHPCA 19(1), 2005)."""
        group = np.maximum(np.asarray(s["group"], float), 1.0)
        return Work(0.0, 0.0, passes * (group - 1.0) / group * np.asarray(s["message_bytes"], float))

    return work


_HEADS = ("group", "kv_heads", "head_dim", "window")
_ATTENTION = ("batch", "context", "heads", "kv_heads", "head_dim", "window")
_STATE = ("heads", "key_dim", "value_dim")


def _collective(name: str, work: Callable[[Shape, Formats], Work]) -> Family:
    return Family(
        name, ("group", "message_bytes"), ("group",), ("message_bytes",), _message_place, work, (1.0,), link=True
    )


_FAMILIES = (
    Family("gemm", ("m", "n", "k"), ("n", "k"), ("m",), _gemm_place, _gemm_work, (1.0, 1.0), growth=(1.0, 1.0)),
    Family(
        "grouped_gemm",
        ("tokens", "hidden", "inter", "experts", "top_k", "ep", "tp"),
        ("hidden", "inter_local", "experts", "top_k", "ep"),
        ("tokens",),
        _grouped_place,
        _grouped_work,
        (1.0, 1.0, 1.0, 1.0, 1.0),
        growth=(1.0, 1.0, 0.0, 0.0, 0.0),
    ),
    Family(
        "attention_prefill",
        (*_ATTENTION, "query"),
        _HEADS,
        ("batch_kv_heads", "length"),
        _prefill_place,
        _prefill_work,
        (1.0, 0.5, 2.0, 1.0),
        growth=(1.0, 0.0, 1.0, 0.0),
    ),
    Family(
        "attention_decode",
        _ATTENTION,
        _HEADS,
        ("batch_kv_heads", "context"),
        _decode_place,
        _decode_work,
        (1.0, 0.5, 2.0, 1.0),
        growth=(1.0, 0.0, 1.0, 0.0),
    ),
    Family(
        "mla_prefill",
        ("batch", "query", "context", "heads"),
        ("heads",),
        ("batch", "length"),
        _mla_prefill_place,
        _mla_prefill_work,
        (1.0,),
        growth=(1.0,),
    ),
    Family(
        "mla_decode",
        ("batch", "context", "heads"),
        ("heads",),
        ("batch", "context"),
        _mla_decode_place,
        _mla_decode_work,
        (1.0,),
        growth=(1.0,),
    ),
    Family(
        "recurrent_prefill",
        ("batch", "query", *_STATE),
        _STATE,
        ("batch", "query"),
        lambda s: (_state_site(s), [_log(s["batch"]), _log(s["query"])]),
        _recurrent_work,
        (1.0, 1.0, 1.0),
        growth=(1.0, 1.0, 1.0),
    ),
    Family(
        "recurrent_decode",
        ("batch", *_STATE),
        _STATE,
        ("batch",),
        lambda s: (_state_site(s), [_log(s["batch"])]),
        _recurrent_work,
        (1.0, 1.0, 1.0),
        growth=(1.0, 1.0, 1.0),
    ),
    Family(
        "elementwise",
        ("moved_bytes",),
        ("none",),
        ("moved_bytes",),
        _bytes_place,
        lambda s, _: Work(0.0, np.asarray(s["moved_bytes"], float)),
        (1.0,),
    ),
    _collective("all_reduce", _crossing(2.0)),
    _collective("all_gather", _crossing(1.0)),
    _collective("reduce_scatter", _crossing(1.0)),
    _collective("all_to_all", _crossing(1.0)),
    _collective("p2p", lambda s, _: Work(0.0, 0.0, np.asarray(s["message_bytes"], float))),
)
FAMILY = {family.name: family for family in _FAMILIES}


@dataclass(frozen=True)
class Variant:
    """Number formats a table was measured in: `stored` (weights or KV, a storage format), `act` (a compute type), and
    for experts the `routing`: "balanced" or the exponent of a power law. Empty where a family has none."""

    stored: str = ""
    act: str = ""
    routing: str = ""

    @property
    def key(self) -> str:
        """Name in files: parts joined by `+`.

        >>> Variant("fp8", "bf16").key
        'fp8+bf16'
        """
        return "+".join((self.stored, self.act, self.routing)).rstrip("+")

    @classmethod
    def parse(cls, key: str) -> Variant:
        """Inverse of `key`."""
        return cls(*key.split("+")) if key else cls()

    def formats(self) -> Formats:
        """Bytes a value; 2 where the variant leaves it open."""
        stored = float(FORMAT_BYTES[FORMAT_CODE[self.stored]]) if self.stored else 2.0
        return Formats(stored, float(COMPUTE_BYTES[COMPUTE_CODE[self.act]]) if self.act else 2.0)


@dataclass(frozen=True)
class Reference:
    """The constants a bound is relative to: FLOP/s of the variant's compute type, B/s of memory, B/s of the link; one
    of each for a table, or one a row."""

    peak: float | Array
    bandwidth: float | Array
    link: float | Array


def shape_at(family: Family, site: Array, axis: Array) -> dict[str, Array]:
    """A shape at table coordinates (R, d), (R, a), one of those that share them: a right inverse of `locate`."""
    named = dict(zip((*family.site, *family.axis), np.exp(np.concatenate([site, axis], axis=1)).T, strict=True))
    one = np.ones(len(site))
    if family.name == "grouped_gemm":
        return {**named, "inter": named["inter_local"], "tp": one}
    if family.name.startswith("attention"):
        heads = named["group"] * named["kv_heads"]
        batch = named["batch_kv_heads"] / named["kv_heads"]
        return {**named, "heads": heads, "batch": batch, **_stretch(family, named)}
    if family.name == "mla_prefill":
        return {**named, **_stretch(family, named)}
    return named


def _stretch(family: Family, named: dict[str, Array]) -> dict[str, Array]:
    if family.name.endswith("decode"):
        return {"context": named["context"]}
    return {"query": named["length"], "context": np.zeros_like(named["length"])}


def bound(family: Family, shape: Shape, variant: Variant, reference: Reference) -> tuple[Array, NDArray[np.int8]]:
    """(seconds, 0 where computing binds, 1 memory, 2 link): the least time `shape` takes at the reference constants."""
    work = family.work(shape, variant.formats())
    if family.link:
        seconds = np.asarray(work.linked) / reference.link
        return seconds, np.full(seconds.shape, 2, np.int8)
    compute, memory = np.asarray(work.flop) / reference.peak, np.asarray(work.moved) / reference.bandwidth
    return np.maximum(compute, memory), (memory > compute).astype(np.int8)


def reference(device: Device, variant: Variant) -> Reference:
    """Constants that a variant's table is relative to: rated peak of its compute type or of what stands in for it."""
    act = variant.act or "bf16"
    rates = [device.peak(t) for t in (act, *FALLBACK[act])]
    peak = next((r for r in rates if r == r), float("nan"))
    return Reference(peak, device.bandwidth, device.link.bandwidth)
