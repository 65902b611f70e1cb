"""Serving engines as data: how each batches, what it reserves, how long its host takes; every fact with its source.

One TOML file an engine and era lies in `perfmodel/engines/`; a path to a file of your own works wherever a name does.
`engine("vllm", "0.6.3")` picks the era that the version belongs to. Limits that an engine chooses by device (token
budget, sequences, memory share) come from `Engine.limits`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from hwdb import InputError, UnknownName
from hwdb.tomlfile import Table, read_toml
from perfmodel.engines.overlap import ways

if TYPE_CHECKING:
    from hwdb import Device

FOLDER = Path(__file__).parent / "catalogue"
GIB = float(2**30)
NAN = float("nan")

#: documented: the engine's own documentation or source; measured: published measurement; fitted: by this project, on
#: published measurements; assumed: an order of magnitude, to be fitted.
KINDS = ("documented", "measured", "fitted", "assumed")

#: Other names in use -> engine family.
ALIASES = {
    "vllm-ascend": "vllm", "tensorrt-llm": "trtllm", "tensorrt_llm": "trtllm", "trt-llm": "trtllm",
    "nim": "trtllm", "llama.cpp": "llamacpp", "ik_llama.cpp": "ik_llama", "ik_llamacpp": "ik_llama",
    "mindie-llm": "mindie", "mii": "deepspeed-mii", "fastgen": "deepspeed-mii", "deepspeed-fastgen": "deepspeed-mii",
    "sarathi-serve": "sarathi", "ft": "fastertransformer", "static": "fastertransformer",
    "other": "generic", "": "generic",
}  # fmt: skip
#: Forks that tables list under their parent's name: parent -> (what the version text says, engine).
FORKS = {"llamacpp": ("ik_llama", "ik_llama")}


@dataclass(frozen=True)
class Fact:
    """One setting with where it comes from: the value as the file prints it, kind (see `KINDS`), source, note."""

    value: float | bool | str
    kind: str
    source: str
    note: str = ""


@dataclass(frozen=True)
class Limits:
    """What an engine allows on one device when nothing is set: tokens a step, sequences, share of memory.

    graph_seqs: largest decode batch replayed from captured graphs; above it every kernel is launched by itself.
    """

    token_budget: float
    max_seqs: float
    memory_fraction: float
    graph_seqs: float


@dataclass(frozen=True)
class _Tier:
    """Defaults for some devices; the first tier whose conditions all hold applies."""

    at_least: float
    below: float
    kinds: tuple[str, ...]
    named: tuple[str, ...]
    not_named: tuple[str, ...]
    values: tuple[tuple[str, float], ...]

    def holds(self, device: Device) -> bool:
        """Whether `device` falls into this tier. Unknown memory falls into the unbounded tiers only."""
        name = device.name.lower()
        memory = device.memory
        return (
            (not self.kinds or device.kind in self.kinds)
            and (not self.named or any(n in name for n in self.named))
            and not any(n in name for n in self.not_named)
            and (self.at_least == 0 or memory >= self.at_least)
            and (math.isinf(self.below) or memory < self.below)
        )


@dataclass(frozen=True)
class Engine:
    """One engine in one era. Unknown numbers are NaN; each setting's source is in `facts`.

    token_budget: tokens a step, prefill and decode together (inf: no budget). budget_is_model_length: the budget is
    the longest sequence served (vLLM V0 without chunking), at least `token_budget_floor`. max_seqs: sequences running
    at once a replica. micro_batch: tokens the kernels see at once where a step is cut again (llama.cpp), else NaN.
    chunked_prefill: a prompt may be spread over steps. prefill_first: prompts run in steps of their own, before
    decodes; otherwise both share a step. kv_block: tokens a KV block. admission: `grow` (blocks as needed), `reserve`
    (input plus output at admission), `contiguous` (longest sequence at admission). preemption: what a grower does
    when blocks run out: `recompute`, `swap` or `none`. memory_fraction applies by memory_rule: `total` (of the
    device, holding weights, activations and KV), `static` (of the device, weights and KV only), `free` (of what
    weights and activations leave, KV only). reserve_bytes: kept back besides (context, graphs, libraries).
    Host time of a step in seconds: step_host_time + step_host_per_seq * running sequences, plus step_host_parallel
    when a replica has more than one device; hidden behind the device where overlap_scheduling is on.
    lockstep: share of a closed loop's opening burst that still moves together when all lengths are equal.
    launch_time: host seconds to launch one kernel outside a captured graph; such a pass takes at least its launches.
    request_time: seconds a request spends in the front end before and after the engine (HTTP, tokens).
    narrow_cache: checkpoints with fp8 or fp4 weights bring an fp8 KV cache.
    batching: `continuous`, or `static` (a batch runs until its last sequence ends). overlap: how communication runs
    beside computation (`perfmodel.engines.overlap.ways`); overlap_share: part of the shorter stream that hides, NaN for the
    way's own. rank_balance: prompts are held back until each rank of attention data parallelism has one.
    """

    name: str
    family: str
    title: str
    era: str
    token_budget: float
    max_seqs: float
    chunked_prefill: bool
    prefill_first: bool
    kv_block: float
    memory_fraction: float
    reserve_bytes: float
    graph_capture: bool
    overlap_scheduling: bool
    prefix_cache: bool
    preemption: str
    step_host_time: float
    step_host_per_seq: float
    request_time: float
    batching: str
    admission: str = "grow"
    memory_rule: str = "total"
    step_host_parallel: float = 0.0
    launch_time: float = 0.0
    overlap: str = "none"
    overlap_share: float = NAN
    lockstep: float = 1.0
    micro_batch: float = NAN
    graph_seqs: float = NAN
    token_budget_floor: float = NAN
    budget_is_model_length: bool = False
    narrow_cache: bool = False
    rank_balance: bool = False
    since: tuple[int, ...] = ()
    tiers: tuple[_Tier, ...] = field(default=(), repr=False)
    facts: Mapping[str, Fact] = field(default_factory=dict, compare=False, repr=False)

    @property
    def mixes(self) -> bool:
        """Whether prompts and answers share passes."""
        return not self.prefill_first and self.batching == "continuous"

    def limits(self, device: Device, *, max_model_len: float = NAN, offline: bool = False, devices: int = 1) -> Limits:
        """Defaults on `device`, `devices` of them a replica.

        offline: batch use without a server, as with vLLM's `LLM`. max_model_len: tokens; matters only where the
        budget follows it.
        """
        chosen = dict(next((t.values for t in self.tiers if t.holds(device)), ()))
        scale = devices if "per_device" in chosen else 1

        def pick(name: str, plain: float) -> float:
            value = chosen.get(name, plain)
            return chosen.get(f"{name}_offline", value) if offline else value

        budget = pick("token_budget", self.token_budget) * scale
        if self.budget_is_model_length and max_model_len == max_model_len:
            budget = max(max_model_len, self.token_budget_floor)
        return Limits(
            token_budget=budget,
            max_seqs=pick("max_seqs", self.max_seqs) * scale,
            memory_fraction=pick("memory_fraction", self.memory_fraction),
            graph_seqs=pick("graph_seqs", self.graph_seqs),
        )

    def changed(self, **settings: object) -> Engine:
        """This engine with some settings replaced, as a user's flags would (`chunked_prefill=False`)."""
        unknown = [s for s in settings if s not in self.__dataclass_fields__]
        if unknown:
            raise UnknownName("engine setting", unknown[0], list(self.__dataclass_fields__))
        return replace(self, **settings)  # type: ignore[arg-type]


