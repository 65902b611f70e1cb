"""Importers: each format's traps are read right, and each check of the rows fires on the fault it is for."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

import hwdb
from hwdb import InputError, UnknownName
from perfmodel import equations as eq
from perfmodel.profiles.importers import KINDS, SHAPES, Rows, check, importers, read_rows, rows_of
from perfmodel.profiles.importers import plain as plain_csv
from perfmodel.profiles.importers.bounds import bound

A100 = "a100-sxm-80gb"


def gemm_rows(count: int = 8, utilisation: float = 0.7, **columns: object) -> Rows:
    """GEMMs of an A100 at a share of its rated peak (312 TFLOP/s dense bf16: NVIDIA A100 data sheet)."""
    m = np.array([1024.0 * (i + 1) for i in range(count)])
    time = eq.gemm_flop(m, 4096.0, 4096.0) / (312e12 * utilisation)
    shape = {"family": "gemm", "m": m, "n": 4096.0, "k": 4096.0, "weight": "bf16", "act": "bf16"}
    return rows_of(count, **{"device": A100, "time": time, **shape, **columns})


def reasons(table: Rows) -> dict[str, int]:
    return {q.reason: q.count for q in check(table, hwdb.device).quarantined}


class TestChecks:
    def test_clean_rows_pass_unchanged(self):
        table = gemm_rows()
        result = check(table, hwdb.device)
        assert result.bad == 0
        assert result.notes == ()
        np.testing.assert_array_equal(result.rows["time"], table["time"])

    def test_nan_zero_and_negative_times_and_negative_power_are_counted_by_name(self):
        table = gemm_rows(10)
        time, power = table["time"].copy(), np.full(10, 300.0)
        time[[1, 2, 4]] = [np.nan, -1.0, 0.0]
        power[3] = -5.0
        found = reasons(table.replace(time=time, power=power))
        assert found["time is no finite number"] == 1
        assert found["time is zero or negative"] == 2
        assert found["power is negative or infinite"] == 1

    def test_missing_shape_is_named(self):
        m = gemm_rows()["m"].copy()
        m[0] = np.nan
        assert reasons(gemm_rows(m=m)) == {"gemm without a valid m": 1}

    @pytest.mark.parametrize(
        "family", ["elementwise", "attention_decode", "mla_decode", "recurrent_decode", "all_reduce"]
    )
    @pytest.mark.parametrize("column", ["weight", "act", "kv"])
    @pytest.mark.parametrize("text", ["[[[", "fp3", "float"])
    def test_a_format_that_is_stated_has_to_be_known_in_every_family(self, family: str, column: str, text: str):
        formats = {"weight": "", "act": "", "kv": "bf16"}
        shape = dict.fromkeys(SHAPES[family], 4096.0)
        table = rows_of(4, family=family, device=A100, time=np.full(4, 1.0), **shape, **formats)
        cells = np.array([formats[column]] * 4, object)
        cells[2] = text
        found = check(table.replace(**{column: cells}), None)
        assert f"{family} without a known {column} format" in {q.reason for q in found.quarantined}

    def test_faster_than_the_peak_is_set_aside(self):
        time = gemm_rows()["time"].copy()
        time[5] *= 0.5  # 140 % of peak
        result = check(gemm_rows(time=time), hwdb.device)
        assert [q.reason for q in result.quarantined] == ["faster than the device's rated peak or bandwidth allows"]
        assert "m=6144" in result.quarantined[0].example
        assert len(result.rows) == 7

    def test_faster_than_memory_is_set_aside_only_beyond_the_cache(self):
        shape = {"family": "elementwise", "device": A100, "act": "bf16"}
        moved = np.array([1e6, 1e9, 2e9, 4e9])
        time = moved / np.array([8e12, 1.5e12, 1.5e12, 8e12])  # HBM2e of the A100: 2.04 TB/s
        result = check(rows_of(4, moved_bytes=moved, time=time, **shape), hwdb.device)
        assert len(result.rows) == 3
        assert result.rows["moved_bytes"].max() == 2e9

    def test_milliseconds_read_as_microseconds_are_refused(self):
        with pytest.raises(InputError, match=r"look like ms not us.*multiply them by 1000"):
            check(gemm_rows(time=gemm_rows()["time"] / 1e3), hwdb.device, "rows.csv")

    def test_nanoseconds_read_as_microseconds_are_refused(self):
        with pytest.raises(InputError, match=r"look like ns not us.*multiply them by 0.001"):
            check(gemm_rows(time=gemm_rows()["time"] * 1e3), hwdb.device, "rows.csv")

    def test_milliseconds_of_small_kernels_only_are_refused_too(self):
        table = rows_of(3, family="elementwise", device=A100, moved_bytes=[1e3, 2e3, 4e3], time=5e-9)
        with pytest.raises(InputError, match="ms not us"):
            check(table, hwdb.device)

    @pytest.mark.parametrize("utilisation", [0.05, 0.5, 1.0])
    def test_slow_but_possible_kernels_are_not_a_unit_error(self, utilisation):
        assert check(gemm_rows(utilisation=utilisation), hwdb.device).bad == 0

    def test_exact_duplicates_and_close_repeats_become_one_row(self):
        table = gemm_rows(3)
        twice = rows_of(
            5,
            **{name: np.r_[table[name], table[name][[0, 1]]] for name in ("m", "time")},
            family="gemm",
            device=A100,
            n=4096.0,
            k=4096.0,
            weight="bf16",
            act="bf16",
        )
        time = twice["time"].copy()
        time[4] *= 1.2
        result = check(twice.replace(time=time), hwdb.device)
        assert len(result.rows) == 3
        assert {q.reason: q.count for q in result.quarantined} == {
            "exact duplicate": 1,
            "repeat merged into its median": 1,
        }
        assert result.rows["time"][1] == pytest.approx(1.1 * table["time"][1])

    def test_repeats_that_disagree_are_both_set_aside(self):
        table = gemm_rows(6)
        m, time = table["m"].copy(), table["time"].copy()
        m[1], time[1] = m[0], 5.0 * time[0]
        assert reasons(gemm_rows(6, m=m, time=time)) == {"repeats disagree": 2}

    def test_a_stuck_sample_is_set_aside_and_a_steep_curve_is_not(self):
        table = gemm_rows(9)
        time = table["time"].copy()
        time[4] *= 6.0
        assert reasons(gemm_rows(9, time=time)) == {"over 2.5 times both neighbours on its curve": 1}
        assert reasons(gemm_rows(9, m=4.0 ** np.arange(1, 10), time=1e-6 * 4.0 ** np.arange(1, 10))) == {}

    @pytest.mark.parametrize("column", ["kernel", "software", "weight", "act", "device"])
    def test_another_kernel_or_format_is_another_measurement(self, column: str):
        values = {"weight": ["bf16", "fp8"], "act": ["bf16", "fp16"], "device": [A100, "h100-sxm"]}
        both = {column: values.get(column, ["one", "two"])}
        assert check(gemm_rows(2, m=1024.0, time=1e-3, **both), None).bad == 0
        assert check(gemm_rows(2, m=1024.0, time=1e-3), None).bad == 1

    def test_a_mostly_bad_table_is_refused_with_its_commonest_fault(self):
        time = gemm_rows()["time"].copy()
        time[:6] = np.nan
        with pytest.raises(InputError, match=r"6 of 8 rows cannot be used.*time is no finite number"):
            check(gemm_rows(time=time), hwdb.device)

    def test_unknown_family_and_empty_table_are_refused(self):
        with pytest.raises(UnknownName, match="operator family 'gem'"):
            check(gemm_rows(family="gem"), None)
        with pytest.raises(InputError, match="no rows"):
            check(rows_of(0), None)

    def test_a_device_outside_hwdb_is_noted_and_not_guessed(self):
        result = check(gemm_rows(device="my-own-chip"), hwdb.device)
        assert len(result.rows) == 8
        assert "not checked against physical bounds" in result.notes[0]

    def test_bound_is_the_roofline_of_compulsory_work(self):
        device = hwdb.device(A100)
        table = gemm_rows(1)
        expected = eq.gemm_flop(1024.0, 4096.0, 4096.0) / device.peak("bf16")
        assert bound(table, device)[0] == pytest.approx(float(expected))

    def test_grouped_query_and_window_lower_the_attention_bound(self):
        shape = {"family": "attention_decode", "batch": 64.0, "context": 65536.0, "heads": 32.0, "head_dim": 128.0}
        table = rows_of(
            3, device=A100, kv="bf16", act="bf16", kv_heads=[32, 8, 8], window=[0, 0, 4096], time=1.0, **shape
        )
        full, grouped, windowed = bound(table, hwdb.device(A100))
        assert full == pytest.approx(4.0 * grouped)
        assert windowed == pytest.approx(grouped * 4096 / 65536)


class TestPlainCsv:
    def test_round_trip(self, tmp_path: Path):
        table = gemm_rows(4, power=300.0, source="bench@1", licence="MIT")
        plain_csv.write(table, tmp_path / "rows.csv")
        back = read_rows("csv", tmp_path / "rows.csv", look_up=hwdb.device)
        assert back.bad == 0
        np.testing.assert_allclose(back.rows["time"], table["time"], rtol=1e-8)
        np.testing.assert_array_equal(back.rows["power"], 300.0)
        assert set(back.rows["licence"]) == {"MIT"}

    def test_units_are_in_the_header_and_gzip_is_read(self, tmp_path: Path):
        path = tmp_path / "rows.csv.gz"
        text = "device,family,m,n,k,weight,act,latency_us,power_w\na100-sxm-80gb,gemm,1024,4096,4096,bf16,bf16,150,\n"
        path.write_bytes(gzip.compress(text.encode()))
        table = read_rows("csv", path, look_up=hwdb.device).rows
        assert table["time"][0] == pytest.approx(150e-6)
        assert np.isnan(table["power"][0])
        assert table["source"][0] == "rows.csv.gz"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "empty"),
            ("family,m\ngemm,1\n", "no column 'latency_us'"),
            ("family,latency_ms\ngemm,1\n", "no column 'latency_us'"),
            ("family,latency_us,latency\ngemm,1,1\n", "unknown column 'latency'; did you mean"),
            ("family,latency_us,m,m\ngemm,1,1,1\n", "column 'm' appears twice"),
            ("family,latency_us\ngemm\n", "line 2: 1 fields where the header names 2"),
            ("family,m,latency_us\ngemm,1,3\ngemm,1,fast\n", "row 2, latency_us: 'fast' is not a number"),
            ("family,m,n,k,latency_us\n", "no rows"),
        ],
    )
    def test_a_malformed_file_is_refused_with_place_and_reason(self, tmp_path: Path, text: str, message: str):
        path = tmp_path / "bad.csv"
        path.write_text(text)
        with pytest.raises(InputError, match=message) as caught:
            read_rows("csv", path)
        assert "bad.csv" in str(caught.value)

    def test_missing_file_binary_file_and_unknown_format(self, tmp_path: Path):
        with pytest.raises(InputError, match="no such file"):
            read_rows("csv", tmp_path / "none.csv")
        (tmp_path / "bin.csv").write_bytes(b"\xff\xfe\x00\x80")
        with pytest.raises(InputError, match="byte 0 is not UTF-8"):
            read_rows("csv", tmp_path / "bin.csv")
        with pytest.raises(UnknownName, match="import format 'excel'"):
            read_rows("excel", tmp_path)

    def test_every_importer_is_listed(self):
        assert [row["format"] for row in importers()] == list(KINDS)


def parquet(path: Path, **columns: object) -> Path:
    """A table as aiconfigurator-core lays it out."""
    import pyarrow
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    count = max(len(v) for v in columns.values() if isinstance(v, list))
    full = {name: v if isinstance(v, list) else [v] * count for name, v in columns.items()}
    pq.write_table(pyarrow.table(full), path)
    return path


COMMON = {"framework": "VLLM", "version": "0.24.0", "device": "NVIDIA A100", "kernel_source": "k"}


class TestAiconfigurator:
    def test_gemm_latency_is_milliseconds_and_formats_are_ours(self, tmp_path: Path):
        parquet(
            tmp_path / "data/a100_sxm/gemm/vllm/0.24.0/gemm_perf.parquet",
            **COMMON,
            op_name="gemm",
            gemm_dtype=["bfloat16", "int4_wo", "sq"],
            m=[4096, 4096, 4096],
            n=4096,
            k=4096,
            latency=[0.6, 0.9, 0.4],
        )
        table = read_rows("aiconfigurator", tmp_path, look_up=hwdb.device).rows
        np.testing.assert_allclose(table["time"], [0.6e-3, 0.9e-3, 0.4e-3])
        assert list(table["weight"]) == ["bf16", "int4", "int8"]
        assert list(table["act"]) == ["bf16", "bf16", "int8"]
        assert set(table["device"]) == {A100}
        assert set(table["software"]) == {"vllm 0.24.0"}
        assert set(table["licence"]) == {"Apache-2.0"}
        assert table["source"][0].startswith("aiconfigurator-core a100_sxm/gemm/")

    def test_message_size_is_elements(self, tmp_path: Path):
        path = parquet(
            tmp_path / "a100_sxm/comm/nccl/2.27/nccl_perf.parquet",
            **COMMON,
            nccl_dtype=["half", "half"],
            op_name=["all_reduce", "alltoall"],
            num_gpus=8,
            message_size=1 << 20,
            latency=0.2,
        )
        table = read_rows("aiconfigurator", path).rows
        assert list(table["message_bytes"]) == [2.0 * 2**20, 2.0 * 2**20]
        assert list(table["family"]) == ["all_reduce", "all_to_all"]

    def test_decode_context_is_isl_plus_step(self, tmp_path: Path):
        path = parquet(
            tmp_path / "a100_sxm/attention/vllm/1/generation_attention_perf.parquet",
            **COMMON,
            batch_size=[8, 8],
            isl=1,
            num_heads=32,
            num_key_value_heads=8,
            head_dim=128,
            beam_width=1,
            attn_dtype="bfloat16",
            kv_cache_dtype="fp8",
            step=[1023, 4095],
            latency=[0.02, 0.05],
        )
        table = read_rows("aiconfigurator", path).rows
        assert list(table["context"]) == [1024.0, 4096.0]
        assert set(table["kv"]) == {"fp8"}
        assert set(table["window"]) == {0.0}

    def test_moe_keeps_shards_and_skew(self, tmp_path: Path):
        path = parquet(
            tmp_path / "h200_sxm/moe/sglang/1/moe_perf.parquet",
            **COMMON,
            moe_dtype="fp8_block",
            num_tokens=[64, 64],
            hidden_size=7168,
            inter_size=2048,
            topk=8,
            num_experts=256,
            moe_tp_size=1,
            moe_ep_size=8,
            distribution=["balanced", "power_law_1.2"],
            latency=[0.1, 0.2],
            power=[350.0, 400.0],
            power_limit=700.0,
        )
        table = read_rows("aiconfigurator", path).rows
        assert list(table["skew"]) == [0.0, 1.2]
        assert list(table["ep"]) == [8.0, 8.0]
        assert list(table["power"]) == [350.0, 400.0]
        assert set(table["device"]) == {"h200-sxm"}

    def test_exact_duplicates_and_the_stuck_sample_are_counted(self, tmp_path: Path):
        step = [255, 511, 1023, 1023]
        path = parquet(
            tmp_path / "b200_sxm/attention/sglang/1/generation_attention_perf.parquet",
            **COMMON,
            batch_size=32,
            isl=1,
            num_heads=4,
            num_key_value_heads=1,
            head_dim=256,
            beam_width=1,
            attn_dtype="bfloat16",
            kv_cache_dtype="bfloat16",
            step=step,
            latency=[0.010418, 0.038325, 0.010970, 0.010970],
        )
        result = read_rows("aiconfigurator", path)
        found = {q.reason: q.count for q in result.quarantined}
        assert found == {"exact duplicate": 1, "over 2.5 times both neighbours on its curve": 1}
        assert list(result.rows["context"]) == [256.0, 1024.0]

    def test_a_tree_of_several_systems_asks_which(self, tmp_path: Path):
        for system in ("a100_sxm", "h100_sxm"):
            parquet(
                tmp_path / f"{system}/gemm/vllm/1/gemm_perf.parquet",
                **COMMON,
                gemm_dtype="bfloat16",
                m=[1024],
                n=4096,
                k=4096,
                latency=0.2,
            )
        with pytest.raises(InputError, match=r"2 systems \(a100-sxm-80gb, h100-sxm\); say which"):
            read_rows("aiconfigurator", tmp_path)
        assert set(read_rows("aiconfigurator", tmp_path, device="h100-sxm").rows["device"]) == {"h100-sxm"}

    def test_unknown_quantisation_layout_and_folder_are_named(self, tmp_path: Path):
        path = parquet(
            tmp_path / "a100_sxm/gemm/vllm/1/gemm_perf.parquet",
            **COMMON,
            gemm_dtype=["fp3"],
            m=1,
            n=1,
            k=1,
            latency=0.005,
        )
        with pytest.raises(InputError, match="gemm without a known weight format"):
            read_rows("aiconfigurator", path)
        parquet(path, **COMMON, gemm_dtype=["fp8"], m=1, n=1, latency=1.0)
        with pytest.raises(InputError, match="no column 'k'"):
            read_rows("aiconfigurator", path)
        path.write_bytes(b"PAR0")
        with pytest.raises(InputError, match="not a readable parquet file"):
            read_rows("aiconfigurator", path)
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match=r"no \*_perf.parquet table"):
            read_rows("aiconfigurator", tmp_path / "empty")


def csv_file(path: Path, **columns: object) -> Path:
    count = max(len(v) for v in columns.values() if isinstance(v, list))
    full = [[str(x) for x in v] if isinstance(v, list) else [str(v)] * count for v in columns.values()]
    lines = [",".join(columns), *(",".join(line) for line in zip(*full, strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


class TestVidur:
    def test_mlp_sites_are_sharded_by_tensor_parallel_width(self, tmp_path: Path):
        time = {
            f"time_stats.{layer}.median": ms
            for layer, ms in {
                "attn_pre_proj": 0.5,
                "attn_post_proj": 0.2,
                "mlp_up_proj": 0.9,
                "mlp_down_proj": 0.45,
                "mlp_act": 0.05,
                "input_layernorm": 0.02,
            }.items()
        }
        path = csv_file(
            tmp_path / "mlp.csv",
            n_head=[32, 32],
            n_kv_head=8,
            n_embd=4096,
            n_expanded_embd=14336,
            vocab_size=128256,
            use_gated_mlp=True,
            num_tokens=[512, 1024],
            num_tensor_parallel_workers=2,
            **time,
        )
        table = read_rows("vidur", path, device=A100, look_up=hwdb.device).rows
        gemm = table.family("gemm")
        sites = {(n, k) for n, k in zip(gemm["n"], gemm["k"], strict=True)}
        assert sites == {(3072.0, 4096.0), (4096.0, 2048.0), (14336.0, 4096.0), (4096.0, 7168.0)}
        up = gemm.take((gemm["n"] == 14336.0) & (gemm["m"] == 512.0))
        assert up["time"][0] == pytest.approx(0.9e-3)
        act = table.take(table["kernel"] == "mlp_act")
        assert act["moved_bytes"][0] == 6.0 * 512 * 7168

    def test_attention_phases_and_the_new_token(self, tmp_path: Path):
        path = csv_file(
            tmp_path / "attention.csv",
            **{"time_stats.attn_prefill.median": [0.4, 0.0], "time_stats.attn_decode.median": [0.0, 0.1]},
            n_embd=8192,
            n_q_head=64,
            n_kv_head=8,
            num_tensor_parallel_workers=4,
            batch_size=[1, 16],
            prefill_chunk_size=[512, 0],
            kv_cache_size=[1024, 1023],
            is_prefill=[True, False],
            attention_backend="AttentionBackend.FLASHINFER",
        )
        table = read_rows("vidur", path, device=A100, look_up=hwdb.device).rows
        assert list(table["family"]) == ["attention_prefill", "attention_decode"]
        assert list(table["context"]) == [1024.0, 1024.0]
        assert list(table["heads"]) == [16.0, 16.0]
        assert list(table["kv_heads"]) == [2.0, 2.0]
        assert set(table["head_dim"]) == {128.0}
        assert set(table["kernel"]) == {"flashinfer"}

    @pytest.mark.parametrize(("collective", "family"), [("all_reduce", "all_reduce"), ("send_recv", "p2p")])
    def test_network_sizes_are_bytes_and_nodes_are_kept_apart(self, tmp_path: Path, collective: str, family: str):
        path = csv_file(
            tmp_path / f"{collective}.csv",
            **{f"time_stats.{collective}.median": [0.1, 0.3]},
            rank=0,
            num_workers=2,
            size=1 << 20,
            collective=collective,
            devices_per_node=[2, 1],
            max_devices_per_node=8,
        )
        table = read_rows("vidur", path, device=A100, look_up=hwdb.device).rows
        assert list(table["kernel"]) == ["1 node", "2 nodes"]
        assert set(table["message_bytes"]) == {2.0**20}
        assert set(table["family"]) == {family}

    def test_another_csv_and_a_missing_device_are_named(self, tmp_path: Path):
        path = csv_file(tmp_path / "cpu_overheads.csv", schedule_mean=[0.1])
        with pytest.raises(InputError, match="no time_stats of"):
            read_rows("vidur", path, device=A100)
        with pytest.raises(InputError, match="say which with --device"):
            read_rows("vidur", path)


NCCL = """# nThread 1 nGpus 4 minBytes 1048576 maxBytes 4194304 step: 2(factor) warmup iters: 5 iters: 20 agg iters: 1
# Using devices
#  Rank  0 Group  0 Pid   8756 on     node-a device  0 [0x01] NVIDIA A100-SXM4-80GB
#  Rank  1 Group  0 Pid   8756 on     node-a device  1 [0x03] NVIDIA A100-SXM4-80GB
#  Rank  2 Group  0 Pid   8756 on     node-a device  2 [0x05] NVIDIA A100-SXM4-80GB
#  Rank  3 Group  0 Pid   8756 on     node-a device  3 [0x07] NVIDIA A100-SXM4-80GB
NCCL version 2.16.5+cuda11.8
#
#                                                              out-of-place                       in-place
#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)
     1048576        262144     float     sum      -1    30.10   34.83   52.25      0    29.80   35.18   52.78      0
     2097152        524288     float     sum      -1    42.50   49.34   74.01      0    42.10   49.81   74.72      0
     4194304       1048576     float     sum      -1    65.20   64.33   96.49    N/A    64.90   64.62   96.94    N/A
