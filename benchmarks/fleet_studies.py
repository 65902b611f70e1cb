"""Published studies of mixed fleets beside perfmodel: Melange, DistServe, Splitwise, and a greedy buyer.

    python -m benchmarks.fleet_studies [-o docs/fleet-studies.md]

Each line computes its figure with the fleet program; nothing here is fitted. Where the exact setup of a study is not
public, the line says what was assumed, and direction and size are compared.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import fleet_splitwise
from benchmarks.fleet_melange import outcomes, summary
from benchmarks.fleet_setup import Line, Setup, least, problem_of
from hwdb import outfile

#: USD per hour of one GPU (Melange, arXiv:2404.14527, table 1). Its repository has A10G and A100 (tyler-griggs/
#: melange-release README.md @044124f and melange/config/example.json @c9622d5, read 2026-11). Assumed: L4 and H100, for
#: which no stored copy of the table was found.
MELANGE_PRICES = {"l4": 0.7, "a10g": 1.01, "a100-sxm-80gb": 3.67, "h100-sxm": 7.516}
MELANGE_RATES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
#: Most seconds for one of Melange's programs. Chosen: four in five are solved to the end.
SECONDS = 2.0
#: Mean tokens of prompts and answers of LMSYS-Chat-1M, the chats of Melange's short requests (arXiv:2309.11998, table
#: 1; copied in yukimaru77/kaggle_jp lmsys-chatbot-arena/discuss, read 2026-11), and the log standard deviations of
#: their lengths. Assumed: log-normal, long tails as in other chats.
CHATS = ((69.5, 1.2), (214.5, 0.9))
#: Quantiles between which the lengths of chats are cut.
CHAT_QUANTILES = ((0.0, 0.4, 0.7, 0.9, 0.98, 1.0), (0.0, 0.5, 0.85, 1.0))


# -- Melange --------------------------------------------------------------------------------------------------------


def chat_lengths() -> str:
    """Return the lengths of the chats as lines of TOML: each part of the quantiles has the mean of its requests."""
    from scipy.stats import norm

    columns = []
    for (mean, spread), quantiles in zip(CHATS, CHAT_QUANTILES, strict=True):
        # the mean of a log-normal between two quantiles: its share of the tokens over its share of the requests
        tokens = norm.cdf(norm.ppf(quantiles) - spread)
        columns.append((mean * np.diff(tokens) / np.diff(quantiles), np.diff(quantiles)))
    (inputs, part), (outputs, other) = columns
    lists = {
        "input_tokens": np.repeat(np.maximum(inputs, 1.0), len(outputs)),
        "output_tokens": np.tile(np.maximum(outputs, 1.0), len(inputs)),
        "share": np.outer(part, other).ravel(),
    }
    return "\n".join(f"{name} = [{', '.join(f'{v:.9g}' for v in values)}]" for name, values in lists.items())


def melange_setup(tpot_ms: float) -> Setup:
    """Return Melange's study: Llama-2-7B on one of four GPU types, with an SLO on TPOT."""
    options = [(f"on {d}", f'device = "{d}"\ntp = 1\nusd_per_hour = {usd}') for d, usd in MELANGE_PRICES.items()]
    return Setup(
        "meta-llama/Llama-2-7b-hf",
        f"{chat_lengths()}\nbuckets = [5, 3]",
        f"tpot_ms = {tpot_ms:g}",
        options,
        "[limits]\nutilisation = 1.0",
    )


def melange_lines() -> list[Line]:
    """Return what a mix saves against each single type, over the paper's rates."""
    out = []
    for tpot, published in ((120.0, "15 to 77 %"), (40.0, "9 to 68 %")):
        problem = problem_of(melange_setup(tpot))
        saved, best = [], []
        for rate in MELANGE_RATES:
            mixed = least(problem, rate)
            alone = [least(problem, rate, [f"on {device}"]) for device in MELANGE_PRICES]
            costs = [one.usd_per_hour for one in alone if one is not None]
            if mixed is not None and costs:
                saved += [1.0 - mixed.usd_per_hour / cost for cost in costs]
                best.append(1.0 - mixed.usd_per_hour / min(costs))
        out.append(
            Line(
                f"Melange, short chats, TPOT {tpot:g} ms: saving of the mix against one GPU type, 1 to 32 requests/s",
                published,
                f"{100 * min(saved):.0f} to {100 * max(saved):.0f} %; against the best type at each rate up to "
                f"{100 * max(best):.0f} %",
                "arXiv:2404.14527 sec. 6.2 and tyler-griggs/melange-release melange/blog/melange-blog.md @629e469. "
                "Log-normal lengths with the means of LMSYS-Chat-1M; prices of A10G and A100 as published, of L4 and "
                "H100 assumed.",
            )
        )
    return out


