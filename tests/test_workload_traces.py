"""Traces, histograms, data sets and workloads: what is kept, what is refused, and how fast."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from call_counter import calls
from hypothesis import given, settings
from hypothesis import strategies as st

from hwdb import InputError, UnknownName
from hwdb.tomlfile import read_toml
from perfmodel.workload.datasets import TABLE, histogram, lengths
from perfmodel.workload.histograms import FOLDER, Histogram, read_histogram
from perfmodel.workload.length_spread import prompt_spread
from perfmodel.workload.load import load_of
from perfmodel.workload.output_lengths import cv_of_tail
from perfmodel.workload.output_lengths import quantile as output_quantile
from perfmodel.workload.slo import Objective, Slo
from perfmodel.workload.traces import READERS, Content, Parsed, Reader, Trace, formats, read_trace
from perfmodel.workload.workload import Workload

PLAIN = "arrival_s,input_tokens,output_tokens\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def put(tmp_path: Path, text: str, name: str = "t.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def line(**changes: object) -> str:
    record = {"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}
    return json.dumps({k: v for k, v in {**record, **changes}.items() if v is not None})


# -- reading ------------------------------------------------------------------------------------------------------


def test_plain_csv_is_read(tmp_path: Path) -> None:
    trace = read_trace(put(tmp_path, PLAIN + "0.5,10,2\n1.5,20,4\n2.5,30,6\n"))
    assert trace.arrival.tolist() == [0, 1, 2]
    assert trace.input.tolist() == [10, 20, 30]
    assert trace.rate == pytest.approx(1.0)
    assert trace.cv == pytest.approx(0.0)


def test_columns_may_come_in_any_order_with_others_between(tmp_path: Path) -> None:
    trace = read_trace(put(tmp_path, "output_tokens,user,arrival_s,input_tokens\n2,ann,0,10\n4,bob,3,20\n"))
    assert trace.output.tolist() == [2, 4]
    assert trace.arrival.tolist() == [0, 3]


def test_azure_csv_keeps_seven_fractional_digits(tmp_path: Path) -> None:
    text = AZURE + "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:46.6805901,396,109\n"
    trace = read_trace(put(tmp_path, text))
    assert trace.arrival[1] == pytest.approx(1e-7, rel=1e-9)


def test_azure_csv_of_2024_with_time_zone(tmp_path: Path) -> None:
    text = AZURE + "2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:01+00:00,2399,6\n"
    assert read_trace(put(tmp_path, text)).arrival[1] == pytest.approx(0.99007)


def test_mooncake_lines_are_read_with_blocks(tmp_path: Path) -> None:
    longer = line(timestamp=500, input_length=1200, hash_ids=[1, 2, 3])
    text = "\n".join([line(), longer, "", line(timestamp=1000, hash_ids=None)])
    trace = read_trace(put(tmp_path, text, "m.jsonl"))
    assert trace.arrival.tolist() == [0, 0.5, 1.0]
    assert trace.offsets.tolist() == [0, 2, 5, 5]
    assert trace.block_tokens == 512


def test_gzip_is_recognised_by_content(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(gzip.compress((PLAIN + "0,10,2\n").encode()))
    assert len(read_trace(path)) == 1


def test_a_new_format_is_one_more_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(content: Content) -> Parsed:
        numbers = np.array([[float(n) for n in row.split()] for row in content.text.splitlines()[1:]])
        made = Trace(arrival=numbers[:, 0], input=numbers[:, 1].astype(int), output=numbers[:, 2].astype(int))
        return Parsed(trace=made, lines=np.arange(len(numbers)) + 2)

    own = Reader(name="blanks", recognises=lambda content: content.head.startswith("%"), read=read)
    monkeypatch.setattr(formats, "READERS", (own, *READERS))
    assert read_trace(put(tmp_path, "%\n3 10 2\n4 20 4\n")).arrival.tolist() == [0, 1]
    assert read_trace(put(tmp_path, PLAIN + "0,10,2\n")).input.tolist() == [10]
    with pytest.raises(InputError, match="line 3: input of 0 tokens"):
        read_trace(put(tmp_path, "%\n3 10 2\n4 0 4\n"))


def test_lengths_alone_make_a_trace_without_arrivals(tmp_path: Path) -> None:
    trace = read_trace(put(tmp_path, "num_prefill_tokens,num_decode_tokens\n10,2\n30,4\n"))
    assert np.isnan(trace.rate)
    assert np.isnan(trace.arrival).all()
    with pytest.raises(InputError, match="has no arrivals to stretch; give one with arrival_s"):
        trace.at_rate(3.0)


def test_sort_is_granted_when_asked(tmp_path: Path) -> None:
    path = put(tmp_path, PLAIN + "5,10,2\n3,20,4\n4,30,6\n")
    assert read_trace(path, sort=True).input.tolist() == [20, 30, 10]


def test_rows_of_a_trace_are_read_together(tmp_path: Path) -> None:
    rows = 200_000
    arrival = np.cumsum(np.random.default_rng(3).exponential(0.01, rows))
    tokens = np.random.default_rng(4).integers(1, 4000, rows)
    made = Trace(arrival - arrival[0], tokens, tokens[::-1].copy())
    made.to_csv(tmp_path / "big.csv")
    back = read_trace(tmp_path / "big.csv")
    assert calls(lambda: read_trace(tmp_path / "big.csv")) < 1.5 * rows, "about one call a row"
    assert np.array_equal(back.input, made.input)
    assert np.abs(back.arrival - made.arrival).max() < 1e-6


BAD_TRACES = [
    ("", r"the file is empty; give one with at least one request"),
    ("  \n \n", r"the file is empty"),
    (PLAIN, r"has a header and no request"),
    ("a,b,c\n1,2,3\n", r"line 1: no column for input tokens among a, b, c; name it input_tokens or ContextTokens"),
    ("arrival_s,input_token,output_tokens\n1,2,3\n", r"is 'input_token' meant\?"),
    ("arrival_s,input_tokens\n1,2\n", r"no column for output tokens among arrival_s, input_tokens"),
    (PLAIN + "0,10,2\n1,ten,4\n", r"t.csv, line 3: input_tokens 'ten' is not a finite number; give a number or drop"),
    (PLAIN + "0,10,2\n1,,4\n", r"line 3: input_tokens is empty"),
    (PLAIN + "0,nan,2\n", r"line 2: input_tokens 'nan' is not a finite number"),
    (PLAIN + "0,10,inf\n", r"line 2: output_tokens 'inf' is not a finite number"),
    (PLAIN + "0,10,2\n1,12.5,4\n", r"line 3: input_tokens 12.5 is not a whole number of tokens"),
    (PLAIN + "0,1e300,4\n", r"line 2: input_tokens 1e\+300 is not a whole number of tokens"),
    (PLAIN + "0,10,2\n1,-5,4\n", r"line 3: input of -5 tokens; every request needs 1 or more: drop the line"),
    (PLAIN + "0,10,0\n", r"line 2: output of 0 tokens; every request needs 1 or more"),
    (
        PLAIN + "0,10000000,2\n",
        r"line 2: input of 10000000 tokens is above the 4000000 taken for real.*raise `longest`",
    ),
    (PLAIN + "-3,10,2\n", r"line 2: arrival -3 s is negative; count from the first request"),
    (PLAIN + "0,10,2\n\n5,10,2\n3,10,2\n1,10,2\n", r"line 5: arrives 2 s before the line above, as 2 lines.*--sort"),
    (PLAIN + "0,10,2\n1,10,2,9,9\n", r"not a table: .*line 3.*give each line as many fields as the header"),
    (PLAIN + "soon,10,2\n", r"line 2: arrival_s 'soon' is not a finite number"),
    (AZURE + "yesterday,10,2\n", r"line 2: TIMESTAMP 'yesterday' is not a date and time; write it as 2023-11-16"),
    (AZURE + "2023-11-16 18:15:46,10,2\n2023-11-16 18:15:45,10,2\n", r"line 3: arrives 1 s before the line above"),
    ("{\n", r"line 1: not JSON; write one object per line"),
    (line() + "\n[1, 2]\n", r"line 2: '\[1, 2\]' is not an object"),
    (line(input_length=None), r"line 1: 'input_length' is missing; a Mooncake line has timestamp \(ms\)"),
    (line(timestamp="now"), r"line 1: timestamp 'now' is not a finite number"),
    (line(output_length=True), r"line 1: output_length True is not a finite number"),
    (line(hash_ids=[1, "x"]), r"line 1: hash_ids is not a list of whole numbers"),
    (line(hash_ids=[2**80]), r"line 1: hash_ids is not a list of whole numbers"),
    (line(timestamp=9) + "\n" + line(timestamp=3), r"line 2: arrives 0.006 s before the line above"),
    (line(input_length=3.5), r"line 1: input_length 3.5 is not a whole number of tokens"),
]


@pytest.mark.parametrize(("text", "message"), BAD_TRACES)
def test_bad_traces_say_where_and_how(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_trace(put(tmp_path, text))


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone.csv: no such trace"):
        read_trace(tmp_path / "gone.csv")
    with pytest.raises(InputError, match="is a folder, not a trace"):
        read_trace(tmp_path)
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(PLAIN.encode() * 50)[:40])
    with pytest.raises(InputError, match="gzip file is damaged or cut short; fetch it again"):
        read_trace(tmp_path / "cut.csv.gz")
    (tmp_path / "raw.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="byte 0 is not UTF-8"):
        read_trace(tmp_path / "raw.csv")


def test_the_limit_of_length_can_be_raised(tmp_path: Path) -> None:
    path = put(tmp_path, PLAIN + "0,10000000,2\n")
    assert read_trace(path, longest=10**8).input[0] == 10**7


# -- prefix reuse -------------------------------------------------------------------------------------------------


def slow_reuse(requests: list[list[int]], inputs: list[int], block: int) -> list[int]:
    """Leading blocks seen in earlier requests, one request after the other."""
    seen: set[int] = set()
    out = []
    for hashes, tokens in zip(requests, inputs, strict=True):
        count = 0
        for h in hashes:
            if h not in seen:
                break
            count += 1
        out.append(min(count * block, tokens))
        seen.update(hashes)
    return out


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=20))
def test_reuse_agrees_with_a_set_walked_request_by_request(requests: list[list[int]]) -> None:
    inputs = np.array([max(1, 4 * len(r) - 1) for r in requests])
    offsets = np.concatenate([[0], np.cumsum([len(r) for r in requests])])
    flat = np.array([h for r in requests for h in r], dtype=np.int64)
    trace = Trace(np.zeros(len(requests)), inputs, inputs, flat, offsets, 4)
    assert trace.reused_tokens().tolist() == slow_reuse(requests, inputs.tolist(), 4)


def test_taking_rows_keeps_their_blocks() -> None:
    trace = Trace(np.arange(3.0), np.array([9, 9, 9]), np.ones(3, int), np.arange(6), np.array([0, 1, 4, 6]), 4)
    picked = trace.take(np.array([2, 0]))
    assert picked.blocks.tolist() == [4, 5, 0]
    assert picked.offsets.tolist() == [0, 2, 3]


def test_stretching_time_keeps_the_requests() -> None:
    trace = Trace(np.array([0.0, 1, 4]), np.array([1, 2, 3]), np.array([1, 2, 3])).at_rate(5.0)
    assert trace.rate == pytest.approx(5.0)
    with pytest.raises(InputError, match="rate -1 requests/s is impossible"):
        trace.at_rate(-1)


# -- histograms ---------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 10**4)), min_size=1, max_size=300),
    st.tuples(st.integers(1, 9), st.integers(1, 6)),
)
def test_classes_keep_every_token(rows: list[tuple[int, int]], classes: tuple[int, int]) -> None:
    inputs, outputs = (np.array(column) for column in zip(*rows, strict=True))
    made = Histogram.from_trace(Trace(np.zeros(len(rows)), inputs, outputs), classes)
    assert len(made) <= classes[0] * classes[1]
    assert made.share.sum() == pytest.approx(1.0, rel=1e-12)
    assert made.share @ made.input_tokens == pytest.approx(inputs.mean(), rel=1e-12)
    assert made.share @ made.output_tokens == pytest.approx(outputs.mean(), rel=1e-12)


def test_requests_of_one_length_are_one_class() -> None:
    trace = Trace(np.arange(50.0), np.full(50, 100), np.full(50, 7))
    assert len(Histogram.from_trace(trace)) == 1


def test_reuse_is_kept_by_classes() -> None:
    trace = Trace(np.arange(4.0), np.full(4, 8), np.array([1, 2, 3, 4]), np.tile([1, 2], 4), np.arange(0, 9, 2), 4)
    made = Histogram.from_trace(trace)
    reused = made.share @ (made.prefix_hit * made.input_tokens)
    assert reused == pytest.approx(trace.reused_tokens().mean())
    assert Workload.from_trace(trace, prefix_cache=False).mean_new_input == pytest.approx(8.0)
    assert Workload.from_trace(trace).mean_new_input == pytest.approx(2.0)


def test_a_histogram_survives_its_file(tmp_path: Path) -> None:
    made = histogram("mooncake-conversation")
    made.write(tmp_path / "h.csv")
    back = read_histogram(tmp_path / "h.csv")
    for name in ("input_tokens", "output_tokens", "share", "prefix_hit"):
        assert getattr(back, name) == pytest.approx(getattr(made, name), rel=1e-12)
    assert (back.name, back.licence, back.requests) == ("mooncake-conversation", "Apache-2.0", 12031)


HEADER = "input_tokens,output_tokens,share\n"
BAD_HISTOGRAMS = [
    ("", r"holds no class; give a header and at least one line"),
    ("input_tokens,share\n1,1\n", r"line 1: no column output_tokens among input_tokens, share; add it"),
    (HEADER + "10,5,0.4\n20,5,0.4\n", r"the column share sums to 0.8; make it sum to 1"),
    (HEADER + "10,five,1\n", r"line 2: output_tokens 'five' is not a number from 1 to 1e\+09; correct it"),
    (HEADER + "0,5,1\n", r"line 2: input_tokens '0' is not a number from 1"),
    (HEADER + "10,5\n", r"line 2: 2 fields where the header has 3"),
    (HEADER[:-1] + ",weight\n10,5,1,2\n", r"line 1: unknown column 'weight'"),
    (HEADER + "10,5,-1\n", r"line 2: share '-1' is not a number from 0 to 1"),
]


@pytest.mark.parametrize(("text", "message"), BAD_HISTOGRAMS)
def test_bad_histograms_say_where_and_how(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_histogram(put(tmp_path, text, "h.csv"))


# -- data sets ----------------------------------------------------------------------------------------------------

PUBLISHED = [
    ("azure-conv-2023", 19366, 1154.697, 211.126),
    ("azure-code-2023", 8819, 2047.848, 27.883),
    ("mooncake-conversation", 12031, 12035.06, 342.62),
]


@pytest.mark.parametrize(("name", "requests", "prompt", "answer"), PUBLISHED)
def test_shipped_histograms_have_the_means_of_their_traces(
    name: str, requests: int, prompt: float, answer: float
) -> None:
    """Means over all requests of the published files."""
    workload = Workload.from_histogram(histogram(name))
    assert histogram(name).requests == requests
    assert workload.mean_input == pytest.approx(prompt, rel=1e-5)
    assert workload.mean_output == pytest.approx(answer, rel=1e-4)


@pytest.mark.parametrize("name", sorted(read_toml(TABLE).keys()))
def test_every_data_set_has_lengths_and_a_source(name: str) -> None:
    stats = lengths(name)
    assert stats.input_mean >= 1
    assert stats.output_mean >= 1
    assert len(stats.source) > 20
    shape = histogram(name)
    assert shape.share @ shape.input_tokens == pytest.approx(stats.input_mean, rel=1e-3)
    assert shape.share @ shape.output_tokens == pytest.approx(stats.output_mean, rel=3e-3)


def test_every_shipped_histogram_is_a_known_data_set_with_a_licence() -> None:
    shipped = [path.stem for path in FOLDER.glob("*.csv")]
    assert shipped
    for name in shipped:
        assert lengths(name).name == name
        assert histogram(name).licence


TRACES_OF_BENCHMARKS = [
    "accelmark_sharegpt_edge_v1",
    "accelmark_sharegpt_longctx_v1",
    "accelmark_sharegpt_standard_v1",
    "mlenergy_gpqa",
    "mlenergy_lm-arena-chat",
    "mlenergy_sourcegraph-fim",
    "mlperf_cnndm",
    "mlperf_llama27bchathffp8",
    "mlperf_llama31405binstruct",
    "mlperf_llama3170binstruct",
    "mlperf_llama318binstruct",
    "mlperf_longctx405b",
    "mlperf_mixed15k",
    "mlperf_openorca",
    "mlperf_r1",
    "sharegpt",
]


@pytest.mark.parametrize("name", TRACES_OF_BENCHMARKS)
def test_benchmark_tables_name_data_sets_that_are_known(name: str) -> None:
    assert lengths(name).input_mean > 1


def test_prompts_that_are_cut_spread_as_their_variation_says() -> None:
    """The 99th percentile of prompts of MLPerf's long contexts is 18,956 of at most 20,000 tokens, its mean 9,429."""
    found = lengths("mlperf_longctx405b")
    spread = float(prompt_spread(["trace"], found.prompt_tail)[0])
    assert np.sqrt(np.expm1(spread**2)) == pytest.approx(found.input_cv)
    assert found.input_mean * np.exp(2.3263 * spread - spread**2 / 2) == pytest.approx(18_956, rel=0.25)
    assert histogram("longcontext-405b").prompt_tail == found.prompt_tail
    plain = lengths("sharegpt-llama2")  # of which no variation is known
    assert plain.prompt_tail == plain.input_p90 / plain.input_mean
    assert np.isnan(lengths("alpaca").prompt_tail)


