"""Percentiles over all requests of a mix: one definition for frames, plans and predictions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hwdb
import perfmodel as pm
from perfmodel import simulator
from perfmodel.estimates.latency_percentiles import percentiles
from perfmodel.estimates.latency_percentiles.percentiles import overall
from perfmodel.workload import RANKS


def test_frame_shows_the_percentile_of_the_mix() -> None:
    """9 short prompts for each long one: the 90th percentile lies where the long ones begin, not between the two."""
    workload = pm.Workload.from_lengths([200, 8000], [200, 200], share=[0.9, 0.1], rate=2.0)
    found = pm.estimate(pm.model("meta-llama/Llama-3.1-70B"), workload, pm.deployments([hwdb.device("h100-sxm")], tp=4))
    for statistic in ("p50", "p90", "p99"):
        shown = found.frame()[f"ttft_ms_{statistic}"][0]
        assert shown == pytest.approx(overall(found, "ttft", statistic)[0] * 1e3, rel=1e-12)
        below = percentiles.share_within(found, "ttft", np.array([shown / 1e3]))[0]
        assert below == pytest.approx(float(statistic[1:]) / 100, rel=1e-6)
    fast, slow = found.quantile("ttft", "p90")[:, 0] * 1e3
    assert 0.9 * fast + 0.1 * slow < 0.5 * found.frame()["ttft_ms_p90"][0]


@given(
    st.lists(st.tuples(st.floats(16, 8000), st.floats(2, 500), st.floats(0.05, 1)), min_size=2, max_size=5),
    st.floats(0.1, 3.0),
)
@settings(max_examples=20)
def test_percentiles_of_a_frame_lie_between_the_classes_and_rise(
    classes: list[tuple[float, float, float]], rate: float
) -> None:
    inputs, outputs, shares = zip(*classes, strict=True)
    workload = pm.Workload.from_lengths(list(inputs), list(outputs), share=[s / sum(shares) for s in shares], rate=rate)
    found = pm.estimate(pm.model("meta-llama/Llama-3.1-8B"), workload, pm.deployments([hwdb.device("h100-sxm")]))
    frame = found.frame()
    for metric in ("ttft", "tpot"):
        values = [frame[f"{metric}_ms_{s}"][0] for s in ("p50", "p90", "p99")]
        assert values[0] <= values[1] * (1 + 1e-9) <= values[2] * (1 + 1e-9) ** 2
        for statistic, value in zip(("p50", "p90", "p99"), values, strict=True):
            own = found.quantile(metric, statistic)[:, 0] * 1e3
            assert own.min() * (1 - 1e-9) <= value <= own.max() * (1 + 1e-9)


def test_a_percentile_of_a_mixture_does_not_depend_on_how_many_candidates_are_asked() -> None:
    """At a rank that some parts fill exactly, the last bit of a sum decides which part is the percentile."""
    draw = np.random.default_rng(3)
    share = np.diff(np.linspace(0.0, 1.0, 21) ** 2)[:, None]
    for _ in range(50):
        own = draw.permutation(20)[:, None] + np.ones((20, 3))
        rank = float(share[own[:, 0] <= 10.0].sum())
        alone = percentiles.mixed([own[:, :1]] * len(RANKS), share, own[:, :1], rank)
        beside = percentiles.mixed([own] * len(RANKS), share, own, rank)
        np.testing.assert_array_equal(beside, np.repeat(alone, 3))


# -------------------------------------------------------------------------------- gaps between tokens


@pytest.mark.parametrize("spread", [0.0, 0.4, 0.8])
@pytest.mark.parametrize("entering", [0.03, 0.2, 0.6, 2.0])
def test_gaps_are_those_of_a_poisson_number_of_prompts(entering: float, spread: float) -> None:
    """Steps of 10 ms that each prompt, of log-normal length, stretches by 20 ms on average."""
    rng = np.random.default_rng(int(100 * entering))
    count = rng.poisson(entering, 300_000)
    added = np.zeros(len(count))
    for number in range(1, int(count.max()) + 1):
        added += np.where(count >= number, rng.lognormal(-(spread**2) / 2.0, spread, len(count)), 0.0)
    share = -np.expm1(-entering)
    gaps = percentiles.Gaps(
        mean=np.array(10.0 + 20.0 * entering),
        step=np.array(10.0),
        tail=np.array(10.0 + 20.0 * entering / share),
        each=np.array(20.0),
        most=np.array(np.inf),
        uneven=np.array(np.exp(spread**2 / 2.0)),
    )
    for statistic in ("p50", "p90", "p95", "p99"):
        drawn = np.percentile(10.0 + 20.0 * added, 100.0 * RANKS[statistic])
        found = float(percentiles.itl_percentile(gaps, statistic))
        assert found == pytest.approx(drawn, rel=0.15, abs=11.0)  # a number of prompts is whole
    held = gaps._replace(most=np.array(25.0))
    longest = max(25.0, float(gaps.tail))
    assert float(percentiles.itl_percentile(held, "p99")) == pytest.approx(
        min(float(percentiles.itl_percentile(gaps, "p99")), longest)
    )


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize(("prompt", "answer", "clients"), [(600, 400, 32), (600, 400, 128), (4000, 200, 32)])
def test_the_longest_gaps_are_those_of_the_simulator(engine: str, prompt: int, answer: int, clients: int) -> None:
    """Prompts of log-normal lengths: 1 % of gaps hold several of them, or a long one."""
    rng = np.random.default_rng(7)
    spec, place = pm.model("meta-llama/Llama-3.1-8B"), pm.deployments([hwdb.device("h100-sxm")])
    inputs = np.maximum(rng.lognormal(-0.32, 0.8, 30 * clients) * prompt, 1.0).astype(int)
    outputs = rng.integers(answer // 2, answer * 3 // 2, 30 * clients)
    replay = simulator.simulate(spec, place, simulator.traffic(inputs, outputs, concurrency=clients), engine=engine)
    played = simulator.latency(replay, "itl")
    load = pm.Workload.from_lengths([prompt], [answer], concurrency=clients, isl_dist="trace")
    found = pm.estimate(spec, load, place, engine=engine)
    assert float(overall(found, "itl", "p50")[0]) == pytest.approx(played.p50, rel=0.06)
    assert float(overall(found, "itl", "p99")[0]) == pytest.approx(played.p99, rel=0.25)
