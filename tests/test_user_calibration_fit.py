"""Factors of a user's own system: the posterior against closed forms, and what calibration recovers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwdb import InputError
from perfmodel import predict
from perfmodel.engines import PARTS, Adjustment, engine
from perfmodel.user_calibration import MeasuredRun, calibrate, outliers, posterior, priors
from perfmodel.user_calibration.fit import Priors, share_of
from perfmodel.user_calibration.rows import KINDS, measured_of
from perfmodel.user_calibration.run_selection import after_run, most_informative_first

P = len(PARTS)
#: A system whose memory, host and power differ from what is shipped.
TRUE = {"memory": 1.15, "compute": 0.95, "power": 1.08}
BASE = {"model": "meta-llama/Llama-3.1-8B", "device": "h100-sxm", "engine": "vllm", "tp": "1", "n_devices": "1"}
METRICS = ("ttft_ms", "tpot_ms", "output_tok_s", "power_w_per_device")


def load(concurrency: int) -> dict[str, str]:
    return {**BASE, "mode": "closed", "concurrency": str(concurrency), "isl": "1000", "osl": "250"}


def runs_of(factors: dict[str, float], loads: list[int]) -> list[MeasuredRun]:
    """Runs as a system with these factors would measure them."""
    import pandas as pd

    own = (Adjustment("h100-sxm", "vllm", tuple(factors.items())),)
    frame = predict(pd.DataFrame([load(n) for n in loads]), adjustments=own)
    return [
        MeasuredRun(f"run {i}", load(n), {m: float(frame[m].iloc[i]) for m in METRICS}) for i, n in enumerate(loads)
    ]


def test_one_linear_factor_moves_by_its_share_of_the_conjugate_posterior() -> None:
    """Two values of a model that is linear in one factor: normal prior times normal likelihood, by hand.

    Each run alone says 0.9 of its value: from 0.7 worth one run, the share is that of a line through (told, measured).
    """
    known = Priors(np.full(P, 0.3), dict.fromkeys(KINDS.values(), 0.1))
    measured = measured_of(np.array([0, 1]), np.array(["tpot_ms", "tpot_ms"], object), np.exp([0.05, 0.09]))
    found = posterior(lambda point: np.exp(np.full(2, point[0])), measured, known)
    precision = 1 / 0.3**2 + 2 / 0.1**2
    whole = (0.05 + 0.09) / 0.1**2 / precision
    told = np.array([0.9 * 0.09, 0.9 * 0.05])
    share = (0.7 + (told * [0.05, 0.09]).sum() / 0.1**2) / (1.0 + np.square(told).sum() / 0.1**2)
    assert found.log_factors[0] == pytest.approx(share * whole)
    assert found.spreads[0] == pytest.approx(np.sqrt(1 / precision + (1 - share) ** 2 * whole**2))
    assert found.log_factors[1:] == pytest.approx(0.0)
    assert found.spreads[1:] == pytest.approx(0.3)
    assert found.told(known)[1:] == pytest.approx(0.0)
    assert found.left_out[0] == pytest.approx(0.05 - 0.7 * 0.9 * 0.09)
    spread = np.sqrt(0.1**2 + 1 / (1 / 0.3**2 + 1 / 0.1**2) + (0.3 * 0.9 * 0.09) ** 2)
    assert found.standard[0] == pytest.approx((0.05 - 0.7 * 0.9 * 0.09) / spread)


def test_factors_move_less_where_left_out_runs_disagree() -> None:
    """Runs that say the same move the factor as far as one alone, or further; runs that say opposites leave it."""
    slope, noise, prior = np.eye(P)[[0, 0]], np.full(2, 0.05), np.full(P, 0.3)
    agree, oppose = (share_of(slope, np.array(v), noise, prior, np.arange(2)) for v in ([0.2, 0.2], [0.2, -0.2]))
    alone = share_of(slope[:1], np.array([0.2]), noise[:1], prior, np.zeros(1, np.intp))
    assert agree > alone == pytest.approx(0.7)
    assert oppose == 0.0


def test_the_run_that_tells_most_is_the_one_that_moves_what_matters() -> None:
    """Three runs, of one factor each, and one figure that hangs on the second: by hand, the second leaves least."""
    slope, noise = np.eye(P)[:3], np.array([0.01, 0.1, 0.01])
    order = most_informative_first(slope, noise, np.arange(3), np.eye(P)[[1]], np.full(P, 0.2), 2)
    assert order[0] == 1
    left = after_run(np.diag(np.full(P, 0.04)), slope[1:2], noise[1:2])
    assert left[1, 1] == pytest.approx(1 / (1 / 0.2**2 + 1 / 0.1**2))
    assert left[0, 0] == pytest.approx(0.04)


def test_a_far_off_value_moves_the_mode_less_than_its_distance() -> None:
    known = Priors(np.full(P, 0.3), dict.fromkeys(KINDS.values(), 0.1))
    names = np.array(["tpot_ms"] * 4, object)

    def mode(last: float) -> float:
        measured = measured_of(np.arange(4), names, np.exp([0.0, 0.0, 0.0, last]))
        return float(posterior(lambda p: np.exp(np.full(4, p[0])), measured, known).log_factors[0])

    assert mode(2.0) < 0.06
    assert mode(3.0) == pytest.approx(mode(2.0), rel=0.2)


def test_three_percentiles_of_one_run_count_as_one_value() -> None:
    one = measured_of(np.zeros(1, int), np.array(["tpot_ms"], object), np.exp([0.2]))
    names = np.array(["tpot_ms", "tpot_ms_p50", "tpot_ms_p99"], object)
    three = measured_of(np.zeros(3, int), names, np.exp([0.2, 0.2, 0.2]))
    modes = [posterior(lambda p, n=len(m.value): np.exp(np.full(n, p[0])), m).log_factors[0] for m in (one, three)]
    assert modes[0] == pytest.approx(modes[1])


def test_calibration_recovers_a_system_and_predicts_its_other_loads() -> None:
    found = calibrate(runs_of(TRUE, [1, 16]))[0]
    factors = dict(found.adjustment.factors)
    assert 1.08 < factors["memory"] < 1.16  # over half of the way, whatever the priors
    assert 1.02 < factors["power"] < 1.08  # two runs against a prior: part of the way
    assert np.median(np.abs(found.posterior.after)) < 0.03 < np.median(np.abs(found.posterior.before))
    assert found.told[PARTS.index("memory")]
    assert not found.told[PARTS.index("link")]
    other = runs_of(TRUE, [64])[0]
    import pandas as pd

    table = pd.DataFrame([load(64)])
    shipped, own = predict(table), predict(table, adjustments=(found.adjustment,))
    for metric in ("tpot_ms", "output_tok_s"):
        before, after = (abs(float(np.log(f[metric].iloc[0] / other.measured[metric]))) for f in (shipped, own))
        assert after < before / 2


def test_factors_of_one_leave_everything_as_it_was() -> None:
    import pandas as pd

    table = pd.DataFrame([load(16)])
    neutral = (Adjustment("h100-sxm", "vllm", tuple((p, 1.0) for p in PARTS)),)
    same, other = predict(table), predict(table, adjustments=neutral)
    numbers = same.select_dtypes("number").columns
    assert other[numbers].to_numpy() == pytest.approx(same[numbers].to_numpy(), nan_ok=True)
    elsewhere = (
        Adjustment("h100-sxm", "sglang", (("memory", 2.0),)),
        Adjustment("a100-sxm-80gb", "vllm", (("memory", 2.0),)),
    )
    assert predict(table, adjustments=elsewhere)["tpot_ms"].iloc[0] == same["tpot_ms"].iloc[0]


def test_priors_cover_every_part_and_kind() -> None:
    known = priors()
    assert np.all(known.factors > 0)
    assert set(known.noise) == set(KINDS.values())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"ttft_ms": 0.02}, "beyond the device"),
        ({"tpot_ms": 0.8}, "speculative"),
        ({"output_tok_s": 90000.0}, "requests in flight"),
        ({"e2e_ms": 2.0}, "e2e_ms 2"),
        ({"req_s": 4000.0}, "output_tok_s"),
    ],
)
def test_nonsense_is_refused_with_its_place(change: dict[str, float], told: str) -> None:
    good = runs_of({}, [16])[0]
    bad = MeasuredRun("file.csv, line 7", good.given, {**good.measured, **change})
    with pytest.raises(InputError, match=told) as caught:
        calibrate([bad])
    assert str(caught.value).startswith("file.csv, line 7: ")


def test_a_run_without_its_device_says_which_flag_helps() -> None:
    with pytest.raises(InputError, match="the device is not stated; give --device"):
        calibrate([MeasuredRun("x", {"model": "meta-llama/Llama-3.1-8B"}, {"tpot_ms": 10.0})])


def test_a_run_apart_from_the_others_is_named_with_its_likely_reason() -> None:
    runs = runs_of({}, [4, 8, 16, 32])
    odd = runs[2]
    runs[2] = MeasuredRun(odd.place, odd.given, {**odd.measured, "ttft_ms": 6 * odd.measured["ttft_ms"]})
    found = outliers(calibrate(runs)[0])
    assert [o.place for o in found] == [odd.place]
    assert found[0].metric == "ttft_ms"
    assert "burst" in found[0].reason


def test_an_engine_without_factors_costs_nothing_more() -> None:
    assert engine("vllm").adjustments == ()
    assert engine("vllm").adjusted_by([Adjustment("h100-sxm", "sglang")]).adjustments == ()


def test_factors_hold_in_part_for_a_model_that_was_not_measured() -> None:
    """The same model takes a factor whole; another takes a fifth of its logarithm, with more spread, in every door."""
    import pandas as pd

    from perfmodel.engines import OTHER_MODEL_SHARE, OTHER_MODEL_SPREAD

    one = Adjustment("h100-sxm", "vllm", (("memory", 1.3),), (("memory", 0.05),), (BASE["model"],), 2)
    assert one.for_model(BASE["model"]) is one
    other = one.for_model("Qwen/Qwen3-8B")
    assert other.factor("memory") == pytest.approx(1.3**OTHER_MODEL_SHARE)
    assert dict(other.spreads)["memory"] == pytest.approx(np.hypot(0.05, OTHER_MODEL_SPREAD))
    assert engine("vllm").adjusted_by([one], "Qwen/Qwen3-8B").adjustments == (other,)
    table = pd.DataFrame([load(1), {**load(1), "model": "Qwen/Qwen3-8B"}])
    slower = predict(table, adjustments=(one,))["tpot_ms"] / predict(table)["tpot_ms"]
    assert 1.0 < slower[1] < slower[0]
    assert np.log(slower[1]) / np.log(slower[0]) == pytest.approx(OTHER_MODEL_SHARE, abs=0.1)


def test_file_of_a_calibration_holds_factors_and_runs(tmp_path: Path) -> None:
    from perfmodel.user_calibration import read_adjustments, read_runs, write_calibration

    found = calibrate(runs_of(TRUE, [1, 16]))
    write_calibration(tmp_path / "mine.toml", found)
    (one,) = read_adjustments(tmp_path / "mine.toml")
    assert dict(one.factors) == pytest.approx(dict(found[0].adjustment.factors), rel=1e-3)
    assert (one.device, one.engine, one.runs) == ("h100-sxm", "vllm", 2)
    again = calibrate(read_runs(tmp_path / "mine.toml"))[0]
    assert dict(again.adjustment.factors) == pytest.approx(dict(one.factors), rel=1e-2)


def test_factors_of_front_end_and_power_reach_simulator_and_pools() -> None:
    """Every door takes them: the simulator's first token and watts, and the watts of two pools."""
    import hwdb
    from perfmodel import Workload, deployments, estimate_disaggregated, model, simulate
    from perfmodel.simulator import power_summary, summary

    plain = engine("vllm")
    own = plain.adjusted_by([Adjustment("h100-sxm", "vllm", (("front_end", 21.0), ("power", 1.3)))])
    spec, placed = model("meta-llama/Llama-3.1-8B"), deployments([hwdb.device("h100-sxm")])
    work = Workload.from_lengths(500, 50, concurrency=4)
    shipped, changed = (simulate(spec, placed, work, engine=by, count=60) for by in (plain, own))
    later = summary(changed)["ttft_ms"] - summary(shipped)["ttft_ms"]
    assert later == pytest.approx(20.0 * plain.request_time * 1e3, rel=0.25)
    watts = [power_summary(run)["decode_power_w_per_device"] for run in (shipped, changed)]
    assert watts[1] > watts[0] * 1.1
    workers = {"prefill_workers": 1, "decode_workers": 1}
    both = [estimate_disaggregated(spec, work, placed, placed, engine=by, **workers).power[0] for by in (plain, own)]
    assert both[1] > both[0]
    slower = deployments([hwdb.device("l40s")])  # decodes alone, so its front end is of no account
    found = estimate_disaggregated(spec, work, placed, slower, engine=own, **workers)
    assert found.latency.front_end == pytest.approx(21.0 * (plain.request_time + 500 * plain.tokenize_time))
    assert found.ttft == pytest.approx(found.latency.prefill + found.latency.wait + found.latency.front_end)
