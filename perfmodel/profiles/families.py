"""Describe operator families for measured tables: coordinates, work, and the bound that measured times are divided by.

A table of a family is a set of *sites* (the (n, k) of a GEMM; heads and head size of an attention) and, at each site, a
grid over one or two *axes* (m; batch and length). All coordinates are natural logarithms. The grid holds ln(bound /
measured), the logarithm of utilisation. `bound` is the roofline time of the work at constants that are stored in the
table's file (peak, memory bandwidth, link bandwidth), so a measured time comes back exactly, whatever happens to the
hardware database later. The formulas of FLOP and bytes are those of `perfmodel.equations`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from hwdb import Device
from perfmodel import equations as eq
from perfmodel.arrays import NAN, Array, Codes
from perfmodel.dtypes import COMPUTE_BYTES, COMPUTE_CODE, FALLBACK, FORMAT_BYTES, FORMAT_CODE
from perfmodel.equations import SIXTEEN_BIT
from perfmodel.vocabulary import COMPUTE_BOUND, LINK_BOUND, MEMORY_BOUND

Shape = Mapping[str, Array | float]

#: Windows of at least this many tokens count as full attention (no published window is longer).
FULL_WINDOW = 2.0**17
#: Key heads per value head of recurrent layers: tables do not say; 16 to 32 in Qwen3-Next, of which they were measured.
KEY_HEAD_SHARE = 0.5
#: Matrices from the hidden to the inner width of an expert: gate and up; every measured layer is gated.
UP_MATRICES = 2.0
#: Bytes per value of the rows that experts read, as bounds of tables count them (see `bound`).
TABLE_ROW_BYTES = SIXTEEN_BIT
#: Codes of what binds, of the type of the codes of N rows.
_MEMORY, _COMPUTE = np.int8(MEMORY_BOUND), np.int8(COMPUTE_BOUND)
#: Least value whose logarithm is taken, so that empty shapes have coordinates.
_LEAST = 1e-9


@dataclass(frozen=True)
class Formats:
    """Hold the bytes per value in a variant of a family: `stored` of weights or KV entries, `act` of activations.

    One of each for a table, or one per row.
    """

    stored: float | Array
    act: float | Array


@dataclass(frozen=True)
class Work:
    """Hold the least work of a call: FLOP, bytes of device memory, bytes over one device's link (per direction)."""

    flop: Array | float
    moved: Array | float
    linked: Array | float = 0.0


#: Shape -> (site coordinates, axis coordinates); (shape, formats) -> work.
Place = Callable[[Shape], tuple[list[Array], list[Array]]]
Counted = Callable[[Shape, Formats], Work]


@dataclass(frozen=True)
class Family:
    """Define the coordinates and the work of one operator family.

    keys: shape keys that a row must carry. site, axis: names of the coordinates. locate: shape -> (site coordinates,
    axis coordinates), natural logarithms, each an array that broadcasts. work: (shape, formats) -> Work. scale: weight
    of each site coordinate in distances between sites. link: True for collectives, whose time the link bounds. growth:
    power by which the bound grows with each site coordinate; () where it hardly grows. split: the site coordinates that
    become smaller where more devices share the operator, each with the power by which the first axis shrinks with it.
    """

    name: str
    keys: tuple[str, ...]
    site: tuple[str, ...]
    axis: tuple[str, ...]
    locate: Place
    work: Counted
    scale: tuple[float, ...]
    link: bool = False
    growth: tuple[float, ...] = ()
    split: tuple[tuple[int, float], ...] = ()


def _log(value: Array | float, least: float = _LEAST) -> Array:
    logarithm: Array = np.log(np.maximum(np.asarray(value, float), least))
    return logarithm


def _window(shape: Shape) -> Array:
    window = np.asarray(shape.get("window", np.inf), float)
    return np.where((window > 0) & (window < FULL_WINDOW), window, FULL_WINDOW)


