"""Tables of cases: what passes through, what is filled in, and that a bad row keeps its reason to itself."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hwdb
from hwdb import InputError
from perfmodel import predict
from perfmodel.cases import read_columns, unread_columns
from perfmodel.cases.table import INPUT, columns
from perfmodel.cases.unstated import placement
from perfmodel.cases.write import BOUNDS, FLAGS, INTERVALS, OUTPUT, PREDICTED
from perfmodel.deployment import METHODS
from perfmodel.deployment.columns import deployments
from perfmodel.dtypes import FORMAT_CODE
from perfmodel.engines.catalogue import FOLDER
from perfmodel.estimates.disaggregation.disaggregated import estimate_disaggregated
from perfmodel.estimates.estimates import Estimates
from perfmodel.estimates.estimation.estimator import estimate
from perfmodel.estimates.latency_percentiles.percentiles import overall
from perfmodel.models import model
from perfmodel.workload.workload import Workload

LLAMA, BIG = "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B"
lengths = Workload.from_lengths


def row(**cells: object) -> dict[str, str]:
    """One case; what is not said is a chat on one H100."""
    given = {"model": LLAMA, "device": "h100-sxm", "engine": "vllm", "isl": 500, "osl": 100, **cells}
    return {k: str(v) for k, v in given.items()}


def table(*rows: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(list(rows)).fillna("")


def only(**cells: object) -> pd.Series:
    return predict(table(row(**cells))).iloc[0]


# -------------------------------------------------------------------------------- files


@pytest.mark.parametrize("name", ["cases.csv", "cases.csv.gz"])
def test_what_is_not_known_passes_through_untouched(tmp_path: Path, name: str) -> None:
    text = (
        "case_id,model,device,isl,osl,note,measured_ms,ttft_ms\n"
        f'007,{LLAMA},h100-sxm,500,100,"a, ""quoted"" note",1.50,stale\n'
        f"008,{LLAMA},h100-sxm,0500,1e2,NA,,\n"
        f"009,{LLAMA},no-such-card,500,100, spaced ,-0,\n"
    )
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    found = predict(path)
    assert list(found.columns[:7]) == ["case_id", "model", "device", "isl", "osl", "note", "measured_ms"]
    assert found["case_id"].tolist() == ["007", "008", "009"]
    assert found["note"].tolist() == ['a, "quoted" note', "NA", " spaced "]
    assert found["measured_ms"].tolist() == ["1.50", "", "-0"]
    assert found["isl"].tolist() == ["500", "0500", "500"]
    # a prediction replaces a column of its own name; equal cases get equal answers
    assert found["ttft_ms"][0] == found["ttft_ms"][1] > 0
    assert np.isnan(found["ttft_ms"][2])


def test_plain_packed_and_frames_give_the_same(tmp_path: Path) -> None:
    cases = table(row(concurrency=8), row(request_rate_rps=2), row(batch=4, mode="static"))
    plain, packed = tmp_path / "a.csv", tmp_path / "a.csv.gz"
    cases.to_csv(plain, index=False)
    cases.to_csv(packed, index=False)
    answers = [predict(plain), predict(str(packed)), predict(cases)]
    for other in answers[1:]:
        pd.testing.assert_frame_equal(answers[0][list(PREDICTED)], other[list(PREDICTED)])


def test_a_frame_keeps_its_types_and_its_index() -> None:
    cases = pd.DataFrame(
        {
            "model": [LLAMA] * 2,
            "device": ["h100-sxm"] * 2,
            "isl": [100, 200],
            "osl": [10.0, 20.0],
            "engine": ["vllm", None],
            "tp": [1.0, np.nan],
            "weight": [0.5, np.nan],
            "checked": [True, False],
        },
        index=[7, 3],
    )
    before = cases.copy()
    found = predict(cases)
    pd.testing.assert_frame_equal(cases, before)
    pd.testing.assert_frame_equal(found[list(cases.columns)], before)
    assert found["error"].tolist() == ["", ""]
    assert found["ttft_ms"].notna().all()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty; give a CSV"),
        (b" \n", "the file is empty"),
        (b"\xff\xfe\x00\x01\x02", "byte 0 is not UTF-8"),
        (b"model,isl\nx,5\n", "lacks the column device; it has model, isl"),
        (b"a,b\n1,2\n", "lacks the column model and device"),
        (b"model,gpu,accelerator\nx,y,z\n", "lacks the column device; it has model, gpu, accelerator"),
        (b'model,device\n"never closed,x\n', "not a CSV table"),
    ],
)
def test_what_is_no_table_of_cases_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "cases.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"cases.csv: .*{says}"):
        predict(path)


@pytest.mark.parametrize("damage", ["cut", "garbled", "not packed at all"])
def test_a_damaged_archive_is_refused(tmp_path: Path, damage: str) -> None:
    whole = gzip.compress(
        "\n".join(["model,device,isl,osl", *[f"{LLAMA},h100-sxm,{i},9" for i in range(5000)]]).encode()
    )
    broken = {"cut": whole[: len(whole) // 2], "garbled": whole[:99] + bytes(30) + whole[129:]}
    path = tmp_path / "cases.csv.gz"
    path.write_bytes(broken.get(damage, b"model,device\n"))
    with pytest.raises(InputError, match=r"cases.csv.gz: not a CSV table"):
        predict(path)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"nowhere.csv: no such CSV table; give a CSV"):
        predict("nowhere.csv")


def test_a_table_without_rows_has_all_columns() -> None:
    found = predict(table(row()).iloc[:0])
    assert len(found) == 0
    assert set(PREDICTED) <= set(found.columns)


# -------------------------------------------------------------------------------- bad rows

BAD = {
    "model": (row(model="nobody/nothing"), "nobody/nothing"),
    "no model": (row(model=""), "model"),
    "device": (row(device="h100-smx"), "unknown device 'h100-smx'; did you mean 'h100-sxm'"),
    "engine": (row(engine="vlmm"), "unknown engine 'vlmm'; did you mean 'vllm'"),
    "weight": (row(weight_dtype="fp7"), "unknown number format 'fp7'"),
    "cache": (row(kv_dtype="tiny"), "unknown number format 'tiny'"),
    "act": (row(act_dtype="q4_k_m"), "act_dtype 'q4_k_m' is no arithmetic type; known are fp32"),
    "trace": (row(isl="", trace="nobodys-trace"), "nobodys-trace"),
    "text": (row(isl="many"), "isl 'many' is no number"),
    "comma": (row(isl="1,000"), "isl '1,000' is no number"),
    "negative": (row(osl=-5), "osl -5 is out of range; give 1 or more"),
    "no prompt": (row(isl=0), "isl 0 is out of range; give 1 or more"),
    "infinite": (row(concurrency="inf"), "concurrency inf is out of range"),
    "nan": (row(isl="NaN"), "isl is missing, and no data set is named in trace"),
    "no output": (row(osl=""), "osl is missing"),
    "absurd": (row(isl="1e12"), "isl 1e+12 is longer than any request; tokens are meant"),
    "fraction": (row(tp=1.5), "tp 1.5 must be a whole number"),
    "nothing": (row(tp=0), "tp 0 is out of range; give 1 or more"),
    "mode": (row(mode="OPEN"), "mode 'OPEN' is none of static, closed, open, offline, single"),
    "hit": (row(prefix_hit=40), "prefix_hit 40 is a share; give it between 0 and 1"),
    "no rate": (row(mode="open"), "mode open needs request_rate_rps, a number above 0"),
    "rate of 0": (row(request_rate_rps=0), "mode open needs request_rate_rps, a number above 0"),
    "no clients": (row(mode="closed"), "mode closed needs concurrency, a number above 0"),
    "no batch": (row(mode="static", batch=0), "mode static needs batch, a number above 0"),
    "no requests": (row(n_requests=0), "mode offline needs n_requests above 0"),
}


def test_each_bad_row_keeps_its_reason_and_stops_no_other() -> None:
    good = row(concurrency=8)
    mixed = [good, *(cells for cells, _ in BAD.values()), good]
    found = predict(table(*mixed))
    assert found["error"].iloc[0] == found["error"].iloc[-1] == ""
    alone = only(concurrency=8)
    for at in (0, -1):
        for column in OUTPUT:
            assert found[column].iloc[at] == pytest.approx(alone[column], rel=1e-9), column
    for (name, (_, says)), (_, answer) in zip(BAD.items(), found.iloc[1:-1].iterrows(), strict=True):
        assert says in answer["error"], name
        assert answer[list(OUTPUT)].isna().all(), name
        assert answer["fits"] == answer["basis"] == "", name


def test_the_first_reason_stays() -> None:
    assert "is no number" in only(isl="many", tp=0, mode="nonsense", device="x")["error"]


def test_a_group_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from perfmodel.cases import evaluate as batch

    def fails_for_big(spec: object, *rest: object, **options: object) -> object:
        if spec == model(BIG):
            raise InputError("not this one")
        return estimate_load(spec, *rest, **options)  # type: ignore[arg-type]

    estimate_load = batch.estimate_load
    monkeypatch.setattr(batch, "estimate_load", fails_for_big)
    found = predict(table(row(), row(model=BIG, tp=4), row()))
    assert found["error"].tolist() == ["", "not this one", ""]


@pytest.mark.parametrize(
    "cells",
    [
        {"concurrency": 1e9},
        {"concurrency": 0.25},
        {"request_rate_rps": 1e9},
        {"request_rate_rps": 1e-9},
        {"isl": 1e7, "osl": 1e7},
        {"isl": 1, "osl": 1},
        {"tp": 1_000_000},
        {"n_devices": 1e9},
        {"batch": 1e7},
        {"n_requests": 1e12},
        {"prefix_hit": 1},
        {"pp": 500},
        {"dp_attention": 999},
        {"prefill_workers": 1e6},
    ],
    ids=str,
)
def test_absurd_numbers_get_an_answer(cells: dict[str, object]) -> None:
    found = only(**cells)
    assert found["error"] == ""
    assert not np.isnan(found[list(OUTPUT)].to_numpy(float)).any()


# -------------------------------------------------------------------------------- answers


def written(found: Estimates) -> dict[str, np.ndarray]:
    """Columns of estimates under the names of `OUTPUT`."""
    columns = found.columns()
    median = overall(found, "e2e", "p50") * 1e3
    return {**columns, "req_s": found.request_rate, "itl_ms": columns["tpot_ms"], "e2e_ms_p50": median}


def test_answers_are_those_of_the_estimator() -> None:
    cells = {"tp": 2, "weight_dtype": "fp8", "concurrency": 32, "n_requests": 320}
    found = only(**cells)
    placed = deployments([hwdb.device("h100-sxm")], tp=2, weight=FORMAT_CODE["fp8"])
    workload = lengths(500, 100, concurrency=32, n_requests=320, arrival="closed")
    expected = written(estimate(model(LLAMA), workload, placed))
    for column in (c for c in OUTPUT if c != "wall_power_w"):
        assert found[column] == pytest.approx(
            float(expected[{"req_s": "request_rate_rps"}.get(column, column)][0]), rel=1e-9
        ), column


def test_more_ranks_than_slices_of_an_expert_hold_whole_experts() -> None:
    def found(**cells: object) -> float:
        return float(
            only(
                model="deepseek-ai/DeepSeek-R1",
                device="gb200",
                engine="sglang",
                concurrency=512,
                prefill_workers=2,
                prefill_tp=4,
                decode_workers=1,
                decode_tp=1,
                **cells,
            )["tpot_ms"]
        )

    # experts of 2048 channels: 16 slices of 128
    assert found(decode_dp=32) == found(decode_dp=32, decode_ep=32)
    assert found(decode_dp=8) != found(decode_dp=8, decode_ep=8)


def test_pools_are_asked_five_times_a_client_where_nothing_is_said() -> None:
    pools = {"prefill_workers": 1, "prefill_tp": 1, "decode_workers": 1, "decode_tp": 1, "concurrency": 200}
    unsaid, five, ten = predict(table(*(row(**pools, n_requests=n) for n in ("", 1000, 2000))))["ttft_ms"]
    assert unsaid == five > ten  # a larger share of them belongs to the opening burst


def test_pools_keep_the_cache_that_checkpoints_bring() -> None:
    pools = {
        "model": BIG,
        "weight_dtype": "fp8",
        "prefill_workers": 2,
        "prefill_tp": 2,
        "decode_workers": 1,
        "decode_tp": 4,
        "mode": "open",
        "request_rate_rps": 4,
    }
    stated = [row(**pools, engine=e, kv_dtype=kv) for e in ("trtllm", "vllm") for kv in ("", "fp8", "bf16")]
    left, narrow, wide = (predict(table(*stated))["tpot_ms"].to_numpy().reshape(2, 3)).T
    assert narrow[0] < wide[0]
    np.testing.assert_allclose(left, [narrow[0], wide[1]])


def test_columns_by_the_names_that_other_tools_use_are_read() -> None:
    cells = {"weight_dtype": "fp8", "tp": 2, "concurrency": 8}
    own = only(**cells)
    others = {
        "Model": LLAMA,
        "GPU": "h100-sxm",
        "backend": "vllm",
        "input_len": 500,
        "Output Tokens": 100,
        "weights": "fp8",
        "tensor-parallel-size": 2,
        "max_concurrency": 8,
    }
    other = predict(table(others)).iloc[0]
    assert other["error"] == own["error"] == ""
    assert other["tpot_ms"] == own["tpot_ms"] != only(**cells | {"weight_dtype": ""})["tpot_ms"]
    assert other["weights"] == "fp8", "columns pass through under their own names"


@pytest.mark.parametrize("name", ["ngl", "enable_prefix_caching", "dp", "dtype", "concurency"])
def test_columns_with_values_of_another_kind_are_not_read(name: str) -> None:
    assert name not in read_columns(["model", "device", name])
    assert name in unread_columns(["model", "device", name])


def test_versions_around_pooled_engines_are_dynamos() -> None:
    pools = {
        "model": BIG,
        "request_rate_rps": 1,
        "prefill_workers": 2,
        "prefill_tp": 2,
        "decode_workers": 1,
        "decode_tp": 4,
    }
    rows = [row(**pools, engine="trtllm", engine_version=v) for v in ("0.8.1.post2", "1.2.0rc6")]
    rows.append(row(**pools, engine="vllm", engine_version="0.12.0"))
    found = predict(table(*rows))
    assert (found["error"] == "").all()
    assert found["ttft_ms"][0] == found["ttft_ms"][1]
    alone = [
        row(model=BIG, tp=4, n_devices=4, batch=8, engine="trtllm", engine_version=v) for v in ("0.8.1", "1.2.0rc6")
    ]
    old, new = predict(table(*alone))["tpot_ms"]
    assert old != new


def test_disaggregated_rows_are_those_of_pools() -> None:
    found = only(
        model=BIG, request_rate_rps=1, prefill_workers=2, prefill_tp=2, decode_workers=1, decode_tp=4, engine="trtllm"
    )
    one = [hwdb.device("h100-sxm")]
    estimated = estimate_disaggregated(
        model(BIG),
        lengths(500, 100, rate=1.0),
        deployments(one, tp=2),
        deployments(one, tp=4),
        engine="trtllm",
        prefill_workers=np.array([2.0]),
        decode_workers=np.array([1.0]),
    )
    expected = written(estimated)
    for column in (c for c in OUTPUT if c != "wall_power_w"):
        assert found[column] == pytest.approx(
            float(expected[{"req_s": "request_rate_rps"}.get(column, column)][0]), rel=1e-9
        ), column


def test_rows_do_not_see_one_another() -> None:
    rows = [
        row(concurrency=c, tp=t, device=d, model=m, engine=e)
        for c, t, d, m, e in [
            (1, 1, "h100-sxm", LLAMA, "vllm"),
            (64, 2, "l40s", LLAMA, "sglang"),
            (64, 8, "mi300x", BIG, "vllm"),
            (9, 1, "h100-sxm", LLAMA, "vllm"),
            (300, 4, "h100-sxm", BIG, "trtllm"),
            (2, 2, "a100-sxm-80gb", LLAMA, ""),
        ]
    ]
    rows += [row(request_rate_rps=2), row(isl="", osl="", trace="azure-conv", request_rate_rps=1), row(batch=32)]
    together = predict(table(*rows))
    for number, cells in enumerate(rows):
        alone = predict(table(cells)).iloc[0]
        for column in (*OUTPUT, *BOUNDS):
            assert together[column][number] == pytest.approx(alone[column], rel=1e-9), (number, column)
        assert [together[c][number] for c in (*FLAGS, "basis")] == [alone[c] for c in (*FLAGS, "basis")]


def test_intervals_hold_their_value() -> None:
    rows = [row(concurrency=8), row(request_rate_rps=3), row(model=BIG, tp=8, batch=16)]
    found = predict(table(*rows, row(device="rtx-4090", request_rate_rps=0.3)))
    for column in INTERVALS:
        low, value, high = (found[f"{column}{end}"].to_numpy(float) for end in ("_lo", "", "_hi"))
        assert ((low > 0) & (low < value) & (value < high)).all(), column
        kept = [0, 2] if column.startswith(("tpot", "e2e")) else [0, 1, 2]  # tails at 3/s reach the bound
        np.testing.assert_allclose((low * high)[kept], (value**2)[kept], rtol=1e-9)
        # reading the 15.0 GB of the weights at 1.008 TB/s takes 14.9 ms per token, which bounds the range near it
        assert not column.startswith("tpot") or low[3] == pytest.approx(15.0e9 / 1.008e12 * 1e3, rel=0.01)


def test_what_does_not_fit_says_so_and_keeps_its_numbers() -> None:
    found = predict(table(row(model=BIG, tp=1), row(model=BIG, tp=4)))
    assert found["fits"].tolist() == ["false", "true"]
    assert found["tpot_ms"].notna().all()
    assert found["error"].tolist() == ["", ""]


@pytest.mark.parametrize(
    ("cells", "mode"),
    [
        ({"request_rate_rps": 2}, "open"),
        ({"concurrency": 8}, "closed"),
        ({"batch": 8}, "static"),
        ({"n_requests": 500}, "offline"),
        ({}, "single"),
        ({"concurrency": 8, "n_requests": 80}, "closed"),
        ({"request_rate_rps": 2, "concurrency": 8}, "open"),
    ],
)
def test_the_mode_follows_from_what_is_given(cells: dict[str, object], mode: str) -> None:
    implied, named = only(**cells), only(mode=mode, **cells)
    assert implied["e2e_ms"] == named["e2e_ms"]


def test_lengths_come_from_the_data_set_that_is_named() -> None:
    named = only(isl="", osl="", trace="mlperf_longctx405b", concurrency=1)
    assert named["error"] == ""
    assert only(isl=9429, osl="", trace="mlperf_longctx405b", concurrency=1)["ttft_ms"] == named["ttft_ms"]
    assert only(isl=10, osl="", trace="mlperf_longctx405b", concurrency=1)["ttft_ms"] < named["ttft_ms"]


def test_the_request_rate_has_two_names_and_the_rate_that_was_asked_for_stays() -> None:
    cases = table(row(concurrency=8), row(request_rate_rps=2))
    found = predict(cases)
    for end in ("", "_lo", "_hi"):
        assert found[f"req_s{end}"].tolist() == found[f"served_request_rate_rps{end}"].tolist()
    assert found["request_rate_rps"].tolist() == ["", "2"]
    again = predict(found.fillna(""))
    pd.testing.assert_frame_equal(again[list(OUTPUT)], found[list(OUTPUT)])


def test_every_known_column_says_unit_meaning_and_what_a_blank_means() -> None:
    listed = columns()
    assert len({name for name, _, _ in listed}) == len(listed) == len(INPUT)
    for name, unit, meaning in listed:
        assert unit, name
        said, _, blank = meaning.partition("; blank: ")
        assert len(said) > 3, name
        assert blank, name
    assert all(not c.is_number or c.least >= 0 for c in INPUT)


def test_versions_of_one_era_are_one_engine_and_files_are_their_own(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    shipped = (FOLDER / "vllm.toml").read_text(encoding="utf-8")
    slow = 'request_ms = { value = 5000, kind = "assumed", source = "a test" }'
    lines = [slow if line.startswith("request_ms") else line for line in shipped.splitlines()]
    own.write_text("\n".join(lines), encoding="utf-8")
    found = predict(
        table(
            *(
                row(engine=e, engine_version=v)
                for e, v in [("vllm", "0.9"), ("vllm", "0.10.1"), (str(own), ""), ("vllm", "0.6")]
            )
        )
    )
    assert found["error"].tolist() == [""] * 4
    ttft = found["ttft_ms"].to_numpy(float)
    assert ttft[0] == ttft[1] != ttft[3]
    assert ttft[2] > 5000 > ttft[0]


def test_progress_reaches_the_end_whatever_is_refused() -> None:
    seen: list[tuple[int, int]] = []
    predict(table(row(), row(isl="many"), row(model=BIG), row(engine="sglang")), progress=lambda *at: seen.append(at))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (4, 4)


# -------------------------------------------------------------------------------- what a case leaves open


def placed(name: str, devices: float, mode: str = "closed", memory: float = 80e9, **given: float) -> dict[str, float]:
    wanted = {k: np.array([given.get(k, np.nan)]) for k in ("tp", "pp", "ep", "dp")}
    found = placement(
        model(name), np.array([devices]), wanted, memory=np.array([memory]), weight=np.array([-1]), mode=mode
    )
    return {k: float(v[0]) for k, v in vars(found).items()}


@pytest.mark.parametrize("mode", ["closed", "open", "offline", "single", "static"])
@pytest.mark.parametrize("devices", [1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0, 72.0])
@pytest.mark.parametrize("name", [LLAMA, BIG, "deepseek-v3", "Qwen/Qwen2.5-0.5B"])
def test_a_guess_uses_no_more_than_there_is_and_divides_heads(name: str, devices: float, mode: str) -> None:
    found = placed(name, devices, mode)
    assert found["tp"] * found["pp"] * found["dp"] * found["replicas"] <= devices
    assert model(name).heads % found["tp"] == 0
    assert devices % found["tp"] == 0


def test_what_is_given_stays() -> None:
    found = placed("deepseek-v3", 16, tp=4, pp=2, ep=2, dp=2)
    assert found == {"tp": 4, "pp": 2, "ep": 2, "dp": 2, "replicas": 1}
    assert placed(LLAMA, np.nan, tp=4)["replicas"] == 1
    assert placed(LLAMA, 8, tp=2)["replicas"] == 4


@pytest.mark.parametrize("mode", ["open", "offline"])
def test_experts_behind_latent_attention_are_spread_where_nothing_is_stated(mode: str) -> None:
    """Attention data parallelism over the devices of a server, or over as many as hold the weights."""
    spread = {"tp": 1, "pp": 1, "ep": 8, "dp": 8}
    assert placed("deepseek-v3", 16, mode, memory=192e9) == {**spread, "replicas": 2}
    assert placed("deepseek-v3", 72, mode, memory=192e9) == {**spread, "replicas": 9}
    assert placed("deepseek-v3", 4, mode, memory=288e9) == {"tp": 1, "pp": 1, "ep": 4, "dp": 4, "replicas": 1}
    wide = placed("deepseek-v3", 32, mode, memory=80e9)
    assert wide["dp"] == wide["ep"] == 16
    assert placed("deepseek-v3", 8, mode, memory=192e9, tp=8)["tp"] == 8  # what is stated stays
    assert placed("deepseek-v3", 8, mode, memory=192e9, dp=2)["dp"] == 2
    assert placed("Qwen/Qwen3-235B-A22B", 8, mode, memory=192e9)["dp"] == 1
    assert placed("deepseek-v3", 8, "closed", memory=192e9)["tp"] == 8


def test_throughput_is_served_by_replicas_and_latency_by_wide_splits() -> None:
    assert placed(LLAMA, 8, "offline") == {"tp": 1, "pp": 1, "ep": 1, "dp": 1, "replicas": 8}
    assert placed(LLAMA, 8, "closed")["tp"] == 8
    # 141 GB of weights need more than two cards of 80 GB
    assert placed(BIG, 8, "offline")["tp"] == 4
    assert placed(BIG, 8, "offline", memory=288e9)["tp"] == 1


def test_experts_spread_wider_than_tensors_mean_data_parallel_attention() -> None:
    found = placed("deepseek-v3", 8, tp=1, ep=8)
    assert (found["dp"], found["ep"], found["replicas"]) == (8, 8, 1)
    assert placed("deepseek-v3", 8, tp=8, ep=8)["dp"] == 1


def test_a_method_of_drafting_in_a_row_makes_tokens_faster() -> None:
    assert (
        only(concurrency=4, spec_decode="mtp-suspected")["tpot_ms"] == only(concurrency=4, spec_decode="mtp")["tpot_ms"]
    )
    for name in set(METHODS) - {"draft-model"}:
        assert only(concurrency=4, spec_decode=name)["tpot_ms"] < only(concurrency=4)["tpot_ms"]
    plain, drafted = (only(concurrency=4, spec_decode=s)["tpot_ms"] for s in ("", "eagle3"))
    assert plain / 2.8 < drafted < plain


# -------------------------------------------------------------------------------- caches that checkpoints bring


@pytest.mark.parametrize(
    ("cells", "cache"),
    [
        ({"weight_dtype": "fp8"}, "fp8"),
        ({"weight_dtype": "fp8", "engine": "vllm", "engine_version": "0.11"}, "bf16"),
        ({"weight_dtype": "bf16"}, "bf16"),
        ({"weight_dtype": "fp8", "model": "Qwen/Qwen3-8B-FP8"}, "bf16"),
    ],
)
def test_the_model_optimizers_checkpoints_bring_an_fp8_cache(cells: dict[str, object], cache: str) -> None:
    """TensorRT-LLM documentation, performance overview and perf-benchmarking: kv_cache_quant_algo FP8."""
    plain = {"engine": "trtllm", "engine_version": "1.0", "mode": "offline", "n_requests": 3000, "osl": 2000, **cells}
    blank, stated = only(**plain), {k: only(**plain, kv_dtype=k) for k in ("fp8", "bf16")}
    assert stated["fp8"].output_tok_s > 1.1 * stated["bf16"].output_tok_s
    assert blank.output_tok_s == pytest.approx(stated[cache].output_tok_s)


def test_llama_cpp_gives_each_device_whole_layers_unless_told_otherwise() -> None:
    cells = {"engine": "llamacpp", "device": "rtx-4090", "n_devices": 2, "weight_dtype": "q4_k_m", "mode": "single"}
    assert only(**cells).tpot_ms == pytest.approx(only(**cells, tp=1, pp=2).tpot_ms)
    assert only(**cells).tpot_ms > 1.2 * only(**cells, tp=2).tpot_ms


def test_blank_weights_of_runs_pushed_to_the_highest_rate_are_the_narrowest_the_device_multiplies_in() -> None:
    """8 x A100 has neither fp8 nor fp4; a closed loop and other engines keep the model's own 16 bit."""
    base = {"model": "meta-llama/Llama-2-70b-chat-hf", "n_devices": "8", "isl": "294", "osl": "294"}
    base["n_requests"] = "4096"
    rows = [
        {**base, "device": "h100-sxm", "engine": "trtllm", "mode": "offline"},
        {**base, "device": "b200-sxm", "engine": "trtllm", "mode": "offline"},
        {**base, "device": "a100-sxm-80gb", "engine": "trtllm", "mode": "offline"},
        {**base, "device": "h100-sxm", "engine": "trtllm", "mode": "closed", "concurrency": "64"},
        {**base, "device": "h100-sxm", "engine": "vllm", "mode": "offline"},
    ]
    stated = [{**r, "weight_dtype": w} for r, w in zip(rows, ("fp8", "fp4", "fp16", "fp16", "fp16"), strict=True)]
    blank, told = (predict(pd.DataFrame(r).fillna("")) for r in (rows, stated))
    assert blank.total_tok_s.tolist() == pytest.approx(told.total_tok_s.tolist(), rel=1e-6)
    assert blank.total_tok_s[0] > 1.3 * predict(pd.DataFrame([{**rows[0], "weight_dtype": "fp16"}])).total_tok_s[0]


