"""Send random requests to the server's operations, and count answers, refusals and crashes.

Run as `python -m benchmarks.serve_fuzz`. A request is drawn from the schema of its operation, then damaged: a field is
dropped, renamed, or gets a value of another type, a text with odd characters, a path, a huge number. An outcome counts
as a crash where it is an exception, an answer that is no JSON, a status other than 200 and 422, or a message without
words or with a traceback.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from search.options import inputs
from search.service import Bounds, InProcess, Outcome, called

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SMALL = {
    "model": {"name": "meta-llama/Llama-3.1-8B"},
    "workload": {"input_tokens": 300, "output_tokens": 30, "request_rate_rps": 2},
    "slo": {"ttft_ms_p95": 500},
    "hardware": {"devices": ["l40s"]},
    "search": {"tp": [1], "pp": 1},
}
FLEET = """
[fleet]
[[fleet.class]]
name = "chat"
request_rate_rps = 3
[[fleet.option]]
name = "one"
device = "h100-sxm"
throughput_rps = [1]
"""
ROW = {"rank": 1, "candidate": "1 x 1 l40s", "usd_per_hour": 0.79, "device": "l40s"}
#: Operation -> a request that is answered.
GOOD: dict[str, dict[str, Any]] = {
    "estimate": {"model": "meta-llama/Llama-3.1-8B", "device": "l40s", "tp": [1, 2], "concurrency": 4},
    "deployment": {
        "model": "meta-llama/Llama-3.1-8B",
        "device": "l40s",
        "prefill_workers": 1,
        "decode_workers": 1,
        "lora_rank": 16,
        "speculation": "ngram",
        "slo": ["ttft_ms_p95=500"],
        "pue": 1.2,
    },
    "plan": {"scenario": SMALL, "top": 2},
    "whatif": {"scenario": SMALL, "set": ["slo.ttft_ms_p95=300"]},
    "compare": {"before": [ROW], "after": [{**ROW, "usd_per_hour": 1.0}]},
    "fleet": {"scenario": FLEET},
    "report": {"scenario": SMALL, "form": "md"},
    "models": {"like": "llama"},
    "hardware": {"kind": "gpu"},
}
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 0.5, 1e308, -1e308, 10**30, 1e-300, [], {}, [[]], [None], [1, "a"], {"a": {}}),
    *("", " ", "x", "h100", "h100-sxm", "int4", "fp8", "nan", "inf", "\x00", "\ud800", "\u202e", "é" * 50, "x" * 5000),
    *("/etc/passwd", "../../etc/passwd", "~/.ssh/id_rsa", "C:\\windows", "file:///etc/passwd", "config.json", "a.toml"),
    *("slo.ttft_ms_p95=1", "a.b.c*=2", "workload.trace=/etc/passwd", "workload.request_rate_rps=1:5:3", "=", "x=1:2:0"),
    *("[model]\nname = 'x'", "{{7*7}}", "<script>alert(1)</script>", "'; DROP TABLE plans; --", "${jndi:ldap://x}"),
)


def damaged(given: Any, random_of: random.Random, fields: list[str], depth: int = 0) -> Any:
    """Return a request with one thing wrong. fields: names that a request may have."""
    if isinstance(given, dict) and given and random_of.random() < 0.85:
        at = random_of.choice(list(given))
        turn = random_of.random()
        if depth < 3 and turn < 0.5 and isinstance(given[at], dict | list):
            return {**given, at: damaged(given[at], random_of, list(given[at]) if given[at] else [], depth + 1)}
        if turn < 0.62:
            return {key: value for key, value in given.items() if key != at}
        if turn < 0.8:
            return {**given, at: random_of.choice(ODD)}
        if turn < 0.95 and fields:
            return {**given, str(random_of.choice(fields)): random_of.choice(ODD)}
        return {**given, str(random_of.choice(ODD))[:60]: random_of.choice(ODD)}
    if isinstance(given, list) and given and random_of.random() < 0.85:
        places = list(range(len(given)))
        at = random_of.choice(places)
        return [random_of.choice(ODD) if place == at else value for place, value in zip(places, given, strict=True)]
    return random_of.choice(ODD)


def requests(count: int, seed: int, names: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield (operation, request), one to three things wrong with each."""
    from search.service import OPERATIONS

    random_of = random.Random(seed)
    for _ in range(count):
        name = random_of.choice(names)
        if name in ("estimate", "deployment") and random_of.random() < 0.5:
            yield name, plausible(random_of) if name == "estimate" else described(random_of)
            continue
        fields = list(OPERATIONS[name].body.model_fields)
        given: Any = json.loads(json.dumps(GOOD[name]))
        for _ in range(random_of.randint(1, 3)):
            given = damaged(given, random_of, fields)
        yield name, given