def _limited(window: Array) -> Array:
    """Return the keys that a row reads at most: those of its window, inf for full attention."""
    return np.where(window < FULL_WINDOW, window, np.inf)


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
    """Return the work of the gated experts of one device, with tokens spread evenly over the expert-parallel (EP)
    group.

    Where `uneven` is 1, some experts are more popular. The bound that measured times of a table are divided by is that
    of even loads, also in tables of skewed ones.
    """
    hidden, inner = np.asarray(s["hidden"], float), np.asarray(s["inter"], float) / s["tp"]
    pairs = np.asarray(s["tokens"], float) * s["top_k"] / s["ep"]
    batch = s["experts"], s["top_k"], s["tokens"]
    uneven = np.asarray(s.get("uneven", 0.0)) > 0.0
    touched = eq.popular_experts_touched(*batch) if uneven.all() else eq.experts_touched(*batch)
    touched = np.minimum(touched / s["ep"], pairs)
    moved = eq.grouped_gemm_bytes(pairs, touched, hidden, inner, UP_MATRICES, act_bytes=f.act, weight_bytes=f.stored)
    return Work(eq.grouped_gemm_flop(pairs, hidden, inner, UP_MATRICES), moved)


def causal_length(s: Shape) -> tuple[Array, Array]:
    """Return (batch, length) of the prefill without cached tokens that equals a prefill after cached tokens.

    It has as many query rows and, on average, as many keys per row: length q + 2c, batch b q / (q + 2c), for q new
    tokens after c cached ones in each of b sequences. Cached tokens before the window of the first new one are not read
    and do not count.
    """
    query, cached = np.asarray(s["query"], float), np.asarray(s.get("context", 0.0), float)
    if "window" in s and np.any(cached > 0.0):
        cached = np.minimum(cached, _limited(_window(s)))
    length = query + 2.0 * cached
    return np.asarray(s["batch"], float) * query / length, length


def _heads_place(s: Shape) -> list[Array]:
    heads, shared = np.asarray(s["heads"], float), np.asarray(s["kv_heads"], float)
    return [_log(heads / shared), _log(shared), _log(s["head_dim"]), _log(_window(s))]


def _prefill_place(s: Shape) -> tuple[list[Array], list[Array]]:
    batch, length = causal_length(s)
    return _heads_place(s), [_log(batch * s["kv_heads"]), _log(length)]


def _prefill_work(s: Shape, f: Formats) -> Work:
    batch, query, cached = np.asarray(s["batch"], float), np.asarray(s["query"], float), s.get("context", 0.0)
    window, size = _window(s), np.asarray(s["head_dim"], float)
    pairs = eq.causal_pairs(query, cached, _limited(window))
    seen = eq.keys_read(query, cached, window)
    moved = eq.attention_bytes(batch, query, seen, s["heads"], s["kv_heads"], 2.0 * size, f.stored)
    return Work(eq.attention_flop(batch * pairs, s["heads"], size, size), moved)


def _decode_place(s: Shape) -> tuple[list[Array], list[Array]]:
    return _heads_place(s), [_log(np.asarray(s["batch"], float) * s["kv_heads"]), _log(s["context"], 1.0)]


def _decode_work(s: Shape, f: Formats) -> Work:
    batch, size = np.asarray(s["batch"], float), np.asarray(s["head_dim"], float)
    seen = np.minimum(np.maximum(s["context"], 1.0), _window(s))
    moved = eq.attention_bytes(batch, 1.0, seen, s["heads"], s["kv_heads"], 2.0 * size, f.stored)
    return Work(eq.attention_flop(batch * seen, s["heads"], size, size), moved)


def _mla_prefill_place(s: Shape) -> tuple[list[Array], list[Array]]:
    batch, length = causal_length(s)
    return [_log(s["heads"])], [_log(batch), _log(length)]


def _mla_prefill_work(s: Shape, _: Formats) -> Work:
    """Return the work of the measured kernel: it reads keys and values of every head, expanded in 16 bit."""
    batch, query, cached = np.asarray(s["batch"], float), np.asarray(s["query"], float), s.get("context", 0.0)
    pairs, sizes = eq.causal_pairs(query, cached), eq.DEEPSEEK_MLA
    moved = eq.mla_prefill_bytes(batch, query, query + cached, s["heads"], sizes)
    return Work(eq.attention_flop(batch * pairs, s["heads"], sizes.key_dim, sizes.value_dim), moved)