#: Settings of a file: field of Engine -> (key in the file, factor to SI).
_NUMBERS = {
    "token_budget": ("token_budget", 1.0), "max_seqs": ("max_seqs", 1.0), "kv_block": ("kv_block_tokens", 1.0),
    "memory_fraction": ("memory_fraction", 1.0), "reserve_bytes": ("reserve_gib", GIB),
    "step_host_time": ("step_host_us", 1e-6), "step_host_per_seq": ("step_host_per_seq_us", 1e-6),
    "step_host_parallel": ("step_host_parallel_us", 1e-6), "request_time": ("request_ms", 1e-3),
    "micro_batch": ("micro_batch", 1.0), "graph_seqs": ("graph_seqs", 1.0),
    "token_budget_floor": ("token_budget_floor", 1.0), "launch_time": ("launch_us", 1e-6),
    "lockstep": ("lockstep", 1.0), "overlap_share": ("overlap_share", 1.0),
}  # fmt: skip
_OPTIONAL = {
    "launch_time", "lockstep", "micro_batch", "graph_seqs", "token_budget_floor", "step_host_parallel",
    "budget_is_model_length", "narrow_cache", "overlap", "overlap_share", "rank_balance",
}  # fmt: skip
_FLAGS = (
    "chunked_prefill", "prefill_first", "graph_capture", "overlap_scheduling", "prefix_cache", "budget_is_model_length",
    "rank_balance", "narrow_cache",
)  # fmt: skip
_CHOICES = {
    "preemption": ("recompute", "swap", "none"),
    "batching": ("continuous", "static"),
    "admission": ("grow", "reserve", "contiguous"),
    "memory_rule": ("total", "static", "free"),
    "overlap": ways(),
}


