"""How replicas schedule and use their KV cache, as parameters; and pools of replicas that follow one such policy.

Every published scheduling policy that the simulator knows is a choice of the parameters of `Policy`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from hwdb import InputError
from perfmodel.simulator.replica_pools.step_power import DevicePower
from perfmodel.simulator.replica_pools.table import StepTable
from perfmodel.simulator.request_traffic.emission import Emission

if TYPE_CHECKING:
    from perfmodel.engines import Engine, Limits

Admission = Literal["grow", "reserve", "contiguous", "power_of_two"]
Role = Literal["both", "prefill", "decode"]

#: Most sequences that a replica runs at once, whatever its policy allows: step tables reach no further, and the loop's
#: arrays have this many columns. It is the largest cap of a known engine (SGLang clamps max_running_requests to
#: 2048-4096).
MAX_SEQS = 4096


@dataclass(frozen=True)
class Policy:
    """Holds the scheduling and KV-cache rules of a replica.

    Attributes:
        max_num_batched_tokens: Token budget per step.
        max_num_seqs: Sequences that run at once; at most `MAX_SEQS` do.
        batching: `continuous` (Orca, OSDI 2022), or `static`: a batch runs until its last sequence ends, and all
            outputs return then (FasterTransformer).
        prefill_first: Prompts are computed in steps of their own, before decodes go on (vLLM before 2025,
            arXiv:2309.06180). Otherwise one step may hold prompts and decodes together.
        chunked: A prompt may be spread over several steps (Sarathi-Serve, arXiv:2403.02310; DeepSpeed-FastGen's
            SplitFuse, arXiv:2401.08671).
        kv_block: Tokens per KV block.
        admission: What is reserved at admission. `grow`: blocks are added as the sequence grows (PagedAttention);
            `reserve`: prompt and output; `contiguous`: the longest sequence served; `power_of_two`: prompt and output,
            rounded up to a power of two.
        max_model_len: Tokens of the longest sequence served, which `contiguous` reserves; NaN: no limit.
        watermark: Share of all blocks kept free at admission.
        headroom: Share of the output tokens that running sequences have still to make, kept free at admission (SGLang's
            new-token ratio).
        preemption: What happens to the sequence admitted last when KV blocks run out: `recompute` or `swap`.
        prefix_cache: Keep the blocks of prompts and let later requests use them.
        request_time: Seconds that a request spends in the front end before it can be scheduled.
        tokenize_time: Further seconds per token of its prompt.
        serial_front_end: The front end takes requests one by one, as a single-process server does.
        schedules_ahead: The scheduler plans the next step while the device runs one, so that a request that arrives
            meanwhile is in the step after the next.
        prompts_together: Prompts that have to wait before the first of them begins, while sequences decode: one per
            rank of attention data parallelism where the engine balances ranks.
        hold_steps: Decode steps that the first of them waits for the others at most; NaN: no limit.
        hands_on_late: Clients get the tokens of a step when the next one ends, during which they are processed; at once
            where no step follows.
        streaming_token: Seconds per token of the process beside the engine that streams all answers of a replica, one
            token after the other; 0: none is a limit. Pools of prefill and decode replicas have a gateway instead.
    """

    max_num_batched_tokens: float = 8192
    max_num_seqs: float = 256
    batching: Literal["continuous", "static"] = "continuous"
    prefill_first: bool = False
    chunked: bool = True
    kv_block: int = 16
    admission: Admission = "grow"
    max_model_len: float = math.nan
    watermark: float = 0.0
    headroom: float = 0.0
    preemption: Literal["recompute", "swap"] = "recompute"
    prefix_cache: bool = False
    request_time: float = 0.0
    tokenize_time: float = 0.0
    serial_front_end: bool = False
    schedules_ahead: bool = False
    prompts_together: int = 1
    hold_steps: float = math.nan
    hands_on_late: bool = False
    streaming_token: float = 0.0

    def changed(self, **settings: Any) -> Policy:
        """Return this policy with some settings replaced."""
        return replace(self, **settings)


@dataclass(frozen=True)
class Affinity:
    """Holds the thresholds of the router `prefix_aware`; defaults are those of SGLang's router (its documentation).

    Attributes:
        min_match_share: Share of a prompt that a replica's prefix cache must hold to take the request; where none holds
            more, the shortest queue takes it.
        uneven_requests, uneven_ratio: Queues are uneven, and the shortest takes the request, where the longest has more
            than `uneven_requests` requests beyond the shortest, and more than `uneven_ratio` times as many.
    """

    min_match_share: float = 0.3
    uneven_requests: float = 64.0
    uneven_ratio: float = 1.5

    def __post_init__(self) -> None:
        """Raise `InputError` for thresholds that mean nothing."""
        if not 0 <= self.min_match_share <= 1:
            raise InputError(f"min_match_share is {self.min_match_share:g}; give a share from 0 to 1")
        if not (self.uneven_requests >= 0 and self.uneven_ratio >= 1):
            raise InputError("uneven_requests must be 0 or more, and uneven_ratio 1 or more")


def of_engine(engine: Engine, limits: Limits, *, max_model_len: float = math.nan) -> Policy:
    """Return the policy that `engine` follows under `limits` (see `Engine.limits`); unknown limits take `Policy`
    defaults.
    """
    plain = Policy()
    return Policy(
        max_num_batched_tokens=_known(limits.max_num_batched_tokens, plain.max_num_batched_tokens),
        max_num_seqs=_known(limits.max_num_seqs, plain.max_num_seqs),
        batching="static" if engine.batching == "static" else "continuous",
        prefill_first=engine.prefill_first,
        chunked=engine.chunked_prefill,
        kv_block=max(int(_known(engine.kv_block, 1)), 1),  # without blocks: token by token, as in the closed form
        admission=_admission(engine),
        max_model_len=max_model_len,
        watermark=engine.admission_watermark,
        headroom=engine.admission_headroom,
        preemption="swap" if engine.preemption == "swap" else "recompute",
        prefix_cache=engine.prefix_cache,
        request_time=_known(engine.request_time, 0.0),
        tokenize_time=engine.tokenize_time,
        schedules_ahead=engine.overlap_scheduling,
        hold_steps=engine.rank_balance_steps,
        hands_on_late=engine.hands_on_late,
        streaming_token=engine.streaming_token,
    )


def _admission(engine: Engine) -> Admission:
    """Return the rule by which `engine` reserves KV cache at admission, one of the values of `Policy.admission`."""
    if engine.admission == "reserve":
        return "reserve"
    return "contiguous" if engine.admission == "contiguous" else "grow"


def _known(value: float, otherwise: float) -> float:
    """Return `value`, or `otherwise` where `value` is NaN."""
    return otherwise if math.isnan(value) else value


@dataclass(frozen=True)
class Link:
    """Describes the network link that KV cache crosses from the prefill pool to the decode pool.

    Attributes:
        bandwidth: B/s, one way, for the bytes that `Pool.kv_bytes` counts.
        latency: Seconds per transfer.
        name: What error messages call it.
    """

    bandwidth: float
    latency: float = 0.0
    name: str = "link"


@dataclass(frozen=True)
class Pool:
    """Describes equal replicas behind one router.

    Attributes:
        table: Step times of a replica.
        policy: How a replica schedules.
        kv_tokens: KV capacity of a replica, in tokens.
        replicas: Number of replicas.
        role: `both`, or `prefill` and `decode` of a disaggregated service.
        kv_bytes: Bytes of KV cache per token that cross `link` or the host link. Where every device of a replica has a
            link of its own: the bytes on one device, as its shards move side by side.
        link: Link towards the decode pool; prefill pools need one.
        swap_bandwidth: B/s between device and host memory; `preemption="swap"` needs it.
        name: What error messages call the pool.
        power: Watts of its devices; None where they are not asked for.
        emission: Tokens that a decode step yields, with speculative decoding several.
    """

    table: StepTable
    policy: Policy
    kv_tokens: float
    replicas: int = 1
    role: Role = "both"
    kv_bytes: float = math.nan
    link: Link | None = None
    swap_bandwidth: float = math.nan
    name: str = "pool"
    power: DevicePower | None = field(default=None, compare=False, repr=False)
    emission: Emission = field(default_factory=Emission)

    def __post_init__(self) -> None:
        """Raise `InputError` for combinations that mean nothing."""
        policy = self.policy
        if self.replicas < 1:
            raise InputError(f"{self.name}: {self.replicas} replicas; give at least 1")
        if not self.kv_tokens >= policy.kv_block:
            raise InputError(
                f"{self.name}: the KV cache holds {self.kv_tokens:g} tokens, not one block; use more or larger devices"
            )
        if not (policy.max_num_batched_tokens >= 1 and policy.max_num_seqs >= 1):
            raise InputError(f"{self.name}: max_num_batched_tokens and max_num_seqs must be 1 or more")
        if policy.batching == "static" and self.role != "both":
            raise InputError(f"{self.name}: static batches cannot be disaggregated; use continuous batching")
        if policy.preemption == "swap" and not self.swap_bandwidth > 0:
            raise InputError(f"{self.name}: swapping needs the bandwidth to the host; give swap_bandwidth")
        if (self.link is not None or policy.preemption == "swap") and not self.kv_bytes > 0:
            raise InputError(f"{self.name}: moving KV needs its size; give kv_bytes, bytes per token")

    @property
    def kv_blocks(self) -> int:
        """Return the number of KV blocks of a replica."""
        return int(self.kv_tokens) // self.policy.kv_block
