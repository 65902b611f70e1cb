"""Look up demands in measured tables: choose the tables that price them, and read their times there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from hwdb import Device
from perfmodel.arrays import Array, Codes, Index, Mask, codes_in, widened
from perfmodel.costs.measured_tables.shortest_calls import shortest
from perfmodel.dtypes import COMPUTE, FALLBACK, FORMAT_NAMES, FORMATS
from perfmodel.operators import Demand
from perfmodel.profiles import (
    Bounds,
    Family,
    Measured,
    Profile,
    Reference,
    ShapeBatch,
    Variant,
    bound,
    causal_length,
    held_in_length,
    read_jointly,
    shape_at,
)
from perfmodel.vocabulary import BASIS_CODE, EVEN, EVEN_MASKED, LAUNCH_BOUND, LAYOUTS, RANK_ALONE

# Distances between a table's formats and those asked for are in log2 of bits per value, plus the following. All are
# chosen to order the tables of one device: nearest bits first, then equal routing, then the framework's own.

#: Distance of stored formats beyond which a table does not stand in: 8 bits for 6, not 8 for 4.
MAX_FORMAT_GAP = 0.6
#: Added for another stored format, also of equal bits.
OTHER_FORMAT = 0.02
#: Added for another skew of the experts' load, and for a balanced load in place of a skewed one or the reverse.
OTHER_SKEW, OTHER_ROUTING = 0.1, 0.3
#: Added for each framework that comes before in the profile's order of preference.
OTHER_FRAMEWORK = 0.05
#: Added for the other of the layouts that even loads were measured in.
OTHER_LAYOUT = 0.04
#: Distance up to which a stand-in may still claim the basis `interpolated`.
MAX_INTERPOLATED_GAP = 0.2
#: Bytes per KV value up to which the cache counts as 8-bit. Chosen between 1 and 2 bytes.
MAX_NARROW_KV_BYTES = 1.5
#: A kernel counts as launch-bound when its physical bound is less than this share of its time, and its time less than
#: so many seconds. Chosen: launches take a few microseconds, and 0.15 is far below what large kernels reach.
LAUNCH_SHARE, LAUNCH_TIME = 0.15, 20e-6
#: New tokens whose prefill attention bounds that of fewer behind the same context. Chosen: a factor 2 to 4 apart, from
#: the tile of a kernel up to where tables hold again behind a context of several times as many tokens.
MORE_QUERIES = (16.0, 32.0, 64.0, 256.0, 1024.0)
#: Seconds below which a bound counts as this long: keeps its logarithm finite.
LEAST_SECONDS = 1e-30
#: Families whose tables of an 8-bit cache may be of a kernel that nobody would choose: these count only where they are
#: faster than those of a 16-bit cache. FlashAttention 3 takes 3 to 4 times as long over an 8-bit latent cache on Hopper
#: (tables of SGLang 0.5), FlashMLA in fp8 serves up to 17 % more than in bf16 on H20 (lm-sys/lm-sys.github.io
#: blog/2025-09-26-sglang-ant-group.md).
NO_SLOWER_IN_8_BITS = ("mla_decode",)
#: Most devices of a server, and devices per host of a rack whose link joins more (GB200, GB300 NVL72: trays of 4).
#: Kernels of vLLM and SGLang reduce within a host; their tables of larger groups timed what they fall back to (GB300, 8
#: devices: 14 and 28 us), while those of TensorRT-LLM and FlashInfer reduce over the rack (4 us), and both engines call
#: these. 13 runs of vLLM on GB300 with TP8 (train split): median error 14 % down to 10 %.
SERVER_DEVICES, TRAY_DEVICES = 8.0, 4.0
#: Families whose tables hold prompts without cached tokens, by batch and length.
PREFILLS = ("attention_prefill", "mla_prefill")
_INTERPOLATED = BASIS_CODE["interpolated"]
_EXTRAPOLATED = BASIS_CODE["extrapolated"]


@dataclass(frozen=True)
class Choice:
    """Holds the table that was chosen to price a variant (formats and routing).

    measured: the table. wanted: the variant asked for. worst: code of the best basis that the table may claim. gap:
    distance of the formats. beyond: devices of a group up to which the table does not count; 0: it counts for all.
    """

    measured: Measured
    wanted: Variant
    worst: int
    gap: float = 0.0
    beyond: float = 0.0

    @cached_property
    def priced(self) -> Variant:
        """The variant that the table's utilisation is applied to: the stored format asked for, the rest as measured."""
        own = self.measured.variant
        return Variant(self.wanted.stored or own.stored, own.act, own.routing)