def _fact(table: Table, key: str) -> tuple[Table, Fact]:
    entry = table.table(key)
    value = entry.get("value")
    kind, source = entry.text("kind", choices=KINDS), entry.text("source")
    return entry, Fact(value, kind, source, entry.text("note", ""))


def _tier(table: Table) -> _Tier:
    numbers = ("token_budget", "token_budget_offline", "max_seqs", "max_seqs_offline", "memory_fraction", "graph_seqs")
    values = [(k, table.number(k, above=0)) for k in numbers if k in table]
    if table.flag("per_device", False):
        values.append(("per_device", 1.0))
    tier = _Tier(
        at_least=table.number("at_least_gib", 0.0, least=0) * GIB,
        below=table.number("below_gib", math.inf, above=0) * GIB,
        kinds=table.texts("kinds", ()),
        named=table.texts("named", ()),
        not_named=table.texts("not_named", ()),
        values=tuple(values),
    )
    table.text("source")
    table.done(also=numbers)
    return tier


def load_engine(path: str | Path) -> Engine:
    """The engine that the TOML file at `path` describes; `InputError` names file, line and key of what is wrong."""
    table = read_toml(path, "engine file")
    facts: dict[str, Fact] = {}
    settings: dict[str, object] = {}
    for name, (key, factor) in _NUMBERS.items():
        if name in _OPTIONAL and key not in table:
            continue
        entry, facts[name] = _fact(table, key)
        value = entry.get("value")
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise table.error(key, f"value {value!r} is not a number of 0 or more; write nan for unknown")
        settings[name] = float(value) * factor
        entry.done()
    for name in (*_FLAGS, *_CHOICES):
        if name in _OPTIONAL and name not in table:
            continue
        entry, facts[name] = _fact(table, name)
        settings[name] = entry.text("value", choices=_CHOICES[name]) if name in _CHOICES else entry.flag("value")
        entry.done()
    return _assemble(table, settings, facts)


