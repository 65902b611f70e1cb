"""Watts: bounds that no mixture of work leaves, published measurements, and energy that adds up."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hwdb
from perfmodel.costs import Roofline
from perfmodel.deployment.columns import deployments
from perfmodel.engines.catalogue import engine
from perfmodel.estimates.estimates import Estimates
from perfmodel.estimates.estimation.estimator import estimate
from perfmodel.hardware.columns import Hardware, hardware_of
from perfmodel.models import model
from perfmodel.power import (
    Activity,
    carbon_g,
    energy_kwh,
    energy_per_token,
    energy_usd,
    idle_power,
    kwh_per_million_tokens,
    mean_power,
    per_million_tokens,
    power_spread,
    ready_power,
    site_power,
    use_of,
)
from perfmodel.vocabulary import WORK
from perfmodel.workload.workload import Workload

LLAMA = model("llama-3.1-8b")
lengths = Workload.from_lengths


def columns(*names: str) -> Hardware:
    return hardware_of([hwdb.device(n) for n in names], np.arange(len(names)))


def ask(workload: Workload, device: str = "h100-sxm", **placed: object) -> Estimates:
    return estimate(LLAMA, workload, deployments([hwdb.device(device)], **placed), costs=Roofline())


def one(values: np.ndarray | float) -> float:
    return float(np.ravel(values)[0])


# -------------------------------------------------------------------------------- a device


def doing(hardware: Hardware, busy: float = 1.0, kernels: float = 1.0, **use: float) -> Activity:
    """What one device does: shares of time, and of its peaks by kind of work."""
    rows = len(hardware.index)
    shares = np.array([np.full(rows, use.get(name, 0.0)) for name in WORK])
    return Activity(np.full(rows, busy), np.full(rows, kernels), shares)


@given(
    busy=st.floats(0.0, 1.0),
    kernels=st.floats(0.0, 1.0),
    use=st.lists(st.floats(0.0, 1.0), min_size=5, max_size=5),
    more=st.integers(0, 4),
)
def test_watts_lie_between_waiting_and_the_limit_and_grow_with_work(
    busy: float, kernels: float, use: list[float], more: int
) -> None:
    rows = columns("h100-sxm", "a30", "gb10", "rtx-3090", "mi355x", "epyc-9755")
    work = {name: busy * share for name, share in zip(WORK, use, strict=True)}
    drawn = mean_power(rows, doing(rows, busy, busy * kernels, **work))
    assert (drawn >= ready_power(rows) * (1 - 1e-9)).all()
    assert (drawn <= rows.tdp * (1 + 1e-9)).all()
    raised = {**work, WORK[more]: work[WORK[more]] + 0.1}
    assert (mean_power(rows, doing(rows, busy, busy * kernels, **raised)) >= drawn - 1e-9).all()


def test_the_same_share_of_a_narrower_peak_takes_more_watts() -> None:
    h100 = columns("h100-sxm")
    by_kind = {name: one(mean_power(h100, doing(h100, **{name: 0.05}))) for name in WORK}
    assert by_kind["flop_8"] > by_kind["flop_16"] > by_kind["sent"]
    assert by_kind["moved"] > by_kind["sent"]


def test_work_in_formats_that_a_device_widens_counts_as_what_it_computes_in() -> None:
    both = columns("a100-sxm-80gb", "h100-sxm")
    rates = np.zeros((5, 2))
    rates[WORK.index("flop_8")] = 1e14
    used = dict(zip(WORK, use_of(both, rates), strict=True))
    np.testing.assert_allclose(used["flop_16"], [1e14 / 312e12, 0.0], rtol=0.01)
    np.testing.assert_allclose(used["flop_8"], [0.0, 1e14 / 1979e12], rtol=0.01)


def test_a_server_between_requests_draws_more_than_an_empty_card() -> None:
    # medians without a token in flight: 119.5 of 700 W (H100), 69.5 of 400 W (A100); powertrace-sim
    rows = columns("h100-sxm", "a100-sxm-80gb")
    np.testing.assert_allclose(ready_power(rows), [119.5, 69.5], rtol=0.03)
    assert (idle_power(rows) < ready_power(rows)).all()


def test_devices_without_measured_runs_have_a_wider_interval() -> None:
    rows = columns("h100-sxm", "rx-9070-xt")
    assert power_spread(rows)[1] > 1.2 * power_spread(rows)[0]
    assert power_spread(rows, joules=True)[1] > power_spread(rows, joules=True)[0]


def test_idle_watts_are_measured_where_somebody_did() -> None:
    h100, a30 = columns("h100-sxm"), columns("a30")
    assert one(idle_power(h100)) == hwdb.device("h100-sxm").idle
    assert np.isnan(hwdb.device("a30").idle)
    # 78 of 700 W (H200) to 147 of 750 W (MI300X)
    assert 0.1 * 165 < one(idle_power(a30)) < 0.2 * 165


def test_a_device_without_a_rated_limit_has_no_watts() -> None:
    unknown = columns("tpu-v5e")
    assert np.isnan(one(mean_power(unknown, doing(unknown, moved=0.5))))
    assert np.isnan(one(idle_power(unknown)))
    found = ask(lengths(100, 100, concurrency=4), "tpu-v5e")
    assert np.isfinite(found.tpot).all()
    assert np.isnan(found.power).all()
    assert np.isnan(found.energy).all()


@pytest.mark.parametrize("device", ["h100-sxm", "a100-sxm-80gb", "l4", "mi300x", "gb200"])
@pytest.mark.parametrize(
    "workload",
    [
        lengths(100, 100, rate=1e-6),
        lengths(100, 100, rate=2.0),
        lengths(4000, 1, concurrency=64),
        lengths(10, 2000, concurrency=256),
        lengths(500, 500, n_requests=1e5),
        lengths(500, 500, arrival="single"),
    ],
    ids=["idle", "light", "prompts", "answers", "offline", "single"],
)
def test_no_load_leaves_the_range_of_the_device(device: str, workload: Workload) -> None:
    rows = columns(device)
    drawn = one(ask(workload, device).power)
    assert one(ready_power(rows)) * (1 - 1e-9) <= drawn <= one(rows.tdp) * (1 + 1e-9)


# -------------------------------------------------------------------------------- a deployment


def test_nothing_to_do_is_idling_and_more_to_do_takes_more() -> None:
    rates = (1e-6, 0.5, 2.0, 8.0, 20.0)
    drawn = [one(ask(lengths(1000, 200, rate=r)).power) for r in rates]
    assert drawn[0] == pytest.approx(one(ready_power(columns("h100-sxm"))), rel=0.01)
    assert all(b > a for a, b in pairwise(drawn))


def test_prompts_draw_more_than_answers() -> None:
    prompts, answers = ask(lengths(8000, 1, n_requests=1e5)), ask(lengths(10, 2000, concurrency=32))
    # arithmetic-bound kernels of H200 and B200 sit at 96-99 % of the limit, streaming ones at 45-68 %
    assert one(prompts.power) / 700 > 0.85
    assert 0.4 < one(answers.power) / 700 < 0.8


def test_batching_spreads_the_watts_over_more_tokens() -> None:
    joules = [one(ask(lengths(500, 500, concurrency=c)).energy) for c in (1, 8, 64)]
    assert joules[0] > 3 * joules[1] > 3 * joules[2]


@pytest.mark.parametrize("workload", [lengths(500, 200, concurrency=32), lengths(500, 200, rate=3.0)])
def test_energy_is_power_over_tokens(workload: Workload) -> None:
    placed = {"tp": np.array([1, 2, 4]), "replicas": np.array([4, 2, 1])}
    found = ask(workload, **placed)
    np.testing.assert_allclose(found.energy * found.output_rate, 4 * found.power, rtol=1e-9)


def test_a_request_alone_and_one_of_many_at_a_low_rate_take_the_same_energy() -> None:
    # joules above idling a request, whether requests come one after the other or now and then
    idle = one(ready_power(columns("h100-sxm")))
    single, seldom = ask(lengths(1000, 300, arrival="single")), ask(lengths(1000, 300, rate=1e-3))
    above = [one((f.power - idle) / f.request_rate) for f in (single, seldom)]
    assert above[1] == pytest.approx(above[0], rel=0.15)


def test_prompts_that_enter_together_share_the_energy_of_their_step() -> None:
    # 32 prompts computed at once, then ten seconds of nothing: the device works for the share of one prefill
    slow = engine("vllm").changed(request_time=10.0)
    placed = deployments([hwdb.device("h100-sxm")], max_num_batched_tokens=1e6)
    found = estimate(LLAMA, lengths(500, 1, concurrency=32, arrival="static"), placed, engine=slow, costs=Roofline())
    share = one(found.latency.prefill) / (one(found.latency.prefill) + 10.0)
    assert 0.01 < share < 0.1
    idle = one(ready_power(columns("h100-sxm")))
    assert one(found.power) == pytest.approx(idle + share * (0.95 * 700 - idle), rel=0.1)


# -------------------------------------------------------------------------------- a site


def test_hosts_and_cooling_add_to_what_devices_draw() -> None:
    found = site_power(np.array([500.0, 0.0]), 8.0, np.array([1000.0, 0.0]), 1.25)
    np.testing.assert_allclose(found, [6250.0, 0.0])


@given(watts=st.floats(1.0, 1e6), rate=st.floats(1e-3, 1e6), price=st.floats(0.01, 1.0), carbon=st.floats(1.0, 1000.0))
def test_energy_per_token_and_per_hour_give_the_same_bill(
    watts: float, rate: float, price: float, carbon: float
) -> None:
    by_hour, by_token = energy_kwh(watts, 1.0), kwh_per_million_tokens(energy_per_token(watts, rate))
    assert one(per_million_tokens(by_hour, rate)) == pytest.approx(one(by_token))
    assert one(per_million_tokens(carbon_g(by_hour, carbon), rate)) == pytest.approx(one(carbon_g(by_token, carbon)))
    assert one(per_million_tokens(energy_usd(by_hour, price), rate)) == pytest.approx(one(energy_usd(by_token, price)))


def test_a_deployment_that_produces_nothing_costs_very_much() -> None:
    assert 1e12 < one(per_million_tokens(10.0, 0.0)) < np.inf