def test_data_sets_that_state_how_answers_spread_are_drawn_so() -> None:
    """ShareGPT as vLLM's benchmark samples it: its Weibull law has the quartiles of its answers within a third."""
    stats = lengths("sharegpt")
    work = Workload.from_histogram(histogram("sharegpt"), n_requests=1000)
    assert work.output_cv == stats.output_cv
    load = load_of(work, 1)
    assert float(load.length_cv[0]) == stats.output_cv
    middle = output_quantile(np.array(stats.output_mean), load.length_cv, np.array(0.5), load.longest)
    assert float(middle[0]) == pytest.approx(stats.output_median, rel=1 / 3)
    longest = output_quantile(np.array(stats.output_mean), load.length_cv, np.array(0.999), load.longest)
    assert float(longest[0]) == stats.output_max
    known = lengths("openorca")
    assert known.output_cv == pytest.approx(float(cv_of_tail(np.array([known.output_p99 / known.output_mean]))[0]))
    assert np.isnan(lengths("humaneval").output_cv)


def test_unknown_data_set_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"unknown data set 'azure-conf-2023'; did you mean 'azure-conv-2023'"):
        lengths("azure-conf-2023")


# -- workloads ----------------------------------------------------------------------------------------------------


def test_arrival_follows_from_the_number_given() -> None:
    assert Workload.from_lengths(10, 10, rate=1).arrival == "open"
    assert Workload.from_lengths(10, 10, n_requests=8).arrival == "offline"
    assert Workload.from_lengths(10, 10, concurrency=8).arrival == "closed"
    assert Workload.from_lengths([1, 2], 3).share.tolist() == [0.5, 0.5]


