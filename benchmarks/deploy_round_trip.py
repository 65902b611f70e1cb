"""Export random plans to random targets and read them back: the deployment read has to be the one exported.

    python -m benchmarks.deploy_round_trip          # 200 plans
    python -m benchmarks.deploy_round_trip 1000 7   # so many, with this seed

The plans are random but legal: models, devices, formats, degrees, limits, pools and releases of engines.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

from hwdb import InputError
from perfmodel import model
from perfmodel.dtypes import storage
from perfmodel.models import UNQUANTISED
from search.deploy import TARGETS, Launch, Pool, export, read_back
from search.deploy.engine_settings.checkpoints import checkpoint
from search.deploy.engine_settings.parsers import releases
from search.deploy.engine_settings.rules import conflicts
from search.deploy.engine_settings.templates import template
from search.deploy.launch import DECODE, PREFILL, SERVE, SWITCHES, Check

MODELS = (
    "meta-llama/Llama-3.1-8B-Instruct",
    "meta-llama/Llama-3.1-70B-Instruct",
    "Qwen/Qwen3-32B",
    "Qwen/Qwen3-30B-A3B",
    "Qwen/Qwen3-235B-A22B",
    "openai/gpt-oss-120b",
    "deepseek-ai/DeepSeek-V3",
    "mistralai/Mistral-Small-3.2-24B-Instruct-2506",
)
DEVICES = ("h100-sxm", "h200-sxm", "b200-sxm", "a100-sxm-80gb", "l40s", "mi300x", "rtx-4090", "h20")
#: Engines that a target takes.
ENGINES = {
    "ray-serve": ("vllm",),
    "kserve": ("vllm",),
    "dynamo": ("vllm", "sglang", "trtllm"),
    "llm-d": ("vllm", "sglang"),
    "kubernetes": ("vllm", "sglang", "trtllm", "llamacpp", "mindie"),
    "compose": ("vllm", "sglang", "trtllm", "llamacpp", "mindie"),
}
#: Formats of weights that an engine may be asked for, beside the model's own.
FORMATS = {
    "vllm": ("fp8", "int4"),
    "sglang": ("fp8", "int4"),
    "trtllm": ("fp8", "fp4"),
    "llamacpp": ("q8_0", "q4_k_m"),
    "mindie": ("int8",),
}
CACHES = {"vllm": ("fp8",), "sglang": ("fp8",), "trtllm": ("fp8",), "llamacpp": ("q8_0",), "mindie": ()}
TRIES = 200


def random_pool(rng: random.Random, engine: str, name: str, role: str, kv: str) -> Pool:
    """Return a pool of one engine with a random layout and random limits. kv: format of its KV cache."""
    spec = model(name)
    own = spec.weight_format
    tp, pp, dp = rng.choice((1, 2, 4, 8)), rng.choice((1, 1, 2)), rng.choice((1, 1, 2, 4))
    dp = dp if spec.experts and engine != "llamacpp" else 1
    tp = 1 if engine == "trtllm" and dp > 1 else tp
    pp = 1 if dp > 1 or (engine == "llamacpp" and tp > 1) else pp
    spread = tp * dp
    weight = rng.choice((own, *(f for f in FORMATS[engine] if storage(f).bits < storage(own).bits)))
    if engine == "trtllm" and kv in UNQUANTISED:  # it keeps the cache of the checkpoint
        kv = model(checkpoint(name, weight, engine).name).kv_format
    ep = rng.choice((1, spread)) if spec.experts and engine != "llamacpp" else 1
    balanced = engine in ("sglang", "trtllm") and dp > 1 and role == SERVE and rng.random() < 0.5
    return Pool(
        role=role,
        device=rng.choice(DEVICES) if engine != "mindie" else rng.choice(("ascend-910b2", "ascend-910c")),
        replicas=rng.randint(1, 5),
        tp=tp,
        pp=pp,
        dp=dp,
        ep=ep,
        weight=weight,
        kv=kv,
        max_num_batched_tokens=rng.choice((1024, 2048, 8192, 16384)),
        max_num_seqs=rng.choice((16, 64, 256, 1024)),
        gpu_memory_utilization={"llamacpp": 1.0, "mindie": 0.8}.get(engine, rng.choice((0.8, 0.85, 0.9, 0.92))),
        chunked_prefill=rng.random() < 0.8 if engine in ("vllm", "trtllm") else engine != "mindie",
        prefix_cache=rng.random() < 0.7 if engine != "mindie" else False,
        graph_capture=rng.random() < 0.8 if engine in ("vllm", "sglang", "trtllm") else engine != "mindie",
        rank_balance=balanced,
        rank_balance_steps=rng.choice((None, 10, 60)) if balanced else None,
    )


def random_launch(rng: random.Random, target: str) -> Launch:
    """Return a random launch that the target holds; random ones are thrown away until one is legal."""
    for _ in range(TRIES):
        engine = rng.choice(ENGINES.get(target, (target,)))
        name, known = rng.choice(MODELS), releases(engine)
        version = rng.choice(known).version if known else "unknown"
        kv = rng.choice((model(name).kv_format, *CACHES[engine]))
        pooled = engine in ("vllm", "sglang", "trtllm") and rng.random() < 0.3
        pools = [random_pool(rng, engine, name, role, kv) for role in ((PREFILL, DECODE) if pooled else (SERVE,))]
        pools = [Pool(**{**vars(p), **{s: getattr(pools[0], s) for s in SWITCHES}}) for p in pools]
        if engine == "sglang" and not template(engine).has_flag("rank_balance", version):
            pools = [replace(p, rank_balance=False, rank_balance_steps=None) for p in pools]
        check = Check(1024.0, 256.0, rate=rng.choice((2.0, 12.5)), bounds={"ttft_ms_p90": 500.0, "tpot_ms": 50.0})
        launch = Launch(name, engine, version, tuple(pools), rng.choice((4096, 8192, 16384)), check=check)
        if any(conflicts(launch, pool, model(name), {}) for pool in pools):
            continue
        try:
            export(launch, target)
        except InputError:  # a layout or format that the target cannot hold, which it says
            continue
        return launch
    raise RuntimeError(f"no legal plan for {target} in {TRIES} tries")


def differences(launch: Launch, target: str, folder: Path) -> list[str]:
    """Export a launch, read it back, and return what differs, a sentence each."""
    found = export(launch, target)
    path = folder / f"launch.{found.suffix}"
    path.write_text(found.text)
    read = read_back(path)
    told = [*read.unknown, *read.conflicts]
    for field in ("model", "engine", "version", "max_model_len", "pools"):
        one, other = getattr(launch, field), getattr(read.launch, field)
        told += [f"{field}: {one} became {other}"] if one != other else []
    return told


def main(count: int = 200, seed: int = 0) -> int:
    """Try `count` plans over all targets, print what differs and the count by target; return the number that differ."""
    rng, wrong, tried = random.Random(seed), 0, Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for i in range(count):
            target = TARGETS[i % len(TARGETS)]
            launch = random_launch(rng, target)
            told = differences(launch, target, Path(folder))
            tried[f"{target} ({launch.engine})"] += 1
            wrong += bool(told)
            for text in told:
                print(f"{i} {target}: {text}")
    print(f"{count} plans, {wrong} differ after export and reading back")
    for name, number in sorted(tried.items()):
        print(f"  {name}: {number}")
    return wrong


if __name__ == "__main__":
    sys.exit(1 if main(*map(int, sys.argv[1:])) else 0)
