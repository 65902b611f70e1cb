"""Published studies of power beside perfmodel: rows of servers, caps by phase, energy by batch, layout and clock.

    python -m benchmarks.power_studies [-o docs/power-studies.md]

Each line computes its figure with the commands of the tool; nothing here is fitted. A study whose exact setup is not
public is compared in direction and size, and the line says what was assumed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cli
from benchmarks.anchors import anchors, estimated
from hwdb import outfile

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
BLOOM = ("bigscience/bloom", "--device", "h100-sxm", "--tp", "8", "--isl", "1020", "--osl", "129")
POOLS = ("--prefill-workers", "1", "--decode-workers", "1", "--batch", "16")
LLAMA = ("meta-llama/Llama-2-70b-hf", "--device", "h100-sxm", "--isl", "1024", "--osl", "256", "--weights", "bf16")
#: Power limit of the devices of `row-power.toml` (NVIDIA DGX A100 data sheet).
A100_LIMIT_W = 400.0
#: Two shapes of the study of GEMM energy that run long enough for its meter, fp32 on CUDA cores: (M, N, K) -> median W
#: (pavlyhalim/GPPerf, cutlass_profiling_20241111_195357.tar.gz @55468e1).
ADA_SHAPES = {(128256, 2048, 1024): 185.0, (128256, 2048, 2048): 150.0}
#: Scenario of two pools: Splitwise's model with the median prompts and answers of the Azure conversations.
TWO_POOLS = """
[model]
name = "bigscience/bloom"
[workload]
input_tokens = 1020
output_tokens = 129
request_rate_rps = 4.0
[slo]
tpot_ms_p90 = 100
ttft_ms_p90 = 3000
[hardware]
nodes = ["dgx-h100"]
stock = { h100-sxm = 96 }
[limits]
power_kw = 260
[search]
modes = ["disaggregated"]
tp = 8
pp = 1
weight = ["bf16"]
[objective]
rank_by = "usd_per_hour"
"""
HEAD = """# Studies of power

Made by one command, `python -m benchmarks.power_studies -o docs/power-studies.md`. What published studies found, and
what the tool says of the same question. Nothing was fitted to them. `ratio` is the figure here over the published one
(of changes: of what is left, 1 + change); it is empty where the study gives a direction only.

| study | finding | published | perfmodel | ratio | setup here |
| --- | --- | --- | --- | --- | --- |
"""
JOULES = "energy_j_per_output_token"
POLCA = "POLCA, arXiv:2308.12908 (abstract)"
SPLITWISE = "Splitwise, arXiv:2311.18677 (abstract)"
GREENER = "Towards Greener LLMs, arXiv:2403.20306 (abstract)"
SAMSI = "From Words to Watts, arXiv:2310.03003 (digest)"
ADA = "Energy of GEMM on the RTX 4070, arXiv:2411.16954"


class Finding(NamedTuple):
    """Hold a line of the page, as text. ratio: of the figure found to the published one; NaN for a direction."""

    study: str
    finding: str
    published: str
    found: str
    setup: str
    ratio: float = math.nan

    def cells(self) -> tuple[str, ...]:
        """Return the cells of the line."""
        ratio = f"{self.ratio:.2f}" if math.isfinite(self.ratio) else "-"
        return self.study, self.finding, self.published, self.found, ratio, self.setup


def rows_of(*words: str) -> list[dict[str, Any]]:
    """Return what a command prints as JSON; raise `ValueError` with its message where it refuses."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        cli.main([*words, "--json"])
    if not out.getvalue():
        raise ValueError(f"{' '.join(words)}: {errors.getvalue().strip()}")
    found: list[dict[str, Any]] = json.loads(out.getvalue())
    return found


def change(metric: str, common: tuple[str, ...], before: tuple[str, ...], after: tuple[str, ...]) -> float:
    """Return by how much a column of `estimate` changes between two sets of options, as a share."""
    first, second = (rows_of("estimate", *common, *options)[0][metric] for options in (before, after))
    return float(second / first - 1.0)