def _assemble(table: Table, settings: dict[str, object], facts: dict[str, Fact]) -> Engine:
    name = table.text("name")
    since = table.text("since", "")
    made = Engine(
        name=name, family=table.text("family", name), title=table.text("title"), era=table.text("era"),
        since=_numbers_in(since),
        tiers=tuple(_tier(t) for t in table.tables("tier", ())), facts=facts, **settings,  # type: ignore[arg-type]
    )  # fmt: skip
    table.done(also=[*_OPTIONAL, *[k for k, _ in _NUMBERS.values()]])
    for key, share in (("memory_fraction", made.memory_fraction), ("overlap_share", made.overlap_share)):
        if not (math.isnan(share) or 0 < share <= 1 or (key == "overlap_share" and share == 0)):
            raise table.error(key, f"value {share:g} is not a share; give it between 0 and 1")
    return made


def names() -> list[str]:
    """Names of the engines that ship, eras included."""
    return sorted(p.stem for p in FOLDER.glob("*.toml"))


@lru_cache(maxsize=64)
def _shipped(name: str) -> Engine:
    return load_engine(FOLDER / f"{name}.toml")


_FOREIGN = re.compile(
    r"(pytorch|torch|cuda|rocm|tensorrt|rhel|ubuntu|triton|aiter|transformers)[\s:\-v=+]*[\d.]+\S*", re.I
)
_VERSION = re.compile(r"(?<![\d.])v?(\d+)\.(\d+)")
_YEAR = re.compile(r"\b20(\d\d)-(\d\d)\b")

#: First release of each era as (year, month), for versions given as dates only.
_ERA_DATES = {"vllm-v1": (2025, 3), "vllm": (2026, 1), "trtllm": (2025, 9)}


def _numbers_in(version: str) -> tuple[int, ...]:
    """First `major.minor` in a version text that is not another package's, or ().

    >>> _numbers_in("vLLM 0.6.5.dev964+mlperf50, Pytorch 2.7.0a0"), _numbers_in("TensorRT 10.8, CUDA 12.8")
    ((0, 6), ())
    """
    found = _VERSION.search(_FOREIGN.sub(" ", version))
    return (int(found.group(1)), int(found.group(2))) if found else ()


def _of_version(family: str, eras: list[Engine], version: str) -> Engine:
    """The era of `family` that `version` falls into; the newest one marked default when the version says nothing."""
    default = next((e for e in eras if e.name == family), eras[-1])
    numbers, date = _numbers_in(version), _YEAR.search(version)
    if numbers:
        older = [e for e in eras if e.since <= numbers]
        return older[-1] if older else eras[0]
    if date:
        month = (2000 + int(date.group(1)), int(date.group(2)))
        older = [e for e in eras if _ERA_DATES.get(e.name, (0, 0)) <= month]
        return older[-1]
    if version.lower().startswith(("nightly", "main", "latest")):
        return eras[-1]
    return default


@lru_cache(maxsize=512)
def engine(name: str = "generic", version: str = "") -> Engine:
    """The engine called `name` in the era of `version`, or the one described by the TOML file at path `name`.

    >>> engine("vllm", "0.6.3").name, engine("vllm", "0.11").name, engine("other").name
    ('vllm-v0', 'vllm-v1', 'generic')
    """
    if name.endswith(".toml"):
        return load_engine(name)
    key = name.strip().lower()
    key = ALIASES.get(key, key)
    said, fork = FORKS.get(key, ("", key))
    key = fork if said in version.lower() else key
    known = names()
    if key not in known:
        raise UnknownName("engine", name, [*known, *filter(None, ALIASES)], "or give the path of an engine TOML file")
    chosen = _shipped(key)
    if not version or chosen.family != key:
        return chosen
    eras = sorted((e for e in map(_shipped, known) if e.family == chosen.family), key=lambda e: e.since)
    return _of_version(key, eras, version)


def check_engine_name(name: str) -> None:
    """Raise `UnknownName` or `InputError` when `name` is no engine; for callers that validate before computing."""
    if name.endswith(".toml") and not Path(name).is_file():
        raise InputError(f"{name}: no such engine file; give a name such as 'vllm' or an existing TOML file")
    engine(name)
