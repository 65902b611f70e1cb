"""Cost models of measured tables: what they return, how far they reach, how fast they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from call_counter import calls

import hwdb
from perfmodel.costs import Calibrated, Fallback, Profiled, Roofline
from perfmodel.costs.cost import Cost, CostModel
from perfmodel.costs.cost_model_choice.defaults import default
from perfmodel.costs.measured_tables import lookup, shortest_calls
from perfmodel.costs.measured_tables.intervals import calibrated_spread, spreads
from perfmodel.costs.measured_tables.shortest_calls import shortest
from perfmodel.costs.related_devices.calibrated import UNRELATED_DEVICE, donors
from perfmodel.costs.related_devices.distance import ceilings, device_distance
from perfmodel.costs.related_devices.donor_tables import Donor, carried
from perfmodel.deployment import deployments, shard
from perfmodel.dtypes import COMPUTE_CODE, FORMAT_BYTES, FORMAT_CODE
from perfmodel.hardware.columns import hardware_of
from perfmodel.models import model
from perfmodel.operators import Step, operators
from perfmodel.operators.demand import Demand
from perfmodel.profiles import ShapeBatch, store
from perfmodel.profiles.build.aiconfigurator import strangled
from perfmodel.profiles.families import FAMILY, Reference, Variant, bound
from perfmodel.profiles.importers.rows import rows_of
from perfmodel.vocabulary import BASES, BASIS_CODE, FAMILIES

BF16, FP8 = FORMAT_CODE["bf16"], FORMAT_CODE["fp8"]
MODELS: dict[str, CostModel] = {
    "roofline": Roofline(),
    "profiled": Profiled("vllm"),
    "calibrated": Calibrated("vllm"),
    "default": default("vllm"),
}


def gemm(m: object, n: object, k: object, weight: object = BF16, act: object = COMPUTE_CODE["bf16"]) -> Demand:
    m, n, k = (np.asarray(v, float) for v in (m, n, k))
    moved = 2.0 * (n * k + m * k + m * n)
    shape = {"m": m, "n": n, "k": k, "weight": np.asarray(weight), "act": np.asarray(act)}
    return Demand("gemm", "gemm", 2.0 * m * n * k, moved, np.ones(()), np.asarray(act), 0.0, shape)


def any_demand(family: str, rows: int = 3) -> Demand:
    """A plausible demand of each family for `rows` candidates."""
    one = np.ones(rows)
    shape: dict[str, object] = {
        "m": 64 * one,
        "n": 4096 * one,
        "k": 4096 * one,
        "weight": np.full(rows, BF16),
        "act": np.full(rows, 2),
        "tokens": 256 * one,
        "hidden": 4096 * one,
        "inter": 1536 * one,
        "experts": 128 * one,
        "top_k": 8 * one,
        "ep": one,
        "tp": one,
        "batch": 8 * one,
        "query": 512 * one,
        "context": 1024 * one,
        "heads": 32 * one,
        "kv_heads": 8 * one,
        "head_dim": 128 * one,
        "window": np.inf * one,
        "kv_bytes": 2 * one,
        "key_dim": 128 * one,
        "value_dim": 128 * one,
        "group": 4 * one,
    }
    formats = ("weight", "act") if family in ("gemm", "grouped_gemm") else ("kv_bytes",)
    link = FAMILY[family].link
    keys = [k for k in FAMILY[family].keys if k in shape] + ([] if link or family == "elementwise" else list(formats))
    chosen = {k: shape[k] for k in keys}
    if link:
        zero = np.zeros(rows)
        return Demand(family, family, zero, zero, one, 2, np.full(rows, 1e6), {"group": shape["group"]})  # type: ignore[dict-item]
    work = FAMILY[family].work({**chosen, "moved_bytes": 1e7 * one}, Variant("bf16", "bf16").formats())  # type: ignore[dict-item]
    flop, moved = (np.broadcast_to(np.asarray(v, float), (rows,)) for v in (work.flop, work.moved))
    return Demand(family, family, flop, moved, one, 2, 0.0, chosen)  # type: ignore[arg-type]


def on(name: str, rows: int = 3) -> object:
    return hardware_of([hwdb.device(name)], np.zeros(rows, np.intp))


# ------------------------------------------------------------------------------------------------ one suite for all


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", MODELS)
def test_answers_are_arrays_of_the_demand_with_basis_and_spread(name: str, family: str) -> None:
    cost: Cost = MODELS[name].cost(any_demand(family), on("h100-sxm"))  # type: ignore[arg-type]
    known = ~np.isnan(cost.time)
    assert cost.time.shape == cost.basis.shape == cost.bound.shape == (3,)
    assert (cost.time[known] > 0).all()
    assert (cost.spread[known] > 0).all()
    assert (cost.basis[known] < BASIS_CODE["unknown"]).all()
    assert (cost.basis[~known] == BASIS_CODE["unknown"]).all()


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_is_its_rows(name: str) -> None:
    rng = np.random.default_rng(2)
    m, n = np.exp2(rng.uniform(0, 12, 40)), np.exp2(rng.uniform(8, 14, 40))
    devices = [hwdb.device(d) for d in ("h100-sxm", "rtx-3080", "l40s")]
    index = rng.integers(0, 3, 40)
    whole = MODELS[name].cost(gemm(m, n, 4096.0), hardware_of(devices, index))
    for row in (0, 7, 39):
        alone = MODELS[name].cost(gemm(m[[row]], n[[row]], 4096.0), hardware_of(devices, index[[row]]))
        assert alone.time[0] == pytest.approx(whole.time[row], rel=1e-4, nan_ok=True)
        assert alone.basis[0] == whole.basis[row]


@pytest.mark.parametrize("name", MODELS)
def test_request_classes_lead(name: str) -> None:
    m = np.array([[1.0, 8.0, 64.0], [512.0, 2048.0, 8192.0]])
    cost = MODELS[name].cost(gemm(m, np.full(3, 4096.0), np.full(3, 4096.0)), on("h100-sxm"))  # type: ignore[arg-type]
    row = MODELS[name].cost(gemm(m[1], np.full(3, 4096.0), np.full(3, 4096.0)), on("h100-sxm"))  # type: ignore[arg-type]
    assert cost.time.shape == (2, 3)
    assert cost.time[1] == pytest.approx(row.time, rel=1e-6)
    assert (cost.time[1] > cost.time[0]).all()


# --------------------------------------------------------------------------------------------------------- profiled


def test_a_measured_point_comes_back_as_measured() -> None:
    """Known cells of a table are returned, up to the noise by which some fall as m grows, whatever the framework."""
    profile = store.load("h100-sxm")
    assert profile is not None
    item = next(t for t in profile.tables("gemm", "vllm") if t.variant.key == "bf16+bf16")
    pick = np.argwhere(item.table.known)[::5000]
    n, k = np.exp(item.table.sites[pick[:, 0]]).T
    m = np.exp(item.table.axes[0][pick[:, 1]])
    least, _ = bound(FAMILY["gemm"], {"m": m, "n": n, "k": k}, item.variant, item.reference)
    measured = np.maximum(least * np.exp(-item.table.values[tuple(pick.T)]), shortest(item, "gemm").least)
    cost = Profiled("vllm").cost(gemm(m, n, k), on("h100-sxm", len(m)))  # type: ignore[arg-type]
    assert cost.time == pytest.approx(measured, rel=5e-3)
    assert (cost.basis == BASIS_CODE["measured"]).all()


def test_what_was_not_measured_is_not_answered() -> None:
    assert np.isnan(Profiled().cost(any_demand("gemm"), on("rtx-3080")).time).all()  # type: ignore[arg-type]
    outside = any_demand("all_reduce")
    outside = replace(outside, shape={"group": np.full(3, 64.0)})
    assert np.isnan(Profiled().cost(outside, on("h100-sxm")).time).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["h100-sxm", "b200-sxm", "rtx-4090"])
@pytest.mark.parametrize("spec", ["Qwen/Qwen3-30B-A3B", "mistralai/Mixtral-8x7B-v0.1", "openai/gpt-oss-20b"])
def test_popular_experts_take_no_less_time_for_more_tokens(name: str, spec: str) -> None:
    """Also from one grid point to the next, and across each of them, where a place between points starts anew."""
    beside = 2.0 ** np.arange(9)[:, None] * np.array([1.0 - 1e-6, 1.0, 1.0 + 1e-6])
    tokens = np.unique(np.concatenate([beside.ravel(), np.geomspace(1.0, 300.0, 60)]))
    sharding = shard(model(spec), deployments([hwdb.device(name)]))
    step = Step(decode_seqs=tokens[:, None], decode_context=100.0)
    demand = next(d for d in operators(sharding, step) if d.name == "experts")
    assert (np.asarray(demand.shape["uneven"]) == 1.0).all()
    time = default("vllm").cost(demand, on(name, 1)).time[:, 0]  # type: ignore[arg-type]
    assert (np.diff(time) >= -1e-9 * time[1:]).all()
    near = np.diff(tokens) < 1e-5 * tokens[1:]
    np.testing.assert_allclose(time[1:][near], time[:-1][near], rtol=1e-3)


def test_beyond_the_table_the_basis_says_so() -> None:
    cost = Profiled().cost(gemm([64.0, 4e5], 4096.0, 4096.0), on("h100-sxm", 2))  # type: ignore[arg-type]
    assert [BASES[b] for b in cost.basis] == ["measured", "extrapolated"]
    assert cost.spread[1] >= cost.spread[0]


def test_eight_bit_weights_are_faster_where_memory_binds() -> None:
    wide = Profiled("trtllm").cost(gemm(16.0, 8192.0, 8192.0), on("h100-sxm", 1))  # type: ignore[arg-type]
    slim = Profiled("trtllm").cost(gemm(16.0, 8192.0, 8192.0, FP8, COMPUTE_CODE["fp8"]), on("h100-sxm", 1))  # type: ignore[arg-type]
    assert 0.4 < float(slim.time[0] / wide.time[0]) < 0.8


def test_sliding_windows_stop_reading_at_the_window() -> None:
    demand = any_demand("attention_decode", 2)
    shape = {**demand.shape, "context": np.array([16384.0, 16384.0]), "window": np.array([np.inf, 1024.0])}
    cost = Profiled("vllm").cost(replace(demand, shape=shape), on("h200-sxm", 2))  # type: ignore[arg-type]
    assert cost.time[1] < 0.5 * cost.time[0]


def test_frameworks_differ_and_stand_in_for_each_other() -> None:
    demand = any_demand("mla_decode", 1)
    times = [float(Profiled(f).cost(demand, on("h200-sxm", 1)).time[0]) for f in ("vllm", "sglang", "trtllm")]  # type: ignore[arg-type]
    assert np.isfinite(times).all()
    assert times[1] != times[2]


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_an_eight_bit_latent_cache_takes_no_longer_than_a_16_bit_one(engine: str) -> None:
    devices = [n for n in store.names() if "mla_decode" in store.load(n).files]  # type: ignore[union-attr]
    assert {"h20", "h100-sxm", "b200-sxm"} <= set(devices)
    demand = any_demand("mla_decode", 4)
    batch, context = np.array([1.0, 8.0, 64.0, 256.0]), np.array([32768.0, 512.0, 4096.0, 2048.0])
    shape = {**demand.shape, "batch": batch, "context": context, "heads": np.array([16.0, 128.0, 128.0, 64.0])}
    for name in devices:
        wide, narrow = (
            Profiled(engine).cost(replace(demand, shape={**shape, "kv_bytes": np.full(4, size)}), on(name, 4))  # type: ignore[arg-type]
            for size in (2.0, 1.0)
        )
        assert np.isfinite(narrow.time).all(), name
        assert np.all(narrow.time <= wide.time * 1.0001), name


@pytest.mark.parametrize("framework", ["vllm", "sglang"])
def test_beyond_a_tray_the_kernels_that_reduce_over_the_rack_count(framework: str) -> None:
    """The own tables of GB300 jump from 4 to 8 devices to 14 and 28 us, as NCCL does; within a tray they stay."""
    groups, message = np.array([2.0, 4.0, 8.0, 16.0]), np.full(4, 65536.0)
    demand = replace(any_demand("all_reduce", 4), shape={"group": groups}, message=message)
    own, rack, eight = (
        Profiled(which).cost(demand, on(device, 4)).time  # type: ignore[arg-type]
        for which, device in ((framework, "gb300"), ("trtllm", "gb300"), (framework, "b200-sxm"))
    )
    assert np.all(own[2:] <= rack[2:] * 1.0001)
    assert np.all(own[2:] < 10e-6)
    within = lookup.choose(store.load("gb300"), "all_reduce", Variant("", ""), framework)  # type: ignore[arg-type]
    batch = ShapeBatch(FAMILY["all_reduce"], {"group": groups, "message_bytes": message})
    assert own[:2] == pytest.approx(lookup.price([within], batch).time[:2])  # type: ignore[arg-type]
    assert np.isnan(eight[3])  # a server of eight: nothing is read beyond it


# ------------------------------------------------------------------------------------------------------- calibrated


def test_every_accelerator_is_answered_and_every_device_by_default() -> None:
    every = hwdb.devices()
    there = hardware_of(every, np.arange(len(every)))
    for family in ("gemm", "attention_prefill", "attention_decode", "elementwise"):
        demand = any_demand(family, len(every))
        rated = np.array(
            [d.bandwidth > 0 and (d.peak("bf16") > 0 or d.peak("fp16") > 0 or d.peak("fp32") > 0) for d in every]
        )
        carried = Calibrated().cost(demand, there)
        kinds = np.array([d.kind == "gpu" for d in every])  # other kinds only from a measured device of their make
        assert np.isfinite(carried.time[kinds & rated]).all(), family
        assert np.isfinite(default().cost(demand, there).time[rated]).all(), family


@pytest.mark.parametrize("weight", ["bf16", "w8a16", "int4", "mxfp4", "q4_k_m"])
def test_weights_do_not_stream_faster_than_memory_whatever_format_stands_in(weight: str) -> None:
    """A relative without the format lends the shape of its 16-bit kernels; bytes are counted once."""
    every = [d for d in hwdb.devices() if d.kind == "gpu" and d.bandwidth > 0 and d.peak("bf16") > 0]
    there = hardware_of(every, np.arange(len(every)))
    one = np.ones(len(every))
    bytes_a_weight = FORMAT_BYTES[FORMAT_CODE[weight]]
    moved = 57344.0 * 8192.0 * bytes_a_weight
    shape = {
        "m": 8 * one,
        "n": 57344 * one,
        "k": 8192 * one,
        "weight": np.full(len(every), FORMAT_CODE[weight]),
        "act": 2,
    }
    demand = Demand("up", "gemm", 16.0 * 57344 * 8192 * one, moved * one, one, shape=shape)
    share = moved / default("vllm").cost(demand, there).time / there.bandwidth
    assert ((share > 0.2) & (share < 1.15)).all(), {
        d.name: round(float(x), 2) for d, x in zip(every, share, strict=True)
    }


def test_small_kernels_of_fast_relatives_do_not_beat_a_slow_device() -> None:
    """512 x 4,096 in 16 bit lie in the cache of a B200 and take its launch; a T4 streams them at 320 GB/s."""
    slow = on("t4", 1)
    demand = gemm([8.0], [512.0], [4096.0])
    assert float(Calibrated("vllm").cost(demand, slow).time[0]) >= 2.0 * 512 * 4096 / float(slow.bandwidth[0])


def test_ceilings_are_measured_where_hwdb_has_them() -> None:
    device = hwdb.device("t4")
    assert ceilings(device, "fp16").compute == pytest.approx(device.measured("gemm.fp16"))
    assert ceilings(device, "fp16").memory == pytest.approx(device.measured("memory_bandwidth"))


def test_a_relative_is_of_the_same_make_where_there_is_one() -> None:
    near = donors(Calibrated(), hwdb.device("h200-nvl"), "gemm", Variant("bf16", "bf16"))
    assert near[0].device.arch == hwdb.device("h200-nvl").arch
    assert device_distance(hwdb.device("h100-sxm"), hwdb.device("h200-sxm")) < device_distance(
        hwdb.device("h100-sxm"), hwdb.device("l40s")
    )
    assert device_distance(hwdb.device("mi300x"), hwdb.device("h100-sxm")) >= UNRELATED_DEVICE


def test_engines_of_no_known_make_borrow_tables_of_the_same_architecture_only() -> None:
    want = Variant("bf16", "bf16")
    assert "NVIDIA" in {r.device.vendor for r in donors(Calibrated(), hwdb.device("mi355x"), "gemm", want)}
    assert not donors(Calibrated(foreign=False), hwdb.device("mi355x"), "gemm", want)
    near = donors(Calibrated(foreign=False), hwdb.device("h100-nvl"), "gemm", want)
    assert {r.device.arch.split()[0] for r in near} == {"Hopper"}


def test_tables_carry_over_within_a_kind_only() -> None:
    """Compilers of Trainium and Gaudi share nothing with Ascend or with GPUs, of their own vendor's make or not."""
    for name, others in (("trainium1", ("ascend-910b2", "h100-sxm")), ("gaudi2", ("arc-pro-b60", "tpu-v6e"))):
        assert np.isinf(
            [device_distance(hwdb.device(name), hwdb.device(o), link) for o in others for link in (False, True)]
        ).all()
    assert np.isfinite(device_distance(hwdb.device("ascend-910c"), hwdb.device("ascend-910b2")))
    assert np.isfinite(device_distance(hwdb.device("gb10"), hwdb.device("rtx-5090")))


