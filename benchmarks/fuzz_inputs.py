"""Valid inputs of every kind that people hand over.

An input is the command line and the files of one run, as plain data (dicts and lists) where a file has a structure.
`benchmarks.fuzz_damage` damages them.
"""

from __future__ import annotations

import json
import string
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.llama_config import LLAMA_SHAPE

ROOT = Path(__file__).resolve().parents[1]
MODEL = "meta-llama/Llama-3.1-8B"
CONFIG = {
    **LLAMA_SHAPE,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192},
}
MOE = {
    **CONFIG,
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "sliding_window": 4096,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}
MLA = {
    **CONFIG,
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "n_routed_experts": 64,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 2048,
    "first_k_dense_replace": 3,
}


@dataclass
class Input:
    """One run: its kind, the words of its command line, and its files by name (text, bytes, or data with a structure).

    Words and names are relative to the folder of the run. writers: name -> how the data of a file becomes text.
    """

    kind: str
    words: list[str]
    files: dict[str, Any] = field(default_factory=dict)
    writers: dict[str, Callable[[Any], str]] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write the files into `folder`."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            made = self.writers[name](content) if name in self.writers else content
            path.write_bytes(made if isinstance(made, bytes) else made.encode("utf-8", "surrogatepass"))


class Literal(str):
    """A text that stands in a file as it is, without quotes: a number of 400 digits, `nan`."""


def toml(value: Any, path: Sequence[str] = ()) -> str:
    """Return data as TOML: plain values first, then tables."""
    plain = {k: v for k, v in value.items() if not isinstance(v, dict) and not _tables(v)}
    lines = [f"{_key(k)} = {inline(v)}" for k, v in plain.items()]
    for key, inner in value.items():
        name = ".".join(map(_key, (*path, key)))
        if isinstance(inner, dict):
            lines += [f"[{name}]", toml(inner, (*path, key))]
        elif _tables(inner):
            lines += [f"[[{name}]]\n{toml(item, (*path, key))}" for item in inner]
    return "\n".join(lines) + "\n"


def _tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _key(key: str) -> str:
    plain = key and all(c in string.ascii_letters + string.digits + "-_" for c in key)
    return key if plain else json.dumps(key)


