"""Engine factors: how much longer a serving engine's kernels take than stand-alone ones that the other models price.

An engine runs its own kernels between others, with cold caches, fused or split, and not always those that the tables
timed. A factor for each kind of limit (arithmetic, memory, links, launches) times one for each kind of kernel, by
engine and where known by device or class of devices, says how much longer a call really takes. Where arithmetic limits
a multiplication or attention, a third factor joins them: how weights are unpacked and which instructions multiply them
slows prompts and large batches down, not the reading of weights. The factors are fitted on measured serving runs by
`perfmodel.fitting`; without an entry they are 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from hwdb import Device
from hwdb.tomlfile import Table, read_toml
from perfmodel.arrays import NAN, Array, Codes, Index, Mask, codes_in, zero_if_unknown
from perfmodel.costs.cost import Adjusted, Cost, Served, all_of
from perfmodel.costs.engine_effects.model_levels import engines_with_levels, model_level
from perfmodel.costs.engine_effects.narrow_experts import BYTES_8, BYTES_16, FLOATS, least_time, reference_time
from perfmodel.costs.measured_tables.lookup import LAUNCH_SHARE, LAUNCH_TIME
from perfmodel.costs.related_devices.distance import PLAIN, SIBLING, ceilings, ceilings_beside, order_of, siblings
from perfmodel.costs.rooflines.roofline import Bound, bound
from perfmodel.dtypes import FORMAT_BYTES
from perfmodel.engines import Engine
from perfmodel.hardware import Hardware, better_and_lesser, hardware_of
from perfmodel.operators import PICKING, Demand
from perfmodel.vocabulary import (
    BOUNDS,
    COMPUTE_BOUND,
    EXPERT_ALL_TO_ALL,
    LAUNCH_BOUND,
    LINK_BOUND,
    LINK_FAMILIES,
    MEMORY_BOUND,
)

TABLE = Path(__file__).with_name("corrections.toml")
#: Kinds of kernel; GEMMs and experts by bits per weight, and at 4 bits by whether weights are floating-point numbers or
#: integers, which decide library and kernel; attention over a latent KV cache (MLA) has kernels of its own, and so have
#: the choice of what sparse attention sees and prompts over picked entries.
KERNELS = (
    "gemm_16",
    "gemm_8",
    "gemm_4",
    "gemm_int4",
    "experts_16",
    "experts_8",
    "experts_4",
    "experts_int4",
    "attention",
    "mla",
    "picked",
    "recurrent",
    "elementwise",
    "collective",
)
#: Kinds of kernel that have a factor of their own where arithmetic limits them.
MULTIPLIERS = tuple(k for k in KERNELS if k.startswith(("gemm", "experts", "attention")))
#: Names of all factors of an entry: of limits, of kinds of kernel, and of kinds of kernel that arithmetic limits.
FACTORS = (*BOUNDS, *KERNELS, *(f"compute_{k}" for k in MULTIPLIERS))
#: (MULTIPLIERS,) index into `KERNELS` of each.
_MULTIPLIERS = np.array([KERNELS.index(k) for k in MULTIPLIERS])
#: Operator family with weights -> index of its 16-bit kind in `KERNELS`; 8 bits, 4 bits and 4-bit integers follow.
_FIRST_BY_BITS = {"gemm": KERNELS.index("gemm_16"), "grouped_gemm": KERNELS.index("experts_16")}
#: Share of the rated dense peak above which no factor brings a kernel that arithmetic limits. The best shapes of
#: libraries reach 80.3 % on H100 and 77.6 % on B200 in bf16 (stas00/ml-engineering, compute/accelerator/README.md,
#: maximum achievable matmul FLOPS, 2025); kernels that were measured faster alone (A100: 86.9 %) keep their own time.
ATTAINED = 0.8
#: Log ratio up to which two factors of the table are the same: it holds three digits.
ROUNDED = 0.006
#: (KERNELS,) kinds of kernel that nearly every set of runs has.
_COMMON = np.isin(KERNELS, ("gemm_16", "attention", "elementwise", "collective"))
#: Kind of kernel -> the kind whose factor it takes in entries that give it none.
_STANDS_FOR = {"gemm_int4": "gemm_4", "experts_int4": "experts_4", "mla": "attention"}


def kernel(demand: Demand) -> Index:
    """Return the kind of kernel that each row of a demand runs, as index into `KERNELS`; () or (N,)."""
    if demand.family in _FIRST_BY_BITS:
        weight = np.asarray(demand.shape["weight"]).astype(int)
        width = FORMAT_BYTES[weight]
        by_bits = np.where(width > BYTES_16, 0, np.where(width > BYTES_8, 1, np.where(FLOATS[weight], 2, 3)))
        return np.asarray(_FIRST_BY_BITS[demand.family] + by_bits)
    if demand.family in LINK_FAMILIES:
        return np.array(KERNELS.index("collective"))
    if demand.name.startswith(PICKING):
        return np.array(KERNELS.index("picked"))
    return np.array(KERNELS.index(demand.family.partition("_")[0]))


def combined(factors: Array) -> Array:
    """Multiply the factors of an entry, (FACTORS,): of what limits a call, of its kind of kernel, and of both together.

    Returns a table (BOUNDS, KERNELS).
    """
    by_bound, by_kernel, by_both = np.split(np.asarray(factors), [len(BOUNDS), len(BOUNDS) + len(KERNELS)])
    table = by_bound[:, None] * by_kernel[None, :]
    table[COMPUTE_BOUND, _MULTIPLIERS] *= by_both
    return np.asarray(table)


def device_class(device: Device) -> str:
    """Return the name of the class of devices that share factors where one has none of its own: its kind ("cpu").

    Graphics cards, which have GDDR memory, run kernels that were tuned for accelerators with HBM: they are a class of
    their own by vendor.

    >>> import hwdb
    >>> [device_class(hwdb.device(name)) for name in ("rtx-4090", "h100-sxm", "gaudi2")]
    ['NVIDIA card', 'gpu', 'npu']
    """
    graphics = device.kind == "gpu" and device.memory_type.startswith("GDDR")
    return f"{device.vendor} card" if graphics else device.kind


def shared_factors(engine: str, name: str) -> Array:
    """Return the fitted factors (FACTORS,) that a class of devices, "" for all, has under an engine.

    They are those of the engine on the class, else of the engine on any device, else 1.
    """
    fitted = _fitted()
    ones: Array = np.ones(len(FACTORS))
    return fitted.get((engine, name), fitted.get((engine, ""), ones))


@cache
def _fitted() -> dict[tuple[str, str], Array]:
    """Read the table as {(engine, device or class of devices or ""): factors (FACTORS,)}; "" is any device."""
    top = read_toml(TABLE, "table of engine factors")
    return dict(_entry(table) for table in top.tables("correction"))


@cache
def _table() -> dict[tuple[str, str], Array]:
    """Return the factors of `_fitted` by limit and kind of kernel, (BOUNDS, KERNELS)."""
    return {place: combined(f) for place, f in _fitted().items()}


def _entry(table: Table) -> tuple[tuple[str, str], Array]:
    """Read one `[[correction]]`: ((engine, device or class of devices or ""), factors (FACTORS,))."""
    place = table.text("device", table.text("kind", ""))
    by_bound = [table.number(b, above=0) for b in BOUNDS]
    given = {k: table.number(k, NAN, above=0) for k in KERNELS}
    known = {k: v for k, v in given.items() if not np.isnan(v)}
    by_kernel = [known.get(k, known.get(_STANDS_FOR.get(k, k), 1.0)) for k in KERNELS]
    table.number("values", 0.0, least=0)  # measured values behind the entry, for readers
    by_both = [table.number(f, 1.0, above=0) for f in FACTORS[len(BOUNDS) + len(KERNELS) :]]
    key = (table.text("engine"), place)
    table.done()
    return key, np.array([*by_bound, *by_kernel, *by_both])


def place_factors(engine: str, device: Device) -> Array:
    """Return the fitted factors (FACTORS,) of an engine on a device, from the closest entry that there is."""
    return _closest(_fitted(), engine, device, np.ones(len(FACTORS)))


@cache
def factors(engine: str, device: Device) -> Array:
    """Return the factors (BOUNDS, KERNELS) of an engine on a device, from the closest entry that there is.

    Factors that no run of the device shows keep their place between those of better and lesser devices (`_in_order`).
    """
    found = _closest(_table(), engine, device, np.ones((len(BOUNDS), len(KERNELS))))
    shown = _shown(engine, device)
    return found if shown.all() else np.where(shown, found, _in_order(found, engine, device.lineage[-1]))


@cache
def _shown(engine: str, device: Device) -> Mask:
    """Return of which kinds of kernel the factors of an engine on a device follow from its own runs, (KERNELS,).

    A fit draws a kind that no run has to the factor of the class: an entry that repeats it shows nothing of that kind,
    unless nearly every set of runs has it.
    """
    fitted = _fitted()
    own = next((fitted[engine, kin.name] for kin in device.lineage if (engine, kin.name) in fitted), None)
    if own is None:
        return np.zeros(len(KERNELS), bool)
    shared, kernels = shared_factors(engine, device_class(device)), slice(len(BOUNDS), len(BOUNDS) + len(KERNELS))
    return np.asarray((np.abs(np.log(own[kernels] / shared[kernels])) > ROUNDED) | _COMMON)


def _in_order(found: Array, engine: str, device: Device) -> Array:
    """Return factors with which no call takes less time than on a better device, nor more than on a lesser one.

    Derived: times alone are as the inverse of what limits them, so a factor lies between those of better and of lesser
    devices times how much less, and how much more, the device reaches. Of lesser devices only those count that were
    measured. Where both say opposite things of a call, the mean of the logarithms is taken.
    """
    better, lesser = better_and_lesser(device)
    least = [factors(engine, d) * _stretch(device, d) for d in better]
    measured = [d for d in lesser if _shown(engine, d).any()]
    most = [np.where(_shown(engine, d), _table()[engine, d.name] * _stretch(device, d), np.inf) for d in measured]
    low, high = np.max([found * 0.0, *least], axis=0), np.min([found * np.inf, *most], axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(low > high, np.sqrt(low * high), np.minimum(np.maximum(found, low), high)))


def _stretch(device: Device, other: Device) -> Array:
    """Return how much longer calls that take as long on `device` as on `other` take than alone, (BOUNDS, 1).

    That is the ratio of what the devices reach. Where `device` is the lesser one times alone may differ less, by a
    factor of up to `SIBLING`. The other way round the same caution made measured runs of GH200 worse.
    Times over links say nothing where the links are not in the order of the devices.
    """
    mine, theirs = ceilings_beside(device, other, PLAIN), ceilings(other, PLAIN)
    lesser = order_of(device, other) < 0
    ratio = np.ones((len(BOUNDS), 1))
    ratio[COMPUTE_BOUND], ratio[MEMORY_BOUND] = mine.compute / theirs.compute, mine.memory / theirs.memory
    ratio[LINK_BOUND] = mine.link / theirs.link
    near = np.minimum(ratio * SIBLING, 1.0) if lesser else ratio
    if not order_of(device, other, link=True):
        near[LINK_BOUND] = 0.0 if lesser else np.inf
    return np.asarray(near)


def _closest(table: Mapping[tuple[str, str], Array], engine: str, device: Device, otherwise: Array) -> Array:
    """Return the entry of the device, else of the one that it is a variant of, else of its class, else of the engine.

    otherwise: what is returned where the engine has no entry at all.
    """
    known = ((engine, place) for place in _places(device) if (engine, place) in table)
    return next((table[key] for key in known), otherwise)


def _places(device: Device) -> Iterator[str]:
    """Yield the names under which the factors of a device may stand, closest first."""
    yield from (kin.name for kin in device.lineage)
    yield from (kin.name for kin in siblings(device))
    yield device_class(device)
    yield ""


@dataclass(frozen=True)
class EngineFactors(Adjusted):
    """Cost model that multiplies the times of `model` by the factors of `engine` on each device, and by the user's own.

    An engine that runs kernels of its own has limits that `model` alone knows. architecture: of the model that is
    served, whose level (`model_levels`) joins the factors; "": none.
    """

    engine: Engine
    architecture: str = ""

    @property
    def has_levels(self) -> bool:
        """Whether some architecture has a level, or kernels that others lack, under the engine."""
        return bool(self.engine.reference_experts) or self.engine.name in engines_with_levels()

    def for_architecture(self, name: str) -> EngineFactors:
        """Return the cost model with the level of an architecture."""
        return replace(self, architecture=name)

    def over(self, inner: Cost, demand: Demand, hardware: Hardware, served: Served | None = None) -> Cost:
        """Return the time of one call on each row of `hardware`; basis, spread and bound are those of `model`."""
        # the fitted factors of collectives come from runs with those of libraries: a user's own alone hold for experts'
        fitted = demand.family != EXPERT_ALL_TO_ALL
        served = served or all_of(self.architecture, hardware)
        pairs, place = served.on(hardware)
        found = [self._factors(device, name) if fitted else self._own(device) for name, device in pairs]
        table = np.reshape(found, (len(pairs), len(BOUNDS), len(KERNELS)))
        plain = np.all(table == 1.0, axis=(1, 2))
        if plain.all():
            return inner
        calls, own = calls_of(demand, hardware, inner, self.engine, served), self.engine.kernel_source == "own"
        time = factored(calls, table[place, :, kernel(demand)], own=own)
        return replace(inner, time=np.where(plain[place], inner.time, time) if plain.any() else time)

    def _factors(self, device: Device, architecture: str) -> Array:
        """Return the factors (BOUNDS, KERNELS) on `device`: those fitted on published runs times the user's own."""
        fitted = factors(self.engine.name, device)
        level = model_level(self.engine.name, device, architecture)
        if level != 1.0:
            fitted = fitted * np.where(np.arange(len(BOUNDS)) == LINK_BOUND, 1.0, level)[:, None]
        return fitted * self._own(device) if self.engine.adjustments else fitted

    def _own(self, device: Device) -> Array:
        """Return the user's own factors on `device`, (BOUNDS, KERNELS)."""
        own = np.array([self.engine.factor(device, part) for part in BOUNDS])
        return np.repeat(own[:, None], len(KERNELS), axis=1)


