"""Rooflines and sums of operators: bounds, efficiencies, formats, and what a total rests on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hwdb
from hwdb import UnknownName
from perfmodel.costs import BOUNDS, Fallback, Roofline, bound
from perfmodel.costs.cost import Cost, CostModel
from perfmodel.costs.cost_model_choice.defaults import default
from perfmodel.costs.step_costs.steps import SIGNIFICANT, priced, step_cost
from perfmodel.deployment.columns import deployments
from perfmodel.deployment.sharding import shard
from perfmodel.dtypes import ALIASES, COMPUTE, COMPUTE_CODE, FALLBACK, FORMAT_CODE, FORMATS, storage
from perfmodel.hardware import device_efficiency
from perfmodel.hardware.columns import Hardware, hardware_of
from perfmodel.hardware.efficiency import Efficiency, efficiency_of
from perfmodel.models import model
from perfmodel.operators.demand import Demand
from perfmodel.operators.step import Step
from perfmodel.vocabulary import BASES, BASIS_CODE, FAMILIES

BF16 = COMPUTE_CODE["bf16"]
ONE = np.ones(1)
LLAMA = model("llama-3.1-8b")
LINKS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p")
#: Efficiencies of one without a launch floor: the physical bound itself.
IDEAL = Efficiency(ONE, ONE, ONE, ONE, launch=np.zeros(1), kv=ONE)


def columns(*names: str) -> Hardware:
    return hardware_of([hwdb.device(n) for n in names], np.arange(len(names)))


def local(flop: float, moved: float, family: str = "gemm", compute: int = BF16) -> Demand:
    return Demand("test", family, flop * ONE, moved * ONE, ONE, compute=compute)


# -------------------------------------------------------------------------------- one operator


def test_a_large_gemm_runs_at_peak_and_a_thin_one_at_bandwidth() -> None:
    h100 = columns("h100-sxm")
    ideal = Roofline(IDEAL)
    # 8192^3 in bf16 at 989 TFLOP/s: 1.112 ms; a vector times an 8192^2 matrix: 134 MB at 3.35 TB/s: 40 us
    assert float(ideal.cost(local(2 * 8192.0**3, 3 * 2 * 8192.0**2), h100).time[0]) == pytest.approx(1.112e-3, rel=1e-3)
    assert float(ideal.cost(local(2 * 8192.0**2, 2 * 8192.0**2), h100).time[0]) == pytest.approx(40.07e-6, rel=1e-3)


@given(flop=st.floats(1e3, 1e15), moved=st.floats(1e3, 1e12), family=st.sampled_from(FAMILIES))
def test_no_roofline_beats_physics(flop: float, moved: float, family: str) -> None:
    h100 = columns("h100-sxm")
    if family in LINKS:
        group = 8.0 * ONE
        demand = Demand("test", family, 0 * ONE, 0 * ONE, ONE, message=moved * ONE, shape={"group": group})
        least = moved / 8.0 / float(h100.link_bandwidth[0])
    else:
        demand = local(flop, moved, family)
        least = float(bound(demand, h100).time[0])
        assert least == pytest.approx(max(flop / 989e12, moved / 3.35e12), rel=1e-9)
    assert float(Roofline().cost(demand, h100).time[0]) >= least


@pytest.mark.parametrize(
    ("flop", "moved", "expected"), [(1e13, 1e6, "compute"), (1e6, 1e10, "memory"), (1.0, 1.0, "launch")]
)
def test_the_limit_is_named(flop: float, moved: float, expected: str) -> None:
    answer = Roofline().cost(local(flop, moved), columns("h100-sxm"))
    assert BOUNDS[int(answer.bound[0])] == expected


def test_a_collective_is_bound_by_its_link() -> None:
    demand = Demand("test", "all_reduce", 0 * ONE, 0 * ONE, ONE, message=1e6 * ONE, shape={"group": 8.0 * ONE})
    answer = Roofline().cost(demand, columns("h100-sxm"))
    assert BOUNDS[int(answer.bound[0])] == "link"


@given(share=st.floats(0.05, 1.0))
def test_a_share_of_the_peak_takes_that_much_longer(share: float) -> None:
    partial = Roofline(replace(IDEAL, gemm=share * ONE, memory=share * ONE))
    for flop, moved in ((1e13, 1e6), (1e6, 1e10)):
        ideal = Roofline(IDEAL).cost(local(flop, moved), columns("a100-sxm-80gb")).time[0]
        assert partial.cost(local(flop, moved), columns("a100-sxm-80gb")).time[0] == pytest.approx(ideal / share)


def test_every_launch_costs_its_floor() -> None:
    h100 = columns("h100-sxm")
    floor = float(efficiency_of(h100).launch[0])
    assert 0.5e-6 < floor < 20e-6  # a kernel in a captured graph takes one to a few microseconds
    assert float(Roofline().cost(local(0.0, 0.0), h100).time[0]) == pytest.approx(floor)


def test_an_unknown_peak_gives_no_time() -> None:
    groq = columns("groq-lpu")
    answer = Roofline().cost(Demand("p", "p2p", 0 * ONE, 0 * ONE, ONE, message=ONE, shape={"group": 999 * ONE}), groq)
    assert np.isnan(answer.time[0])


@pytest.mark.parametrize("device", hwdb.devices(), ids=lambda d: d.name)
def test_every_device_has_every_efficiency(device: hwdb.Device) -> None:
    figures = device_efficiency(device)._asdict()
    launch = figures.pop("launch_us")
    assert all(0.0 < f <= 1.0 for f in figures.values()), figures
    assert 0.0 < launch < 100.0


def test_a_prior_by_name_goes_before_one_by_kind() -> None:
    plain, named = (device_efficiency(hwdb.device(n)) for n in ("mi250", "mi300x"))
    assert named.gemm != plain.gemm
    assert named.attention == plain.attention  # which no prior states for either by name


# -------------------------------------------------------------------------------- in order of trust


@dataclass(frozen=True)
class Knows:
    """A cost model that answers for one device only, always the same; remembers how many rows it was asked for."""

    device: str
    seconds: float
    basis: str
    asked: list[int]

    def cost(self, demand: Demand, hardware: Hardware) -> Cost:
        self.asked.append(len(hardware.index))
        mine = np.array([hardware.names[i] == self.device for i in hardware.index])
        basis = np.where(mine, BASIS_CODE[self.basis], BASIS_CODE["unknown"]).astype(np.int8)
        return Cost(np.where(mine, self.seconds, np.nan), basis, np.where(mine, 0.1, np.nan), np.zeros(len(mine), int))


def test_the_first_model_that_knows_answers() -> None:
    rows = columns("h100-sxm", "a100-sxm-80gb", "l4")
    asked: list[int] = []
    models = (Knows("h100-sxm", 1.0, "measured", asked), Knows("a100-sxm-80gb", 2.0, "interpolated", asked))
    flop = np.array([1e12, 2e12, 3e12])
    demand = Demand("test", "gemm", flop, flop / 1e3, np.ones(3), compute=np.full(3, BF16))
    answer = Fallback((*models, Roofline())).cost(demand, rows)
    assert asked == [3, 2]  # who comes later is asked only for what is left
    alone = Roofline().cost(local(3e12, 3e9), columns("l4"))
    np.testing.assert_allclose(answer.time, [1.0, 2.0, alone.time[0]])
    assert [BASES[b] for b in answer.basis] == ["measured", "interpolated", "roofline"]


def test_what_a_model_returns_stays_as_it_is() -> None:
    """A model may keep its prices and return them again: what others add is of this demand alone."""
    rows = columns("h100-sxm", "l4")
    kept = Knows("h100-sxm", 1.0, "measured", []).cost(local(1.0, 1.0), rows)
    costs = Fallback((cast(CostModel, SimpleNamespace(cost=lambda demand, hardware: kept)), Roofline()))
    for flop in (np.array([1e12, 3e12]), np.array([1e12, 6e12])):
        demand = Demand("test", "gemm", flop, flop / 1e3, np.ones(2), compute=np.full(2, BF16))
        ideal = Roofline().cost(demand, rows).time
        np.testing.assert_allclose(costs.cost(demand, rows).time, [1.0, ideal[1]])


def test_a_class_that_is_known_is_not_priced_again() -> None:
    @dataclass(frozen=True)
    class ShortOnes:
        """Knows small demands only, so of a row with two classes it may answer one."""

        def cost(self, demand: Demand, hardware: Hardware) -> Cost:
            small = np.asarray(demand.flop) < 1e9
            shape = small.shape
            return Cost(np.where(small, 1.0, np.nan), np.zeros(shape, int), np.full(shape, 0.1), np.zeros(shape, int))

    flop = np.array([[1e6, 1e12, 1e6], [1e12, 1e12, 1e6]])
    demand = Demand("test", "gemm", flop, flop / 1e3, np.ones(3), compute=np.full(3, BF16))
    rows = columns("h100-sxm", "a100-sxm-80gb", "l4")
    answer = Fallback((ShortOnes(), Roofline())).cost(demand, rows)
    ideal = Roofline().cost(demand, rows).time
    np.testing.assert_allclose(answer.time, np.where(flop < 1e9, 1.0, ideal))


def test_what_nobody_knows_stays_unknown() -> None:
    answer = Fallback((Knows("l4", 1.0, "measured", []),)).cost(local(1.0, 1.0), columns("h100-sxm"))
    assert np.isnan(answer.time[0])
    assert BASES[int(answer.basis[0])] == "unknown"


@pytest.mark.parametrize("costs", [Roofline(), default("vllm")], ids=["roofline", "default"])
def test_rows_do_not_see_one_another(costs: CostModel) -> None:
    names = ("h100-sxm", "l4", "mi300x", "h200-sxm", "h100-sxm")
    devices = [hwdb.device(n) for n in names]
    spec = LLAMA
    step = Step(prefill_tokens=np.array([512.0, 2048, 1, 300, 8192]), decode_seqs=4.0, decode_context=1000.0)
    placed = deployments(devices, device=np.arange(5), tp=np.array([1, 1, 2, 4, 8]))
    together = step_cost(shard(spec, placed), hardware_of(placed.devices, placed.device), costs, step)
    for row in range(5):
        one = deployments([devices[row]], tp=placed.tp[row])
        alone = replace(step, prefill_tokens=np.asarray(step.prefill_tokens)[row : row + 1])
        apart = step_cost(shard(spec, one), hardware_of(one.devices, one.device), costs, alone)
        np.testing.assert_allclose(together.time[row], apart.time[0], rtol=1e-9)
        np.testing.assert_allclose(together.bound[:, row], apart.bound[:, 0], rtol=1e-9)
        np.testing.assert_allclose(together.spread[row], apart.spread[0], rtol=1e-9)
        assert together.basis[row] == apart.basis[0]


# -------------------------------------------------------------------------------- sums


def sums(costs: CostModel, step: Step, **columns: object) -> tuple[list[tuple[Demand, Cost]], float, np.ndarray]:
    placed = deployments([hwdb.device("h100-sxm")], **columns)
    sharding, rows = shard(LLAMA, placed), hardware_of(placed.devices, placed.device)
    total = step_cost(sharding, rows, costs, step)
    np.testing.assert_allclose(total.bound.sum(axis=0), total.time)
    return list(priced(sharding, rows, costs, step)), float(total.time[0]), total.spread


def test_a_pass_is_the_sum_of_its_operators() -> None:
    terms, total, spread = sums(default("vllm"), Step(decode_seqs=16.0, decode_context=2000.0), tp=4)
    times = [float(np.ravel(d.count * c.time)[0]) for d, c in terms if np.all(d.count > 0)]
    assert total == pytest.approx(sum(times), rel=1e-9)
    widest = max(float(np.ravel(c.spread)[0]) for d, c in terms if np.all(d.count > 0))
    assert 0.0 < spread[0] <= widest  # independent families average out, none may widen the sum


def test_errors_add_within_a_family_and_average_between_families() -> None:
    @dataclass(frozen=True)
    class Flat:
        """Every call takes a second, give or take a tenth."""

        def cost(self, demand: Demand, hardware: Hardware) -> Cost:
            return Cost(ONE, np.zeros(1, np.int8), 0.1 * ONE, np.zeros(1, np.int8))

    terms, total, spread = sums(Flat(), Step(decode_seqs=1.0, decode_context=10.0))
    by_family: dict[str, float] = {}
    for demand, _ in terms:
        by_family[demand.family] = by_family.get(demand.family, 0.0) + float(np.ravel(demand.count)[0])
    assert total == pytest.approx(sum(by_family.values()))
    assert spread[0] == pytest.approx(0.1 * np.sqrt(sum(v**2 for v in by_family.values())) / total)


@pytest.mark.parametrize(("borrowed", "expected"), [(2 * SIGNIFICANT, "roofline"), (SIGNIFICANT / 4, "measured")])
def test_a_sum_is_as_good_as_its_worst_significant_term(borrowed: float, expected: str) -> None:
    @dataclass(frozen=True)
    class Mostly:
        """All measured, but attention: a roofline that takes a given share of the pass."""

        others: float

        def cost(self, demand: Demand, hardware: Hardware) -> Cost:
            attention = demand.family == "attention_decode"
            time = self.others / LLAMA.layers * borrowed / (1 - borrowed) if attention else 1.0
            code = BASIS_CODE["roofline" if attention else "measured"]
            return Cost(time * ONE, np.full(1, code, np.int8), 0.1 * ONE, np.zeros(1, np.int8))

    step = Step(decode_seqs=1.0, decode_context=10.0)
    placed = deployments([hwdb.device("h100-sxm")])
    sharding, rows = shard(LLAMA, placed), hardware_of(placed.devices, placed.device)
    terms = priced(sharding, rows, Mostly(1.0), step)
    others = sum(float(np.ravel(d.count)[0]) for d, _ in terms if d.family != "attention_decode")
    assert BASES[int(step_cost(sharding, rows, Mostly(others), step).basis[0])] == expected


def test_an_unknown_term_makes_the_sum_unknown_unless_it_is_absent() -> None:
    @dataclass(frozen=True)
    class NoLinks:
        """A roofline that has never heard of collectives."""

        def cost(self, demand: Demand, hardware: Hardware) -> Cost:
            answer = Roofline().cost(demand, hardware)
            return replace(answer, time=answer.time * np.nan) if demand.family in LINKS else answer

    placed = deployments([hwdb.device("h100-sxm")], tp=np.array([1, 2]))
    rows = hardware_of(placed.devices, placed.device)
    step = Step(decode_seqs=1.0, decode_context=10.0)
    total = step_cost(shard(LLAMA, placed), rows, NoLinks(), step)
    assert np.isfinite(total.time[0])
    assert np.isnan(total.time[1])
    assert BASES[int(total.basis[1])] == "unknown"


# -------------------------------------------------------------------------------- formats and columns


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("bf16", 16.0),
        ("fp8_block", 8.0 + 32 / 16384),  # DeepSeek-V3: one fp32 scale for 128 x 128 weights
        ("nvfp4", 4.5),  # 16 values of 4 bits and an 8-bit scale
        ("mxfp4", 4.25),  # 32 values of 4 bits and an 8-bit scale
        ("awq", 4.15625),  # 128 values of 4 bits, a 16-bit scale and a 4-bit zero
        ("q8_0", 8.5),  # 32 values of 8 bits and a 16-bit scale
    ],
)
def test_a_stored_value_takes_its_bits_and_its_share_of_scales(name: str, bits: float) -> None:
    assert storage(name).bits == pytest.approx(bits)
    assert storage(name.upper()).bytes == pytest.approx(bits / 8)


def test_an_unknown_format_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"number format 'q4_k_y'.*'q4_k_s'"):
        storage("q4_k_y")


def test_every_alias_and_fallback_points_to_something() -> None:
    assert set(ALIASES.values()) <= set(FORMATS)
    assert set(FALLBACK) == set(COMPUTE)
    assert {t for chain in FALLBACK.values() for t in chain} <= set(COMPUTE)
    assert {f.compute for f in FORMATS.values()} - {None} <= set(COMPUTE)


def test_a_device_without_a_rate_multiplies_in_the_next_wider_type() -> None:
    a100, h100 = columns("a100-sxm-80gb").peak[0], columns("h100-sxm").peak[0]
    assert a100[COMPUTE_CODE["fp8"]] == a100[BF16]
    assert h100[COMPUTE_CODE["fp8"]] == hwdb.device("h100-sxm").peak("fp8") > h100[BF16]
    # vLLM's marlin_utils_fp4.py: without FP4 units the weights are expanded to 16 bits, whatever the rate for fp8 is
    assert h100[COMPUTE_CODE["fp4"]] == h100[BF16]


@pytest.mark.parametrize(
    ("weight", "act", "expected"),
    [
        ("bf16", -1, "bf16"),
        ("fp8", -1, "fp8"),
        ("awq", -1, "bf16"),  # weight-only: multiplied in 16 bit
        ("fp8", "bf16", "bf16"),  # fp8 weights with 16-bit activations
        ("bf16", "fp8", "bf16"),  # narrow activations need narrow weights
        ("awq", "fp8", "fp8"),  # W4A8
    ],
)
def test_activations_and_weights_choose_the_arithmetic(weight: str, act: str | int, expected: str) -> None:
    code = COMPUTE_CODE[act] if isinstance(act, str) else act
    placed = deployments([hwdb.device("h100-sxm")], weight=FORMAT_CODE[storage(weight).name], act=code)
    assert COMPUTE[int(shard(LLAMA, placed).compute("mlp")[0])] == expected


def test_taken_rows_are_those_rows() -> None:
    rows = columns("h100-sxm", "l4", "mi300x")
    taken = rows.take(np.array([2, 0]))
    assert [taken.devices[i].name for i in taken.index] == ["mi300x", "h100-sxm"]
    np.testing.assert_array_equal(taken.bandwidth, rows.bandwidth[[2, 0]])
    np.testing.assert_array_equal(taken.peak, rows.peak[[2, 0]])


def test_deployments_refuse_columns_they_do_not_have() -> None:
    with pytest.raises(TypeError, match=r"unknown deployment column.*tensor_parallel"):
        deployments([hwdb.device("h100-sxm")], tensor_parallel=2)
    placed = deployments([hwdb.device(n) for n in ("l4", "h100-sxm")], device=np.array([1, 1]), tp=np.array([1, 2]))
    assert [d.name for d in placed.devices] == ["h100-sxm"]  # tables of unused devices are never loaded
    assert placed.take(np.array([1])).devices_per_replica.tolist() == [2.0]