def test_a_publication_gives_the_version_that_its_rows_leave_out() -> None:
    """Splitwise ran the vLLM of 2023, which waits for kernel launches; a version that the row states comes first."""
    alone = {"mode": "static", "batch": 1, "tp": 1, "isl_dist": "fixed"}
    named = only(**alone, dataset="splitwise_a100_h100")
    stated = only(**alone, dataset="splitwise_a100_h100", engine_version="0.20")
    assert named.tpot_ms == only(**alone, engine_version="0.2").tpot_ms
    assert stated.tpot_ms == only(**alone).tpot_ms == only(**alone, dataset="of one's own").tpot_ms
    assert named.tpot_ms > 1.3 * stated.tpot_ms


def test_a_burst_that_was_sent_to_a_server_runs_with_the_limits_of_one() -> None:
    """vLLM on an H100: steps of 8,192 tokens behind a server, of 16,384 as a library; a stated limit comes first."""
    burst = {"engine": "vllm", "mode": "offline", "n_requests": 300, "isl": 2000, "osl": 100, "tp": 1}
    served, alone = only(**burst, dataset="gpustack_perf_lab"), only(**burst)
    assert served.tpot_ms_p99 == only(**burst, max_num_batched_tokens=8192).tpot_ms_p99
    assert alone.tpot_ms_p99 == only(**burst, max_num_batched_tokens=16384).tpot_ms_p99
    assert served.itl_ms_p99 < 0.7 * alone.itl_ms_p99
    stated = {**burst, "max_num_batched_tokens": 4096}
    assert only(**stated, dataset="gpustack_perf_lab").tpot_ms_p99 == only(**stated).tpot_ms_p99
    closed = {"engine": "vllm", "concurrency": 16}
    assert only(**closed, dataset="gpustack_perf_lab").tpot_ms == only(**closed).tpot_ms