def _mla_decode_place(s: Shape) -> tuple[list[Array], list[Array]]:
    return [_log(s["heads"])], [_log(s["batch"]), _log(s["context"], 1.0)]


def _mla_decode_work(s: Shape, f: Formats) -> Work:
    batch, seen = np.asarray(s["batch"], float), np.maximum(s["context"], 1.0)
    moved = eq.mla_bytes(batch, 1.0, seen, s["heads"], eq.DEEPSEEK_MLA, f.stored)
    return Work(eq.mla_flop(batch * seen, s["heads"], eq.DEEPSEEK_MLA), moved)


def _state_site(s: Shape) -> list[Array]:
    return [_log(s["heads"]), _log(s["key_dim"]), _log(s["value_dim"])]


def _recurrent_work(s: Shape, _: Formats) -> Work:
    batch, query, heads = np.asarray(s["batch"], float), s.get("query", 1.0), np.asarray(s["heads"], float)
    key, value = np.asarray(s["key_dim"], float), np.asarray(s["value_dim"], float)
    moved = eq.recurrent_bytes(batch, query, heads, KEY_HEAD_SHARE * heads, key, value)
    return Work(eq.recurrent_flop(batch * query, heads, key, value), moved)


def _bytes_place(s: Shape) -> tuple[list[Array], list[Array]]:
    return [np.zeros(())], [_log(s["moved_bytes"], 1.0)]


def _message_place(s: Shape) -> tuple[list[Array], list[Array]]:
    return [_log(s["group"])], [_log(s["message_bytes"], 1.0)]


def _crossing(passes: float) -> Callable[[Shape, Formats], Work]:
    def work(s: Shape, _: Formats) -> Work:
        return Work(0.0, 0.0, eq.collective_bytes(s["message_bytes"], s["group"], passes))

    return work


_HEADS = ("group", "kv_heads", "head_dim", "window")
_ATTENTION = ("batch", "context", "heads", "kv_heads", "head_dim", "window")
_STATE = ("heads", "key_dim", "value_dim")


def _collective(name: str, work: Callable[[Shape, Formats], Work]) -> Family:
    return Family(
        name, ("group", "message_bytes"), ("group",), ("message_bytes",), _message_place, work, (1.0,), link=True
    )


def _attention(name: str, keys: tuple[str, ...], along: str, place: Place, work: Counted) -> Family:
    axis, scale, growth = ("batch_kv_heads", along), (1.0, 0.5, 2.0, 1.0), (1.0, 0.0, 1.0, 0.0)
    return Family(name, keys, _HEADS, axis, place, work, scale, growth=growth, split=((0, 0.0), (1, 1.0)))


def _latent(name: str, keys: tuple[str, ...], along: str, place: Place, work: Counted) -> Family:
    return Family(name, keys, ("heads",), ("batch", along), place, work, (1.0,), growth=(1.0,), split=((0, 0.0),))