def polca() -> Iterator[Finding]:
    """Yield what oversubscription of a row of A100 servers gains, and costs while the row is capped."""
    rows = {r["measure"]: r for r in rows_of("power", str(EXAMPLES / "row-power.toml"), "--capping-risk", "0.01")}
    setup = "`perfmodel power examples/row-power.toml`: BLOOM-176B, 40 DGX A100 of 6.5 kW by nameplate"
    seen, risk, held = (rows[n] for n in ("highest second", "capping risk", "capping risk, while capped"))
    yield Finding(
        POLCA,
        "more servers in the same row",
        "+30 %",
        f"{seen['more_servers_percent']:+.0f} %",
        f"{setup}; provisioned by the highest second of a server",
        (1.0 + seen["more_servers_percent"] / 100.0) / 1.3,
    )
    yield Finding(
        POLCA,
        "the same, capped when the row is beyond its budget",
        "+30 %",
        f"{risk['more_servers_percent']:+.0f} %",
        "the same; capped in at most 1 % of the time",
        (1.0 + risk["more_servers_percent"] / 100.0) / 1.3,
    )
    cost = f"TTFT {held['ttft_ratio'] - 1:+.1%}, TPOT {held['tpot_ratio'] - 1:+.1%}"
    yield Finding(POLCA, "loss of performance while capped", "minimal", cost, "the same, capped all the time")
    watts = rows_of("simulate", str(EXAMPLES / "row-power.toml"), "--requests", "600")[0]
    mixed, decode = watts["mixed_power_w_per_device"], watts["decode_power_w_per_device"]
    yield Finding(
        POLCA,
        "prompts draw near the limit, tokens less",
        "prompt phase peaks",
        f"steps with prompts {mixed / A100_LIMIT_W:.0%} of the limit, decodes {decode / A100_LIMIT_W:.0%}",
        "`perfmodel simulate`, the same",
    )


def splitwise() -> Iterator[Finding]:
    """Yield what a cap at half of the limit costs prompts and tokens on pools of H100."""
    caps = ("--power-cap-w", "700"), ("--power-cap-w", "350")
    for metric, name, published in (("tpot_ms", "tokens", "hardly slower"), ("ttft_ms", "prompts", "slower")):
        value = change(metric, (*BLOOM, *POOLS), *caps)
        yield Finding(
            SPLITWISE,
            f"{name} under a cap at half of the limit",
            published,
            f"{value:+.1%}",
            "BLOOM-176B, 8 x H100 a pool, 1,020 in, 129 out (Azure conversation medians), batch 16",
        )


def greener() -> Iterator[Finding]:
    """Yield the directions of the study: batch, tensor parallelism, limits."""
    lines: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...] = (
        ("batch 1 to 64", "falls", (*LLAMA, "--tp", "4"), ("--concurrency", "1"), ("--concurrency", "64")),
        ("TP2 to TP8, batch 16", "rises", (*LLAMA, "--concurrency", "16"), ("--tp", "2"), ("--tp", "8")),
        (
            "limit 700 to 400 W, batch 16",
            "falls",
            (*LLAMA, "--tp", "4", "--concurrency", "16"),
            ("--power-cap-w", "700"),
            ("--power-cap-w", "400"),
        ),
    )
    for name, published, common, before, after in lines:
        energy, time = (change(metric, common, before, after) for metric in (JOULES, "tpot_ms"))
        yield Finding(
            GREENER,
            f"joules per token, {name}",
            published,
            f"{energy:+.0%}, TPOT {time:+.0%}",
            "Llama-2-70B bf16 on H100, 1,024 in, 256 out",
        )