# -------------------------------------------------------------------------------- start-up of a benchmark


def test_a_warm_up_takes_the_opening_burst_out_of_ttft() -> None:
    """Unmeasured requests at the head of a run: none, half of the burst, all of it; as a run that is long enough."""
    loop = {"concurrency": 64, "isl": 2000}
    cases = [{}, {"warmup_requests": 0}, {"warmup_requests": 32}, {"warmup_requests": 64}, {"n_requests": 64e6}]
    plain, none, half, whole, long = predict(table(*(row(**loop, **c) for c in cases)))["ttft_ms"]
    assert plain == none > half > whole == pytest.approx(long, rel=1e-4)


@pytest.mark.parametrize("clients", [2, 16, 64, 300])
@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_clients_that_start_one_after_another_wait_less(clients: int, engine: str) -> None:
    """TTFT falls with the ramp, down to that of a run without a burst; throughput does not."""
    loop = {"concurrency": clients, "engine": engine, "isl": 1000, "n_requests": 5 * clients}
    ramps = [0, 0.05, 0.5, 5, 500]
    *eased, without = (
        found := predict(table(*(row(**loop, ramp_s=r) for r in ramps), row(**loop, warmup_requests=1e6)))
    )["ttft_ms"]
    assert np.all(np.diff(eased) <= 0)
    assert eased[0] > eased[-1] == pytest.approx(without)
    assert found["output_tok_s"][4] >= found["output_tok_s"][0]


