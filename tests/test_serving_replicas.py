"""A request is on one replica: replicas beyond the requests are idle, and requests that do not divide are whole."""

from __future__ import annotations

import numpy as np
import pytest

import hwdb
from perfmodel.costs import Roofline
from perfmodel.deployment.columns import Deployments, deployments
from perfmodel.estimates.estimates import Estimates
from perfmodel.estimates.estimation.estimator import estimate
from perfmodel.hardware import hardware_of
from perfmodel.models import model
from perfmodel.power import ready_power
from perfmodel.workload.workload import Workload

LLAMA = model("meta-llama/Llama-3.1-8B")
H100 = hwdb.device("h100-sxm")
COUNTED = {"closed": "concurrency", "static": "concurrency", "offline": "n_requests"}
DRAWN = np.random.default_rng(4)
#: (arrival, requests, replicas, input tokens, output tokens): fewer requests than replicas, and uneven numbers.
ASKED = [
    (
        str(DRAWN.choice([*COUNTED, "single", "open"])),
        int(DRAWN.integers(1, 12)),
        int(DRAWN.integers(2, 9)),
        float(DRAWN.integers(16, 6000)),
        float(DRAWN.integers(2, 400)),
    )
    for _ in range(24)
]


def placed(replicas: float, **columns: float) -> Deployments:
    return deployments([H100], replicas=float(replicas), **columns)


def asked(arrival: str, requests: float, replicas: float, isl: float, osl: float, **columns: float) -> Estimates:
    load = {COUNTED[arrival]: requests} if arrival in COUNTED else {}
    if arrival == "open":
        load = {"rate": 0.2 * requests, "n_requests": requests}
    work = Workload.from_lengths(isl, osl, arrival=arrival, **load)  # type: ignore[arg-type]
    return estimate(LLAMA, work, placed(replicas, **columns), costs=Roofline())


def one(values: np.ndarray) -> float:
    return float(np.ravel(values)[0])


@pytest.mark.parametrize(("arrival", "requests", "replicas", "isl", "osl"), ASKED)
def test_no_replica_runs_a_part_of_a_request(
    arrival: str, requests: int, replicas: int, isl: float, osl: float
) -> None:
    """TPOT is at least the time to read the weights, and requests on replicas of their own are no faster than alone."""
    found = asked(arrival, requests, replicas, isl, osl)
    weights = (LLAMA.parameters() - LLAMA.vocab * LLAMA.hidden) * 2.0 / H100.bandwidth
    assert one(found.tpot) >= weights
    alone = asked("single", 1, 1, isl, osl)
    assert one(found.tpot) >= one(alone.tpot) * (1 - 1e-4)  # a run is followed in cells
    assert one(found.ttft) >= one(alone.latency.prefill) * (1 - 1e-9)
    assert one(found.devices) == replicas
    if arrival == "closed":  # Little's law over the whole deployment
        assert one(found.request_rate) * one(found.e2e) == pytest.approx(requests)


@pytest.mark.parametrize("arrival", ["closed", "static", "offline"])
@pytest.mark.parametrize(("requests", "replicas"), [(1, 4), (3, 8), (5, 6)])
def test_replicas_without_requests_change_power_alone(arrival: str, requests: int, replicas: int) -> None:
    busy, more = (asked(arrival, requests, n, 700, 60) for n in (requests, replicas))
    for name, values in busy.latency.arrays().items():
        np.testing.assert_allclose(more.latency.arrays()[name], values, rtol=1e-12, err_msg=name)
    for name, values in busy.rates.arrays().items():
        np.testing.assert_allclose(more.rates.arrays()[name], values, rtol=1e-12, err_msg=name)
    waiting = one(ready_power(hardware_of([H100], np.zeros(1, int))))  # the model is loaded, nothing runs
    watts = one(busy.power) * requests + waiting * (replicas - requests)
    assert one(more.power) * replicas == pytest.approx(watts, rel=1e-6)
    assert one(more.power) < one(busy.power)
    assert one(more.energy) == pytest.approx(one(more.power) * replicas / one(more.output_rate))