def test_tables_do_not_carry_over_to_processors() -> None:
    assert not np.isfinite(device_distance(hwdb.device("epyc-9654"), hwdb.device("h100-sxm")))


def test_a_hidden_device_is_predicted_from_its_relatives() -> None:
    """H200 without its own tables: large GEMMs within 15 %, long decodes within 20 % of what was measured."""
    blind = Calibrated("vllm", hidden=frozenset({"h200-sxm"}))
    demand = gemm(np.array([64.0, 1024.0, 8192.0]), 8192.0, 8192.0)
    truth, told = (m.cost(demand, on("h200-sxm")) for m in (Profiled("vllm"), blind))  # type: ignore[arg-type]
    assert told.time == pytest.approx(truth.time, rel=0.15)
    assert (told.basis == BASIS_CODE["calibrated"]).all()
    decode = any_demand("attention_decode", 2)
    decode = replace(
        decode, shape={**decode.shape, "batch": np.array([32.0, 64.0]), "context": np.array([8192.0, 8192.0])}
    )
    truth, told = (m.cost(decode, on("h200-sxm", 2)) for m in (Profiled("vllm"), blind))  # type: ignore[arg-type]
    assert told.time == pytest.approx(truth.time, rel=0.20)


def told_by(relative: Donor, device: hwdb.Device, shape: dict[str, np.ndarray]) -> float:
    """Seconds of a GEMM on `device`, carried over from one relative."""
    top = ceilings(device, "bf16")
    return float(
        carried([relative], Reference(top.compute, top.memory, top.link), ShapeBatch(FAMILY["gemm"], shape))[0][0]
    )


