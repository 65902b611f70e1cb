"""A whole search against AIConfigurator's: CPU seconds of the process, candidates, and what each picks.

    python benchmarks/peers_search.py --aic PATH/TO/aiconfigurator [--case llama|deepseek] [--timeout 600]

Both are asked for the most output tokens/s per device of 32 devices under mean TTFT <= 1,000 ms and TPOT <= 30 ms,
1,000 tokens in and 200 out, colocated or with prefill and decode apart, each in its default search. Prints a Markdown
table.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Case -> (model, engine, AIConfigurator's system, our device).
CASES = {
    "llama": ("meta-llama/Llama-3.1-70B", "vllm", "h100_sxm", "h100-sxm"),
    "deepseek": ("deepseek-ai/DeepSeek-V3", "sglang", "h200_sxm", "h200-sxm"),
}
SCENARIO = """[model]
name = "{model}"
[engine]
name = "{engine}"
[workload]
input_tokens = 1000
output_tokens = 200
arrival = "closed"
[slo]
ttft_ms = 1000
tpot_ms = 30
[hardware]
devices = ["{device}"]
stock = {{ {device} = 32 }}
[search]
modes = ["colocated", "disaggregated"]
[objective]
rank_by = "output_tok_s_per_device"
"""
#: AIConfigurator's name of a checkpoint that it knows.
AIC_NAMES = {"meta-llama/Llama-3.1-70B": "meta-llama/Meta-Llama-3.1-70B"}


def run(command: list[str], timeout: float) -> tuple[float, float, str, bool]:
    """(CPU seconds, wall seconds, what it printed, whether it finished) of a process on one thread."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "250"}
    try:
        done = subprocess.run(
            command, env=environment, timeout=timeout, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        text, finished = done.stdout, True
    except subprocess.TimeoutExpired as late:
        text, finished = str(late.stdout or b"", "utf-8", "replace") if isinstance(late.stdout, bytes) else "", False
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.monotonic() - start, text, finished


def picked(text: str) -> str:
    """The first line of rank 1 of each table that a tool printed."""
    return "; ".join(" ".join(line.split()) for line in text.splitlines() if re.match(r"^[|\s]*1\s{2,}", line))


def main() -> None:
    """Run both tools on each case and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aic", required=True, help="the program aiconfigurator, in an environment of its own")
    parser.add_argument("--case", choices=tuple(CASES), action="append")
    parser.add_argument("--timeout", type=float, default=600.0, help="wall seconds per process")
    asked = parser.parse_args()
    print("| case | tool | CPU, s | wall, s | candidates | best |\n|---|---|---|---|---|---|")
    for case in asked.case or CASES:
        name, engine, system, device = CASES[case]
        with tempfile.TemporaryDirectory() as folder:
            scenario = Path(folder) / "scenario.toml"
            scenario.write_text(SCENARIO.format(model=name, engine=engine, device=device), encoding="utf-8")
            ours = [sys.executable, "-m", "cli", "plan", str(scenario)]
            slo = ["--isl", "1000", "--osl", "200", "--ttft", "1000", "--tpot", "30"]
            theirs = [asked.aic, "cli", "default", "--model-path", AIC_NAMES.get(name, name), "--total-gpus", "32"]
            theirs += ["--system", system, "--backend", engine, "--no-color", *slo]
            for tool, command in (("perfmodel", ours), ("AIConfigurator", theirs)):
                cpu, wall, text, finished = run(command, asked.timeout)
                count = re.search(r"of ([\d,]+) legal candidates", text)
                found = picked(text).replace("|", "/") if finished else f"stopped after {asked.timeout:.0f} s"
                print(
                    f"| {case} | {tool} | {cpu:.1f} | {wall:.1f} | {count[1] if count else '-'} | {found} |", flush=True
                )


if __name__ == "__main__":
    main()
