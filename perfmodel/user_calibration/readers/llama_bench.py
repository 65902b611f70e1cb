"""Read results of llama.cpp's `llama-bench -o json|jsonl|csv|md`: prefill and decode rates of a model on a machine.

A record per test: `n_prompt`, `n_gen`, `n_depth` (tokens in the cache before the test, since 2025), `avg_ts` in
tokens/s (ggml-org/llama.cpp, tools/llama-bench/README.md; until 2025 examples/llama-bench). `pp` tests have prompts
alone, `tg` tests output alone; a test with both mixes two rates and is refused. A Markdown table says the test in a
word, `pp512`, `tg128 @ d4096` (`pp 512` until 2024), and the model in words: --model says which it is, and the format
of its weights is read from them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hwdb import InputError
from perfmodel.dtypes import FORMATS
from perfmodel.user_calibration.readers.reader import ResultReader, number, table_rows, text_of
from perfmodel.user_calibration.run import MeasuredRun
from perfmodel.workload.traces import Content

#: A test of a Markdown table: its kind, tokens, and depth. PAIR: one of prompt and output together.
TEST = re.compile(r"(pp|tg) ?(\d+)(?: @ d(\d+))?")
#: The format that closes the description of a model: "qwen3 8B Q4_K - Medium", "gpt-oss 20B MXFP4 MoE".
FORMAT = re.compile(r"\b((?:IQ|Q|TQ)\d\w*|BF16|F16|F32|MXFP4)\b(?: - (Small|Medium|Large))?", re.IGNORECASE)
#: A size or a number of parameters in words, and what the words stand for.
SIZE = re.compile(r"([\d.]+) (MiB|GiB|M|B)")
UNITS = {"MiB": 2.0**20, "GiB": 2.0**30, "M": 1e6, "B": 1e9}
#: Factor between bytes per weight of a file and of a format up to which they are the same. Chosen: above what tables in
#: other formats add to a file, below the step from one format to the next but one.
ALIKE = 1.5
PAIR = re.compile(r"pp ?\d+ ?\+ ?tg ?\d+.*")


def read_llama_bench(content: Content) -> Sequence[MeasuredRun]:
    """Read one run per test."""
    return [_run(record, place) for place, record in _records(content)]


def _records(content: Content) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (place, record) of each test of a table, of lines or of a list."""
    if _heading(content) is not None:
        yield from _markdown(content)
    elif content.kind == "table":
        yield from table_rows(content)
    else:
        yield from ((f"{content.path}, {content.word} {n}", record) for n, record in content.records())


def _heading(content: Content) -> int | None:
    """Return the number of the line that heads a Markdown table of tests, None without one."""
    lines = enumerate(content.text.splitlines())
    return next((n for n, line in lines if line.startswith("|") and {"test", "t/s"} <= set(_cells(line))), None)


def _cells(line: str) -> list[str]:
    """Return the cells of a line of a Markdown table."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _markdown(content: Content) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (place, record) of each test of a Markdown table, as the other formats write it."""
    lines, first = content.text.splitlines(), _heading(content) or 0
    names = _cells(lines[first])
    for n, line in enumerate(lines[first + 1 :], first + 2):
        if not line.startswith("|") or set(line) <= set("|-: "):
            continue
        place = f"{content.path}, line {n}"
        row = dict(zip(names, _cells(line), strict=False))
        test = row.get("test", "")
        if PAIR.fullmatch(test):
            raise InputError(f"{place}: test {test!r} mixes two rates; run -p and -n apart")
        found = TEST.fullmatch(test)
        if found is None:
            raise InputError(f"{place}: test is {test!r}; pp512, tg128 and tg128 @ d4096 are read")
        tokens = {"n_prompt" if found[1] == "pp" else "n_gen": found[2], "n_depth": found[3]}
        named = {"model_type": row.get("model", ""), **_printed(row)}
        yield (
            place,
            {"n_prompt": 0, "n_gen": 0, **tokens, **named, "avg_ts": row.get("t/s", "").partition("±")[0].strip()},
        )


def _run(record: Mapping[str, Any], place: str) -> MeasuredRun:
    """Read one test."""
    prompt, output, rate = (number(record, key, place) for key in ("n_prompt", "n_gen", "avg_ts"))
    depth = number(record, "n_depth", place) if record.get("n_depth") not in (None, "") else 0.0
    if not rate > 0:
        raise InputError(f"{place}: avg_ts is missing or 0; give the result as llama-bench wrote it")
    if prompt > 0 and output > 0:
        raise InputError(f"{place}: a test of prompt and output together mixes two rates; run -p and -n apart")
    if prompt > 0:
        isl, osl, metric = depth + prompt, 1.0, "prefill_tok_s"
    elif output > 0:
        isl, osl, metric = max(depth, 1.0), output, "decode_tok_s"
    else:
        raise InputError(f"{place}: n_prompt and n_gen are both 0; give a test of one of them")
    given = {
        "model": str(record.get("model_filename") or ""),
        "weight_dtype": _held_to_size(_weights(str(record.get("model_type") or "")), record, place),
        "engine": "llamacpp",
        "mode": "single",
        "isl": text_of(isl),
        "osl": text_of(osl),
        "prefix_hit": text_of(depth / isl) if prompt > 0 and depth > 0 else "",
    }
    return MeasuredRun(place=place, given=given, measured={metric: rate})


def _printed(row: Mapping[str, str]) -> dict[str, str]:
    """Return size and parameters of a Markdown row ("11.27 GiB", "20.91 B") as the other formats have them."""
    columns = {"model_size": "size", "model_n_params": "params"}
    found = {key: SIZE.fullmatch(row.get(column, "")) for key, column in columns.items()}
    return {key: f"{float(m[1]) * UNITS[m[2]]:.6g}" for key, m in found.items() if m}


def _held_to_size(name: str, record: Mapping[str, Any], place: str) -> str:
    """Return the format that a description names if the file is about as large as its parameters in it, else "".

    Files of gpt-oss that are called F16 keep the experts in MXFP4, as the model does.
    """
    size, count = number(record, "model_size", place), number(record, "model_n_params", place)
    if not name or not size > 0 or not count > 0:
        return name
    return name if 1 / ALIKE < size / count / FORMATS[name].bytes < ALIKE else ""


def _weights(description: str) -> str:
    """Return the format of the weights in llama.cpp's description of a model; "" where it has none that is known.

    >>> _weights("qwen3 8B Q4_K - Medium"), _weights("llama 7B Q8_0"), _weights("llama 8B F16"), _weights("llama 8B")
    ('q4_k_m', 'q8_0', 'fp16', '')
    """
    found = FORMAT.search(description)
    if found is None:
        return ""
    name = found[1].lower() + (f"_{found[2][0].lower()}" if found[2] else "")
    name = {"f16": "fp16", "f32": "fp32"}.get(name, name)
    return name if name in FORMATS else ""


READER = ResultReader(
    name="llama-bench",
    recognises=lambda c: c.has("avg_ts", "n_prompt", "n_gen") or (c.kind == "table" and _heading(c) is not None),
    read=read_llama_bench,
)
