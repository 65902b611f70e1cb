"""How replicas schedule, as parameters: every published policy is a choice of these, and pools of replicas that follow
one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from hwdb import InputError
from perfmodel.simulator.table import StepTable

if TYPE_CHECKING:
    from perfmodel.engines import Engine, Limits

Admission = Literal["grow", "reserve", "contiguous", "power_of_two"]


@dataclass(frozen=True)
class Policy:
    """Scheduling and KV rules of a replica.

    max_num_batched_tokens: tokens a step. max_num_seqs: sequences at once. batching: `continuous` (Orca, OSDI 2022) or `static` (a
    batch runs until its last sequence ends and answers return with it; FasterTransformer). prefill_first: prompts run
    in steps of their own before decodes go on (vLLM before 2025, arXiv:2309.06180); otherwise both share steps.
    chunked: a prompt may be spread over steps (Sarathi-Serve, arXiv:2403.02310; DeepSpeed-FastGen SplitFuse,
    arXiv:2401.08671). kv_block: tokens a KV block. admission: `grow` (blocks as needed: PagedAttention), `reserve`
    (prompt and answer at admission), `contiguous` (longest sequence at admission), `power_of_two` (next power of two of
    the whole length). max_model_len: longest sequence served, which `contiguous` sets aside. watermark: share of blocks
    kept free at admission. headroom: share of what running sequences have still to make, kept free at admission
    (SGLang's new-token ratio). preemption: `recompute` or `swap`, of the sequence admitted last. prefix_cache: keep and
    share prompt blocks. request_time: s a request spends in the front end before it can be scheduled;
    serial_front_end: the front end takes them one by one, as a single-process server does.
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
    serial_front_end: bool = False

    def changed(self, **settings: object) -> Policy:
        """This policy with some settings replaced."""
        return replace(self, **settings)  # type: ignore[arg-type]


def of_engine(engine: Engine, limits: Limits, *, max_model_len: float = math.nan) -> Policy:
    """The policy that `engine` follows under `limits` (see `Engine.limits`); unknown numbers take `Policy` defaults."""
    plain = Policy()
    admission: Admission = "grow"
    if engine.admission in ("reserve", "contiguous"):
        admission = engine.admission  # type: ignore[assignment]
    return Policy(
        max_num_batched_tokens=_known(limits.max_num_batched_tokens, plain.max_num_batched_tokens),
        max_num_seqs=_known(limits.max_num_seqs, plain.max_num_seqs),
        batching="static" if engine.batching == "static" else "continuous",
        prefill_first=engine.prefill_first,
        chunked=engine.chunked_prefill,
        kv_block=max(int(_known(engine.kv_block, plain.kv_block)), 1),
        admission=admission,
        max_model_len=max_model_len,
        watermark=engine.admission_watermark,
        headroom=engine.admission_headroom,
        preemption="swap" if engine.preemption == "swap" else "recompute",
        prefix_cache=engine.prefix_cache,
        request_time=_known(engine.request_time, 0.0),
    )


def _known(value: float, otherwise: float) -> float:
    return otherwise if math.isnan(value) else value


@dataclass(frozen=True)
class Link:
    """What KV travels over between pools: B/s one way a replica, s a transfer, and its name for messages."""

    bandwidth: float
    latency: float = 0.0
    name: str = "link"


@dataclass(frozen=True)
class Pool:
    """Equal replicas. role: `both`, or `prefill` and `decode` of a disaggregated service. kv_tokens: tokens of KV one
    replica holds. kv_bytes: bytes a token of KV takes (all layers, all devices). link: towards the decode pool.
    swap_bandwidth: B/s between device and host, needed by `swap`."""

    table: StepTable
    policy: Policy
    kv_tokens: float
    replicas: int = 1
    role: Literal["both", "prefill", "decode"] = "both"
    kv_bytes: float = math.nan
    link: Link | None = None
    swap_bandwidth: float = math.nan
    name: str = "pool"

    def __post_init__(self) -> None:
        """Refuse combinations that mean nothing."""
        policy = self.policy
        if self.replicas < 1:
            raise InputError(f"{self.name}: {self.replicas} replicas; give at least 1")
        if not self.kv_tokens >= policy.kv_block:
            raise InputError(f"{self.name}: no room for KV ({self.kv_tokens:g} tokens); use more or larger devices")
        if not (policy.max_num_batched_tokens >= 1 and policy.max_num_seqs >= 1):
            raise InputError(f"{self.name}: token budget and max_num_seqs must be 1 or more")
        if policy.batching == "static" and self.role != "both":
            raise InputError(f"{self.name}: static batches cannot be disaggregated; use continuous batching")
        if policy.preemption == "swap" and not self.swap_bandwidth > 0:
            raise InputError(f"{self.name}: swapping needs the bandwidth to the host; give swap_bandwidth")
        if (self.link is not None or policy.preemption == "swap") and not self.kv_bytes > 0:
            raise InputError(f"{self.name}: moving KV needs its size; give kv_bytes a token")
