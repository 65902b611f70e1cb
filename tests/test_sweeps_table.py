"""Sweeps: every combination in one table, the same figures as single estimates, and errors that name the argument."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import hwdb
import perfmodel as pm
from hwdb import InputError
from search.sweeps import ARGUMENTS, SweepTable, sweep_table

MODEL = "meta-llama/Llama-3.1-8B"


@pytest.fixture(scope="module")
def table() -> SweepTable:
    """Return a sweep of two devices, three degrees and two loads, one of the degrees impossible."""
    return sweep_table(MODEL, ["h100-sxm", "l40s"], tp=[1, 2, 3], concurrency=[1, 16], osl=64, slo={"ttft_ms_p95": 300})


def test_every_combination_is_a_row_that_says_what_it_is(table: SweepTable) -> None:
    frame = table.frame()
    assert len(frame) == len(table) == 12
    assert len(set(zip(frame.device, frame.tp, frame.concurrency, strict=True))) == 12
    assert {"model", "device", "tp", "weight", "kv", "engine", "isl", "osl", "usd_per_hour", "slo_chance"} <= {*frame}
    assert (frame.weight == "bf16").all()
    assert frame.tp.dtype.kind == frame.devices.dtype.kind == "i"


def test_a_combination_that_no_engine_starts_has_a_reason_and_no_figures(table: SweepTable) -> None:
    frame = table.frame()
    odd = frame[frame.tp == 3]
    assert odd.reason.str.contains("tp 3 does not divide the 32 attention heads").all()
    assert odd[["ttft_ms", "tpot_ms", "output_tok_s", "usd_per_hour", "slo_chance"]].isna().all().all()
    assert not odd.fits.any()
    assert frame[frame.tp != 3].fits.all()
    with pytest.raises(InputError, match="row 4: tp 3"):
        table.explain(4)


def test_rows_are_those_of_single_estimates(table: SweepTable) -> None:
    frame = table.frame()
    for row in (0, 3, 8):
        asked = frame.iloc[row]
        one = pm.estimate(
            pm.model(MODEL),
            pm.Workload.from_lengths(1024, 64, concurrency=float(asked.concurrency)),
            pm.deployments([hwdb.device(asked.device)], tp=int(asked.tp)),
        ).frame()
        for column in ("ttft_ms", "tpot_ms", "output_tok_s", "ttft_ms_p99", "power_w_per_device", "tpot_ms_hi"):
            assert asked[column] == pytest.approx(one[column].iloc[0], rel=1e-12), column


def test_operators_sum_to_the_step(table: SweepTable) -> None:
    row = table.best()
    terms = table.explain(row)
    decode = terms[terms.phase == "decode"]
    assert decode.share_percent.sum() == pytest.approx(100.0)
    assert decode.time_us.sum() / 1e3 <= table.frame().tpot_ms[row] * (1 + 1e-9)
    computing = terms[terms.family == "gemm"]
    peak = hwdb.device(table.frame().device[row]).peak("bf16")
    assert (computing.flop / (computing.time_us * 1e-6) < peak).all()


def test_models_engines_and_loads_in_lists() -> None:
    table = sweep_table([MODEL, "qwen/qwen3-14b"], "h100-sxm", engine=["vllm", "sglang"], request_rate_rps=[1, 4])
    frame = table.frame()
    assert len(frame) == 8
    assert table.swept == ("model", "engine", "request_rate_rps")
    assert frame.request_rate_rps.tolist() == [1.0, 4.0] * 4
    assert set(frame.engine) == {"vllm", "sglang"}
    assert frame.served_request_rate_rps.to_numpy() == pytest.approx(frame.request_rate_rps.to_numpy(), rel=1e-6)
    assert table.name(1).startswith("h100-sxm TP1")


def test_a_replay_of_a_row() -> None:
    table = sweep_table(MODEL, "h100-sxm", request_rate_rps=2, isl=200, osl=20)
    found = table.simulate(0, requests=30)
    assert len(found.traffic) == 30


def test_nothing_that_serves_is_said() -> None:
    table = sweep_table("meta-llama/Llama-3.1-70B", "l40s", tp=1)
    with pytest.raises(InputError, match="best: no row fits"):
        table.best()
    with pytest.raises(InputError, match="best: by 'speed' is no column"):
        table.best("speed")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"tp": "x"}, "tp 'x' is no number"),
    ({"tps": 2}, "unknown argument 'tps'; did you mean tp?"),
    ({"tp": []}, "tp is an empty list"),
    ({"tp": -1}, "tp -1 is impossible"),
    ({"tp": 1.5}, "tp 1.5 is impossible; give a whole number"),
    ({"tp": True}, "tp True is no number"),
    ({"tp": 3}, "tp 3 does not divide"),
    ({"weights": "fp7"}, "weights: unknown number format 'fp7'"),
    ({"kv": 3}, "kv 3 is no word"),
    ({"activations": "q4"}, "activations 'q4' is unknown"),
    ({"device": "h1000"}, "unknown device 'h1000'"),
    ({"device": 3}, "device 3 is no device"),
    ({"concurrency": 1, "batch": 2}, "concurrency and batch exclude each other"),
    ({"concurrency": float("nan")}, "concurrency nan is impossible"),
    ({"request_rate_rps": 0}, "request_rate_rps 0 is impossible"),
    ({"prefix_hit": 2}, "prefix_hit 2 is impossible; give a share"),
    ({"isl": {}}, "isl is a mapping"),
    ({"slo": {"fast": 1}}, "slo 'fast' is no bound"),
    ({"slo": 3}, "slo 3 is no mapping"),
    ({"engine": "foo"}, "unknown engine 'foo'"),
    ({"engine": 3}, "engine 3 is no engine"),
    ({"workload": 3}, "workload 3 is no Workload"),
    ({"workload": pm.Workload.from_lengths(10, 10), "isl": 5}, "isl and workload both state lengths"),
    ({"tp": list(range(1, 101)), "isl": list(range(1, 101)), "osl": list(range(1, 101))}, "are 1000000 rows"),
    ({"isl": 10**9}, "exceed the context"),
]


@pytest.mark.parametrize(("given", "said"), WRONG, ids=[said for _, said in WRONG])
def test_errors_name_the_argument(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match="(?i)" + said.replace("?", r"\?")):
        sweep_table(MODEL, **{"device": "h100-sxm", **given})


WRONG_ELSEWHERE: list[tuple[dict[str, Any], str]] = [
    ({"models": []}, "model is an empty list"),
    ({"engine": ()}, "engine is an empty list"),
    *(
        ({"usd_per_hour": {"h100-sxm": p}}, "usd_per_hour of h100-sxm is")
        for p in (-1.5, float("nan"), "a", None, True)
    ),
    ({"usd_per_hour": {"h1000": 2.0}}, "unknown device 'h1000'"),
    ({"usd_per_hour": 2.0}, "usd_per_hour 2.0 is no mapping"),
    ({"nodes": ["foo"]}, "unknown node 'foo'"),
    ({"nodes": "dgx-h200"}, "dgx-h200 holds h200-sxm, and not h100-sxm"),
]


@pytest.mark.parametrize(("given", "said"), WRONG_ELSEWHERE)
def test_what_cannot_be_used_is_refused_and_not_left_out(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        sweep_table(**{"models": MODEL, "device": "h100-sxm", "concurrency": 1, **given})


def test_a_price_is_that_of_the_device_in_any_spelling() -> None:
    found = sweep_table(MODEL, "H100 SXM", usd_per_hour={"H100 SXM": 1.25}, concurrency=1)
    assert found.frame().usd_per_hour.tolist() == [1.25]


@pytest.mark.parametrize("seed", range(20))
def test_random_arguments_are_answered_or_refused_in_a_sentence(seed: int) -> None:
    random_of = random.Random(seed)
    values: list[Any] = [
        0,
        1,
        2,
        8,
        -3,
        1.5,
        1e9,
        float("inf"),
        "bf16",
        "x",
        None,
        [],
        [1, 2],
        [2, "y"],
        np.arange(1, 3),
        {},
    ]
    given = {name: random_of.choice(values) for name in random_of.sample(ARGUMENTS[1:], 3)}
    device = random_of.choice(["h100-sxm", "l40s", ["l40s", "a100-sxm-80gb"]])
    said = ""
    try:
        rows = len(sweep_table(MODEL, device, **given).frame())
    except InputError as error:
        rows, said = 0, str(error)
    assert bool(rows) != bool(said)