# -- DistServe ------------------------------------------------------------------------------------------------------


def distserve_lines() -> list[Line]:
    """Return the rates per GPU of colocated and of split serving in DistServe's example, and the placement chosen."""
    device = 'device = "a100-sxm-80gb"\ntp = 1\n'
    setup = Setup(
        "facebook/opt-13b",
        "input_tokens = 512\noutput_tokens = 64",
        "ttft_ms_p90 = 400, tpot_ms_p90 = 40",
        [("colocated", device), ("split", f'{device}prefill_device = "a100-sxm-80gb"\n')],
        "[limits]\nutilisation = 1.0",
    )
    problem = problem_of(setup)
    each = {
        option.name: float(speed) / option.devices
        for option, speed in zip(problem.options, problem.throughput[:, 0], strict=True)
    }
    split = {name: rate for name, rate in each.items() if name.startswith("split:")}
    alone = max((rate for name, rate in each.items() if name.startswith("colocated:")), default=float("nan"))
    if not split:
        return []
    best = max(split, key=lambda name: split[name])
    asked = next((rate for name, rate in split.items() if name.startswith("split: 2 x") and "+ 1 x" in name), np.nan)
    text = "hao-ai-lab blog content/blogs/distserve/index.md: OPT-13B, A100-80GB, 512 in, 64 out, P90 TTFT 0.4 s and "
    text += "TPOT 40 ms; vLLM of early 2024 without chunked prefill."
    return [
        Line("DistServe, colocated, requests/s per GPU", "1.6", f"{alone:.1f}", text),
        Line("DistServe, two prefill and one decode, requests/s per GPU", "3.3", f"{asked:.1f}", text),
        Line(
            "DistServe, split over colocated",
            "2.1 x",
            f"{split[best] / alone:.2f} x with {best.removeprefix('split: ')}",
            "The placement is what the program takes.",
        ),
    ]


# -- a greedy buyer, and the page -----------------------------------------------------------------------------------


def drawn_lines(count: int) -> list[Line]:
    """Return what drawn instances show: beside Melange's program, a greedy buyer, the best single type."""
    found = summary(outcomes(count, seconds=SECONDS))
    draws = f"{found['instances']} drawn instances, 4 to 12 types, 2 x 2 to 10 x 10 buckets, 8 to 512 requests/s"
    command = f"`python -m benchmarks.fleet_melange --instances {count}`; slices of a bucket counted, 4 each."
    return [
        Line(
            f"Fleet program over Melange's formulation ({draws})",
            "never above 1",
            f"mean {found['cost_ratio_mean']:.4f}, least {found['cost_ratio_least']:.4f}, above 1 in {found['above']}; "
            f"median {1e3 * found['median_s']:.0f} ms against {1e3 * found['melange_median_s']:.0f} ms "
            f"({found['time_ratio_median']:.1f} x by instance)",
            f"{command} {found['proven']} of theirs proven optimal within {SECONDS:g} s.",
        ),
        Line(
            "Regret of a buyer who gives each class to its cheapest type",
            "-",
            f"median {found['greedy_regret_median_percent']:.1f} %, p90 {found['greedy_regret_p90_percent']:.1f} %, "
            f"most {found['greedy_regret_max_percent']:.1f} %; optimal in {found['greedy_optimal']}",
            command,
        ),
        Line(
            "Saving against the best single type",
            "-",
            f"median {found['single_saving_median_percent']:.1f} %, most {found['single_saving_max_percent']:.1f} %",
            command,
        ),
    ]


HEAD = """# Studies of mixed fleets

Published studies beside what the fleet program finds with modelled throughputs. Nothing here is fitted to them. This
page is written by `python -m benchmarks.fleet_studies -o docs/fleet-studies.md`.

| Study | Published | perfmodel | Source, and what was assumed |
|---|---|---|---|
"""


def page(lines: Sequence[Line]) -> str:
    """Return the page."""
    return HEAD + "".join(f"| {' | '.join(line)} |\n" for line in lines) + fleet_splitwise.NOTES


def main() -> None:
    """Write the page, or print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--instances", type=int, default=100)
    told = parser.parse_args()
    text = page([*melange_lines(), *distserve_lines(), *fleet_splitwise.lines(), *drawn_lines(told.instances)])
    if told.output is None:
        print(text)
    else:
        outfile.write_text(told.output, text)


if __name__ == "__main__":
    main()