def test_twice_the_device_takes_half_the_time_of_large_kernels() -> None:
    device = hwdb.device("rtx-4000-ada")  # its ceilings were measured
    records = {
        key: replace(r, value=2 * float(r.value)) if key.startswith(("peak.", "memory.bandwidth", "measured.")) else r
        for key, r in device.records.items()
    }
    twice = replace(device, name="rtx-twice", records=records)
    (relative, *_) = donors(Calibrated(), device, "gemm", Variant("bf16", "bf16"))
    shape = {k: np.array([8192.0]) for k in ("m", "n", "k")}
    one, two = (told_by(relative, d, shape) for d in (device, twice))
    assert two == pytest.approx(one / 2, rel=0.02)


def test_a_launch_costs_the_same_on_twice_the_device() -> None:
    (relative, *_) = donors(Calibrated(), hwdb.device("rtx-3080"), "gemm", Variant("bf16", "bf16"))
    shape = {"m": np.ones(1), "n": np.full(1, 32.0), "k": np.full(1, 32.0)}
    for name in ("rtx-3080", "b200-sxm"):
        assert told_by(relative, hwdb.device(name), shape) == pytest.approx(relative.floor, rel=0.5)


# ------------------------------------------------------------------------------------------------ spreads, combining


def test_worse_bases_are_never_surer() -> None:
    for family in FAMILIES:
        assert (np.diff(spreads(family)) >= 0).all(), family
        widths = [calibrated_spread(family, distance) for distance in (0.1, 1.5, 4.0)]
        assert widths == sorted(widths), family