@dataclass(frozen=True)
class Calls:
    """Holds what the factors of an engine need to know of calls; arrays that broadcast to each other.

    time: seconds by the cost models. limit: what limits each call, codes of `BOUNDS`. linked: whether it runs over a
    link. compute, memory: least seconds by arithmetic and by memory traffic on the device that the factors were fitted
    on. least: least seconds on the device itself, whatever the factors say; 0 for links. extra: further seconds of a
    reference kernel, which no factor changes.
    """

    time: Array
    limit: Codes
    linked: Mask
    compute: Array
    memory: Array
    least: Array
    extra: Array


def calls_of(demand: Demand, hardware: Hardware, cost: Cost, engine: Engine, served: Served | None = None) -> Calls:
    """Return the calls of a demand under `engine` on each row of `hardware`; cost: of one call, before any factor.

    served: the architecture of each row, None where it is not known.
    """
    if demand.family in LINK_FAMILIES:
        none = np.zeros(())
        return Calls(cost.time, cost.bound, np.array(True), none, none, none, none)
    limits = bound(demand, hardware)
    fitted = _as_fitted(demand, hardware, limits)
    compute = zero_if_unknown(limits.compute)
    attained = np.fmin(cost.time, compute / ATTAINED)
    least = np.fmax(np.fmax(limits.time, attained), least_time(demand, hardware, engine, limits))
    extra = reference_time(demand, hardware, engine, served)
    return Calls(cost.time, cost.bound, np.array(False), fitted.compute, fitted.memory, least, extra)