def plausible(random_of: random.Random) -> dict[str, Any]:
    """Return an estimate of values that are possible by themselves, whatever they are together."""
    devices = ["h100-sxm", "l40s", "mi300x", "rtx-4090", "b200-sxm", "epyc-9654", "tpu-v5e", "gaudi3", "v100-sxm2-32gb"]
    models = ["llama-3.1-8b", "qwen3-30b-a3b", "deepseek-ai/DeepSeek-V3", "gpt-oss-20b", "mamba-2.8b", "gemma-3-27b-it"]
    fields = {
        "tp": [1, 2, 3, 8, 64],
        "pp": [1, 2, 80],
        "ep": [1, 4, 16],
        "dp_attention": [1, 2, 8],
        "cp": [1, 2],
        "replicas": [1, 7],
        "isl": [1, 100, 30_000, 1e6],
        "osl": [1, 2, 500, 1e5],
        "prefix_hit": [0, 0.5, 1],
        "weights": ["bf16", "fp8", "int4", "q4_k_m", "fp4"],
        "kv": ["bf16", "fp8", "int4"],
        "max_num_seqs": [1, 256],
        "max_num_batched_tokens": [1, 64, 8192],
        "power_cap_w": [1, 200, 1e4],
        "engine": ["vllm", "sglang", "trtllm", "llama.cpp", "mindie", "tgi"],
        "slo": [{"ttft_ms_p95": 500}, {"tpot_ms": 1e-3}],
        "explain": [0, 3],
    }
    load = random_of.choice(["concurrency", "batch", "request_rate_rps"])
    chosen = {name: random_of.choice(fields[name]) for name in random_of.sample(list(fields), 5)}
    lists = {name: random_of.sample(fields[name], 2) for name in ("tp", "isl") if random_of.random() < 0.3}
    return {
        "model": random_of.choice(models),
        "device": random_of.choice([random_of.choice(devices), random_of.sample(devices, 2)]),
        load: random_of.choice([1, 3, 100, 1e5, 1e-3]),
        **chosen,
        **lists,
    }


def described(random_of: random.Random) -> dict[str, Any]:
    """Return a deployment with three inputs at random, of values that are possible by themselves."""
    words = {
        "speculation": ["ngram", "eagle3", "mtp", "none"],
        "kv_link": ["node", "network", "rack"],
        "all_to_all": ["normal", "low_latency", "collective"],
        "two_batch_overlap": ["on", "off", "auto"],
        "slo_at": ["p50", "p95"],
        "prices": ["spot", "reserved", "cheapest"],
        "engine": ["sglang", "trtllm", "llama.cpp"],
        "host_cpu": ["epyc-9654"],
        "prefill_device": ["h100-sxm", "mi300x"],
        "dataset": ["sharegpt", "azure-conv-2023"],
    }
    values = {bool: [True, False], int: [1, 2, 4, 64], float: [0.1, 0.5, 1.0, 30.0, 5000.0]}
    usable = [one for one in inputs() if not one.several and (one.name in words or one.kind in values)]
    chosen = {
        one.name: random_of.choice(words.get(one.name) or values[one.kind]) for one in random_of.sample(usable, 6)
    }
    pools = (
        {"prefill_workers": 1, "decode_workers": 2} if any(n.startswith(("prefill", "kv_link")) for n in chosen) else {}
    )
    models = ["llama-3.1-8b", "qwen3-30b-a3b", "deepseek-ai/DeepSeek-V3", "gpt-oss-20b"]
    return {
        "model": random_of.choice(models),
        "device": random_of.choice(["h100-sxm", "l40s", "b200-sxm"]),
        **pools,
        **chosen,
    }


def verdict(ask: Callable[[], Outcome]) -> str:
    """Return `answered`, `refused`, or what the crash is."""
    try:
        found = ask()
        content = json.loads(found.text)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
        return f"crash: {type(error).__name__}: {error}"[:300]
    if found.status == 200:
        return "answered"
    message = str(content.get("error", {}).get("message", ""))
    if found.status != 422 or len(message) < 10 or "Traceback" in message:
        return f"crash: {found.status}: {message}"[:300]
    return "refused"


def main() -> int:
    """Send the requests and print the counts; the exit code is 1 where anything crashed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--operations", nargs="*", default=[name for name in GOOD if name != "report"])
    parser.add_argument("--workers", action="store_true", help="ask real workers, with their guard and bounds")
    asked = parser.parse_args()
    bounds = Bounds(workers=1)
    if asked.workers:
        from search.service import Workers

        door: Any = Workers(bounds)
    else:
        door = InProcess(bounds)
    counts: Counter[tuple[str, str]] = Counter()
    crashes = []
    for name, given in requests(asked.count, asked.seed, asked.operations):
        said = verdict(lambda name=name, given=given: called(door, name, given))
        counts[name, said.partition(":")[0]] += 1
        if said.startswith("crash"):
            crashes.append((name, given, said))
    door.close()
    print("operation,answered,refused,crashes")
    for name in asked.operations:
        print(f"{name},{counts[name, 'answered']},{counts[name, 'refused']},{counts[name, 'crash']}")
    for name, given, said in crashes[:20]:
        print(f"{name}: {said}\n  {json.dumps(given)[:500]}")
    return 1 if crashes else 0


if __name__ == "__main__":
    raise SystemExit(main())
