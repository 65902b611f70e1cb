"""Traces as people hand them over: each format is recognised by its content, read right or refused with evidence."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cli
from hwdb import InputError
from perfmodel.workload import Trace, read_trace

#: Seeds of the relatives of each format.
SEEDS = range(20)
Rows = list[dict[str, Any]]
#: Requests/s of the traces that the tests write.
RATE = 4.0


def requests(seed: int, count: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (arrivals in seconds, prompt tokens, output tokens) of random requests."""
    rng = np.random.default_rng(seed)
    arrival = np.round(np.cumsum(0.002 + rng.exponential(1 / RATE, count)), 3)
    return arrival - arrival[0], rng.integers(20, 4000, count), rng.integers(1, 600, count)


def put(folder: Path, text: str, seed: int = 0, name: str = "file") -> Path:
    """Write a text under a name that says nothing of its format; every third one gzipped."""
    path, raw = folder / name, text.encode()
    path.write_bytes(gzip.compress(raw) if seed % 3 == 1 else raw)
    return path


def table(columns: dict[str, Any], seed: int = 0) -> str:
    """Return a CSV with the columns in a random order."""
    names = list(np.random.default_rng(seed).permutation(list(columns)))
    lines = zip(*(columns[n] for n in names), strict=True)
    return "\n".join([",".join(names), *(",".join(str(v) for v in row) for row in lines)]) + "\n"


def lines(rows: Rows) -> str:
    return "\n".join(json.dumps(r) for r in rows) + "\n"


