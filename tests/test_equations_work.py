"""One table of operator work: operators, bounds of tables and checks of imported rows count the same FLOP and bytes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import hwdb
from perfmodel import equations as eq
from perfmodel.deployment import deployments, shard
from perfmodel.dtypes import COMPUTE, COMPUTE_BYTES, FORMAT_BYTES, FORMAT_CODE, FORMAT_NAMES
from perfmodel.models import model
from perfmodel.operators import Demand, Step, operators
from perfmodel.profiles.families import FAMILY, Formats, Variant, Work, bound, reference
from perfmodel.profiles.importers import bounds
from perfmodel.profiles.importers.rows import COLUMNS, Rows, rows_of

H100 = [hwdb.device("h100-sxm")]
ROWS = 24
EXACT = 1e-12
DENSE, WINDOWED, SPARSE = "llama-3.1-70b", "google/gemma-2-27b-it", "Qwen/Qwen3-30B-A3B"
LATENT, RECURRENT = "deepseek-v3", "Qwen/Qwen3-Next-80B-A3B-Instruct"


def steps() -> Step:
    """Prompts after cached tokens and decodes, at random."""
    rng = np.random.default_rng(5)
    return Step(
        prefill_tokens=rng.uniform(1.0, 9000.0, ROWS),
        prefill_context=rng.uniform(0.0, 9000.0, ROWS),
        prefill_seqs=rng.integers(1, 5, ROWS).astype(float),
        decode_seqs=rng.uniform(1.0, 300.0, ROWS),
        decode_context=rng.uniform(1.0, 40_000.0, ROWS),
    )


def demands(name: str, **columns: object) -> Iterator[tuple[Demand, Work]]:
    """Demands of families that tables know by shape, each with the work that the family counts for its shape."""
    sharding = shard(model(name), deployments(H100, tp=np.resize([1, 2, 4, 8], ROWS), **columns))
    for demand in operators(sharding, steps()):
        family = FAMILY[demand.family]
        if family.link or demand.family == "elementwise":
            continue
        yield demand, family.work(demand.shape, formats(demand))


def formats(demand: Demand) -> Formats:
    shape = demand.shape
    act = COMPUTE_BYTES[np.asarray(shape.get("act", demand.compute))]
    stored = FORMAT_BYTES[np.asarray(shape["weight"])] if "weight" in shape else shape.get("kv_bytes", 2.0)
    return Formats(stored, act)  # type: ignore[arg-type]  # columns stand for the formats of many tables


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        (DENSE, {}),
        (DENSE, {"weight": FORMAT_CODE["fp8"], "kv": FORMAT_CODE["fp8"]}),
        (DENSE, {"weight": FORMAT_CODE["int4"]}),
        (WINDOWED, {}),
        (LATENT, {}),
        (LATENT, {"kv": FORMAT_CODE["fp8"]}),
        (RECURRENT, {}),
        (SPARSE, {}),
        (SPARSE, {"weight": FORMAT_CODE["int4"]}),
        (SPARSE, {"weight": FORMAT_CODE["fp8"]}),
        (SPARSE, {"weight": FORMAT_CODE["int8"]}),
        (SPARSE, {"weight": FORMAT_CODE["w4a8"]}),
    ],
)
def test_operators_and_tables_count_the_same_work(name: str, columns: dict[str, int]) -> None:
    seen = set()
    for demand, work in demands(name, **columns):
        seen.add(demand.family)
        np.testing.assert_allclose(demand.flop, work.flop, rtol=EXACT, err_msg=demand.name)
        moved = demand.moved if demand.family != "mla_prefill" else demand.moved + expanded(demand)
        np.testing.assert_allclose(moved, work.moved, rtol=EXACT, err_msg=demand.name)
    kinds = {DENSE: "attention", WINDOWED: "attention", LATENT: "mla", RECURRENT: "recurrent", SPARSE: "grouped"}
    assert any(family.startswith(kinds[name]) for family in seen)


def expanded(demand: Demand) -> np.ndarray:
    """What measured MLA prefill kernels read beyond the operator's count: keys and values of every head in 16 bit in
    place of the latent, which engines expand in a GEMM before (`kv_up`)."""
    shape, sizes = demand.shape, eq.DEEPSEEK_MLA
    seen = shape["batch"] * (shape["query"] + shape["context"])
    heads = shape["heads"] * (sizes.key_dim + sizes.value_dim) * eq.SIXTEEN_BIT
    return np.asarray(seen * (heads - sizes.latent * shape["kv_bytes"]))


def imported(demand: Demand) -> Rows:
    """The rows that a file of measurements would hold for a demand."""
    shape = {
        k: np.broadcast_to(v, (ROWS,)) for k, v in demand.shape.items() if k in COLUMNS and k not in ("weight", "act")
    }
    if "window" in shape:
        shape["window"] = np.where(np.isfinite(shape["window"]), shape["window"], 0.0)
    texts = {}
    if "weight" in demand.shape:
        texts = {"weight": FORMAT_NAMES[int(np.ravel(demand.shape["weight"])[0])]}
        texts["act"] = COMPUTE[int(np.ravel(demand.shape["act"])[0])]
    elif "kv_bytes" in demand.shape:
        texts = {"kv": "bf16" if np.ravel(demand.shape["kv_bytes"])[0] == 2.0 else "fp8", "act": "bf16"}
    return rows_of(ROWS, family=demand.family, time=1.0, device="h100-sxm", **shape, **texts)


@pytest.mark.parametrize("name", [DENSE, WINDOWED, SPARSE, LATENT])
def test_imported_rows_are_checked_against_the_same_flop(name: str) -> None:
    for demand, work in demands(name):
        if demand.family == "attention_decode" or demand.family.startswith("recurrent"):
            continue  # bound by memory alone
        found = bounds.flop(imported(demand), demand.family)
        gates = 3.0 / 2.0 if demand.family == "grouped_gemm" else 1.0  # rows of experts may have no gate
        np.testing.assert_allclose(gates * found, work.flop, rtol=EXACT, err_msg=demand.name)


@pytest.mark.parametrize(("name", "columns"), [(DENSE, {}), (WINDOWED, {}), (LATENT, {}), (LATENT, {"kv": 3})])
def test_imported_rows_are_checked_against_the_cache_they_must_read(name: str, columns: dict[str, int]) -> None:
    assert FORMAT_NAMES[3] == "fp8"
    for demand, work in demands(name, **columns):
        shape, found = demand.shape, bounds.moved(imported(demand), demand.family)
        if demand.family == "attention_decode":  # and queries and outputs
            rows = shape["batch"] * shape["heads"] * 2.0 * shape["head_dim"] * eq.SIXTEEN_BIT
            np.testing.assert_allclose(found + rows, work.moved, rtol=EXACT)
        if demand.family == "mla_decode":
            rows = shape["batch"] * shape["heads"] * (576.0 + 512.0) * eq.SIXTEEN_BIT
            np.testing.assert_allclose(found + rows, work.moved, rtol=EXACT)
        if demand.family == "gemm" and (COMPUTE_BYTES[shape["act"]] == eq.SIXTEEN_BIT).all():
            np.testing.assert_allclose(found, work.moved, rtol=EXACT)


def test_imported_experts_read_at_least_those_of_one_token() -> None:
    for demand, work in demands(SPARSE):
        if demand.family == "grouped_gemm":
            found = bounds.moved(imported(demand), demand.family)
            assert (found <= work.moved).all()
            one = eq.grouped_gemm_bytes(
                0.0, 8.0, demand.shape["hidden"], 768.0 / demand.shape["tp"], 1.0, act_bytes=2.0, weight_bytes=2.0
            )
            np.testing.assert_allclose(found, one, rtol=EXACT)


def test_the_sizes_of_latent_attention_are_those_of_the_catalogue() -> None:
    mixer = next(b.mixer for b in model(LATENT).blocks if b.mixer)
    assert eq.MlaSizes(mixer.head_dim, mixer.value_dim, mixer.kv_rank, mixer.rope_dim) == eq.DEEPSEEK_MLA
    assert eq.DEEPSEEK_MLA.latent == mixer.kv_values


def test_attention_moves_each_matrix_once() -> None:
    batch, query, context, heads, kv_heads, size = 3, 5, 7, 8, 2, 16
    queries = np.zeros((batch, query, heads, size), np.float16)
    keys = np.zeros((batch, context + query, kv_heads, size), np.int8)
    expected = 2 * queries.nbytes + 2 * keys.nbytes
    seen = eq.keys_read(query, context)
    assert eq.attention_bytes(batch, query, seen, heads, kv_heads, 2 * size, 1.0) == expected


def test_a_recurrent_layer_moves_its_states_twice_and_its_rows_once() -> None:
    batch, query, heads, key_heads, key, value = 3, 5, 8, 4, 16, 32
    states = np.zeros((batch, heads, key, value), np.float32)
    queries = np.zeros((batch, query, key_heads, key), np.float16)
    values = np.zeros((batch, query, heads, value), np.float16)
    expected = 2 * states.nbytes + 2 * queries.nbytes + 2 * values.nbytes
    assert eq.recurrent_bytes(batch, query, heads, key_heads, key, value) == expected


def test_one_expert_for_all_tokens_is_a_dense_mlp() -> None:
    tokens, hidden, inner = 64.0, 512.0, 128.0
    for act in (2.0, 1.0, 0.5):
        width = {"act_bytes": act, "weight_bytes": 1.0}
        dense = eq.gemm_bytes(tokens, 2 * inner, hidden, **width) + eq.gemm_bytes(tokens, hidden, inner, **width)
        assert eq.grouped_gemm_bytes(tokens, 1.0, hidden, inner, 2.0, **width) == dense
    flop = eq.gemm_flop(tokens, 2 * inner, hidden) + eq.gemm_flop(tokens, hidden, inner)
    assert eq.grouped_gemm_flop(tokens, hidden, inner, 2.0) == flop


@pytest.mark.parametrize("device", ["h100-sxm", "h200-sxm"])
def test_tables_of_narrow_experts_keep_the_bound_that_they_were_built_with(device: str) -> None:
    """Rows in 16 bit both ways: bound / utilisation is then the measured time."""
    shape = {"tokens": 2048.0, "hidden": 7168.0, "inter": 2048.0, "tp": 8.0, "ep": 1.0, "experts": 256.0, "top_k": 8.0}
    variant = Variant("fp8_block", "fp8", "1.01")
    found, _ = bound(FAMILY["grouped_gemm"], shape, variant, reference(hwdb.device(device), variant))
    weights = 256.0 * 3.0 * 7168.0 * 256.0 * variant.formats().stored
    rows = 2048.0 * 8.0 * 2.0 * (2.0 * 7168.0 + 3.0 * 256.0)
    assert float(found) == pytest.approx((weights + rows) / hwdb.device(device).bandwidth, rel=1e-6)