@dataclass(frozen=True)
class TablePrice:
    """Holds what tables give for N shapes.

    time: seconds per call. basis: codes of `BASES`. bound: codes of `BOUNDS`. least: seconds by the physical bound.
    """

    time: Array
    basis: Codes
    bound: Codes
    least: Array


def effective(act: str, device: Device) -> str:
    """Return the compute type that a device uses for `act`: the first of it and its fall-backs with a known peak."""
    return next((t for t in (act, *FALLBACK[act]) if not np.isnan(device.peak(t))), act)


@lru_cache(maxsize=16384)
def distance(have: Variant, want: Variant) -> float:
    """Return how far the formats and routing of a table are from those asked for: 0 for equal, inf for not usable.

    >>> distance(Variant("int4", "bf16"), Variant("int4", "fp16"))
    0.0
    >>> distance(Variant("fp8", "fp8"), Variant("bf16", "bf16"))
    inf
    """
    if have.act and want.act and _sixteen(have.act) != _sixteen(want.act):
        return float("inf")
    routing = _routing_distance(have.routing, want.routing)
    if not have.stored or not want.stored or _sixteen(have.stored) == _sixteen(want.stored):
        return routing
    gap = abs(float(np.log2(FORMATS[have.stored].bytes / FORMATS[want.stored].bytes)))
    return gap + OTHER_FORMAT + routing if gap <= MAX_FORMAT_GAP else float("inf")


def _routing_distance(have: str, want: str) -> float:
    """Return the distance of two loads of experts.

    They are exponents of power laws ("0": balanced), "" for none, or even loads of expert-parallel ranks, in whose
    place skewed tables of a rank's own experts are read (`price`).
    """
    if have == want:
        return 0.0
    even, balanced = (EVEN, EVEN_MASKED), ("", "0")
    if have in even and want in even:
        return OTHER_LAYOUT
    if want in even:
        return OTHER_ROUTING if have in balanced else OTHER_SKEW
    return OTHER_SKEW if have not in (*balanced, *even) and want not in balanced else OTHER_ROUTING


def _sixteen(name: str) -> str:
    """Return the name of a format, "bf16" for both 16-bit ones: they run alike."""
    return "bf16" if name == "fp16" else name


def choose(profile: Profile, family: str, want: Variant, framework: str) -> Choice | None:
    """Choose the table of `profile` nearest to `want`, by formats and then by framework; None where none is usable.

    family: operator family. want: formats and routing asked for. framework: preferred serving framework.
    """
    best, least = None, float("inf")
    for rank, name in enumerate(profile.frameworks(family, framework)):
        listed = profile.listed.get(profile.files[family][name].name)
        if (
            listed is not None
            and min((distance(v, want) for v in listed), default=float("inf")) + rank * OTHER_FRAMEWORK >= least
        ):
            continue  # the file need not be read
        for item in profile.tables(family, name):
            gap = distance(item.variant, want)
            if gap + rank * OTHER_FRAMEWORK < least:
                least = gap + rank * OTHER_FRAMEWORK
                worst = 0 if gap == 0 else (_INTERPOLATED if gap < MAX_INTERPOLATED_GAP else _EXTRAPOLATED)
                best = Choice(measured=item, wanted=want, worst=worst, gap=gap)
    return best


def fitting(profile: Profile, family: str, want: Variant, framework: str, shared: tuple[str, ...] = ()) -> list[Choice]:
    """Return the best-fitting table and, for `shared` families, equally good ones of other frameworks.

    Latent attention over an 8-bit cache also gets the table of a 16-bit one: see `NO_SLOWER_IN_8_BITS`.

    The arguments are those of `choose`. shared: operator families whose kernels are libraries that all frameworks call.
    """
    if family in NO_SLOWER_IN_8_BITS and want.stored == "fp8":
        wider = fitting(profile, family, replace(want, stored="bf16"), framework, shared)
        return [*_fitting(profile, family, want, framework, shared), *wider]
    return _fitting(profile, family, want, framework, shared)


def _fitting(profile: Profile, family: str, want: Variant, framework: str, shared: tuple[str, ...]) -> list[Choice]:
    """Return what `fitting` does for one format of the cache."""
    first = choose(profile, family, want, framework)
    if first is None:
        return []
    if family not in shared:
        return [first]
    others = (choose(profile, family, want, name) for name in profile.frameworks(family, framework))
    found = {id(c.measured): c for c in others if c is not None and c.gap <= first.gap}
    return [first, *(c for key, c in found.items() if key != id(first.measured))]