def factored(calls: Calls, factor: Array, *, own: bool = False) -> Array:
    """Return the seconds of calls with the factors of an engine, (N,) or with leading axes.

    Args:
        calls: the calls, before any factor.
        factor: (..., BOUNDS) factor of each call by what limits it; broadcasts to the calls.
        own: whether the engine runs kernels of its own: what limits these is not what limits a library's.
    """
    by_limit = calls.time * _chosen(factor, calls.limit)
    launched = np.minimum(calls.time, LAUNCH_TIME) * factor[..., LAUNCH_BOUND]
    work = by_limit if own else _factored(calls, factor)
    work = np.fmax(work, calls.least)  # neither a factor nor a table makes a kernel faster than its device
    return np.where(calls.linked, np.maximum(by_limit, launched), work + calls.extra)


def _chosen(factor: Array, limit: Codes) -> Array:
    """Return, of the factors (..., BOUNDS), that of each limit; `limit` broadcasts to (...)."""
    first, *others = codes_in(limit) or [LAUNCH_BOUND]
    found = factor[..., first]
    for code in others:
        found = np.where(limit == code, factor[..., code], found)
    return found


def _as_fitted(demand: Demand, hardware: Hardware, limits: Bound) -> Bound:
    """Return the limits of calls on the devices that the factors were fitted on, (N,) or (C, N).

    A device with some figures changed runs the same kernels as the one that it is a variant of: its factors are those
    of that device. So what a user makes faster takes no longer. limits: those on `hardware` itself.
    """
    homes = tuple(device.lineage[-1] for device in hardware.devices)
    return limits if homes == hardware.devices else bound(demand, hardware_of(homes, hardware.index))