@pytest.mark.parametrize(
    ("requests", "replicas", "most", "full"), [(5, 4, 2, 1), (7, 3, 3, 1), (11, 4, 3, 3), (9, 2, 5, 1)]
)
@pytest.mark.parametrize("arrival", ["closed", "static", "offline"])
def test_requests_that_do_not_divide_are_whole(
    arrival: str, requests: int, replicas: int, most: int, full: int
) -> None:
    """5 on 4 replicas: one has 2, three have 1. Rates add up, and latencies are means over the requests."""
    whole = asked(arrival, requests, replicas, 900, 80)
    fuller, emptier = (asked(arrival, n, 1, 900, 80) for n in (most, most - 1))
    parts = np.array([full, replicas - full]) * [one(fuller.request_rate), one(emptier.request_rate)]
    assert one(whole.request_rate) == pytest.approx(parts.sum())
    for name in ("ttft", "tpot", "e2e"):
        mean = parts @ [one(getattr(fuller, name)), one(getattr(emptier, name))] / parts.sum()
        assert one(getattr(whole, name)) == pytest.approx(mean)
    watts = np.array([full, replicas - full]) @ [one(fuller.power), one(emptier.power)] / replicas
    assert one(whole.power) == pytest.approx(watts)


def test_rows_of_one_call_are_independent() -> None:
    """Rows whose replicas are alike and others, in any order, get what each gets by itself."""
    replicas = np.array([1.0, 4.0, 3.0, 8.0, 2.0, 7.0, 6.0])
    work = Workload.from_lengths(800, 50, concurrency=6)
    together = estimate(LLAMA, work, deployments([H100], replicas=replicas), costs=Roofline())
    for row, count in enumerate(replicas):
        alone = estimate(LLAMA, work, placed(count), costs=Roofline())
        for name, values in alone.columns().items():
            found, expected = np.asarray(together.columns()[name][row]), np.asarray(values[0])
            if expected.dtype.kind == "f":  # exponentials of an array may differ from those of a number in a last digit
                np.testing.assert_allclose(found, expected, rtol=1e-14, err_msg=name)
            else:
                assert found == expected, name


CUTS = [
    (str(e), int(pp), float(budget), float(context))
    for e, pp, budget, context in zip(
        np.resize(["vllm", "sglang", "trtllm", "vllm-v0"], 20),
        np.resize([1, 2, 4, 8, 4], 20),
        np.resize([512, 2048, 8192, 1000, 4096, 16384], 20),
        np.resize([0.0, 0.0, 0.5], 20),
        strict=True,
    )
]


@pytest.mark.parametrize(("by", "pp", "budget", "hit"), CUTS)
@pytest.mark.parametrize("name", ["a100-sxm-80gb", "h100-sxm"])
def test_longer_prompts_take_longer_however_they_are_cut(
    by: str, pp: int, budget: float, hit: float, name: str
) -> None:
    """A prompt a little over a chunk costs a little more: engines cut it into a full chunk and the rest."""
    new = budget * np.array([0.3, 0.9, 1.0, 1.001, 1.01, 1.5, 1.99, 2.0, 2.001, 2.5, 3.0, 3.01, 5.0, 8.02])
    found = []
    for tokens in np.ceil(new / (1.0 - hit)):
        work = Workload.from_lengths(tokens, 20, arrival="single", prefix_hit=hit)
        row = deployments([hwdb.device(name)], pp=float(pp), max_num_batched_tokens=budget)
        found.append(one(estimate(LLAMA, work, row, engine=by).ttft))
    assert np.all(np.diff(found) > -0.01 * np.array(found[:-1]))
    over = [i for i, x in enumerate(new / budget) if x in (1.001, 2.001)]
    for i in over:  # at most one more step
        assert found[i] < found[i - 1] + found[0] * 1.5 + 0.02