def inline(value: Any) -> str:
    if isinstance(value, Literal):
        return str(value)
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {inline(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    if value is None:
        return '""'
    return json.dumps(value, ensure_ascii=False).replace("NaN", "nan").replace("Infinity", "inf")


def as_json(value: Any) -> str:
    """Return data as JSON; a `Literal` stands as it is."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(k))}: {as_json(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_json, value)) + "]"
    return str(value) if isinstance(value, Literal) else json.dumps(value)


def json_lines(rows: Any) -> str:
    """Return a list as one JSON text per line."""
    return "".join(as_json(row) + "\n" for row in rows) if isinstance(rows, list) else as_json(rows)


def csv_text(rows: Any) -> str:
    """Return a list of rows as CSV."""
    listed = rows if isinstance(rows, list) else [rows]
    return "".join(",".join(map(str, row if isinstance(row, list) else [row])) + "\n" for row in listed)


def _figure(value: float, unit: str) -> dict[str, Any]:
    return {"value": value, "unit": unit, "kind": "rated", "source": "a page"}


def plain_scenario() -> dict[str, Any]:
    return {
        "title": "a scenario",
        "model": {"name": MODEL},
        "workload": {"input_tokens": 500, "output_tokens": 100, "request_rate_rps": 2.0},
        "slo": {"ttft_ms_p90": 2000, "tpot_ms": 100},
        "hardware": {"devices": ["h100-sxm"], "stock": {"h100-sxm": 8}, "usd_per_hour": {"h100-sxm": 2.5}},
        "engine": {"name": "vllm", "max_num_batched_tokens": 2048, "gpu_memory_utilization": 0.9},
        "search": {"tp": [1], "pp": [1], "dp": [1], "weight": ["bf16"]},
        "limits": {"usd_per_hour": 100, "power_kw": 40, "devices": 16},
        "site": {"pue": 1.2, "usd_per_kwh": 0.1},
    }


def _seeds() -> list[Callable[[], Input]]:
    """Return makers of valid inputs, one per kind and form."""
    arrivals = [["arrival_s", "input_tokens", "output_tokens"], *([i, 400 + 90 * (i % 2), 50] for i in range(12))]
    mooncake = [{"timestamp": 100 * i, "input_length": 900, "output_length": 9, "hash_ids": [1, i]} for i in range(8)]
    lengths = [["input_tokens", "output_tokens", "share", "prefix_hit"], [100, 20, 0.5, 0.1], [900, 40, 0.5, 0]]
    cases = [
        ["case_id", "model", "device", "n_devices", "tp", "isl", "osl", "concurrency", "engine", "weight_dtype"],
        ["a", MODEL, "h100-sxm", 1, 1, 100, 10, 4, "vllm", "bf16"],
        ["b", MODEL, "l40s", 2, 2, 1000, 100, "", "sglang", ""],
    ]
    load = {"output_tokens": None, "input_tokens": None}
    estimate = ["estimate", MODEL, "--device", "h100-sxm", "--json"]
    flags = "--tp 1 --isl 700 --osl 50 --concurrency 4 --weights fp8 --ttft-ms 900 --usd-per-hour 2 --pue 1.2"

    def scenario(kind: str, change: dict[str, Any], command: str = "plan", **files: Any) -> Input:
        made = plain_scenario()
        for table, values in change.items():
            merged = {**made.get(table, {}), **values}
            made[table] = {k: v for k, v in merged.items() if v is not None}
        names = {name.replace("__", "."): content for name, content in files.items()}
        writers: dict[str, Callable[[Any], str]] = {"s.toml": toml}
        return Input(kind, [command, "s.toml", "--json"], {"s.toml": made, **names}, writers)

    facts = {
        "title": "a card",
        "vendor": "NVIDIA",
        "arch": "Hopper",
        "kind": "gpu",
        "year": 2023,
        "memory": {"capacity": _figure(80, "GB"), "bandwidth": _figure(3350, "GB/s"), "l2": _figure(50, "MB")},
        "peak": {"bf16": _figure(989, "TFLOP/s"), "fp8": _figure(1979, "TFLOP/s")},
        "power": {"tdp": _figure(700, "W"), "idle": _figure(70, "W")},
        "link": {"name": "NVLink", "topology": "switch", "peers": 8, "bandwidth": _figure(450, "GB/s")},
    }

    def shown(content: dict[str, Any]) -> Input:
        return Input(
            "config", ["models", "show", "m", "--json"], {"m/config.json": content}, {"m/config.json": as_json}
        )

    def device() -> Input:
        text = {"type": "device", **facts}
        words = ["estimate", MODEL, "--device", "mine", "--tp", "2", "--hwdb", ".", "--json"]
        return Input("device", words, {"mine.toml": text}, {"mine.toml": toml})

    def hardware(kind: str, content: dict[str, Any], words: Sequence[str]) -> Input:
        name = f"hw/{'prices' if kind == 'prices' else kind + 's'}/mine.toml"
        return Input(kind, [*words, "--hwdb", "hw"], {name: content}, {name: toml})

    node = {"title": "n", "device": "h100-sxm", "count": 8, "host": {"name": "x", "power": _figure(2000, "W")}}
    price = {"device": "h100-sxm", "usd_per_hour": 3.0, "kind": "on_demand", "date": "2026-05", "source": "a page"}
    prices = {"provider": "Me", "price": [price, {**price, "per": 8, "region": "x"}]}

    def engine() -> Input:
        text = tomllib.loads((ROOT / "perfmodel/engines/catalogue/llamacpp.toml").read_text(encoding="utf-8"))
        change = {"name": "e.toml", "max_num_batched_tokens": None, "gpu_memory_utilization": None}
        made = scenario("engine", {"engine": change}, e__toml={**text, "name": "mine"})
        made.writers["e.toml"] = toml
        return made

    def config(kind: str, content: dict[str, Any]) -> Input:
        words = ["estimate", "m/config.json", "--device", "h100-sxm", "--concurrency", "4", "--json"]
        return Input(kind, words, {"m/config.json": content}, {"m/config.json": as_json})

    def table(kind: str, key: str, name: str, content: Any, writer: Callable[[Any], str]) -> Input:
        made = scenario(kind, {"workload": {**load, key: name}}, **{name.replace(".", "__"): content})
        made.writers[name] = writer
        return made

    def fleet() -> Input:
        one = {"name": "chat", "model": MODEL, "dataset": "azure-conv-2023", "request_rate_rps": [2, 9]}
        two = {"name": "code", "model": MODEL, "input_tokens": 900, "output_tokens": 20, "request_rate_rps": [1, 3]}
        option = {"name": "H", "device": "h100-sxm", "models": [MODEL], "tp": [1]}
        made = {
            "hardware": {"devices": ["h100-sxm", "l40s"], "stock": {"h100-sxm": 32}},
            "limits": {"power_kw": 60, "spare_nodes": 1},
            "fleet": {
                "hours": [12, 12],
                "class": [{**one, "slo": {"ttft_ms_p90": 900}}, {**two, "slo": {"tpot_ms": 60}}],
                "option": [option, {**option, "name": "L", "device": "l40s"}],
            },
        }
        return Input("fleet", ["fleet", "s.toml", "--json"], {"s.toml": made}, {"s.toml": toml})

    def profile() -> Input:
        source = ROOT / "data/profiles/l40s"
        chosen = sorted(source.glob("gemm.*.npz"))[0]
        files: dict[str, Any] = {
            "devices/mine.toml": 'like = "l40s"\ntitle = "x"\n',
            "profiles/mine/run.toml": 'device = "mine"\n',
            f"profiles/mine/{chosen.name}": chosen.read_bytes(),
        }
        return Input("profile", ["estimate", MODEL, "--device", "mine", "--hwdb", ".", "--json"], files)

    def simulation() -> Input:
        lengths_only = {"input_tokens": 200, "output_tokens": 20, "request_rate_rps": None, "n_requests": 20}
        return scenario("scenario", {"workload": lengths_only}, "simulate")

    def table_of_plan() -> Input:
        made = scenario("scenario", {})
        made.words[-1] = "--wide"
        return made

    def measured(*words: str) -> Input:
        head = ["family", "device", "weight", "act", "m", "n", "k", "tokens", "hidden", "moved_bytes", "latency_us"]
        head += ["software", "licence", "source"]
        own = ["own 1", "MIT", "a page"]
        sizes = ((2**i, n) for i in range(3, 9) for n in (1024, 4096))
        rows = [["gemm", "h100-sxm", "bf16", "bf16", m, n, 4096, "", "", "", 20 + m / 9, *own] for m, n in sizes]
        stream = ["elementwise", "h100-sxm", "", "bf16", "", "", "", 4096, 4096, 67108864, 50, *own]
        return Input("measured rows", list(words), {"r.csv": [head, *rows, stream]}, {"r.csv": csv_text})

    pools = ["--prefill-workers", "1", "--decode-workers", "1", "--batch", "8"]
    return [
        lambda: scenario("scenario", {"search": {"tp": [1, 2], "weight": ["bf16", "fp8"]}}),
        lambda: scenario("scenario", {"adapters": {"rank": 8, "count": 4}, "offload": {"weights": [0, 0.5]}}),
        lambda: scenario("scenario", {"workload": {"request_rate_rps": None, "concurrency": 16}}),
        lambda: scenario("scenario", {"workload": {"request_rate_rps": None, "n_requests": 50}}),
        fleet,
        lambda: config("config", CONFIG),
        lambda: config("config", MOE),
        lambda: table("trace", "trace", "t.csv", arrivals, csv_text),
        lambda: table("trace", "trace", "t.jsonl", mooncake, json_lines),
        lambda: table("histogram", "histogram", "h.csv", lengths, csv_text),
        device,
        lambda: hardware("node", node, ["plan", "n.toml", "--json"]),
        lambda: hardware("prices", prices, ["hw", "show", "h100-sxm", "--json"]),
        engine,
        profile,
        lambda: Input("cases", ["predict", "c.csv"], {"c.csv": cases}, {"c.csv": csv_text}),
        lambda: Input("flags", [*estimate, *flags.split()]),
        lambda: Input("flags", [*estimate, *pools, "--isl", "900", "--osl", "40"]),
        lambda: Input("flags", ["hw", "list", "--json", "--kind", "gpu"]),
        lambda: Input("flags", ["models", "show", MODEL, "--json"]),
        lambda: Input("flags", [*estimate[:-1], "--explain", "--isl", "5000", "--osl", "40", "--batch", "3"]),
        lambda: Input("flags", [*estimate, "--lora-rank", "16", "--lora-count", "20", "--batch", "4", "--isl", "300"]),
        lambda: Input("flags", ["hw", "compare", "h100-sxm", "l40s", "mi300x", "--csv"]),
        lambda: shown(CONFIG),
        lambda: shown(MLA),
        lambda: hardware("device", {**facts, "title": "t"}, ["hw", "show", "mine", "--json"]),
        lambda: hardware("node", node, ["hw", "show", "h100-sxm", "--json"]),
        simulation,
        table_of_plan,
        lambda: measured("profile", "import", "csv", "r.csv", "-o", "out.csv"),
        lambda: measured("profile", "fit", "r.csv", "--device", "mine", "-o", "out", "--like", "h100-sxm"),
    ]


SEEDS = _seeds()
