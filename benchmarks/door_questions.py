"""Draw random configurations and loads, as questions that every command and function can be asked."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import perfmodel as pm

MODELS = (
    "meta-llama/Llama-3.1-8B",
    "meta-llama/Llama-3.1-70B",
    "Qwen/Qwen3-32B",
    "Qwen/Qwen3-30B-A3B",
    "openai/gpt-oss-120b",
    "deepseek-ai/DeepSeek-V3",
    "Qwen/Qwen3-Next-80B-A3B-Instruct",
    "google/gemma-3-27b-it",
)
#: Devices with measured tables, and others without.
DEVICES = (
    "h100-sxm",
    "h200-sxm",
    "b200-sxm",
    "a100-sxm-80gb",
    "l40s",
    "rtx-4090",
    "mi300x",
    "gaudi3",
    "tpu-v6e",
    "ascend-910b",
    "epyc-9755",
)
ENGINES = ("vllm", "vllm", "sglang", "trtllm", "generic", "llamacpp", "vllm-v0", "trtllm-v0", "orca")
DATASETS = ("sharegpt", "openorca", "azure-conv-2023", "mooncake-conversation")
SPREADS = ("", "", "fixed", "uniform:0.8-1.0", "trace")
ARRIVALS = ("single", "static", "closed", "closed", "open", "open", "offline")


@dataclass(frozen=True)
class Question:
    """One configuration and its load, in the words of the command line; blanks are left to the program.

    layout: degrees of parallelism and replicas. formats, settings: formats of numbers, and settings of the engine.
    lengths: isl and osl, or dataset; isl_dist, prefix_hit, cv. load: the number that says how requests arrive. memory:
    adapters and shares in host memory. site: PUE and price. bounds: SLO in milliseconds, by key. pools: workers and
    degrees of a prefill pool; empty for colocated replicas.
    """

    model: str
    device: str
    engine: str
    arrival: str
    layout: dict[str, int]
    formats: dict[str, str] = field(default_factory=dict)
    settings: dict[str, float] = field(default_factory=dict)
    lengths: dict[str, Any] = field(default_factory=dict)
    load: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    site: dict[str, float] = field(default_factory=dict)
    bounds: dict[str, float] = field(default_factory=dict)
    pools: dict[str, int] = field(default_factory=dict)


def questions(count: int, seed: int) -> Iterator[Question]:
    """Draw `count` questions."""
    dice = random.Random(seed)
    for _ in range(count):
        yield _question(dice)


def _question(dice: random.Random) -> Question:
    """Draw one question."""
    model = dice.choice(MODELS)
    experts = bool(pm.model(model).experts)
    arrival = dice.choice(ARRIVALS)
    pooled = arrival in ("closed", "open") and dice.random() < 0.25
    return Question(
        model=model,
        device=dice.choice(DEVICES),
        engine=dice.choice(ENGINES),
        arrival=arrival,
        layout=_layout(dice, experts, pooled),
        formats=_some(dice, weight=("bf16", "fp8", "int4"), act=("bf16",), kv=("bf16", "fp8")),
        settings=_some(
            dice, max_num_batched_tokens=(2048, 8192), max_num_seqs=(16, 64, 300), gpu_memory_utilization=(0.8, 0.95)
        ),
        lengths=_lengths(dice),
        load=_load(dice, arrival),
        memory=_memory(dice, experts),
        site=_some(dice, pue=(1.1, 1.4), usd_per_hour=(1.5, 4.0)),
        bounds=_some(dice, ttft_ms_p90=(200, 2000), tpot_ms=(30, 80), e2e_ms_p95=(9000,)),
        pools=_pools(dice) if pooled else {},
    )


def _some(dice: random.Random, **values: Sequence[Any]) -> dict[str, Any]:
    """Draw a value for about every third name; the other names are left out."""
    return {name: dice.choice(options) for name, options in values.items() if dice.random() < 0.35}


def _layout(dice: random.Random, experts: bool, pooled: bool) -> dict[str, int]:
    """Draw degrees of parallelism and replicas; only mixtures of experts get EP and attention DP."""
    found = {"tp": dice.choice((1, 2, 4, 8)), "pp": dice.choice((1, 1, 1, 2)), "ep": 1, "dp": 1, "cp": 1}
    if experts and dice.random() < 0.5:
        found["dp"] = dice.choice((1, 2, 4))
        found["ep"] = dice.choice((1, found["tp"] * found["dp"]))
    return {**found, "replicas": 1 if pooled else dice.choice((1, 1, 2, 3))}


def _lengths(dice: random.Random) -> dict[str, Any]:
    """Draw how long requests are: means with a spread, or a data set; and the gaps between arrivals."""
    kind = dice.random()
    found: dict[str, Any] = {"dataset": dice.choice(DATASETS)} if kind < 0.25 else {}
    if not found:
        found = {"isl": dice.choice((128, 1000, 3000, 12000)), "osl": dice.choice((1, 20, 200, 900))}
        found["isl_dist"] = dice.choice(SPREADS)
    if dice.random() < 0.3:
        found["prefix_hit"] = dice.choice((0.0, 0.3, 0.8))
    if dice.random() < 0.3:
        found["cv"] = dice.choice((0.5, 2.0))
    return found


def _load(dice: random.Random, arrival: str) -> dict[str, float]:
    """Draw the number that says how many requests arrive."""
    loads: dict[str, dict[str, float]] = {
        "static": {"batch": dice.choice((1, 8, 64))},
        "closed": {"concurrency": dice.choice((1, 6, 32, 200))},
        "open": {"request_rate_rps": dice.choice((0.05, 0.5, 3.0))},
        "offline": {"n_requests": dice.choice((20, 1000))},
    }
    return loads.get(arrival, {})


def _memory(dice: random.Random, experts: bool) -> dict[str, float]:
    """Draw adapters and shares in host memory, for some questions."""
    found: dict[str, float] = {}
    if dice.random() < 0.15:
        found = {"lora_rank": 16, "lora_count": 32}
    if dice.random() < 0.15:
        found["host_weights"] = 0.3
        found |= {"host_experts": 0.5} if experts else {}
    return found


def _pools(dice: random.Random) -> dict[str, int]:
    """Draw numbers of workers, and the tensor parallelism of a prefill worker."""
    workers = {"prefill_workers": dice.choice((1, 2)), "decode_workers": dice.choice((1, 3))}
    return {**workers, "prefill_tp": dice.choice((1, 2, 4, 8))}
