"""Read the timings that Ollama (`ollama run --verbose`), llama-server and llama-cli print after a request.

Ollama writes `prompt eval rate: 204.81 tokens/s`, llama.cpp `prompt eval time = 130.00 ms / 26 tokens (... 200.00
tokens per second)` (ollama/ollama, api/types.go; ggml-org/llama.cpp, common_perf_print). A request is one prompt alone
and then one stream of tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from hwdb import InputError
from perfmodel.user_calibration.readers.reader import ResultReader, text_of
from perfmodel.user_calibration.run import MeasuredRun
from perfmodel.workload.traces import Content

# The lines of a request stand together: without the bound, a long log of other requests would be searched for each.
_OLLAMA = re.compile(
    r"prompt eval count:\s+(\d+) token.{0,200}?prompt eval rate:\s+([\d.]+) tokens/s.{0,200}?"
    r"(?<!prompt )eval count:\s+(\d+) token.{0,200}?(?<!prompt )eval rate:\s+([\d.]+) tokens/s",
    re.DOTALL,
)
_LLAMA = re.compile(
    r"prompt eval time =\s+[\d.]+ ms /\s+(\d+) tokens \([^()\n]*?([\d.]+) tokens per second\).{0,200}?"
    r"(?<!prompt )eval time =\s+[\d.]+ ms /\s+(\d+) (?:tokens|runs)\s*\([^()\n]*?([\d.]+) tokens per second\)",
    re.DOTALL,
)
#: Tokens of a prompt from which on its rate is read. Chosen: what passes around a shorter one is longer than itself.
LEAST_PROMPT = 64


def read_timings(content: Content) -> Sequence[MeasuredRun]:
    """Read a run for the prompt and one for the output of each request."""
    return [
        run for n, found in enumerate(_requests(content), 1) for run in _runs(found, f"{content.path}, request {n}")
    ]


def _requests(content: Content) -> Iterator[tuple[float, ...]]:
    """Yield (prompt tokens, their tokens/s, output tokens, their tokens/s) of each request."""
    for pattern in (_OLLAMA, _LLAMA):
        yield from (tuple(map(float, match.groups())) for match in pattern.finditer(content.text))


def _runs(found: tuple[float, ...], place: str) -> list[MeasuredRun]:
    """Return the runs of one request."""
    prompt, fast, output, rate = found
    given = {"engine": "llamacpp", "mode": "single", "isl": text_of(max(prompt, 1.0))}
    runs = [MeasuredRun(place, {**given, "osl": "1"}, {"prefill_tok_s": fast})] if prompt >= LEAST_PROMPT else []
    runs += [MeasuredRun(place, {**given, "osl": text_of(output)}, {"decode_tok_s": rate})] if output > 1 else []
    if not runs or not min(fast, rate) > 0:
        raise InputError(f"{place}: {prompt:g} tokens in, {output:g} out tell nothing; give a longer request")
    return runs


READER = ResultReader(
    name="timings of Ollama or llama.cpp",
    recognises=lambda c: c.kind == "table" and bool(_OLLAMA.search(c.text) or _LLAMA.search(c.text)),
    read=read_timings,
)
