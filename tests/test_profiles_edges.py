"""Beyond what was measured: utilisation is held at the edge, and more work or fewer devices never take less time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import hwdb
import perfmodel as pm
from benchmarks.random_deployments import database
from perfmodel.arrays import Array
from perfmodel.costs import default
from perfmodel.costs.measured_tables import lookup
from perfmodel.estimates import Estimates, estimate_load
from perfmodel.estimates.estimation.estimator import prepare
from perfmodel.operators import Step
from perfmodel.profiles import FAMILY, ShapeBatch, held_in_length, store
from perfmodel.profiles.table import held_past_the_edge
from perfmodel.workload import load_of

#: Devices with tables.
DEVICES = sorted(store.names())
MODELS = ("meta-llama/Llama-3.1-8B", "Qwen/Qwen3-30B-A3B")
#: Fall of a time that counts as rounding: tables are stored in steps of 0.4 to 3 %.
ROUNDING = 0.05
DEGREES = (1, 2, 4, 8)
#: Prompt lengths from 1 to 10M tokens.
LENGTHS = np.round(np.geomspace(1.0, 1e7, 15))


def asked(name: str, device: str, *, tp: Array, isl: Array, seqs: Array, **columns: object) -> Estimates:
    """Estimate a batch that starts together: `seqs` prompts of `isl` tokens each, (N,)."""
    load = load_of(pm.Workload.from_lengths(1000.0, 2.0, concurrency=1, arrival="static"), len(tp))
    load = replace(load, input=isl[None], output=np.full((1, len(tp)), 2.0), concurrency=seqs)
    placed = pm.deployments([hwdb.device(device)], tp=tp, **columns)
    return estimate_load(pm.model(name), load, placed, engine=pm.engine("vllm"))


def fall(times: Array) -> float:
    """Return by which share a time falls at most below an earlier one, along the last axis."""
    highest = np.maximum.accumulate(times, axis=-1)
    return float(np.max(np.where(np.isfinite(times), 1.0 - times / highest, 0.0)))


def grid(values: Array) -> tuple[Array, Array]:
    """Return (tp, values) of every combination of a degree and a value, (D x V,) each."""
    tp, x = np.meshgrid(np.array(DEGREES, float), values, indexing="ij")
    return tp.ravel(), x.ravel()


@pytest.mark.parametrize("device", DEVICES)
def test_more_work_never_takes_less_time(device: str) -> None:
    """TPOT by batch and by context up to 10M tokens, TTFT by prompt, at TP 1 to 8."""
    draw = np.random.default_rng(0)
    name = MODELS[DEVICES.index(device) % 2]
    form = str(draw.choice(["bf16", "fp8", "int4"]))
    for along in ("batch", "context", "prompt"):
        values = np.sort(np.exp(draw.uniform(np.log(1 if along == "batch" else 16), np.log(1e7), 24)))
        values = np.unique(np.round(np.minimum(values, 512.0))) if along == "batch" else values
        tp, x = grid(values)
        one = np.ones_like(x)
        lengths = 64.0 * one if along == "batch" else x
        found = asked(name, device, tp=tp, isl=lengths, seqs=x if along == "batch" else one, weight=form)
        times = np.ravel(found.ttft if along == "prompt" else found.tpot)
        whole = found.running >= 0.999 * (x if along == "batch" else one)  # a batch beyond memory runs in parts
        held = np.where(whole, times, np.inf).reshape(len(DEGREES), -1)
        assert np.isfinite(held[:, 0]).all()
        assert fall(held) < ROUNDING, (along, name, form)


@pytest.fixture(scope="module")
def faster(tmp_path_factory: pytest.TempPathFactory) -> hwdb.Hwdb:
    """Every device with tables, and each with 1.3 x the memory bandwidth, link bandwidth or FLOP/s."""
    return database(tmp_path_factory.mktemp("faster"), DEVICES)


@pytest.mark.parametrize("device", DEVICES)
def test_faster_parts_are_never_slower_from_1_to_10m_tokens(device: str, faster: hwdb.Hwdb) -> None:
    placed = [faster.device(name) for name in (device, *(f"{device}-{part}" for part in ("memory", "link", "compute")))]
    tp, isl = grid(LENGTHS)
    every, at = np.repeat(np.arange(4), len(tp)), np.tile(np.arange(len(tp)), 4)
    name = MODELS[DEVICES.index(device) % 2]
    load = load_of(pm.Workload.from_lengths(1000.0, 2.0, concurrency=1, arrival="static"), len(at))
    load = replace(load, input=isl[at][None], output=np.full((1, len(at)), 2.0), concurrency=np.ones(len(at)))
    rows = pm.deployments(placed, device=every, tp=tp[at], weight="fp8")
    found = estimate_load(pm.model(name), load, rows, engine=pm.engine("vllm"))
    for times in (found.ttft, found.tpot):
        plain, *others = np.where(found.fits, np.ravel(times), np.nan).reshape(4, -1)
        for part, quick in zip(("memory", "link", "compute"), others, strict=True):
            assert not np.any(quick > plain * 1.0001), part


@pytest.mark.parametrize("device", DEVICES)
def test_more_devices_never_take_longer_over_compute_and_memory(device: str) -> None:
    """Operators but collectives, of prompts behind and without cached tokens, and of decode steps, 1 to 10M tokens."""
    tp = np.array(DEGREES, float)
    name = MODELS[DEVICES.index(device) % 2]
    load = load_of(pm.Workload.from_lengths(1000.0, 2.0, concurrency=1, arrival="static"), len(tp))
    steps = prepare(
        pm.model(name), pm.deployments([hwdb.device(device)], tp=tp), pm.engine("vllm"), default("vllm"), load
    ).steps
    tokens, one = LENGTHS[:, None], np.ones((len(LENGTHS), 1))
    cut = np.minimum(tokens, 16384.0)
    for step in (Step(cut, 0.0, 1.0), Step(cut, tokens, 1.0), Step(0.0, 0.0, 1.0, 8.0 * one, tokens)):
        cost = steps.price(step)
        local = cost.time - cost.links.sum(axis=0)
        assert np.isfinite(local).all()
        assert fall(local[:, ::-1]) < ROUNDING


@pytest.mark.parametrize("device", [d for d in DEVICES if "NVLink" in hwdb.device(d).link.name])
def test_more_devices_behind_nvlink_never_prefill_a_long_prompt_more_slowly(device: str) -> None:
    degrees = [d for d in DEGREES if d <= max(hwdb.device(device).link.peers, 1)]
    lengths = np.array([40_000.0, 131_072.0, 1e6, 1e7])
    tp, isl = (a.ravel() for a in np.meshgrid(np.array(degrees, float), lengths, indexing="ij"))
    for name in MODELS:
        found = asked(name, device, tp=tp, isl=isl, seqs=np.ones_like(isl)).ttft.reshape(len(degrees), -1)
        assert np.all(found[1:] <= found[:-1] * (1.0 + 1e-9)), name


@pytest.mark.parametrize("device", ["h100-sxm", "h200-sxm", "b200-sxm", "mi300x", "a100-sxm-80gb"])
@pytest.mark.parametrize("seed", range(4))
def test_a_long_prefill_takes_about_as_long_whatever_the_chunk(device: str, seed: int) -> None:
    draw = np.random.default_rng(seed)
    budget = np.array([2048.0, 4096.0, 8192.0, 16384.0, 32768.0])
    tp, isl = np.full(5, float(draw.choice([2, 4, 8]))), np.full(5, float(draw.integers(300_000, 4_000_000)))
    found = asked(MODELS[0], device, tp=tp, isl=isl, seqs=np.ones(5), max_num_batched_tokens=budget)
    assert np.max(found.ttft) / np.min(found.ttft) < 1.4


@pytest.mark.parametrize("device", DEVICES)
def test_prefills_longer_than_any_measured_have_the_utilisation_of_the_longest(device: str) -> None:
    """At 20 random shapes per device, up to 10M tokens, whole and behind cached tokens."""
    profile, draw = store.load(device), np.random.default_rng(1)
    assert profile is not None
    family = FAMILY["attention_prefill"]
    if family.name not in profile.files:
        return
    item = profile.tables(family.name, profile.frameworks(family.name)[0])[0]
    longest = float(np.exp(item.table.axes[1][-1]))
    site = np.exp(item.table.sites[draw.integers(len(item.table.sites), size=20)])
    heads = {"heads": site[:, 0] * site[:, 1], "kv_heads": site[:, 1], "head_dim": site[:, 2], "window": site[:, 3]}
    shape = {**heads, "batch": np.ones(20), "query": np.exp(draw.uniform(np.log(longest), np.log(1e7), 20))}
    shape["context"] = np.where(np.arange(20) % 2, draw.uniform(0, 1e6, 20), 0.0)
    choice = lookup.Choice(measured=item, wanted=item.variant, worst=0)
    far, edge = (lookup.price([choice], ShapeBatch(family, s)) for s in (shape, held_in_length(shape, longest)))
    np.testing.assert_allclose(far.least / far.time, edge.least / edge.time, rtol=1e-6)


def test_cells_past_the_last_measured_one_are_as_high_as_it() -> None:
    known = np.array([[[True, True, False], [True, False, False], [False, False, False]]])
    values = np.array([[[1.0, 2.0, -5.0], [1.5, 3.0, -5.0], [-9.0, -9.0, -9.0]]], np.float32)
    held = held_past_the_edge(values, known)
    assert held[known].tolist() == values[known].tolist()
    assert held[0].tolist() == [[1.0, 2.0, 2.0], [1.5, 3.0, 1.5], [1.5, 2.0, -9.0]]


def test_one_stream_on_h800_gets_faster_with_more_devices() -> None:
    """A table of whole groups of heads answers for parts of them without a jump."""
    tp = np.array(DEGREES, float)
    found = asked(MODELS[0], "h800-sxm", tp=tp, isl=np.full(4, 1024.0), seqs=np.ones(4)).tpot.ravel()
    assert np.all(np.diff(found) < 0)
    assert found[0] / found[-1] < 8