BAD_WORKLOADS = [
    ({"input_tokens": 0}, r"input_tokens of class 1 is 0; it must be 1 token or more"),
    ({"output_tokens": [5, float("nan")]}, r"output_tokens of class 2 is nan"),
    ({"share": [0.5, 0.2], "input_tokens": [1, 2]}, r"shares sum to 0.7; make them sum to 1"),
    ({"share": [1.5, -0.5], "input_tokens": [1, 2]}, r"share of class 2 is -0.5; it must be 0 or more"),
    ({"share": [0.2, 0.3, 0.5]}, r"share has 3 values for 1 classes; give one each"),
    ({"prefix_hit": 1.2}, r"prefix_hit of class 1 is 1.2; it must be between 0 and 1"),
    ({"rate": 0.0}, r"rate 0 is impossible; give more than 0"),
    ({"concurrency": 0.5}, r"concurrency 0.5 is impossible"),
    ({"rate": float("inf")}, r"rate inf is impossible"),
    ({"arrival": "bursty"}, r"arrival 'bursty' is unknown; choose one of static, closed, open"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_WORKLOADS)
def test_impossible_workloads_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Workload.from_lengths(**{"input_tokens": 10, "output_tokens": 10, **changes})  # type: ignore[arg-type]


def test_objectives_are_spelled_with_their_unit() -> None:
    slo = Slo.of(ttft_ms_p90=500, tpot_ms=50)
    assert [o.key for o in slo.objectives] == ["ttft_ms_p90", "tpot_ms"]
    assert slo.limit("ttft", "p90") == 0.5
    assert slo.limit("e2e") == np.inf
    with pytest.raises(InputError, match="statistic 'p85' is unknown; choose one of mean, p50"):
        Objective.from_key("ttft_ms_p85", 10)
    with pytest.raises(InputError, match="objective tpot_ms 0 s is impossible"):
        Objective.from_key("tpot_ms", 0)


@pytest.mark.parametrize(
    "record",
    [
        {"timestamp": "2026-11-01T10:00:0{n}Z", "model": "m", "usage": {"prompt_tokens": 100, "completion_tokens": 7}},
        {  # a result of OpenAI's Batch API
            "custom_id": "r{n}",
            "response": {
                "status_code": 200,
                "body": {"created": 1762000000, "usage": {"prompt_tokens": 100, "completion_tokens": 7}},
            },
            "error": None,
        },
    ],
)
def test_lengths_within_the_usage_of_a_log_are_read(tmp_path: Path, record: dict[str, object]) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(json.dumps(record).replace("{n}", str(n)) for n in range(3)), encoding="utf-8")
    trace = read_trace(path)
    assert list(trace.input) == [100, 100, 100]
    assert list(trace.output) == [7, 7, 7]


def test_the_names_of_splitwise_and_openrouter_are_known(tmp_path: Path) -> None:
    for header in ("arrival_time_s,prompt_size,token_size", "created_at_s,tokens_prompt,tokens_completion"):
        path = tmp_path / "trace.csv"
        path.write_text(f"{header}\n0.0,1000,30\n10.5,2000,40\n", encoding="utf-8")
        trace = read_trace(path)
        assert (list(trace.input), list(trace.output)) == ([1000, 2000], [30, 40])


def test_conversations_of_wildchat_are_those_of_messages(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a" * 400}, {"role": "assistant", "content": "b" * 80}]
    lengths = []
    for key in ("messages", "conversation"):
        path = tmp_path / f"{key}.jsonl"
        path.write_text(json.dumps({key: turns, "turn": 1}), encoding="utf-8")
        lengths.append((list(read_trace(path).input), list(read_trace(path).output)))
    assert lengths == [([100], [20])] * 2