def decode_first() -> Iterator[Finding]:
    """Yield what caps on the decode pool alone gain and cost in a row of prefill and decode servers."""
    with tempfile.TemporaryDirectory() as folder:
        scenario = Path(folder) / "two-pools.toml"
        scenario.write_text(TWO_POOLS)
        options = ("--row-budget-kw", "260", "--caps", "0.5", "--requests", "400")
        rows = {r["measure"]: r for r in rows_of("power", str(scenario), *options)}
    free = rows["capping risk"]["servers"]
    setup = "`perfmodel power`, BLOOM-176B, 2 pools of DGX H100, 260 kW, at most 1 % of the time beyond the budget"
    for name, published in (("decode pool", "tokens hardly slower"), ("all devices", "prompts slower")):
        row = rows[f"{name} capped at 50 %"]
        cost = f"TTFT {row['ttft_ratio'] - 1:+.1%}, TPOT {row['tpot_ratio'] - 1:+.1%}"
        gain = f"{row['servers'] / free - 1:+.0%} servers"
        yield Finding(SPLITWISE, f"{name} capped at half of the limit", published, f"{gain}; {cost}", setup)


def samsi() -> Iterator[Finding]:
    """Yield what lowering the limit of A100s from 250 to 175 W saves, and costs in time, with LLaMA-65B."""
    for row in anchors():
        if row.section == "power":
            value = estimated(row)
            texts = (f"{row.value:g}", f"{value:.3g}")
            if row.against:
                texts = (f"{row.value - 1:+.1%}", f"{value - 1:+.1%}")
            place, what = row.setup.split("; ")
            setup = f"{place}; engine, lengths, batch assumed: `python -m benchmarks.anchors --section power`"
            yield Finding(SAMSI, what, *texts, setup, value / row.value)


def ada() -> Iterator[Finding]:
    """Yield the watts of GEMMs of the study that ran long enough for its meter."""
    for (m, n, k), measured in ADA_SHAPES.items():
        row = rows_of("op", "gemm", str(m), str(n), str(k), "--device", "rtx-4070", "--dtype", "fp32")[0]
        watts = row["operator_w"]
        said = f"{watts:.0f} W ({row['operator_w_lo']:.0f} to {row['operator_w_hi']:.0f})"
        finding = f"watts of {m:,} x {n:,} x {k:,}, fp32"
        setup = "`perfmodel op gemm ... --device rtx-4070 --dtype fp32`; its own model has a median error of 5.4 %"
        yield Finding(ADA, finding, f"{measured:.0f} W", said, setup, watts / measured)


def rack() -> Iterator[Finding]:
    """Yield what power limits that are free to choose gain in a rack."""
    scenario = EXAMPLES / "rack-40kw.toml"
    free = rows_of("plan", str(scenario))[0]
    with tempfile.TemporaryDirectory() as folder:
        rated = Path(folder) / "rated.toml"
        rated.write_text(re.sub(r"(?m)^power_cap_w = .*$", "power_cap_w = [700]", scenario.read_text()))
        own = rows_of("plan", str(rated))[0]
    yield Finding(
        "perfmodel",
        "rack of 40 kW: most traffic within the SLOs, limits free to choose",
        "-",
        f"{free['output_tok_s'] / own['output_tok_s'] - 1:+.0%}: {free['candidate']} serves "
        f"{free['output_tok_s']:,.0f} tok/s, {own['candidate']} {own['output_tok_s']:,.0f}",
        "`perfmodel plan examples/rack-40kw.toml`",
    )


STUDIES: tuple[Callable[[], Iterator[Finding]], ...] = (polca, splitwise, decode_first, greener, samsi, ada, rack)


def page() -> str:
    """Return the page, with a line per finding."""
    return HEAD + "".join(f"| {' | '.join(line.cells())} |\n" for study in STUDIES for line in study())


def main() -> None:
    """Print the page, or write it to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="write the page here")
    asked = parser.parse_args()
    text = page()
    if asked.output:
        outfile.write_text(asked.output, text)
    else:
        print(text)


if __name__ == "__main__":
    main()
