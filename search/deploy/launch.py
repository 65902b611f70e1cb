"""Define what is launched: the pools of a deployment with every setting resolved, and the check that goes with it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

#: Roles of a pool: `serve` runs prefill and decode, the others one of them.
SERVE, PREFILL, DECODE = "serve", "prefill", "decode"
#: Switches of an engine that a pool states.
SWITCHES = ("chunked_prefill", "prefix_cache", "graph_capture", "rank_balance")


@dataclass(frozen=True)
class Pool:
    """Equal replicas of one engine, as a plan states them.

    role: `serve`, `prefill` or `decode`. device: name in the hardware database; "" where it is not known. replicas:
    of this pool. tp to kvp: degrees of parallelism. weight, kv: storage formats of weights and KV cache.
    max_num_batched_tokens: per rank of attention data parallelism. max_num_seqs: as the engine's own flag counts;
    None for either: the engine's default. gpu_memory_utilization: share of device memory. chunked_prefill,
    prefix_cache, graph_capture: switches of the engine. rank_balance: prompts wait until each rank of attention data
    parallelism has one, for at most rank_balance_steps steps; None: for as long as the engine waits by default.
    speculation: method of speculative decoding, "" for none. drafts: draft tokens per step. draft_model: checkpoint
    that drafts, "" where none is named.
    """

    role: str = SERVE
    device: str = ""
    replicas: int = 1
    tp: int = 1
    pp: int = 1
    ep: int = 1
    dp: int = 1
    cp: int = 1
    kvp: int = 1
    weight: str = "bf16"
    kv: str = "bf16"
    max_num_batched_tokens: int | None = None
    max_num_seqs: int | None = None
    gpu_memory_utilization: float | None = None
    chunked_prefill: bool = True
    prefix_cache: bool = True
    graph_capture: bool = True
    rank_balance: bool = False
    rank_balance_steps: int | None = None
    speculation: str = ""
    drafts: int = 0
    draft_model: str = ""

    @property
    def devices(self) -> int:
        """Return the devices of one replica."""
        return self.tp * self.pp * self.dp * self.cp


@dataclass(frozen=True)
class Check:
    """The load and the SLO that a benchmark has to try: lengths in tokens, rate in requests per second.

    bounds: SLO keys such as `ttft_ms_p90` -> milliseconds. concurrency: requests in flight, where no rate is given.
    expected: the same keys -> what the plan estimates, in milliseconds.
    """

    input_tokens: float
    output_tokens: float
    rate: float | None = None
    concurrency: float | None = None
    bounds: dict[str, float] = field(default_factory=dict)
    expected: dict[str, float] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Launch:
    """A deployment to launch, or one that was read back.

    model: its name as requests call it. engine: family. version: release of the engine whose flags are used.
    max_model_len: most tokens of a request; None for the model's. pools: one, or prefill and decode. least, most:
    bounds of autoscaling, in replicas. per_replica: requests in flight per replica at the planned load. check: what a
    benchmark tries. words: the deployment in words. chance: chance that the SLO holds, 0 to 1. adapters: (rank, slots
    in device memory) of LoRA adapters. notes: what no flag says, in sentences.
    """

    model: str
    engine: str
    version: str
    pools: tuple[Pool, ...]
    max_model_len: int | None = None
    least: int | None = field(default=None, compare=False)
    most: int | None = field(default=None, compare=False)
    per_replica: float | None = field(default=None, compare=False)
    check: Check | None = field(default=None, compare=False)
    words: str = field(default="", compare=False)
    chance: float | None = field(default=None, compare=False)
    adapters: tuple[int, int] | None = field(default=None, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def main(self) -> Pool:
        """Return the pool that decodes: the only one, or that of the role `decode`."""
        return self.pools[-1]

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat row per pool."""
        shared = {"model": self.model, "engine": self.engine, "engine_version": self.version}
        return [{**shared, **{f.name: getattr(pool, f.name) for f in fields(pool)}} for pool in self.pools]
