"""Pools and modes: more options never hurt, pairs without a rate, spares, modes side by side, folding, formats."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import widening
from perfmodel.costs import Roofline
from search import Plan, load_scenario, plan
from search.planning import format_offer
from search.planning.disaggregation.pool_roles import least_from
from search.planning.disaggregation.pools import estimates, paired
from search.planning.ranking.equivalent_candidates import FIGURES, LAYOUT, TOLERANCE

RELATIVES = 20
WIDE = """
[model]
name = "meta-llama/Llama-3.1-70B-Instruct"
[workload]
input_tokens = 4000
output_tokens = 1000
request_rate_rps = 6
[slo]
ttft_ms = 1000
tpot_ms = 30
[hardware]
nodes = ["dgx-h100"]
stock = { h100-sxm = 32 }
[search]
modes = ["colocated", "disaggregated"]
weight = ["bf16", "fp8"]
kv = ["bf16", "fp8"]
max_num_batched_tokens = [1024, 4096, 16384]
max_num_seqs = [8, 32, 128, 512]
[objective]
rank_by = "output_tok_s_per_device"
"""
#: A small model on one type of device, quick to plan.
SMALL = """
[model]
name = "meta-llama/Llama-3.1-8B-Instruct"
[workload]
input_tokens = INPUT
output_tokens = OUTPUT
LOAD
[slo]
ttft_ms_p90 = TTFT
tpot_ms = TPOT
[hardware]
HARDWARE
[search]
tp = [1, 2, 4]
pp = [1]
modes = MODES
[objective]
rank_by = "RANK"
[limits]
spare_nodes = SPARE
"""


def answered(folder: Path, text: str) -> Plan:
    """The plan of a scenario."""
    path = folder / "scenario.toml"
    path.write_text(text)
    return plan(load_scenario(path), costs=Roofline())


def relative(seed: int, **given: str) -> str:
    """A random relative of `SMALL`; what is given is not drawn."""
    rng = np.random.default_rng(seed)
    stock = f"stock = {{ h100-sxm = {rng.choice([8, 24, 64])} }}"
    drawn = {
        "INPUT": str(rng.integers(200, 6000)),
        "OUTPUT": str(rng.integers(50, 800)),
        "LOAD": f"request_rate_rps = {rng.uniform(2, 60):.1f}",
        "TTFT": str(rng.choice([500, 1500, 4000])),
        "TPOT": str(rng.choice([15, 25, 50])),
        "HARDWARE": f'{rng.choice(["nodes", "devices"])} = ["NAME"]\n{stock}',
        "MODES": '["disaggregated"]',
        "RANK": str(rng.choice(["output_tok_s_per_device", "output_tok_s", "usd_per_million_tokens", "usd_per_hour"])),
        "SPARE": "0",
        **given,
    }
    text = SMALL
    for key, value in drawn.items():
        text = text.replace(key, value)
    return text.replace("NAME", "dgx-h100" if '\nnodes = ["NAME"]' in text else "h100-sxm")


@pytest.mark.parametrize("seed", range(RELATIVES))
def test_more_options_never_make_a_plan_worse(seed: int) -> None:
    case = widening.drawn(np.random.default_rng(seed))
    assert widening.worse(case, Roofline()) is None, case.added


def test_an_axis_more_keeps_the_pairs_and_the_answer(tmp_path: Path) -> None:
    narrow = answered(tmp_path, WIDE.replace('kv = ["bf16", "fp8"]\n', ""))
    wide = answered(tmp_path, WIDE)
    for found in (narrow, wide):
        assert found.qualifies[len(found.layouts) :].any()
    assert widening.outcome(wide) <= widening.outcome(narrow) * (1 - 1e-9)


def test_the_best_pair_is_the_best_of_all_pairs(tmp_path: Path) -> None:
    """The bounds leave nothing out: every pair of compatible layouts, estimated one by one, is no better."""
    found = answered(tmp_path, relative(3, LOAD="request_rate_rps = 20", RANK="devices", TTFT="1500", TPOT="25"))
    layouts = plan(replace(found.scenario, choices=replace(found.scenario.choices, modes=("colocated",)))).layouts
    rows = np.arange(len(layouts))
    left, right = (g.ravel() for g in np.meshgrid(rows, rows, indexing="ij"))
    pairs, none = paired(layouts, left, right), np.full(len(left), np.nan)
    least = np.inf
    for prefill in range(1, 8):
        for decode in range(1, 8):
            sizes = np.full(len(left), float(prefill)), np.full(len(left), float(decode))
            met = found.scorer.target.met_by(estimates(found.scorer, pairs, sizes, none))
            devices = sizes[0] * pairs.prefill.devices_per_replica + sizes[1] * pairs.decode.devices_per_replica
            least = min(least, float(np.where(met, devices, np.inf).min()))
    assert found.columns["devices"][found.best] == least


@pytest.mark.parametrize("seed", range(RELATIVES))
def test_pairs_without_a_rate_are_loaded_to_the_slo_and_fill_what_is_on_hand(seed: int, tmp_path: Path) -> None:
    found = answered(tmp_path, relative(seed, LOAD=""))
    if not found.feasible:
        assert re.search(r"Nearest is \S", found.message)
        return
    number = found.best
    assert found.disaggregated(number)
    c = {k: v[[number]] for k, v in found.columns.items()}
    workers = c["prefill_workers"], c["decode_workers"]

    def met(load: np.ndarray) -> bool:
        """Whether the pair meets the target under this load."""
        return bool(found.scorer.target.met_by(estimates(found.scorer, found.pair(number), workers, load))[0])

    assert met(c["offered"])
    assert not met(c["offered"] * 1.02 + 0.01)
    stock = found.scenario.offer.stock["h100-sxm"]
    used = float(c["devices"][0])
    assert used <= stock
    if found.scenario.minimise == "output_tok_s":
        pair = found.pair(number)
        smallest = float(pair.prefill.devices_per_replica[0] + pair.decode.devices_per_replica[0])
        assert stock - used < smallest * 16  # not one more unit of the pair


def test_pairs_without_a_rate_and_both_modes_stand_side_by_side(tmp_path: Path) -> None:
    found = answered(tmp_path, WIDE.replace("request_rate_rps = 6\n", ""))
    assert {r["mode"] for r in found.best_by_mode()} == {"colocated", "disaggregated"}


@pytest.mark.parametrize("seed", range(RELATIVES))
def test_any_node_may_fail_and_both_pools_carry_the_load(seed: int, tmp_path: Path) -> None:
    load = {} if seed % 4 else {"LOAD": ""}
    found = answered(tmp_path, relative(seed, SPARE="1", HARDWARE='nodes = ["dgx-h100"]', **load))
    if not found.feasible:
        assert found.message
        return
    number, pair = found.best, found.pair(found.best)
    workers = [found.columns[c][[number]] for c in ("prefill_workers", "decode_workers")]
    lost = [found.scorer.tariff.failing(p.device, p.devices_per_replica) for p in (pair.prefill, pair.decode)]
    left = workers[0] - lost[0], workers[1] - lost[1]  # the failing node held workers of both pools
    assert min(float(left[0][0]), float(left[1][0])) >= 1
    offered = found.columns["offered"][[number]]
    assert found.scorer.target.met_by(estimates(found.scorer, pair, left, offered))[0]


@pytest.mark.parametrize("seed", range(RELATIVES))
def test_the_best_of_each_mode_is_in_the_ranking_and_compared(seed: int, tmp_path: Path) -> None:
    found = answered(tmp_path, relative(seed, MODES='["colocated", "disaggregated"]', RANK="usd_per_hour"))
    best = found.best_by_mode()
    rows = found.rows(2)
    assert {r["mode"] for r in best} <= {r["mode"] for r in rows}
    assert {(r["mode"], r["rank"]) for r in best} <= {(r["mode"], r["rank"]) for r in rows}
    assert [r["rank"] for r in rows] == sorted(r["rank"] for r in rows)
    if not best:
        return
    assert found.notes[0].lower().startswith(best[0]["mode"]) or found.notes[0].startswith("Nothing ")
    for row in best:
        of_mode = np.array([found.disaggregated(n) == (row["mode"] == "disaggregated") for n in range(len(found))])
        least = found.columns["usd_per_hour"][of_mode & found.qualifies].min()
        assert row["usd_per_hour"] == pytest.approx(least)
        expected = 100 * (row["usd_per_hour"] / best[0]["usd_per_hour"] - 1)
        assert row["usd_per_hour_difference_percent"] == pytest.approx(expected)


@cache
def _alike() -> str:
    return relative(5, MODES='["colocated", "disaggregated"]', LOAD="request_rate_rps = 10", RANK="usd_per_hour")


@pytest.mark.parametrize("seed", range(RELATIVES))
def test_rows_that_differ_in_nothing_that_binds_are_one(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    seqs = sorted(rng.choice([16, 32, 64, 128, 256, 512], 4, replace=False).tolist())
    steps = sorted(rng.choice([512, 1024, 2048, 4096, 8192], 2, replace=False).tolist())
    text = _alike().replace("pp = [1]", f"pp = [1]\nmax_num_seqs = {seqs}\nmax_num_batched_tokens = {steps}")
    rows = answered(tmp_path, text).rows(None)
    same = (*LAYOUT, *(f"prefill_{name}" for name in LAYOUT))
    figures = [name for name in FIGURES if name in rows[0]]
    for i, one in enumerate(rows):
        for other in rows[:i]:
            if all(one.get(k) == other.get(k) for k in same):
                close = [np.isclose(one[f], other[f], rtol=TOLERANCE * 0.99, atol=0, equal_nan=True) for f in figures]
                bounded = np.isclose(one["ttft_ms_p90"], other["ttft_ms_p90"], rtol=TOLERANCE * 0.99, atol=0)
                assert not (all(close) and bounded), (one["candidate"], other["candidate"])
    folded = [r["stands_for"] for r in rows if r["stands_for"]]
    assert folded
    assert all(re.search(r"max_num_(seqs|batched_tokens) \d+", text) for text in folded)


def _pools(row: dict[str, Any]) -> tuple[object, ...]:
    """Return what a pair of pools rents by its name: the devices and the formats of both pools."""
    found: list[object] = []
    for pool in row["candidate"].split(" + "):
        workers, each = re.findall(r"(\d+) x (\d+) ", pool)[0]
        found += [int(workers) * int(each), *re.findall(r"(?:KV )?(?:fp8|bf16)", pool)]
    return tuple(found)


def test_a_table_lists_pools_that_rent_the_same_once(tmp_path: Path) -> None:
    text = WIDE.replace('rank_by = "output_tok_s_per_device"', 'rank_by = "usd_per_hour"')
    found = answered(tmp_path, text.replace('["colocated", "disaggregated"]', '["disaggregated"]'))
    every, apart = found.rows(None), found.rows(10, apart=True)
    assert apart[0]["rank"] == 1
    seen = [_pools(row) for row in apart if not row["best_of"]]
    assert len(seen) == len(set(seen))
    listed = {row["rank"] for row in apart}
    last = max(row["rank"] for row in apart if not row["best_of"])
    left_out = [row for row in every if row["rank"] < last and row["rank"] not in listed]
    assert left_out
    better = {row["rank"]: _pools(row) for row in every if row["rank"] in listed}
    for row in left_out:
        assert any(rank < row["rank"] and pools == _pools(row) for rank, pools in better.items()), row["candidate"]


RAG = relative(0, MODES='["colocated"]', LOAD="request_rate_rps = 40", RANK="usd_per_hour", TTFT="1500", TPOT="25")


def test_fp8_is_offered_in_one_line_and_asking_for_it_gives_that_answer(tmp_path: Path) -> None:
    text = RAG.replace("usd_per_hour", "power_w")
    found = answered(tmp_path, text)
    told = format_offer(found)
    assert told.startswith("fp8 weights")
    lines = told.split("[search] ")[1].replace(", kv", "\nkv")
    asked = answered(tmp_path, text.replace("[search]", f"[search]\n{lines}"))
    best = asked.columns["power_w"][asked.best]
    assert best < found.columns["power_w"][found.best]
    value = float(re.search(r"would give power_w ([\d,.]+)", told)[1].replace(",", ""))  # type: ignore[index]
    assert value == pytest.approx(best, rel=0.03)


@pytest.mark.parametrize(
    "change",
    [
        ("tp = [1, 2, 4]", 'tp = [1, 2, 4]\nweight = ["bf16"]'),
        ("h100-sxm", "a100-sxm-80gb"),
        ("[search]", '[engine]\nname = "trtllm"\n[search]'),
    ],
)
def test_fp8_is_not_offered_where_it_was_decided_or_does_not_run(change: tuple[str, str], tmp_path: Path) -> None:
    text = RAG.replace('nodes = ["dgx-h100"]', 'devices = ["h100-sxm"]').replace(*change)
    assert format_offer(answered(tmp_path, text)) == ""


def test_least_from_agrees_with_counting_up() -> None:
    rng = np.random.default_rng(0)
    need = rng.integers(1, 5000, 300)
    start = np.minimum(rng.integers(1, 400, 300), need).astype(float)
    found = least_from(lambda rows, n: n >= need[rows], start, np.full(300, 4096.0))
    assert np.array_equal(found, np.where(need <= 4096, need, np.nan), equal_nan=True)