def _factored(calls: Calls, factor: Array) -> Array:
    """Return the seconds of calls that arithmetic, memory or a launch limits, (N,) or (C, N).

    Derived: a call takes the longer of its launch and its work. As it grows its work comes to bind in place of the
    launch, and its time must not fall there though the factors differ. So the factor of launches applies to what of the
    time a launch may take, the factor of work to at most l / `LAUNCH_SHARE`, where l is the bound, and the longer of
    the two binds.

    factor: (..., BOUNDS) by what limits the call.
    """
    time, least = calls.time, zero_if_unknown(np.maximum(calls.compute, calls.memory))
    begun = np.where(time < LAUNCH_TIME, np.minimum(time, least / LAUNCH_SHARE), time)
    launched = np.minimum(time, LAUNCH_TIME) * factor[..., LAUNCH_BOUND]
    return np.maximum(begun * _of_work(calls, factor), launched)


def _of_work(calls: Calls, factor: Array) -> Array:
    """Return the factor of a call that no launch limits, (N,) or (C, N).

    Derived: arithmetic takes its factor times as long, and so does memory traffic, and the longer of the two binds. So
    the factor of work is that of what limits the call, and passes into the other where the two times are close: a call
    never gets shorter as it grows, nor on a slower memory.

    factor: (..., BOUNDS) by what limits the call.
    """
    compute, memory = zero_if_unknown(calls.compute), zero_if_unknown(calls.memory)
    longer = np.maximum(compute * factor[..., COMPUTE_BOUND], memory * factor[..., MEMORY_BOUND])
    whole = np.maximum(compute, memory)
    return np.where(whole > 0, longer / np.where(whole > 0, whole, 1.0), factor[..., MEMORY_BOUND])