def over_the_rack(device: Device, profile: Profile, family: str, want: Variant, framework: str) -> list[Choice]:
    """Return the tables of other frameworks that count for groups beyond one host of a rack; [] where there is none.

    device: the one to price; the other arguments are those of `choose`.
    """
    if family != "all_reduce" or not device.link.peers > SERVER_DEVICES:
        return []
    own_and_others = fitting(profile, family, want, framework, (family,))
    return [replace(choice, beyond=TRAY_DEVICES) for choice in own_and_others[1:]]


def wanted(demand: Demand, routing: str) -> tuple[Index, dict[int, tuple[str, str, str]]]:
    """Return (code of each row's formats, {code: (stored format, compute type, routing of experts)}) of a demand.

    The codes broadcast against the demand's shape; all are 0 for families without formats.
    """
    act = np.asarray(demand.compute, np.intp)
    shape = demand.shape
    if demand.family in ("gemm", "grouped_gemm"):
        stored = np.asarray(shape["weight"], np.intp)
        act = np.asarray(shape["act"], np.intp)
    elif "kv_bytes" in shape:
        narrow = np.asarray(shape["kv_bytes"], float) <= MAX_NARROW_KV_BYTES
        stored = np.where(narrow, FORMAT_NAMES.index("fp8"), FORMAT_NAMES.index("bf16"))
    else:
        return np.zeros((), np.intp), {0: ("", "", "")}
    codes = stored * len(COMPUTE) + act
    experts = _routing_of(demand, routing) if demand.family == "grouped_gemm" else ""
    names = {
        code: (FORMAT_NAMES[code // len(COMPUTE)], COMPUTE[code % len(COMPUTE)], experts) for code in codes_in(codes)
    }
    return codes, names


def _routing_of(demand: Demand, skewed: str) -> str:
    """Return the routing of the tables that experts are looked up in; skewed: that of experts with uneven loads."""
    return LAYOUTS[int(demand.shape.get("layout", 0))] or skewed


def coordinates(demand: Demand) -> Mapping[str, Array | float]:
    """Return the shape of a demand under the names of coordinates that the tables use."""
    if demand.family == "elementwise":
        return {"moved_bytes": demand.moved}
    if "group" in demand.shape and "heads" not in demand.shape:
        return {**demand.shape, "message_bytes": demand.message}
    return demand.shape


def take(shape: Mapping[str, Array | float], rows: Mask | Index | slice, count: int) -> dict[str, Array]:
    """Select the coordinates of some candidates; coordinates that do not differ by candidate stay as they are.

    rows: (N,) mask of the candidates, their numbers or their slice. count: N.
    """
    out = {}
    for key, value in shape.items():
        array = np.asarray(value, float)
        out[key] = array if array.ndim == 0 or array.shape[-1] != count else array[..., rows]
    return out


def price(choices: Sequence[Choice], asked: ShapeBatch) -> TablePrice:
    """Read the time of N shapes of one operator family, each in the table among `choices` that `asked` names."""
    found, shape = _read(choices, _by_rank(choices, asked)), asked.shape
    cached = np.asarray(shape.get("context", 0.0), float)
    if "query" not in shape or not asked.family.name.endswith("prefill") or not (cached > 0).any():
        return found
    return replace(found, time=np.minimum(found.time, _time_of_more(choices, asked, cached > 0)))


def _by_rank(choices: Sequence[Choice], asked: ShapeBatch) -> ShapeBatch:
    """Return the shapes with the coordinates of a rank's own experts where their table has no even loads."""
    own = {k.removeprefix(RANK_ALONE): v for k, v in asked.shape.items() if k.startswith(RANK_ALONE)}
    even = [choice.measured.variant.routing in (EVEN, EVEN_MASKED) for choice in choices]
    if not own or all(even):
        return asked
    if any(even):
        rows = np.array(even)[asked.which]
        own = {k: np.where(rows, asked.shape[k], v) for k, v in own.items()}
    return asked.other({**asked.shape, **own})


def _time_of_more(choices: Sequence[Choice], asked: ShapeBatch, behind: Mask) -> Array:
    """Return the least seconds that more prefill attention takes, an upper bound; inf where nothing is cached.

    More are the same new tokens if cached ones were computed too, and more new tokens (`MORE_QUERIES`) behind the same
    cached ones. Tables hold prompts without cached tokens; a few new tokens behind a long context lie far outside,
    where a straight line through the table falls as tokens are added.

    choices, asked: as for `price`. behind: whether tokens are cached, which broadcasts to the shapes.
    """
    shape, which = asked.shape, asked.which
    common = np.broadcast_shapes(which.shape, *(np.shape(v) for v in shape.values()))
    rows = np.broadcast_to(behind, common)
    part = {k: v if np.ndim(v) == 0 else widened(v, common)[rows] for k, v in shape.items()}
    query, cached = np.broadcast_arrays(np.atleast_1d(part["query"]), part["context"])
    more = np.array(MORE_QUERIES)[:, None]
    each = {
        "query": np.concatenate([(query + cached)[None], np.maximum(query, more)]),
        "context": np.stack([np.zeros_like(cached), *(cached for _ in MORE_QUERIES)]),
    }
    which = which if which.ndim == 0 else np.broadcast_to(which, common)[rows]
    time = _read(choices, ShapeBatch(asked.family, {**part, **each}, which)).time
    time[1:][np.broadcast_to(query, time[1:].shape) >= more] = np.inf
    out = np.full(common, np.inf)
    out[rows] = time.min(axis=0)
    return out


def _bounds(choice: Choice, family: Family, alike: Mapping[str, float]) -> Bounds:
    """Return the bound by which the chosen table is read as times.

    alike: coordinates that grid points share with the shapes asked for. They have experts as popular as those: a bound
    that falls short of that of a grid point with as many tokens would be read at another place between the points.
    """

    def at(site: Array, axis: Array) -> Array:
        shape: dict[str, Array | float] = {**shape_at(family, site, axis), **alike}
        return _log_seconds(bound(family, shape, choice.priced, choice.measured.reference)[0])

    return Bounds(at=at, formats=(choice.priced, *alike))


def _log_utilisation(choices: Sequence[Choice], asked: ShapeBatch, least: Array) -> tuple[Array, Codes]:
    """Return (ln(utilisation), basis code) of N shapes in the chosen tables; least: seconds of their bound.

    Prefills longer than any measured have the utilisation of the longest one with as many query rows.
    """
    tables, family = [choice.measured.table for choice in choices], asked.family
    alike = {"uneven": 1.0} if np.any(np.asarray(asked.shape.get("uneven", 0.0)) > 0.0) else {}
    bounds = [_bounds(choice, family, alike) for choice in choices]
    if family.name not in PREFILLS:
        return read_jointly(tables, bounds, asked, _log_seconds(least))
    longest = asked.each([float(np.exp(table.axes[-1][-1])) for table in tables])
    held = asked.other(held_in_length(asked.shape, longest))
    alone, _ = held.bound([choice.priced for choice in choices], _reference(choices, asked))
    value, basis = read_jointly(tables, bounds, held, _log_seconds(alone))
    _, length = causal_length(asked.shape)
    return value, np.where(length > longest, _EXTRAPOLATED, basis).astype(np.int8)


def _log_seconds(seconds: Array) -> Array:
    """Return the logarithm of seconds, finite where a call has nothing to do."""
    return np.asarray(np.log(np.maximum(seconds, LEAST_SECONDS)))


def _reference(choices: Sequence[Choice], asked: ShapeBatch) -> Reference:
    """Return the constants that the table of each shape is relative to."""
    every = [choice.measured.reference for choice in choices]
    return Reference(*(asked.each([getattr(r, name) for r in every]) for name in ("peak", "bandwidth", "link")))


def _read(choices: Sequence[Choice], asked: ShapeBatch) -> TablePrice:
    """Read the time of N shapes from the chosen tables, each by itself."""
    least, limit = asked.bound([choice.priced for choice in choices], _reference(choices, asked))
    value, basis = _log_utilisation(choices, asked, least)
    time = least * np.exp(-value)
    # utilisation is held constant outside the table and blended inside it: a tiny shape would take no time at all
    calls = [shortest(choice.measured, asked.family.name) for choice in choices]
    floor = np.minimum(asked.each([c.least for c in calls]), asked.each([c.launch for c in calls]) + least)
    time = np.maximum(time, floor)
    worst = [max(choice.worst, _INTERPOLATED if choice.measured.fitted else 0) for choice in choices]
    basis = np.maximum(basis, np.asarray(asked.each(worst)).astype(np.int8))
    small = (least < LAUNCH_SHARE * time) & (time < LAUNCH_TIME)
    return TablePrice(time=time, basis=basis, bound=np.where(small, np.int8(LAUNCH_BOUND), limit), least=least)
