"""Serving engines as data: how each batches, what it reserves, how long its host takes; every fact with its source.

One TOML file an engine and era lies in `perfmodel/engines/`; a path to a file of your own works wherever a name does.
`engine("vllm", "0.6.3")` picks the era that the version belongs to. Limits that an engine chooses by device (token
budget, sequences, memory share) come from `Engine.limits`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hwdb import UnknownName

if TYPE_CHECKING:
    from hwdb import Device

GIB = float(2**30)
NAN = float("nan")

#: documented: the engine's own documentation or source; measured: published measurement; fitted: by this project, on
#: published measurements; assumed: an order of magnitude, to be fitted.
KINDS = ("documented", "measured", "fitted", "assumed")


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

    max_num_batched_tokens: float
    max_num_seqs: float
    gpu_memory_utilization: float
    graph_seqs: float


@dataclass(frozen=True)
class Tier:
    """Defaults for some devices; the first tier whose conditions all hold applies."""

    at_least: float
    below: float
    kinds: tuple[str, ...]
    named: tuple[str, ...]
    not_named: tuple[str, ...]
    values: tuple[tuple[str, float], ...]

    def holds(self, device: Device) -> bool:
        """Whether `device` falls into this tier. Unknown memory falls into the unbounded tiers only."""
        names = [kin.name.lower() for kin in device.lineage]
        memory = device.memory
        return (
            (not self.kinds or device.kind in self.kinds)
            and (not self.named or any(n in name for n in self.named for name in names))
            and not any(n in name for n in self.not_named for name in names)
            and (self.at_least == 0 or memory >= self.at_least)
            and (math.isinf(self.below) or memory < self.below)
        )


@dataclass(frozen=True)
class Engine:
    """One engine in one era. Unknown numbers are NaN; each setting's source is in `facts`.

    max_num_batched_tokens: tokens a step, prefill and decode together (inf: no budget). budget_is_model_length: the budget is
    the longest sequence served (vLLM V0 without chunking), at least `max_num_batched_tokens_floor`. max_num_seqs: sequences running
    at once a replica. micro_batch: tokens the kernels see at once where a step is cut again (llama.cpp), else NaN.
    chunked_prefill: a prompt may be spread over steps. prefill_first: prompts run in steps of their own, before
    decodes; otherwise both share a step. kv_block: tokens a KV block. admission: `grow` (blocks as needed), `reserve`
    (input plus output at admission), `contiguous` (longest sequence at admission). preemption: what a grower does
    when blocks run out: `recompute`, `swap` or `none`. gpu_memory_utilization applies by memory_rule: `total` (of the
    device, holding weights, activations and KV), `static` (of the device, weights and KV only), `free` (of what
    weights and activations leave, KV only). reserve_bytes: kept back besides (context, graphs, libraries).
    Host time of a step in seconds: step_host_time + step_host_per_seq * running sequences, plus step_host_parallel
    when a replica has more than one device; hidden behind the device where overlap_scheduling is on.
    synchronised: share of a closed loop's opening burst that still moves together when all lengths are equal.
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
    max_num_batched_tokens: float
    max_num_seqs: float
    chunked_prefill: bool
    prefill_first: bool
    kv_block: float
    gpu_memory_utilization: float
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
    synchronised: float = 1.0
    micro_batch: float = NAN
    graph_seqs: float = NAN
    max_num_batched_tokens_floor: float = NAN
    budget_is_model_length: bool = False
    narrow_cache: bool = False
    rank_balance: bool = False
    since: tuple[int, ...] = ()
    tiers: tuple[Tier, ...] = field(default=(), repr=False)
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

        budget = pick("max_num_batched_tokens", self.max_num_batched_tokens) * scale
        if self.budget_is_model_length and max_model_len == max_model_len:
            budget = max(max_model_len, self.max_num_batched_tokens_floor)
        return Limits(
            max_num_batched_tokens=budget,
            max_num_seqs=pick("max_num_seqs", self.max_num_seqs) * scale,
            gpu_memory_utilization=pick("gpu_memory_utilization", self.gpu_memory_utilization),
            graph_seqs=pick("graph_seqs", self.graph_seqs),
        )

    def changed(self, **settings: object) -> Engine:
        """This engine with some settings replaced, as a user's flags would (`chunked_prefill=False`)."""
        unknown = [s for s in settings if s not in self.__dataclass_fields__]
        if unknown:
            raise UnknownName("engine setting", unknown[0], list(self.__dataclass_fields__))
        return replace(self, **settings)  # type: ignore[arg-type]


#: Share of the KV room that an engine keeps free when it admits: vLLM V0 1 % of the blocks (BlockSpaceManager,
#: watermark=0.01).
WATERMARK = {"vllm-v0": 0.01}


#: SGLang admits while what running requests still owe, times its new-token ratio, fits; the ratio decays from 0.7 to
#: 0.7 * 0.14 over 600 steps without a retraction (sglang environment SGLANG_INIT_NEW_TOKEN_RATIO and _MIN_ FACTOR).
HEADROOM = {"sglang": 0.098}
