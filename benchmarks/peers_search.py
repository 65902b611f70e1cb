"""A whole search against AIConfigurator's: CPU seconds of the process, candidates, what each picks, and its regret.

    python -m benchmarks.peers_search [--aic PATH/TO/aiconfigurator] [--case llama|deepseek] [--timeout 3600]
        [--cases CASES.csv --truth TRUTH.csv --predictions PREDICTIONS.csv] [-o search.md]

Both are asked for the most output tokens/s per device of 32 devices under mean TTFT <= 1,000 ms and TPOT <= 30 ms,
1,000 tokens in and 200 out, colocated or with prefill and decode apart, each in its default search. With CASES, TRUTH
and PREDICTIONS (what AIConfigurator predicts for the cases), the picks of both among the measured configurations of
these models are judged too (`perfmodel.fitting.decisions`). Writes a section for `benchmarks.peers --search`.
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

import pandas as pd

from benchmarks.accuracy_tables import markdown
from perfmodel.cases import predict
from perfmodel.fitting import counted, decisions, summary

ROOT = Path(__file__).resolve().parents[1]
#: Case -> (model, engine, AIConfigurator's system, our device).
CASES = {
    "llama": ("meta-llama/Llama-3.1-70B", "vllm", "h100_sxm", "h100-sxm"),
    "deepseek": ("deepseek-ai/DeepSeek-V3", "sglang", "h200_sxm", "h200-sxm"),
}
#: Models whose measured configurations are decided on: those of the cases, and later ones of the same shape.
MODELS = r"Llama-3\.[13]-70B|DeepSeek-(?:V3|R1)(?:-0528|-0324)?$"
#: Data set that the predictions of AIConfigurator are for.
PREDICTED = "aiconfigurator_silicon"
#: Variables of the environment that are not passed on: programs start from compiled files, as after an installation.
UNSET = ("PYTHONDONTWRITEBYTECODE",)
HEAD = """## A whole search, and picks among measured configurations

Both are asked for the most output tokens/s per device of 32 devices under mean TTFT of 1,000 ms and TPOT of 30 ms,
1,000 tokens in and 200 out, colocated or with prefill and decode apart: `perfmodel plan` and `aiconfigurator cli
default`, each the whole process in its default search, on one thread, compiled files at hand. Llama-3.1-70B on H100
under vLLM and DeepSeek-V3 on H200 under SGLang:

```sh
python -m benchmarks.peers_search --aic PATH/TO/aiconfigurator --cases CASES.csv --truth TRUTH.csv \\
    --predictions PREDICTIONS.csv -o search.md
```

All figures of this section are of one run of this command. PREDICTIONS.csv holds what AIConfigurator predicts for the
rows of CASES.csv, one row per case, as for [decisions](decisions.md).

"""
#: What a candidate is.
COUNTED = """
A candidate of perfmodel is a layout, or a pair of pools, whose load is searched. AIConfigurator counts each batch of a
layout.
"""
PICKS = """
Picks among the configurations that were measured on one device (data set aiconfigurator_silicon, all rows and those
that nothing was fitted on; the terms are those of [decisions](decisions.md)). Llama-3.3-70B and DeepSeek-V3 were not
measured there; DeepSeek-R1 has the shape of V3. Limits are on TPOT. In the last column a broken limit, or no pick,
counts as a regret of 100 %:

"""
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
    kept = {name: value for name, value in os.environ.items() if name not in UNSET}
    environment = {**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "250"}
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
    """What a tool ranks first in each table that it printed, with its tokens/s per device."""
    found = []
    for line in text.splitlines():
        if re.match(r"^\|\s*1\s*\|", line):  # AIConfigurator: rank, engine, tokens/s per device, ..., layouts
            cells = [cell.strip() for cell in line.split("|")[1:-1]]
            layouts = " + ".join(cell for cell in cells if re.match(r"tp\d+pp\d+", cell))
            replica = next((cell for cell in cells if re.match(r"\d+ \(=\d+x\d+\+", cell)), "")
            found.append(f"{layouts} {replica.partition('(=')[2].rstrip(')')} {cells[2]}".replace("  ", " "))
        elif ours := re.match(r"^\s*1\s{2,}(\S.*?)\s{2,}([\d.,]+)\s", line):
            found.append(f"{ours[1]}: {ours[2]}")
    return "; ".join(dict.fromkeys(found))


def candidates(text: str) -> str:
    """How many candidates a tool says it compared; `-` where it says nothing."""
    ours = re.search(r"of ([\d,]+) legal candidates", text)
    theirs = [int(n) for n in re.findall(r"completed with (\d+) results", text)]
    return ours[1] if ours else f"{sum(theirs):,}" if theirs else "-"


def searched(aic: str, case: str, timeout: float) -> dict[str, dict[str, object]]:
    """A line per tool for one case. Ours runs once before, so that its files are compiled as theirs are."""
    name, engine, system, device = CASES[case]
    slo = ["--isl", "1000", "--osl", "200", "--ttft", "1000", "--tpot", "30"]
    theirs = [aic, "cli", "default", "--model-path", AIC_NAMES.get(name, name), "--total-gpus", "32"]
    theirs += ["--system", system, "--backend", engine, "--no-color", *slo]
    lines: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        scenario = Path(folder) / "scenario.toml"
        scenario.write_text(SCENARIO.format(model=name, engine=engine, device=device), encoding="utf-8")
        ours = [sys.executable, "-m", "cli", "plan", str(scenario)]
        run(ours, timeout)
        for tool, command in (("perfmodel", ours), ("AIConfigurator", theirs)):
            cpu, wall, text, finished = run(command, timeout)
            best = picked(text) if finished else f"stopped after {timeout:.0f} s"
            figures = {"CPU s": f"{cpu:.1f}", "wall s": f"{wall:.1f}", "candidates": candidates(text)}
            figures |= {"first in rank, tokens/s per device": best}
            lines[f"{name}, {tool}"] = dict(figures)
            print(f"{name}, {tool}: {figures}", flush=True)
    return lines


def picks(cases: pd.DataFrame, truth: pd.DataFrame, peer: pd.DataFrame) -> dict[str, dict[str, object]]:
    """A line per model, device and tool: how its picks among measured configurations turn out.

    cases: every run of the table, as text. peer: what AIConfigurator predicts for them.
    """
    about = cases[cases.model.str.contains(MODELS) & (cases.dataset == PREDICTED)]
    lines: dict[str, dict[str, object]] = {}
    for rows, splits in (("all rows", ("train", "test")), ("split test", ("test",))):
        mine = pd.concat([about[counted(about, split)] for split in splits])
        tables = {"perfmodel": predict(mine), "AIConfigurator": peer}
        made = {tool: decisions(mine, table, truth) for tool, table in tables.items()}
        keys = made["perfmodel"][["model", "device"]].drop_duplicates().sort_values(["model", "device"])
        for model, device in [*keys.itertuples(index=False), ("all", "")]:
            for tool, table in made.items():
                of = table if not device else table[(table.model == model) & (table.device == device)]
                lines[f"{rows}: {model} {device}; {tool}".replace(" ;", ";")] = _judged(of)
    return lines


def _judged(made: pd.DataFrame) -> dict[str, object]:
    """One line of decisions: their number, shares, and the regret of picks that kept the limit."""
    figures = summary(made)
    return {
        "decisions": figures["decisions"],
        "no pick": figures["no_pick"],
        "limit kept": figures["limit_kept"],
        "kept, within 5 % of the best": figures["within_5"],
        "median regret of kept": figures["regret_median"],
        "mean regret of kept": figures["regret_mean"],
        "mean regret of all": float(made.regret.clip(lower=0.0).where(made.limit_kept, 1.0).mean()),
    }


def main() -> None:
    """Run both tools on each case, judge their picks, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aic", help="the program aiconfigurator, in an environment of its own")
    parser.add_argument("--case", choices=tuple(CASES), action="append")
    parser.add_argument("--timeout", type=float, default=3600.0, help="wall seconds per process")
    for name in ("cases", "truth", "predictions"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args()
    text = HEAD
    if asked.aic:
        lines: dict[str, dict[str, object]] = {}
        for case in asked.case or CASES:
            lines |= searched(asked.aic, case, asked.timeout)
        text += markdown("search", lines) + COUNTED
    if asked.cases and asked.truth and asked.predictions:
        cases = pd.read_csv(asked.cases, dtype=str, keep_default_na=False)
        judged = picks(cases, pd.read_csv(asked.truth), pd.read_csv(asked.predictions))
        text += PICKS + markdown("rows; picks by", judged)
    if asked.output:
        asked.output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