def test_each_row_is_priced_by_the_first_model_that_knows_it() -> None:
    devices = [hwdb.device(d) for d in ("h100-sxm", "rtx-3080", "epyc-9654")]
    there = hardware_of(devices, np.arange(3))
    demand = gemm(np.full(3, 64.0), 4096.0, 4096.0)
    cost = Fallback((Profiled("vllm"), Calibrated("vllm"), Roofline())).cost(demand, there)
    assert [BASES[b] for b in cost.basis] == ["measured", "calibrated", "roofline"]
    assert cost.time[2] == pytest.approx(Roofline().cost(demand, there).time[2])


# ------------------------------------------------------------------------------------------------------------ speed


def test_gemms_of_few_sites_are_looked_up_together() -> None:
    def looked_up(count: int) -> int:
        rng = np.random.default_rng(0)
        sites = rng.integers(64, 20000, (30, 2)).astype(float)[np.arange(count) % 30]
        demand = gemm(np.exp2(rng.uniform(0, 13, count)), sites[:, 0], sites[:, 1])
        there = on("h200-sxm", count)
        Profiled("vllm").cost(demand, there)  # type: ignore[arg-type]
        return calls(lambda: Profiled("vllm").cost(demand, there))  # type: ignore[arg-type]

    assert looked_up(100_000) < 1.2 * looked_up(1000), "calls grow with sites, not with rows"