_FAMILIES = (
    Family(
        "gemm",
        ("m", "n", "k"),
        ("n", "k"),
        ("m",),
        _gemm_place,
        _gemm_work,
        (1.0, 1.0),
        growth=(1.0, 1.0),
        split=((0, 0.0), (1, 0.0)),
    ),
    Family(
        "grouped_gemm",
        ("tokens", "hidden", "inter", "experts", "top_k", "ep", "tp"),
        ("hidden", "inter_local", "experts", "top_k", "ep"),
        ("tokens",),
        _grouped_place,
        _grouped_work,
        (1.0, 1.0, 1.0, 1.0, 1.0),
        growth=(1.0, 1.0, 0.0, 0.0, 0.0),
        split=((1, 0.0),),
    ),
    _attention("attention_prefill", (*_ATTENTION, "query"), "length", _prefill_place, _prefill_work),
    _attention("attention_decode", _ATTENTION, "context", _decode_place, _decode_work),
    _latent("mla_prefill", ("batch", "query", "context", "heads"), "length", _mla_prefill_place, _mla_prefill_work),
    _latent("mla_decode", ("batch", "context", "heads"), "context", _mla_decode_place, _mla_decode_work),
    Family(
        "recurrent_prefill",
        ("batch", "query", *_STATE),
        _STATE,
        ("batch", "query"),
        lambda s: (_state_site(s), [_log(s["batch"]), _log(s["query"])]),
        _recurrent_work,
        (1.0, 1.0, 1.0),
        growth=(1.0, 1.0, 1.0),
        split=((0, 0.0),),
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
        split=((0, 0.0),),
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
    """Name the number formats that a table was measured in; empty where a family has none.

    stored: storage format of weights or of KV entries. act: compute type. routing, of experts only: the exponent of a
    power law of expert popularity ("0": balanced), or one of `LAYOUTS`.
    """

    stored: str = ""
    act: str = ""
    routing: str = ""

    @property
    def key(self) -> str:
        """Return the name of the variant in files: its parts joined by `+`.

        >>> Variant("fp8", "bf16").key
        'fp8+bf16'
        """
        return "+".join((self.stored, self.act, self.routing)).rstrip("+")

    @classmethod
    def parse(cls, key: str) -> Variant:
        """Make the variant from its name in files; the inverse of `key`."""
        return cls(*key.split("+")) if key else cls()

    def formats(self) -> Formats:
        """Return the bytes per value; those of 16 bit where the variant names no format."""
        stored = float(FORMAT_BYTES[FORMAT_CODE[self.stored]]) if self.stored else SIXTEEN_BIT
        return Formats(stored, float(COMPUTE_BYTES[COMPUTE_CODE[self.act]]) if self.act else SIXTEEN_BIT)


@dataclass(frozen=True)
class Reference:
    """Hold the constants of a bound, one of each for a table or one per row: `peak` FLOP/s of the variant's compute
    type, `bandwidth` of memory and of the `link` in bytes/s."""

    peak: float | Array
    bandwidth: float | Array
    link: float | Array


def bound(family: Family, shape: Shape, variant: Variant, reference: Reference) -> tuple[Array, Codes]:
    """Return the roofline time, in s, that measured times are divided by, and what binds (0 compute, 1 memory, 2 link).

    It is the least time of `shape` at the constants in `reference`, with one exception: for experts with narrow
    activations, the rows that they read count in 16 bit, as they did when the shipped tables were built, and not in the
    activations' format, as `Family.work` and the operators count. Tables are built and read with the same bound, so
    measured times come back exactly; the bound only scales what is stored.
    """
    return bound_of(family, family.work(shape, counted_formats(family, variant)), reference)


def counted_formats(family: Family, variant: Variant) -> Formats:
    """Return the bytes per value that the bound of a table counts, see `bound`."""
    formats = variant.formats()
    return replace(formats, act=TABLE_ROW_BYTES) if family.name == "grouped_gemm" else formats


def bound_of(family: Family, work: Work, reference: Reference) -> tuple[Array, Codes]:
    """Return what `bound` does, of work that is already counted."""
    if family.link:
        seconds = seconds_of(family, work, reference)
        return seconds, np.full(seconds.shape, LINK_BOUND, np.int8)
    computing = eq.least_time(work.flop, peak=reference.peak)
    seconds = np.maximum(computing, eq.least_time(moved=work.moved, bandwidth=reference.bandwidth))
    return seconds, np.where(seconds > computing, _MEMORY, _COMPUTE)


def seconds_of(family: Family, work: Work, reference: Reference) -> Array:
    """Return the bound of `bound_of` alone, in s."""
    if family.link:
        return eq.least_time(linked=work.linked, link_bandwidth=reference.link)
    return eq.least_time(work.flop, work.moved, peak=reference.peak, bandwidth=reference.bandwidth)


def reference(device: Device, variant: Variant) -> Reference:
    """Return the constants for a variant's bound: rated peak of its compute type, or of the type that the device uses
    instead, and the rated bandwidths of memory and link."""
    act = variant.act or "bf16"
    rates = [device.peak(t) for t in (act, *FALLBACK[act])]
    peak = next((r for r in rates if not np.isnan(r)), NAN)
    return Reference(peak, device.bandwidth, device.link.bandwidth)