# Out of bounds values : 0 OK
# Avg bus bandwidth    : 74.5
"""
RCCL = """[1,0]<stdout>:rccl-tests: Version develop:83d38d9
[1,0]<stdout>:#   Rank  0 Pid  56417 on host-1 device  0 [0002:00:00.0] AMD Instinct MI300X
[1,0]<stdout>:#   Rank  1 Pid  56418 on host-2 device  0 [0003:00:00.0] AMD Instinct MI300X
[1,0]<stdout>:#     size      count      type   redop     time   algbw   busbw  error     time   algbw   busbw  error
[1,0]<stdout>:   2097152    1048576  bfloat16     sum    125.3   16.74   16.74  4e-07    124.8   16.80   16.80  4e-07
"""


class TestNccl:
    def test_out_of_place_time_of_every_size_and_ranks_as_group(self, tmp_path: Path):
        (tmp_path / "all_reduce_perf.log").write_text(NCCL)
        table = read_rows("nccl-tests", tmp_path / "all_reduce_perf.log", device=A100, look_up=hwdb.device).rows
        np.testing.assert_allclose(table["time"], [30.10e-6, 42.50e-6, 65.20e-6])
        assert list(table["message_bytes"]) == [2.0**20, 2.0**21, 2.0**22]
        assert set(table["group"]) == {4.0}
        assert set(table["act"]) == {"fp32"}
        assert "2.16.5" in table["software"][0]
        assert table["kernel"][0] == "1 node"

    def test_bus_bandwidth_of_the_rows_is_the_one_printed(self, tmp_path: Path):
        """busbw = 2 (n-1)/n size/time for all-reduce (nccl-tests doc/PERFORMANCE.md)."""
        (tmp_path / "all_reduce_perf.log").write_text(NCCL)
        table = read_rows("nccl-tests", tmp_path / "all_reduce_perf.log", device=A100).rows
        busbw = 2.0 * (table["group"] - 1.0) / table["group"] * table["message_bytes"] / table["time"]
        np.testing.assert_allclose(busbw / 1e9, [52.25, 74.01, 96.49], rtol=1e-3)

    def test_rccl_with_mpi_prefixes_older_columns_and_two_hosts(self, tmp_path: Path):
        path = tmp_path / "run.log"
        path.write_text("mpirun -n 2 ./all_reduce_perf -b 2M\n" + RCCL)
        table = read_rows("nccl-tests", path, device="mi300x").rows
        assert table["time"][0] == pytest.approx(125.3e-6)
        assert table["kernel"][0] == "2 nodes"
        assert table["act"][0] == "bf16"
        assert "rccl" in table["software"][0]

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("run.log", NCCL, "neither the log nor its name says which collective"),
            ("all_reduce_perf.log", "hello\n", "no '# Rank' lines"),
            ("all_reduce_perf.log", "\n".join(NCCL.splitlines()[:9]), "no timing lines"),
            ("all_reduce_perf.log", "all_gather_perf\n" + NCCL, "holds several tests"),
        ],
    )
    def test_what_is_not_a_log_is_named(self, tmp_path: Path, name: str, text: str, message: str):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=message):
            read_rows("nccl-tests", tmp_path / name, device=A100)


def llama_test(**changes: object) -> dict[str, object]:
    return {
        "build_commit": "8cf427ff",
        "cpu_info": "EPYC",
        "gpu_info": "",
        "backends": "CPU",
        "n_threads": 8,
        "model_type": "llama 8B Q4_K - Medium",
        "model_size": 4_900_000_000,
        "model_n_params": 8_030_000_000,
        "type_k": "f16",
        "type_v": "f16",
        "n_gpu_layers": 0,
        "n_prompt": 0,
        "n_gen": 128,
        "n_depth": 0,
        "avg_ns": 12_800_000_000,
        "stddev_ns": 1,
        **changes,
    }


class TestLlamaBench:
    def test_a_generation_test_is_a_mean_decode_step(self, tmp_path: Path):
        path = tmp_path / "bench.json"
        path.write_text(json.dumps([llama_test(n_depth=512), llama_test(n_prompt=512, n_gen=0, avg_ns=2_000_000_000)]))
        table = read_rows("llama-bench", path).rows
        decode, prefill = table.family("model_decode"), table.family("model_prefill")
        assert decode["time"][0] == pytest.approx(0.1)
        assert decode["moved_bytes"][0] / decode["time"][0] == pytest.approx(49e9)
        assert decode["context"][0] == 512 + 64
        assert prefill["query"][0] == 512
        assert prefill["time"][0] == pytest.approx(2.0)
        assert set(table["device"]) == {"EPYC"}

    def test_jsonl_and_a_device_of_hwdb(self, tmp_path: Path):
        path = tmp_path / "bench.jsonl"
        path.write_text("\n".join(json.dumps(llama_test(n_gen=n)) for n in (64, 128)))
        assert set(read_rows("llama-bench", path, device="epyc-9654").rows["device"]) == {"epyc-9654"}

    def test_mixed_tests_are_left_out(self, tmp_path: Path):
        path = tmp_path / "bench.json"
        path.write_text(json.dumps([llama_test(), llama_test(n_prompt=512)]))
        assert len(read_rows("llama-bench", path).rows) == 1
        path.write_text(json.dumps([llama_test(n_prompt=512)]))
        with pytest.raises(InputError, match="no pure prompt"):
            read_rows("llama-bench", path)

    @pytest.mark.parametrize(
        ("text", "message"),
        [("{", "not JSON"), ("[]", "no tests"), ('[{"a": 1}]', "no number 'model_size'"), ("[1]", "no tests")],
    )
    def test_what_is_not_llama_bench_is_named(self, tmp_path: Path, text: str, message: str):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(InputError, match=message):
            read_rows("llama-bench", tmp_path / "x.json")


class TestDocumentation:
    text = (Path(__file__).resolve().parents[1] / "docs" / "profiling.md").read_text(encoding="utf-8")

    @pytest.mark.parametrize("name", [*plain_csv.header(), *SHAPES, *KINDS])
    def test_every_column_family_and_format_is_described(self, name: str):
        assert f"`{name}`" in self.text

    @pytest.mark.parametrize("family", SHAPES)
    def test_the_shape_columns_of_each_family_stand_beside_it(self, family: str):
        line = next(
            line for line in self.text.splitlines() if line.startswith("|") and f"`{family}`" in line.split("|")[1]
        )
        for column in SHAPES[family]:
            assert f"`{column}`" in line