def hashed(seed: int, unit: float, block: int, **more: Callable[[int], Any]) -> Rows:
    """Return rows with hashes of blocks of `block` tokens and times in `unit` seconds."""
    arrival, prompt, output = requests(seed)
    return [
        {
            "timestamp": round(float(a) / unit, 3) if unit == 1.0 else round(float(a) / unit),
            "input_length": int(p),
            "output_length": int(o),
            "hash_ids": list(range(n % 5, n % 5 + -(-int(p) // block))),
            **{key: value(n) for key, value in more.items()},
        }
        for n, (a, p, o) in enumerate(zip(arrival, prompt, output, strict=True))
    ]


def same(trace: Trace, seed: int) -> None:
    """Assert that a trace has the requests of `requests(seed)`."""
    arrival, prompt, output = requests(seed)
    assert trace.input.tolist() == prompt.tolist()
    assert trace.output.tolist() == output.tolist()
    assert np.abs(trace.arrival - arrival).max() < 2e-3


BAILIAN = {"chat_id": lambda n: n, "parent_chat_id": lambda _: -1, "turn": lambda _: 1, "type": lambda _: "text"}
SPELLINGS = {
    "input": (
        "input_tokens",
        "prompt_tokens",
        "ContextTokens",
        "num_prefill_tokens",
        "Prompt Tokens",
        "isl",
        "inputLen",
    ),
    "output": ("output_tokens", "completion_tokens", "GeneratedTokens", "num_decode_tokens", "Output tokens", "osl"),
    "time": ("arrival", "timestamp", "start_time", "Arrival Time", "request time", "arrivalTime", "time"),
}


# -- units --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_bailian_is_in_seconds_and_mooncake_in_milliseconds(tmp_path: Path, seed: int) -> None:
    bailian = read_trace(put(tmp_path, lines(hashed(seed, 1.0, 16, **BAILIAN)), seed))
    mooncake = read_trace(put(tmp_path, lines(hashed(seed, 1e-3, 512)), seed))
    same(bailian, seed)
    same(mooncake, seed)
    assert (bailian.block_tokens, mooncake.block_tokens) == (16, 512)
    assert not bailian.remarks


@pytest.mark.parametrize("seed", SEEDS)
def test_mooncake_lines_in_another_unit_are_refused_with_both_rates(tmp_path: Path, seed: int) -> None:
    unit = (1.0, 1e-6)[seed % 2]
    path = put(tmp_path, lines(hashed(seed, unit, 512)), seed)
    with pytest.raises(InputError, match=r"timestamp of a Mooncake trace is in milliseconds.*requests/s.*time_unit = "):
        read_trace(path)
    same(read_trace(path, time_unit={1.0: "s", 1e-6: "us"}[unit]), seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_columns_are_found_by_any_spelling_and_state_their_unit(tmp_path: Path, seed: int) -> None:
    rng, (arrival, prompt, output) = np.random.default_rng(seed), requests(seed)
    unit, size = [("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)][seed % 4]
    time = f"{rng.choice(SPELLINGS['time'])}{('_%s', ' (%s)', ' in %s')[seed % 3] % unit}"
    columns = {time: np.round(arrival / size, 3), "user": ["x"] * len(arrival)}
    columns |= {str(rng.choice(SPELLINGS["input"])): prompt, str(rng.choice(SPELLINGS["output"])): output}
    same(read_trace(put(tmp_path, table(columns, seed), seed)), seed)
    rows = [
        dict(zip(columns, (v if isinstance(v, str) else float(v) for v in r), strict=True))
        for r in zip(*columns.values(), strict=True)
    ]
    same(read_trace(put(tmp_path, lines(rows) if seed % 2 else json.dumps(rows), seed)), seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bare_time_column_is_settled_by_evidence_or_refused(tmp_path: Path, seed: int) -> None:
    arrival, prompt, output = requests(seed)
    columns = {"input_tokens": prompt, "output_tokens": output}
    clear = read_trace(put(tmp_path, table({"timestamp": arrival, **columns}, seed), seed))
    same(clear, seed)
    assert "timestamp is taken as seconds" in clear.remarks[0]
    since_1970 = np.round(1.7e9 + arrival, 3) if seed % 2 else np.round((1.7e9 + arrival) * 1e3).astype(np.int64)
    same(read_trace(put(tmp_path, table({"timestamp": since_1970, **columns}, seed), seed)), seed)
    slow = put(tmp_path, table({"timestamp": np.round(arrival * 100).astype(int), **columns}, seed), seed)
    with pytest.raises(InputError, match=r"nothing states the unit of timestamp: .* in seconds 0\.0.*in milliseconds"):
        read_trace(slow)
    assert read_trace(slow, time_unit="s").rate == pytest.approx(clear.rate / 100, rel=0.01)
    assert read_trace(slow, time_unit="ms").rate == pytest.approx(clear.rate * 10, rel=0.01)


def test_a_stated_unit_that_contradicts_the_column_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, "arrival_s,input_tokens,output_tokens\n0,5,5\n1,5,5\n")
    with pytest.raises(InputError, match="time_unit = 'ms' contradicts arrival_s, which is in seconds"):
        read_trace(path, time_unit="ms")
    with pytest.raises(InputError, match="the trace has no times"):
        read_trace(put(tmp_path, "input_tokens,output_tokens\n5,5\n"), time_unit="ms")
    with pytest.raises(InputError, match="time_unit 'h' is unknown"):
        read_trace(path, time_unit="h")


def test_azure_of_both_years_is_read(tmp_path: Path) -> None:
    for stamp in ("2023-11-16 18:15:{:02d}.6805900", "2024-05-10 00:00:{:02d}.009930+00:00"):
        rows = "".join(f"{stamp.format(n)},{100 + n},{10 + n}\n" for n in range(5))
        trace = read_trace(put(tmp_path, "TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows))
        assert trace.rate == pytest.approx(1.0)


# -- blocks, totals, ids, order -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_block_sizes_follow_the_lengths(tmp_path: Path, seed: int) -> None:
    size = (16, 32, 64, 128, 256)[seed % 5]
    rows = hashed(seed, 1e-3, size)
    trace = read_trace(put(tmp_path, lines(rows), seed))
    assert trace.block_tokens == size
    assert f"blocks of {size} tokens, not 512" in trace.remarks[0]
    wrong = 1 + seed * 5
    rows[wrong]["hash_ids"] = [*rows[wrong]["hash_ids"], -1]
    with pytest.raises(InputError, match=r"hash_ids for a prompt of \d+ tokens, where .* state block_tokens"):
        read_trace(put(tmp_path, lines(rows), seed))
    stated = read_trace(put(tmp_path, lines(rows), seed), block_tokens=size)
    assert f"line {wrong + 1} has {len(rows[wrong]['hash_ids'])} hash_ids" in stated.remarks[0]


def test_few_odd_blocks_of_bailian_are_told(tmp_path: Path) -> None:
    rows = hashed(1, 1.0, 16, **BAILIAN)
    rows[7]["hash_ids"].append(-1)
    trace = read_trace(put(tmp_path, lines(rows)))
    assert trace.block_tokens == 16
    assert "line 8 has" in trace.remarks[0]
    assert "(1 of 120 such)" in trace.remarks[0]
    for row in rows[:30]:
        row["hash_ids"].append(-1)
    with pytest.raises(InputError, match=r"line 1: .*\(30 of 120 such\)"):
        read_trace(put(tmp_path, lines(rows)))


def bad(change: Callable[[Rows], Any], message: str, name: str) -> Any:
    return pytest.param(change, message, id=name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        bad(lambda r: r[9].update(chat_id=3), r"line 10: chat_id 3 is that of line 4 too", "id twice"),
        bad(lambda r: r[4].update(input_length=-7), r"line 5: input of -7 tokens", "negative prompt"),
        bad(lambda r: r[4].update(output_length=-1), r"line 5: output of -1 tokens", "negative output"),
        bad(lambda r: r.insert(2, r.pop(40)), r"line 4: arrives [\d.]+ s before the line above.*sort = true", "order"),
        bad(lambda r: r[3].update(timestamp=None), r"line 4: timestamp None is not a finite number", "no time"),
        bad(lambda r: r[3].pop("output_length"), r"line 4: 'output_length' is missing; a Bailian line has", "missing"),
        bad(lambda r: [x.update(timestamp=x["timestamp"] * 1e3) for x in r], r"Bailian trace is in seconds", "unit"),
    ],
)
def test_contradictions_name_line_and_value(tmp_path: Path, change: Callable[[Rows], Any], message: str) -> None:
    rows = hashed(3, 1.0, 16, **BAILIAN)
    change(rows)
    with pytest.raises(InputError, match=message):
        read_trace(put(tmp_path, lines(rows)))


@pytest.mark.parametrize("seed", SEEDS)
def test_shuffled_rows_are_refused_or_sorted(tmp_path: Path, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(120)
    rows = hashed(seed, 1.0, 16, **BAILIAN)
    path = put(tmp_path, lines([rows[n] for n in order]), seed)
    with pytest.raises(InputError, match="sort = true"):
        read_trace(path)
    same(read_trace(path, sort=True), seed)


def test_two_columns_for_one_length_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'input_tokens' and 'prompt_tokens' may each be the input tokens"):
        read_trace(put(tmp_path, "input_tokens,prompt_tokens,output_tokens\n1,2,3\n"))


# -- failed requests ------------------------------------------------------------------------------------------------


def test_whole_seconds_that_requests_share_are_told(tmp_path: Path) -> None:
    """Times to the millisecond, and whole seconds with one request each, are no bursts."""
    texts = {}
    for name, times in (("shared", [i // 4 for i in range(40)]), ("alone", range(40)), ("fine", np.arange(40) * 0.25)):
        rows = "".join(f"{float(t):g},100,10\n" for t in times)
        (tmp_path / name).write_text(f"arrival_s,input_tokens,output_tokens\n{rows}", encoding="utf-8")
        texts[name] = read_trace(tmp_path / name).remarks
    assert texts == {"shared": texts["shared"], "alone": (), "fine": ()}
    assert "whole seconds, and 100 % of the requests share theirs (up to 4 at once)" in texts["shared"][0]


@pytest.mark.parametrize("seed", SEEDS)
def test_failed_requests_of_burstgpt_are_dropped_and_counted(tmp_path: Path, seed: int) -> None:
    arrival, prompt, output = requests(seed)
    lost = np.random.default_rng(seed).random(len(output)) < 0.1
    lost[0] = False
    output = np.where(lost, 0, output)
    plain = seed % 2 == 0
    names = ("Timestamp", "Request tokens", "Response tokens", "Total tokens")
    renamed = ("arrival_s", "input_tokens", "output_tokens", "Total tokens")
    columns = dict(zip(names if plain else renamed, (arrival, prompt, output, prompt + output), strict=True))
    columns |= {"Model": ["ChatGPT"] * len(output), "Log Type": ["API log"] * len(output)}
    trace = read_trace(put(tmp_path, table(columns, seed), seed))
    assert len(trace) == int((~lost).sum())
    count, share = int(lost.sum()), 100 * lost.mean()
    assert trace.remarks == (
        f"{count} of 120 requests ({share:.2g} %) left out: {count} without output tokens (failed)",
    )
    columns["Total tokens"] = prompt + output + (np.arange(120) == 7)
    with pytest.raises(InputError, match=r"line 9: Total tokens \d+ is not the sum of"):
        read_trace(put(tmp_path, table(columns, seed), seed))


def run_of(seed: int, **more: Any) -> dict[str, Any]:
    """Return a result of vllm bench serve with two failed requests."""
    arrival, prompt, output = requests(seed)
    served = np.arange(len(output)) >= 2
    return {
        "backend": "vllm",
        "request_rate": RATE,
        "max_concurrency": None,
        "input_lens": prompt.tolist(),
        "output_lens": np.where(served, output, 0).tolist(),
        "ttfts": [0.1] * len(output),
        "start_times": (arrival + 5000.25).tolist(),
        "errors": ["" if s else "Traceback: timed out" for s in served],
        **more,
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_vllm_bench_results_are_read(tmp_path: Path, seed: int) -> None:
    run, (arrival, prompt, output) = run_of(seed), requests(seed)
    trace = read_trace(put(tmp_path, json.dumps(run, indent=(None, 2)[seed % 2]), seed))
    assert trace.input.tolist() == prompt[2:].tolist()
    assert trace.output.tolist() == output[2:].tolist()
    assert np.abs(trace.arrival - (arrival[2:] - arrival[2])).max() < 1e-6
    assert trace.remarks == ("2 of 120 requests (1.7 %) left out: 2 failed or cut short",)


@pytest.mark.parametrize(
    ("more", "remark"),
    [
        ({"request_rate": "inf", "max_concurrency": 32}, "concurrency = 32 is that load"),
        ({"request_rate": "inf"}, "n_requests = 120 is that load"),
        ({"start_times": None}, "give request_rate_rps (of the run: 4)"),
    ],
)
def test_benchmarks_without_a_load_of_their_own_give_lengths(tmp_path: Path, more: dict[str, Any], remark: str) -> None:
    run = {k: v for k, v in run_of(1, **more).items() if v is not None}
    trace = read_trace(put(tmp_path, json.dumps(run)))
    assert np.isnan(trace.rate)
    assert remark in trace.remarks[0]


def test_damaged_benchmark_results_are_refused(tmp_path: Path) -> None:
    for change, message in (
        ({"output_lens": [1, 2]}, "output_lens has 2 values, input_lens 120"),
        ({"errors": [""]}, "errors does not have one text for each of the 120 requests"),
        ({"output_lens": ["x"] * 120}, "request 1: output_lens 'x' is not a finite number"),
    ):
        with pytest.raises(InputError, match=message):
            read_trace(put(tmp_path, json.dumps(run_of(1, **change))))
    summary = {"request_throughput": 1.0, "total_input_tokens": 5, "total_output_tokens": 5}
    with pytest.raises(InputError, match="run vllm bench serve with --save-detailed"):
        read_trace(put(tmp_path, json.dumps(summary)))


def report_of(seed: int, kind: str, old: bool) -> dict[str, Any]:
    """Return a report of guidellm, listed in the order of completion, with an incomplete and an errored request."""
    arrival, prompt, output = requests(seed)
    start = "start_time" if old else "request_start_time"
    listed = [
        {"prompt_tokens": int(p), "output_tokens": int(o), start: 1.7e9 + float(a)}
        for a, p, o in zip(arrival, prompt, output, strict=True)
    ]
    shuffled = [listed[n] for n in np.random.default_rng(seed).permutation(len(listed))]
    cut, failed = {**listed[0]}, {"prompt_tokens": None, "output_tokens": None, start: 1.7e9}
    return {
        "requests": {"successful": shuffled, "incomplete": [cut], "errored": [failed]},
        "args" if old else "config": {"strategy": {"type_": kind}},
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_guidellm_reports_are_read(tmp_path: Path, seed: int) -> None:
    one = report_of(seed, "poisson", seed % 2 == 0)
    trace = read_trace(put(tmp_path, json.dumps({"metadata": {}, "benchmarks": [one]}), seed))
    same(trace, seed)
    assert trace.remarks == ("2 of 122 requests (1.6 %) left out: 2 failed or cut short",)
    closed = report_of(seed, "concurrent", seed % 2 == 0)
    for benchmarks in ([closed], [one, one]):
        lengths = read_trace(put(tmp_path, json.dumps({"benchmarks": benchmarks}), seed))
        assert np.isnan(lengths.rate)
        assert "only lengths are read" in lengths.remarks[0]


# -- conversations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_sharegpt_is_a_data_set_of_estimated_lengths(tmp_path: Path, seed: int) -> None:
    size = 40 * (seed + 1)
    chat = [("human", size), ("gpt", 2 * size), ("human", size), ("gpt", 4)]
    talk = {"id": "a", "conversations": [{"from": who, "value": "x" * many} for who, many in chat]}
    if seed % 2:
        names = {"human": "user", "gpt": "assistant"}
        talk = {"messages": [{"role": names[who], "content": "x" * many} for who, many in chat]}
    silent = {**talk, **{k: v[:1] for k, v in talk.items() if isinstance(v, list)}}
    listed = [talk, silent, talk]
    trace = read_trace(put(tmp_path, json.dumps(listed, indent=2) if seed % 4 < 2 else lines(listed), seed))
    assert trace.input.tolist() == [size // 4, size] * 2
    assert trace.output.tolist() == [size // 2, 1] * 2
    assert np.isnan(trace.rate)
    assert trace.reused_tokens().tolist() == [0, size // 4 // 16 * 16] * 2
    assert "1 conversations without an answer are left out" in trace.remarks


def sessions(seed: int, whole: bool, timed: bool) -> tuple[Rows, list[int]]:
    """Return AIPerf sessions of 1 to 4 turns, and the whole prompt of each turn."""
    rng, rows, prompts = np.random.default_rng(seed), [], []
    for number in range(10):
        prompt = 0
        for turn in range(int(rng.integers(1, 5)) if number else 4):
            new, output = int(rng.integers(30, 200) if turn else rng.integers(800, 3000)), int(rng.integers(20, 300))
            prompt += new
            row = {"session_id": f"s{number}", "input_length": prompt if whole else new, "output_length": output}
            if turn:
                row["delay"] = 500
            elif timed:
                row["timestamp"] = 1000 * number
            rows.append(row)
            prompts.append(prompt)
            prompt += output
    return rows, prompts


@pytest.mark.parametrize("seed", SEEDS)
def test_aiperf_sessions_are_read_whether_lengths_are_whole_or_added(tmp_path: Path, seed: int) -> None:
    whole, timed = seed % 2 == 0, seed % 4 < 2
    rows, prompts = sessions(seed, whole, timed)
    trace = read_trace(put(tmp_path, lines(rows), seed))
    assert sorted(trace.input.tolist()) == sorted(prompts)
    text = "the whole prompt of a turn" if whole else "what a turn adds"
    assert text in trace.remarks[0]
    if timed:
        assert trace.duration == pytest.approx(max(r.get("timestamp", 0) for r in rows) / 1e3, abs=1.5)
    else:
        assert np.isnan(trace.rate)
        assert "only lengths are read" in trace.remarks[1]
    rows[1]["delay"] = -1
    with pytest.raises(InputError, match="line 2: delay -1 ms is negative"):
        read_trace(put(tmp_path, lines(rows), seed))


def test_added_turns_of_aiperf_keep_the_hashes_of_their_first_turn(tmp_path: Path) -> None:
    rows = [{"session_id": name, "input_length": 1024, "output_length": 100, "hash_ids": [0, 1]} for name in ("a", "b")]
    later = {"session_id": "a", "input_length": 500, "output_length": 10, "hash_ids": [9], "delay": 5}
    trace = read_trace(put(tmp_path, lines([*rows, later])))
    assert trace.input.tolist() == [1024, 1024, 1624]
    assert trace.reused_tokens().tolist() == [0, 1024, 1024]


# -- unknown files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"data": [1, 2]}', "among data; name it input_tokens.*read are JSON lines or a list"),
        ('[{"prompt": "hi", "answer": "there"}]', "entry 1: no column for input tokens among prompt, answer"),
        (
            '{"prompt": "hi", "input_tokens": 5}\n{"prompt": "hi", "input_tokens": 5}',
            "no column for output tokens among",
        ),
        ("[1, 2, 3]", "entry 1: '1' is not an object"),
        ("[]", "no column for input tokens among none"),
        ('{"session_id": "a", "input_length": 5}', "'output_length' is missing; an AIPerf line has"),
        ("name,age\nbob,5\n", "line 1: no column for input tokens among name, age; name it input_tokens"),
        ('{"benchmarks": []}', "'benchmarks' lists none"),
        ("arrival_s|input_tokens|output_tokens\n0|5|5\n", "are separated by bars; separate them by commas"),
        (
            "arrival_s;input_tokens;output_tokens\n0,5;5;5\n1,5;2.048;5\n",
            r"line 3: '2\.048' may mean 2048 or a decimal; write 2048",
        ),
        ("arrival_s\tinput_tokens\toutput_tokens\n0\t1,024\t5\n", "line 2: '1,024' may mean 1024 or a decimal"),
        ('[{"input_tokens": [1], "output_tokens": {}}]', r"entry 1: input_tokens '\[1\]' is not a finite number"),
        ('[{"input_tokens": 5, "output_tokens": 5}, {"input_tokens": 5}]', "entry 2: 'output_tokens' is missing"),
        ("\n\nname,age\nbob,5\n", "no column for input tokens among name, age"),
        ('[{"conversations": "none"}]', "entry 1: no list 'conversations' or 'messages'"),
        ('[{"conversations": [{"from": "gpt", "value": "hello"}]}]', "no message of a model"),
    ],
)
def test_unknown_files_are_refused_with_what_was_found(tmp_path: Path, text: str, found: str) -> None:
    with pytest.raises(InputError, match=found):
        read_trace(put(tmp_path, text))


ODD = (None, True, -1, 0, 1e308, 10**30, "x", "", [], [1], {}, 1.5, float("nan"), "2024-01-01", 2**62)


def damaged(value: Any, rng: np.random.Generator) -> Any:
    """Return a copy of a JSON value with one part replaced by something odd, or removed."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.2:
        return ODD[int(rng.integers(len(ODD)))]
    copy = dict(value) if isinstance(value, dict) else list(value)
    keys = list(copy) if isinstance(copy, dict) else range(min(len(copy), 6))
    key = keys[int(rng.integers(len(keys)))]
    if rng.random() < 0.2:
        del copy[key]
    else:
        copy[key] = damaged(copy[key], rng)
    return copy


@pytest.mark.parametrize("seed", SEEDS)
def test_damaged_files_of_every_format_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    chat = {"conversations": [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "yes"}]}
    files: list[Any] = [hashed(seed, 1.0, 16, **BAILIAN)[:6], hashed(seed, 1e-3, 512)[:6], [chat, chat]]
    files += [run_of(seed), {"benchmarks": [report_of(seed, "poisson", False)]}]
    files += [sessions(seed, True, True)[0][:6], sessions(seed, False, False)[0][:6]]
    for value in files:
        broken = damaged(value, rng)
        text = lines(broken) if isinstance(broken, list) and seed % 2 else json.dumps(broken)
        try:
            trace = read_trace(put(tmp_path, text or " ", seed))
        except InputError as error:
            told = str(error)
        else:
            told = "read; " if min(trace.input.min(), trace.output.min()) >= 1 else "a request without tokens was read"
        assert ";" in told, "names a way out"


# -- from the command line ------------------------------------------------------------------------------------------

SCENARIO = """
[model]
name = "Llama-3.1-8B-Instruct"
[workload]
trace = "file"
[slo]
ttft_ms_p90 = 2000
tpot_ms = 50
[hardware]
devices = ["h100-sxm"]
[search]
tp = [1]
"""


def test_a_trace_in_seconds_is_planned_at_its_own_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, lines(hashed(5, 1.0, 16, **BAILIAN)))
    path = tmp_path / "s.toml"
    path.write_text(SCENARIO)
    assert cli.main(["plan", str(path), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)[0]
    assert row["request_rate_rps"] == pytest.approx(RATE, rel=0.2)
    assert row["devices"] == 1
    put(tmp_path, lines(hashed(5, 1.0, 512)))
    assert cli.main(["plan", str(path)]) == 2
    assert 'time_unit = "s"' in " ".join(capsys.readouterr().err.split())
    path.write_text(SCENARIO.replace('"file"', '"file"\ntime_unit = "s"'))
    assert cli.main(["plan", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["request_rate_rps"] == pytest.approx(RATE, rel=0.2)


def test_a_plan_says_how_its_trace_was_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "Timestamp,Request tokens,Response tokens\n5,472,18\n45,1087,0\n118,417,276\n165,1360,647\n")
    path = tmp_path / "s.toml"
    path.write_text(SCENARIO)
    text = "1 of 4 requests (25 %) left out: 1 without output tokens (failed)"
    for command in ("plan", "fleet"):
        assert cli.main([command, str(path)]) == 0
        assert text in " ".join(capsys.readouterr().out.split())
    assert cli.main(["plan", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["trace_remark"] == text


def test_keys_of_a_trace_go_with_a_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.toml"
    path.write_text(SCENARIO.replace('trace = "file"', "input_tokens = 5\noutput_tokens = 5\nblock_tokens = 16"))
    assert cli.main(["plan", str(path)]) == 2
    assert "block_tokens: only goes with a trace" in " ".join(capsys.readouterr().err.split())
