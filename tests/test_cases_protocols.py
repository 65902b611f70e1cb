"""Cases of runs that ended, or are known to have kept limits: never an infinite answer, always a reason."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hwdb
from perfmodel import predict
from perfmodel.cases.kept_limits import LEAST_SHARE, MOST_SHARE
from perfmodel.cases.protocols import protocols

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
PATH = "mlcommons/inference_results_v5.1 closed/Somebody/results/H100x1/llama3.1-8b/"


def table(**columns: object) -> pd.DataFrame:
    rows = max(len(v) for v in columns.values() if isinstance(v, list))
    given = {
        "model": MODEL,
        "device": "h100-sxm",
        "n_devices": 1,
        "engine": "trtllm",
        "isl": 930,
        "osl": 128,
        **columns,
    }
    return pd.DataFrame({k: v if isinstance(v, list) else [v] * rows for k, v in given.items()})


RATES = [float(r) for r in np.round(np.exp(np.random.default_rng(3).uniform(np.log(5), np.log(150), 20)), 1)]


@pytest.fixture(scope="module")
def passed() -> pd.DataFrame:
    """Results at rates from a tenth to three times the capacity of one H100, by scenario."""
    sources = [PATH + ("Server", "Interactive @232fbf90fceb")[i % 2] for i in range(len(RATES))]
    return predict(table(request_rate_rps=RATES, dataset="mlperf_inference_v6_0", source=sources))


def test_a_run_that_passed_is_never_called_saturated(passed: pd.DataFrame) -> None:
    assert (passed.saturated == "false").all()
    latencies = passed[["ttft_ms", "ttft_ms_p99", "tpot_ms", "tpot_ms_p99", "e2e_ms", "e2e_ms_p50"]].to_numpy(float)
    assert np.isfinite(latencies).all()


def test_a_run_that_passed_kept_its_limits_at_the_rate_that_it_states(passed: pd.DataFrame) -> None:
    for row in passed.itertuples():
        limit = protocols()["mlperf-interactive" if "Interactive" in row.source else "mlperf-server"].limits[MODEL]
        assert row.ttft_ms_p99 <= limit["ttft_ms"] * (1 + 1e-9)
        assert row.tpot_ms_p99 <= limit["tpot_ms"] * (1 + 1e-9)
        assert row.req_s == pytest.approx(row.request_rate_rps)
        assert row.output_tok_s == pytest.approx(row.request_rate_rps * 128)


def test_a_run_within_its_limits_is_answered_as_any_other() -> None:
    free = predict(table(request_rate_rps=RATES))
    limits = protocols()["mlperf-server"].limits[MODEL]
    kept = predict(
        table(request_rate_rps=RATES, kept_ttft_ms_p99=limits["ttft_ms"], kept_tpot_ms_p99=limits["tpot_ms"])
    )
    same = kept.load_remark == ""
    assert 0 < same.sum() < len(RATES)
    assert kept.ttft_ms[same].tolist() == free.ttft_ms[same].tolist()


def test_a_protocol_is_known_by_its_name_or_by_its_source(passed: pd.DataFrame) -> None:
    names = ["mlperf-server", "mlperf-interactive"] * 10
    named = predict(table(request_rate_rps=RATES, dataset="mlperf_inference_v6_0", protocol=names))
    assert named.ttft_ms.tolist() == passed.ttft_ms.tolist()


def test_a_result_that_is_the_highest_rate_is_answered_at_its_limits(passed: pd.DataFrame) -> None:
    """One of the limits binds, unless even the highest rate that is tried keeps both by far."""
    for row in passed.itertuples():
        limit = protocols()["mlperf-interactive" if "Interactive" in row.source else "mlperf-server"].limits[MODEL]
        nearest = max(row.ttft_ms_p99 / limit["ttft_ms"], row.tpot_ms_p99 / limit["tpot_ms"])
        above = float(row.load_remark.split("up to ")[1].split(":")[0]) > row.request_rate_rps
        assert above == ("requests/s and not above, the estimate" in row.load_remark)
        taken = float(row.load_remark.split("up to ")[1].split(":")[0]) / row.request_rate_rps
        assert nearest > 0.8 or taken == pytest.approx(MOST_SHARE, rel=0.01)
    # the rate of the run then says nothing of its latencies
    server = passed[passed.source.str.endswith("Server") & (passed.request_rate_rps > 30.0)]
    assert len(server) > 3
    assert server.tpot_ms.to_numpy() == pytest.approx(server.tpot_ms.mean(), rel=0.1)


def test_a_publication_gives_the_settings_that_its_rows_leave_out() -> None:
    """Blocks that grow and an fp8 cache hold more answers of DeepSeek-R1 than whole answers reserved in 16 bits."""
    run = {"model": "deepseek-ai/DeepSeek-R1", "device": "b200-sxm", "n_devices": 8, "weight_dtype": "fp4"}
    run |= {"mode": "offline", "isl": [800.0, 800.0], "osl": 3700.0, "isl_dist": "trace", "request_rate_rps": np.nan}
    named, other = predict(table(**run, dataset=["mlperf_inference_v6_0", "of one's own"])).output_tok_s
    assert named > 1.3 * other
    stated = predict(table(**run, dataset="mlperf_inference_v6_0", kv_dtype=["fp8", "bf16"])).output_tok_s
    assert stated[0] == named > stated[1]
    default = predict(table(**run, dataset=["mlperf_inference_v6_0", ""], recipe="default")).output_tok_s
    assert default[0] == default[1]


def test_limits_of_the_row_go_before_those_of_its_protocol() -> None:
    found = predict(table(request_rate_rps=[60.0, 60.0], kept_tpot_ms_p99=[1000.0, 12.0], protocol="mlperf-server"))
    assert found.tpot_ms_p99[1] <= 12.0 < found.tpot_ms_p99[0]


def test_limits_that_no_rate_keeps_are_said_to_be_missed_at_some_rate() -> None:
    found = predict(table(request_rate_rps=[60.0], kept_ttft_ms_p99=1.0)).iloc[0]
    assert np.isfinite(found.ttft_ms)
    assert found.saturated == "false"
    rate = float(found.load_remark.split("up to ")[1].split(":")[0])
    assert 60.0 * LEAST_SHARE <= rate < 60.0


def test_an_unknown_protocol_is_refused_by_name() -> None:
    found = predict(table(request_rate_rps=[5.0], protocol="mlperf-edge")).iloc[0]
    assert "'mlperf-edge' is none of mlperf-server" in found.error


@pytest.mark.parametrize("rate", [500.0, 5000.0])
def test_a_run_beyond_capacity_has_the_waits_of_its_length(rate: float) -> None:
    lasting = {"n_requests": [np.nan, 500.0, 2000.0, np.nan], "duration_s": [np.nan, np.nan, np.nan, 500.0 / rate]}
    found = predict(table(request_rate_rps=rate, **lasting))
    assert (found.saturated == "true").all()
    endless, short, long, stated = found.ttft_ms
    assert np.isinf(endless)
    assert short == stated < long < np.inf
    assert "waits grow without end; state n_requests or duration_s" in found.load_remark[0]
    assert "those of a run of 500 requests" in found.load_remark[1]


def test_wall_power_counts_whole_nodes() -> None:
    found = predict(table(request_rate_rps=[8.0, 8.0], n_devices=[1, 2]))
    beside = found.wall_power_w - found.power_w_per_device * found.n_devices
    # the host follows the watts of its devices, which fall where two share the load
    assert beside[0] == pytest.approx(beside[1], rel=0.15)
    assert (beside > 500.0).all()
    assert found.itl_ms.tolist() == found.tpot_ms.tolist()


def test_wall_power_follows_the_load_of_the_host_and_its_supplies() -> None:
    cases = table(concurrency=[1.0, 64.0], n_devices=[8, 8], tp=8, request_rate_rps=[np.nan, np.nan])
    found = predict(cases)
    node = hwdb.node("dgx-h100")
    beside = found.wall_power_w - found.power_w_per_device * found.n_devices
    # an HGX node of 10.2 kW draws 8.48 kW at most beside 8 devices of 700 W: 0.63 of the nameplate of its host
    assert beside[0] < beside[1] <= 0.63 * node.host_power * (1 + 1e-9)
    levels = ["titanium", "platinum", "gold", "silver", "bronze"]
    drawn = np.array([predict(cases, psu=level).wall_power_w.to_numpy() for level in levels])
    np.testing.assert_allclose(drawn[0], found.wall_power_w)
    assert (np.diff(drawn, axis=0) > 0).all()
    assert (drawn[-1] < 1.25 * drawn[0]).all()
    with pytest.raises(hwdb.InputError, match="brass"):
        predict(cases, psu="brass")
