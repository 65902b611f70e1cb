"""Beside other simulators: their requests are made again, answers are compared as they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import peers, peers_common, peers_vidur
from hwdb import InputError

TRACE = pd.DataFrame({"TIMESTAMP": range(200), "in": np.arange(200) * 7 % 900 + 100, "out": np.arange(200) % 90 + 10})


def vidur_row(**more: object) -> pd.DataFrame:
    """A table of one scenario with the sums that the trace gives."""
    count = 40
    inputs, outputs = (v[:count].sum() for v in peers_vidur.lengths(TRACE, 800))
    row = {
        "id": "low",
        "model": "meta-llama/Meta-Llama-3-8B",
        "device": "a100",
        "tp": 1,
        "pp": 1,
        "replicas": 1,
        "scheduler": "sarathi",
        "chunk": 512.0,
        "batch_cap": 128,
        "qps": 1.0,
        "n_req": count,
        "max_num_batched_tokens": 800,
        "prefill_tokens": inputs,
        "decode_tokens": outputs,
        "cpu_sim": 1.0,
        "cpu_init": 2.0,
        "out_tok_per_s": 60.0,
        **dict.fromkeys(peers_vidur.METRICS, 0.02),
    }
    return pd.DataFrame([row | more])


def test_requests_above_the_limit_shrink_in_proportion_and_none_is_lost() -> None:
    inputs, outputs = peers_vidur.lengths(TRACE, 500)
    assert len(inputs) == len(TRACE)
    assert (inputs + outputs).max() <= 500
    kept, _ = peers_vidur.lengths(TRACE, 10_000)
    assert sorted(kept) == sorted(TRACE["in"])


def test_arrivals_are_those_that_vidur_draws() -> None:
    # its own generator with seed 42, run by hand: 512 gaps at 1/s sum to 486.24 s
    assert peers_vidur.arrivals(1.0, 512)[-1] == pytest.approx(486.242, abs=1e-3)
    assert np.diff(peers_vidur.arrivals(2.0, 2000)).max() <= 1.5


def test_host_time_makes_a_scenario_slower() -> None:
    row = next(vidur_row().itertuples(index=False))
    plain, full = (peers_vidur.replay(TRACE, row, host=h) for h in (False, True))
    assert plain.requests == full.requests == 40
    assert plain.figures["tpot_ms_p50"] < full.figures["tpot_ms_p50"]
    assert plain.figures["ttft_ms_p50"] < full.figures["ttft_ms_p50"]


@pytest.mark.parametrize("scheduler", ["sarathi", "vllm"])
def test_chunks_and_caps_are_those_of_the_scenario(scheduler: str) -> None:
    row = next(vidur_row(scheduler=scheduler, chunk=256.0, batch_cap=7).itertuples(index=False))
    pool = peers_vidur.service(row, peers_vidur.requests(TRACE, row), host=True)
    assert pool.policy.max_num_seqs == 7
    assert pool.policy.chunked == (scheduler == "sarathi")
    assert pool.policy.max_num_batched_tokens == (256 if scheduler == "sarathi" else 4096)


def test_another_trace_is_refused() -> None:
    row = next(vidur_row().itertuples(index=False))
    with pytest.raises(InputError, match="Azure 2023 conversation"):
        peers_vidur.requests(TRACE.iloc[::-1].reset_index(drop=True).assign(out=5), row)


def test_a_peer_that_answers_alike_in_shape_keeps_the_ranks() -> None:
    ours = np.array([1.0, 2.0, 4.0, np.nan, 3.0])
    found = peers_common.compared(ours, 2 * ours)
    assert found["compared values"] == 4
    assert found["perfmodel / peer, median"] == "0.50"
    assert found["rank correlation"] == "1.000"
    assert peers_common.compared(ours, -ours)["perfmodel / peer, median"] == "-"


GRID = pd.DataFrame(
    {
        "hardware": "A100-80GB",
        "model": "meta-llama/Llama-3.1-8B",
        "tp": 1,
        "batch": [1, 16],
        "isl": 128,
        "osl": 128,
        "ttft_ms": [8.0, 100.0],
        "tpot_ms": [7.0, 8.0],
    }
)


def test_batches_that_were_measured_score_both() -> None:
    found = peers.answered(peers.batches(GRID))
    cases = pd.DataFrame(
        {
            "case_id": ["a", "b"],
            "model": "meta-llama/Meta-Llama-3-8B",
            "device": "a100-sxm-80gb",
            "tp": "1",
            "batch": ["1", "16"],
            "isl": "128",
            "osl": "128",
            "mode": "static",
            "split": "test",
            "trust": "A",
            "weight_dtype": "bf16",
            "engine": "vllm",
        }
    )
    truth = pd.DataFrame({"case_id": ["a", "b"], "metric": "e2e_ms", "value": [8 + 127 * 7.0, 2 * (100 + 127 * 8.0)]})
    lines = peers.measured(found, cases, truth)
    assert lines["peer"]["runs"] == 2
    assert lines["peer"]["mean of abs(error)"] == pytest.approx(0.25)
    assert lines["perfmodel"]["runs"] == 2
    assert peers.measured(found, cases.assign(split="train"), truth) == {}


def test_what_does_not_fit_is_not_compared() -> None:
    large = GRID.assign(model="meta-llama/Llama-3.1-70B")
    assert len(peers.answered(peers.batches(large))) == 0


def test_the_page_names_its_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vidur_row().to_csv(tmp_path / "v.csv", index=False)
    TRACE.to_csv(tmp_path / "t.csv", index=False)
    GRID.to_csv(tmp_path / "g.csv", index=False)
    files = [f"--{n}={tmp_path / f}" for n, f in (("vidur", "v.csv"), ("trace", "t.csv"), ("genz", "g.csv"))]
    peers.main([*files, "-o", str(tmp_path / "p.md")])
    page = (tmp_path / "p.md").read_text(encoding="utf-8")
    assert page == capsys.readouterr().out.removesuffix("\n")
    assert "python -m benchmarks.peers" in page
    assert "| 40 requests, Vidur |" in page
    assert "GenZ, all: tpot_ms" in page