# ---------------------------------------------------------------------------------------------------- hosts' own limits


def test_groups_that_a_host_strangles_are_left_out_and_others_stay() -> None:
    """aiconfigurator-core's L40S: 20, 5 and 2 GB/s over 2, 4 and 8 on one host; 18, 21 and 21 on another."""
    group = np.array([2.0, 2.0, 4.0, 8.0])
    message = np.array([2.0**20, 2.0**28, 2.0**28, 2.0**28])

    def found(reached: list[float]) -> list[bool]:
        time = message * 2.0 * (1.0 - 1.0 / group) / np.array(reached)
        return strangled(rows_of(4, family="all_reduce", group=group, message_bytes=message, time=time)).tolist()

    assert found([1e9, 20e9, 5e9, 2e9]) == [False, False, True, True]
    assert found([1e9, 18e9, 21e9, 21e9]) == [False] * 4
    assert found([1e9, 39e9, 30e9, 24e9]) == [False] * 4


@pytest.mark.parametrize("framework", ["trtllm", "vllm", "sglang"])
def test_eight_l40s_sum_as_fast_as_two(framework: str) -> None:
    """NVIDIA's overview of TensorRT-LLM 0.8: Falcon-180B on eight L40S, a prompt of 2,048 in 0.77 s: above 15 GB/s."""
    message = np.full(3, 2.0**27)
    demand = Demand(
        "sum",
        "all_reduce",
        np.zeros(3),
        np.zeros(3),
        np.ones(3),
        message=message,
        shape={"group": np.array([2.0, 4.0, 8.0])},
    )
    time = default(framework).cost(demand, on("l40s", 3)).time
    moved = message * 2.0 * np.array([0.5, 0.75, 0.875]) / time
    assert ((moved > 15e9) & (moved < 25e9)).all()


