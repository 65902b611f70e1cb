"""Times per token and first tokens of runs: by when a request began, how long its answer and its prompt are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import hwdb
from perfmodel import simulator
from perfmodel.costs import Roofline, default
from perfmodel.deployment.columns import deployments
from perfmodel.engines import engine
from perfmodel.estimates.estimates import Estimates
from perfmodel.estimates.estimation.estimator import estimate, estimate_load
from perfmodel.estimates.latency_percentiles.percentiles import overall
from perfmodel.models import model
from perfmodel.serving import PACE_LENGTHS, PACE_STARTS
from perfmodel.workload import Workload, load_of
from perfmodel.workload.output_lengths import OUTPUT_LENGTH_CV

H100 = [hwdb.device("h100-sxm")]
LLAMA, EXPERTS = model("llama-3.1-8b"), model("Qwen/Qwen3-30B-A3B")
RUN = 300


def one(values: object) -> float:
    return float(np.ravel(np.asarray(values))[0])


def drawn(mean: float, seed: int) -> np.ndarray:
    """Answers of the law that the closed form takes, as whole tokens."""
    shape = OUTPUT_LENGTH_CV["trace"] ** -1.086
    tokens = np.random.default_rng(seed).weibull(shape, RUN)
    return np.maximum(np.round(tokens * mean / tokens.mean()), 1.0)


def run(rate: float, by: str) -> Estimates:
    work = Workload.from_lengths(500, 300, rate=rate, n_requests=RUN, arrival="open", isl_dist="trace")
    demand = replace(load_of(work, 1), prompt_spread=np.zeros(1))
    return estimate_load(LLAMA, demand, deployments(H100), engine=engine(by), costs=Roofline())


def replayed(rate: float, by: str, seeds: int = 4) -> dict[str, float]:
    found = []
    for seed in range(seeds):
        requests = simulator.traffic(
            np.full(RUN, 500.0), drawn(300.0, seed), arrival=simulator.arrivals(rate, RUN, seed=seed)
        )
        pool = simulator.pool(LLAMA, deployments(H100), engine(by), requests, costs=Roofline())
        found.append(simulator.summary(simulator.run(requests, [pool])))
    return {k: float(np.mean([f[k] for f in found])) for k in found[0]}


@pytest.mark.parametrize("rate", [10.0, 20.0, 40.0])
def test_short_answers_have_the_time_per_token_of_their_part_of_the_run(rate: float) -> None:
    """Where prompts go first, answers hardly decode while prompts arrive; short ones end before that is over."""
    found, truth = run(rate, "vllm-v0"), replayed(rate, "vllm-v0")
    assert one(overall(found, "tpot", "p50")) * 1e3 == pytest.approx(truth["tpot_ms_p50"], rel=0.15)
    assert one(overall(found, "tpot", "p99")) * 1e3 == pytest.approx(truth["tpot_ms_p99"], rel=0.3)
    assert one(found.request_rate) == pytest.approx(truth["request_rate_rps"], rel=0.15)


@pytest.mark.parametrize("by", ["vllm-v0", "vllm"])
@pytest.mark.parametrize("rate", [20.0, 40.0, 1e4])
def test_long_answers_of_a_run_have_the_time_per_token_of_its_end(by: str, rate: float) -> None:
    """A long answer gets on when no prompts come any more, and the longest one ends the run."""
    found, truth = run(rate, by), replayed(rate, by, seeds=2)
    assert one(overall(found, "tpot", "mean")) * 1e3 == pytest.approx(truth["tpot_ms"], rel=0.25)
    assert one(overall(found, "e2e", "mean")) * 1e3 == pytest.approx(truth["e2e_ms"], rel=0.2)
    for rank in ("p90", "p99"):
        assert one(overall(found, "e2e", rank)) * 1e3 == pytest.approx(truth[f"e2e_ms_{rank}"], rel=0.2)
    assert one(found.request_rate) == pytest.approx(truth["request_rate_rps"], rel=0.15)


def test_pace_is_that_of_all_requests_on_average() -> None:
    pace = run(20.0, "vllm-v0").tokens.pace_by_start
    assert pace.shape == (len(PACE_STARTS), len(PACE_LENGTHS), 1)
    assert pace[:, list(PACE_LENGTHS).index(1.0)].mean() == pytest.approx(1.0, abs=0.15)
    assert pace[:, 0].max() > 1.2 * pace[:, -1].max()
    # steps that carry prompts delay all answers alike, and so does a run without end
    assert (run(20.0, "vllm").tokens.pace_by_start == 1.0).all()
    endless = estimate(LLAMA, Workload.from_lengths(500, 300, rate=5.0), deployments(H100), engine="vllm-v0")
    assert (endless.tokens.pace_by_start == 1.0).all()


@pytest.mark.parametrize("by", ["vllm", "vllm-v0", "sglang", "generic"])
@pytest.mark.parametrize("answer", [200, 600])
def test_no_percentile_falls_as_the_load_grows(by: str, answer: int) -> None:
    """Steps of experts get longer with each sequence until all experts are read, and hardly any more after that."""
    found: dict[tuple[str, str], list[float]] = {}
    for rate in np.geomspace(0.5, 9.0, 50):
        work = Workload.from_lengths(1000, answer, rate=float(rate))
        each = estimate(EXPERTS, work, deployments(H100), engine=by)
        for metric in ("tpot", "e2e"):
            for rank in ("mean", "p50", "p90", "p95", "p99"):
                found.setdefault((metric, rank), []).append(one(overall(each, metric, rank)))
    for key, values in found.items():
        finite = np.array([v for v in values if np.isfinite(v)])
        assert (np.diff(finite) >= -2e-3 * finite[:-1]).all(), key


# -------------------------------------------------------------------------------- first tokens by prompt


@pytest.mark.parametrize("spec", [LLAMA, EXPERTS], ids=["dense", "experts"])
def test_first_tokens_spread_with_prompts_as_replayed(spec: object) -> None:
    """A longer prompt takes longer by its tokens: the weights of experts are read whatever its length."""
    generator, count, costs = np.random.default_rng(2), 3000, default(engine("vllm"))
    prompts = np.maximum(np.round(generator.lognormal(np.log(400.0) - 0.32, 0.8, count)), 1.0)
    requests = simulator.traffic(prompts, np.full(count, 20.0), arrival=simulator.arrivals(0.5, count, seed=3))
    pool = simulator.pool(spec, deployments(H100), engine("vllm"), requests, costs=costs)
    truth = simulator.summary(simulator.run(requests, [pool]))
    demand = replace(load_of(Workload.from_lengths(400, 20, rate=0.5), 1), prompt_spread=np.array([0.8]))
    found = estimate_load(spec, demand, deployments(H100), engine=engine("vllm"), costs=costs)
    for rank, within in (("p50", 0.1), ("p90", 0.15), ("p99", 0.2)):
        assert one(overall(found, "ttft", rank)) * 1e3 == pytest.approx(truth[f"ttft_ms_{rank}"], rel=within)
    assert (one(found.latency.growth) < 0.5) == (spec is EXPERTS)


def test_the_first_token_of_a_lone_request_varies_with_its_prompt() -> None:
    def found(tokens: float, spread: str) -> Estimates:
        work = Workload.from_lengths(tokens, 50, concurrency=1.0, arrival="single", isl_dist=spread)
        return estimate(LLAMA, work, deployments(H100), engine="vllm", costs=Roofline())

    # a log-normal law of deviation 0.8 has its median at 0.73 and its 90th percentile at 2.02 means
    varied, spread = found(2000, "trace"), {"p50": np.exp(-0.32), "p90": np.exp(1.2816 * 0.8 - 0.32)}
    for rank, share in spread.items():
        same = one(found(2000 * share, "fixed").ttft)
        assert one(overall(varied, "ttft", rank)) == pytest.approx(same, rel=0.1), rank
    assert one(overall(varied, "tpot", "p99")) == pytest.approx(one(varied.tpot), rel=0.01)