def test_pools_are_eased_too() -> None:
    pools = {"concurrency": 80, "prefill_workers": 4, "decode_workers": 2, "isl": 1000}
    at_once, ramp, warm = predict(table(row(**pools), row(**pools, ramp_s=0.5), row(**pools, warmup_requests=80)))[
        "ttft_ms"
    ]
    assert at_once > ramp > 0
    assert at_once > warm > 0


@pytest.mark.parametrize("column", ["warmup_requests", "ramp_s"])
def test_a_start_below_nothing_is_refused(column: str) -> None:
    assert column in only(concurrency=4, **{column: -1})["error"]


def test_a_power_limit_below_idle_is_refused_by_row() -> None:
    """An idle H100 draws 71 W; the same limit is refused of `estimate`, `plan` and `op`."""
    table = {
        "model": "llama-3.1-8b",
        "device": ["h100-sxm"] * 3,
        "isl": 100,
        "osl": 100,
        "power_cap_w": [10, 400, None],
    }
    found = predict(pd.DataFrame(table))
    assert "10 W is not above the 71 W that h100-sxm draws idle" in found["error"][0]
    assert list(found["error"][1:]) == ["", ""]


def test_spaces_around_the_names_of_columns_do_not_matter(tmp_path: Path) -> None:
    rows = {
        "a": "model,device,isl,osl\nQwen/Qwen3-8B,l4,100,10\n",
        "b": "model, device , isl, osl\nQwen/Qwen3-8B,l4,100,10\n",
    }
    frames = []
    for name, text in rows.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        frames.append(predict(tmp_path / name))
    assert frames[0].equals(frames[1])