@pytest.mark.parametrize("query", [1.0, 5.0, 40.0])
def test_a_few_rows_behind_a_long_context_take_at_most_all_rows(query: float) -> None:
    shape = {"heads": 32.0, "kv_heads": 8.0, "head_dim": 128.0, "window": 0.0, "kv_bytes": 2.0, "batch": 1.0}

    def seconds(new: float, cached: float) -> float:
        columns = {k: np.full(1, v) for k, v in {**shape, "query": new, "context": cached}.items()}
        one = np.ones(1)
        demand = Demand("attention", "attention_prefill", one, one, one, COMPUTE_CODE["bf16"], shape=columns)
        return float(Profiled("vllm").cost(demand, on("h100-sxm", 1)).time[0])  # type: ignore[arg-type]

    assert seconds(query, 8000.0 - query) <= seconds(8000.0, 0.0)
    assert seconds(8000.0, 0.0) < seconds(8000.0, 8000.0)  # the bound does not bind where rows are many


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_what_short_calls_take_beyond_their_bound_is_a_median(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(count)
    time = np.append(draw.uniform(1.0, 1.001, count), 100.0)  # one is no short call
    least = draw.uniform(0.0, 1.1, count + 1)
    monkeypatch.setattr(shortest_calls, "_cells", lambda *_: (time, least))
    table = store.Measured(Variant("bf16", "bf16"), Reference(1.0, 1.0, 1.0), cast("Any", None))
    assert shortest(table, "gemm").overhead == np.median(np.maximum(time - least, 0.0)[:count])
