"""What is known of a serving engine: how it batches, what it reserves, how long its host takes, each with a source.

One TOML file per engine and era lies in `perfmodel/engines/catalogue/`; the path of another such file works wherever a
name does. `engine("vllm", "0.6.3")` picks the era that a version belongs to. Defaults that an engine chooses by device
(token budget, sequences, share of memory) come from `Engine.limits`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hwdb import UnknownName
from perfmodel.arrays import NAN
from perfmodel.engines.adjustment import PARTS, Adjustment, adjustment_on

if TYPE_CHECKING:
    from hwdb import Device

GIB = float(2**30)

#: documented: the engine's own documentation or source code; measured: a published measurement; fitted: by this
#: project, on published measurements; assumed: an order of magnitude, to be fitted.
KINDS = ("documented", "measured", "fitted", "assumed")

#: Whose kernels an engine runs. framework: those that tables list under its family. own: kernels that only it has and
#: no table holds. vendor: of no known make, taken to be the device vendor's; other vendors' tables do not stand in.
KERNEL_SOURCES = ("framework", "own", "vendor")


@dataclass(frozen=True)
class Fact:
    """Holds where one setting comes from: value in the unit of the file, kind of source (`KINDS`), source and note."""

    value: Any
    kind: str
    source: str
    note: str = ""


@dataclass(frozen=True)
class Limits:
    """Holds the limits that an engine has on one device when the user sets none.

    max_num_batched_tokens: tokens per step; max_num_seqs: sequences running at once; gpu_memory_utilization: share of
    memory (see `Engine.memory_rule`); graph_seqs: largest decode batch that is replayed from a captured graph (above it
    the host launches each kernel).
    """

    max_num_batched_tokens: float
    max_num_seqs: float
    gpu_memory_utilization: float
    graph_seqs: float


@dataclass(frozen=True)
class Tier:
    """Holds an engine's default limits for some devices; the first tier whose conditions all hold applies.

    at_least, below: range of device memory, in bytes. devices: least devices of a replica. kinds: kinds of device; ()
    for all. named: parts of device names of which one has to occur; () for no condition. not_named: parts that may not
    occur. per_device: whether the token budget and the sequences are per device of the replica. values: (name of a
    limit, its value).
    """

    at_least: float
    below: float
    devices: float
    kinds: tuple[str, ...]
    named: tuple[str, ...]
    not_named: tuple[str, ...]
    per_device: bool
    values: tuple[tuple[str, float], ...]

    def holds(self, device: Device, devices: int = 1) -> bool:
        """Return whether a replica of so many `devices` of one kind, `device`, falls into this tier.

        A device of unknown memory falls into unbounded tiers only.
        """
        names = [kin.name.lower() for kin in device.lineage]
        memory = device.memory
        return (
            devices >= self.devices
            and (not self.kinds or device.kind in self.kinds)
            and (not self.named or any(n in name for n in self.named for name in names))
            and not any(n in name for n in self.not_named for name in names)
            and (self.at_least == 0 or memory >= self.at_least)
            and (math.isinf(self.below) or memory < self.below)
        )

    def without(self, limits: set[str]) -> Tier:
        """Return this tier without values for the limits named in `limits`, neither for servers nor for offline use."""
        return replace(self, values=tuple((k, v) for k, v in self.values if k.removesuffix("_offline") not in limits))

    def of_servers(self) -> Tier:
        """Return this tier without values for use without a server."""
        return replace(self, values=tuple((k, v) for k, v in self.values if not k.endswith("_offline")))


@dataclass(frozen=True)
class Engine:
    """Describes an engine in one era (range of versions). Unknown numbers are NaN; `facts` has the sources.

    Batching:
        max_num_batched_tokens: tokens per step, prefill and decode together (inf: no budget).
        budget_is_model_length: the token budget is the longest sequence served (vLLM V0 without chunked prefill), at
            least `max_num_batched_tokens_floor`.
        max_num_seqs: sequences running at once, of each rank of attention data parallelism.
        micro_batch: tokens that kernels process at once where the engine divides a step again (llama.cpp), else NaN.
        chunked_prefill: a prompt may be spread over several steps.
        prefill_first: prompts run in steps of their own, before decodes; otherwise both share a step.
        batching: `continuous`, or `static` (a batch runs until its last sequence ends).
        rank_balance: prompts wait until each rank of attention data parallelism has one, for at most
            `rank_balance_steps` steps (NaN: for as long as that takes); engines leave it off by default.
        budget_split_over_ranks: a token budget and a number of sequences that the user gives are divided among the
            ranks of attention data parallelism; in other engines each rank has as many.

    Memory and admission:
        kv_block: tokens per block of the KV cache.
        admission: `grow` (blocks are allocated as needed), `reserve` (input plus output length at admission),
            `contiguous` (the longest sequence at admission).
        preemption: what an engine with admission `grow` does when blocks run out: `recompute`, `swap` or `none`.
        gpu_memory_utilization: share of memory, by `memory_rule`: `total` (of the device, for weights, activations and
            KV cache), `static` (the same for weights and KV cache), `free` (of what the others leave, for KV cache).
        reserve_bytes, reserve_parallel: bytes per device that are kept free of all that (context, graphs, libraries),
            and further ones where a replica has more than one device (communication buffers).
        sampler_warmup: (kind of device, bytes per row and vocabulary entry): at start-up the engine samples
            max_num_seqs rows over the whole vocabulary on every tensor-parallel rank, and keeps what that takes beyond
            the activations away from the KV cache for good; see `sampler_bytes`. Kinds not listed sample no such rows.
        admission_watermark: share of the KV capacity that stays free when a request is admitted.
        admission_headroom: share of what running sequences have yet to write that needs room at an admission.
        kv_groups: layers whose caches differ share one pool of equal pages (`perfmodel.memory.paged_bytes`).
        prefix_cache: KV blocks of equal prefixes are shared.
        hybrid_prefix_cache: so are recurrent states, of which copies are then kept; a stated `prefix_cache` sets both.
        narrow_cache: checkpoints with fp8 or fp4 weights bring an fp8 KV cache.

    Host time, in seconds per step: step_host_time + step_host_per_seq * running sequences, plus step_host_parallel
    where a replica has more than one device; hidden behind the device where overlap_scheduling is on.
        front_end_token: further host seconds per token, where the scheduler's process streams answers to all clients.
        streaming_token: that of a process beside it, where tokens queue (not in pools). `OFFLINE` loads take neither.
        step_host_per_prompt: further host seconds per prompt in a step, where that process takes in the requests too.
        hands_on_late: the tokens of a step are processed while the next one runs, and clients get them when it ends.
        draft_host_times: (method of speculative decoding, host seconds per pass of its drafter), which the device waits
            for; methods not listed take no time that was measured apart from their kernels.
        launch_time: host seconds per kernel launched outside a captured graph; a step takes at least its launches.
        kernel_launches: (operator family, kernels launched per operator) where not 1; see `launches_of`.
        host_launches: (vendor, seconds): on devices of the vendor the host launches each operator of every step, which
            takes at least that long, unless whole_step_graphs says that a decode step is one graph, not parts.
        graph_capture: decode steps are replayed from captured graphs, up to graph_seqs sequences.
        graph_counts_tokens: graph_seqs counts the tokens of a step, of which drafts give a sequence several.
        eager_launch_time: host seconds per operator of a step where no graph is captured at all (`eager_launch`).
        no_graphs: vendors on whose devices the engine captures no graphs, whatever graph_capture says.
        request_time: seconds that a request spends in the front end, before and after the engine (HTTP, answers).
        request_parallel: further seconds where a replica has more than one device, whose ranks all receive the request.
        tokenize_time: further seconds per token of its prompt there, of text. Processes beside the engine's do so: it
            costs latency and no throughput.

    Experts: library_all_to_all: those on other nodes are reached by a library's collectives, unless routing says so.

    Kernels: kernel_source: see `KERNEL_SOURCES`. library_kernels: operator families whose kernels are libraries that
        all frameworks can call, so that the fastest measured ones serve. weight_only_experts: (first word of an
        architecture, share): most of the 16-bit peak that experts with weights of 4 bits reach on devices of that
        architecture, where the release expands them with instructions of the architecture before. integer_experts:
        (first word, B/s): most integer weights of 4 bits that experts read and expand there, where nobody chose the
        tiles of the kernel for the architecture. reference_experts: (first word, seconds): how much longer a layer's
        experts with floating-point weights of 4 bits take there in the release's reference kernel, which all models run
        but those of the architectures native_experts.

    Host memory: host_copied_first: what lies there is copied to the device before the operator that needs it starts.
        host_matrix_experts: experts that the host computes run on the matrix units of its CPU, batches of any size.
        host_hand_over: seconds per layer for which device and host wait for each other around such experts; NaN for
        that of `perfmodel.hardware.EXPERTS_HAND_OVER`.

    Pools: cut_pages: most B/s of KV cache per request where prefill and decode workers split its heads over different
        numbers of devices, so that pages cross in pieces of a few kB; infinite where the engine arranges them anew.

    Pipelines: whole_batch_decode: all running sequences go through the stages together, one stage at work at a time;
        else they are cut into micro-batches that fill all stages.

    Shards: pads_shards: shards that cut the blocks of a quantised checkpoint are padded, or matrices are not split; see
        `perfmodel.deployment.uneven_shards`. encoder_data_parallel: every device runs the whole vision encoder, so that
        TP need not divide its heads (vLLM --mm-encoder-tp-mode data, SGLang --mm-enable-dp-encoder).

    Communication: overlap: how it overlaps computation (`perfmodel.engines.ways`); overlap_share: part of the
        shorter stream that hides, NaN for the published one; overlap_always: steps overlap also where that makes them
        longer, as with engines that have no threshold.

    Published runs: synchronised: share of a closed loop's opening burst that still moves together when all lengths are
        equal. layer_split: runs that do not say how they are split over devices are split by layers (pipeline), not by
        tensor parallelism. quantised_peak_runs: runs at the highest rate that name no weight format use the narrowest
        floats of the device. pooled_as: engine file that workers of disaggregated deployments run in place of this one.

    Of the user: adjustments: factors on the parts of a step by device, from the user's own benchmarks. seqs_stated:
        whether `max_num_seqs` is the user's and no default (`changed` sets it).

    Names: since: first release; since_month: its (year, month); aliases: other names of the engine; builds: how
        versions of its images are called that give no number; fork_of: family that tables list a fork under; own_words:
        (name in the engine's own command line, setting), see `perfmodel.engines.own_words`. in_process: (field, value)
        of settings that differ where a program runs the engine in its own process, see `embedded`.
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
    front_end_token: float = 0.0
    streaming_token: float = 0.0
    step_host_per_prompt: float = 0.0
    hands_on_late: bool = False
    tokenize_time: float = 0.0
    admission: str = "grow"
    memory_rule: str = "total"
    step_host_parallel: float = 0.0
    request_parallel: float = 0.0
    launch_time: float = 0.0
    eager_launch_time: float = 0.0
    overlap: str = "none"
    overlap_share: float = NAN
    overlap_always: bool = False
    library_all_to_all: bool = False
    synchronised: float = 1.0
    reserve_parallel: float = 0.0
    sampler_warmup: tuple[tuple[str, float], ...] = ()
    kv_groups: bool = False
    hybrid_prefix_cache: bool = False
    micro_batch: float = NAN
    graph_seqs: float = NAN
    graph_counts_tokens: bool = False
    max_num_batched_tokens_floor: float = NAN
    budget_is_model_length: bool = False
    budget_split_over_ranks: bool = False
    narrow_cache: bool = False
    rank_balance: bool = False
    rank_balance_steps: float = NAN
    admission_watermark: float = 0.0
    admission_headroom: float = 0.0
    kernel_source: str = "framework"
    library_kernels: tuple[str, ...] = ()
    kernel_launches: tuple[tuple[str, float], ...] = ()
    weight_only_experts: tuple[tuple[str, float], ...] = ()
    integer_experts: tuple[tuple[str, float], ...] = ()
    reference_experts: tuple[tuple[str, float], ...] = ()
    native_experts: tuple[str, ...] = ()
    host_copied_first: bool = False
    host_matrix_experts: bool = False
    host_hand_over: float = NAN
    cut_pages: float = math.inf
    host_launches: tuple[tuple[str, float], ...] = ()
    whole_step_graphs: bool = False
    draft_host_times: tuple[tuple[str, float], ...] = ()
    no_graphs: tuple[str, ...] = ()
    layer_split: bool = False
    whole_batch_decode: bool = False
    pads_shards: bool = False
    encoder_data_parallel: bool = False
    quantised_peak_runs: bool = False
    pooled_as: str = ""
    since: tuple[int, ...] = ()
    since_month: tuple[int, int] = (0, 0)
    aliases: tuple[str, ...] = ()
    builds: tuple[str, ...] = ()
    fork_of: str = ""
    own_words: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    in_process: tuple[tuple[str, Any], ...] = field(default=(), repr=False)
    seqs_stated: bool = False
    tiers: tuple[Tier, ...] = field(default=(), repr=False)
    adjustments: tuple[Adjustment, ...] = ()
    facts: Mapping[str, Fact] = field(default_factory=dict, compare=False, repr=False)

    @property
    def mixes_prefill(self) -> bool:
        """True where prompts (prefill) and output tokens (decode) are computed in the same steps."""
        return not self.prefill_first and self.batching == "continuous"

    def draft_host(self, method: str) -> float:
        """Return the least seconds per pass of the drafter of a method of speculative decoding, 0 where not known."""
        return dict(self.draft_host_times).get(method, 0.0)

    def host_launch(self, vendor: str) -> float:
        """Return the least seconds per operator on devices of `vendor` if the host launches each one there, else 0."""
        whole = self.whole_step_graphs and self.graph_capture
        return 0.0 if whole else dict(self.host_launches).get(vendor, 0.0)

    def sampler_bytes(self, kind: str) -> float:
        """Return the bytes per row and vocabulary entry that warming up the sampler takes on devices of `kind`."""
        return dict(self.sampler_warmup).get(kind, 0.0)

    def captures(self, device: Device) -> bool:
        """Return whether decode steps on `device` are replayed from captured graphs."""
        return self.graph_capture and device.vendor not in self.no_graphs

    def eager_launch(self, device: Device) -> float:
        """Return the least seconds per operator of a step in eager mode on `device`; 0 where graphs are captured.

        Only GPUs wait for a host that launches; CPUs run the operators themselves, and other devices run programs that
        were compiled ahead. Hosts of newer nodes launch faster; one of unknown speed counts as that of an A100 node.
        """
        speed = device.launch_speed if math.isfinite(device.launch_speed) else 1.0
        return 0.0 if self.captures(device) or device.kind != "gpu" else self.eager_launch_time / speed

    def adjusted_by(self, adjustments: Iterable[Adjustment], model: str = "") -> Engine:
        """Return this engine with the factors of a user's own benchmarks, those of other engines left out.

        model: name of the model that is served; factors of other models hold in part.
        """
        mine = tuple(one.for_model(model) for one in adjustments if one.engine == self.family)
        return replace(self, adjustments=mine)

    def factor(self, device: Device, part: str) -> float:
        """Return the factor of the user's own benchmarks on a part of `PARTS` of work on `device`; 1 without any."""
        found = adjustment_on(device, self.adjustments)
        return 1.0 if found is None else found.factor(part)

    def own_runs(self, device: Device, model: str) -> int:
        """Return how many of the user's own runs of a model on `device` are behind the factors there; 0 for none."""
        found = adjustment_on(device, self.adjustments)
        return found.runs if found is not None and model in found.models else 0

    def own_spreads(self, device: Device) -> tuple[float, ...]:
        """Return the log standard deviation that own runs leave to each of `PARTS` on `device`; NaN without any."""
        found = adjustment_on(device, self.adjustments)
        spreads = {} if found is None else dict(found.spreads)
        return tuple(spreads.get(part, NAN) for part in PARTS)

    def limits(self, device: Device, *, max_model_len: float = NAN, offline: bool = False, devices: int = 1) -> Limits:
        """Return the limits that apply on `device` when the user sets none.

        max_model_len: tokens of the longest sequence served; matters only where `budget_is_model_length` is set.
        offline: whether it is batch use without a server, as with vLLM's `LLM`. devices: devices of the replica that
            compute each layer together.
        """
        tier = next((t for t in self.tiers if t.holds(device, devices)), None)
        chosen = dict(tier.values) if tier else {}
        scale = devices if tier and tier.per_device else 1

        def pick(name: str, scale: int = 1) -> float:
            """Return the limit `name`: that of the tier times `scale`, else the engine's own."""
            value = chosen.get(name)
            value = chosen.get(f"{name}_offline", value) if offline else value
            return getattr(self, name) if value is None else value * scale

        budget = pick("max_num_batched_tokens", scale)
        if self.budget_is_model_length and not math.isnan(max_model_len):
            budget = max(max_model_len, self.max_num_batched_tokens_floor)
        return Limits(
            max_num_batched_tokens=budget,
            max_num_seqs=pick("max_num_seqs", scale),
            gpu_memory_utilization=pick("gpu_memory_utilization"),
            graph_seqs=pick("graph_seqs"),
        )

    def behind_server(self) -> Engine:
        """Return this engine as a server runs it, also where a batch of requests is sent to it at once."""
        return replace(self, tiers=tuple(tier.of_servers() for tier in self.tiers))

    def changed(self, **settings: Any) -> Engine:
        """Return this engine with the settings that a user states; `UnknownName` for a name that is no field.

        A limit stated here holds on every device, whatever the defaults by device (`tiers`) or the length of sequences
        would give. A stated `prefix_cache` holds for recurrent states too.
        """
        unknown = [s for s in settings if s not in self.__dataclass_fields__]
        if unknown:
            raise UnknownName("engine setting", unknown[0], list(self.__dataclass_fields__))
        implied: dict[str, Any] = {"tiers": tuple(tier.without(set(settings)) for tier in self.tiers)}
        if "max_num_batched_tokens" in settings:
            implied["budget_is_model_length"] = False
        if "max_num_seqs" in settings:
            implied["seqs_stated"] = True
        if "prefix_cache" in settings:
            implied["hybrid_prefix_cache"] = settings["prefix_cache"]
        return replace(self, **{**implied, **settings})

    def embedded(self) -> Engine:
        """Return this engine as it is where a program runs it in its own process and streams from it, without a server.

        Defaults that servers set are lacking then, and what the program does with tokens may hold up the engine.
        """
        return replace(self.changed(**dict(self.in_process)), seqs_stated=self.seqs_stated) if self.in_process else self

    def configured(self, **settings: Any) -> Engine:
        """Do as `changed`, with settings from a user's file or command line."""
        return self.changed(**settings)
