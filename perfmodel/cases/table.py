"""The columns that `predict` understands in a table of cases: name, unit, meaning, and what a blank cell means.

This is the one description of them. Reading and checking cells (`perfmodel.cases.read`) and the documentation
(`columns()`) both use it. A column that is not listed here passes through to the output untouched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from perfmodel.workload import ARRIVALS, SPREADS

#: Values of `recipe`: blank settings are those of a published serving recipe, or the engine's own defaults.
RECIPES = ("published", "default")
#: Values of the column `trust` of published tables whose setup is known.
KNOWN_SETUP = ("A", "B")
#: Cells (in lower case) that count as blank in number columns and in `spec_decode`.
EMPTY = ("", "nan", "none", "null", "na", "n/a")


@dataclass(frozen=True)
class Column:
    """Describes one input column of `predict`.

    unit: unit of its values; "text" for names. blank: what a blank cell, or a missing column, means. least: smallest
    value accepted, NaN for text columns. whole: True where fractions are refused.
    """

    name: str
    unit: str
    meaning: str
    blank: str
    least: float = math.nan
    whole: bool = False

    @property
    def is_number(self) -> bool:
        """True where cells are numbers rather than text."""
        return not math.isnan(self.least)


def _text(name: str, meaning: str, blank: str) -> Column:
    """Describe a column of text."""
    return Column(name=name, unit="text", meaning=meaning, blank=blank)


def _number(name: str, unit: str, meaning: str, blank: str) -> Column:
    """Describe a column of numbers of at least 0; fractions are accepted."""
    return Column(name=name, unit=unit, meaning=meaning, blank=blank, least=0)


def _length(name: str, meaning: str, blank: str) -> Column:
    """Describe a column of mean lengths, of at least 1 token; fractions are accepted."""
    return Column(name=name, unit="tokens", meaning=meaning, blank=blank, least=1)


def _share(name: str, meaning: str, blank: str) -> Column:
    """Describe a column of shares, 0 to 1."""
    return Column(name=name, unit="share", meaning=meaning, blank=blank, least=0)


def _count(name: str, unit: str, meaning: str, blank: str) -> Column:
    """Describe a column of whole numbers of at least 1."""
    return Column(name=name, unit=unit, meaning=meaning, blank=blank, least=1, whole=True)


def _pool(role: str) -> tuple[Column, ...]:
    """Describe the columns of the prefill or the decode pool of disaggregated serving. role: `prefill` or `decode`."""
    return (
        _count(
            f"{role}_workers", "workers", f"{role} workers; any pool column makes the row disaggregated", "1 worker"
        ),
        _count(f"{role}_tp", "devices", f"tensor parallelism of a {role} worker", f"{role}_ep / {role}_dp, at least 1"),
        _count(f"{role}_pp", "devices", f"pipeline stages of a {role} worker", "that of pp"),
        _count(
            f"{role}_ep",
            "devices",
            f"expert parallelism of a {role} worker",
            "1; all ranks where experts are thin (so is 1 read, unless recipe is default)",
        ),
        _count(f"{role}_dp", "ranks", f"attention data parallelism of a {role} worker", "1"),
        _number(f"{role}_batch", "sequences", _BATCH[role], "no cap of the row's own"),
    )


_BATCH = {
    "prefill": "prompts that a prefill worker may batch in one step",
    "decode": "recorded batch of a decode worker; it marks the row as disaggregated and changes no estimate",
}

#: Every known input column, in the order of documentation; `model` and `device` must be there.
INPUT: tuple[Column, ...] = (
    _text("case_id", "name of the row", "no name"),
    _text("model", "model of the catalogue, or the path of a config.json", "the row is refused"),
    _text("device", "device of hwdb", "the row is refused"),
    _count("n_devices", "devices", "devices in use, all replicas together", "tp x pp"),
    _text("engine", "serving engine, or the path of an engine file", "generic engine"),
    _text(
        "engine_version",
        "version of the engine",
        "the one that the publication named in dataset ran, else the recipe's version, else the newest era",
    ),
    _text("dataset", "publication that the run is from; known are those of publications.toml", "no publication"),
    _text(
        "protocol",
        "benchmark that the run passed, whose limits it so kept: mlperf-server, mlperf-interactive",
        "what dataset and source say, else none",
    ),
    _text("source", "where the result is published; the last part of its path names the scenario", "no source"),
    _text(
        "recipe",
        "source of blank settings: published (the tuned runs that people publish) or default (the engine's own, as "
        "`estimate` and `plan` take them)",
        "read as a measured benchmark: published for closed loops and static batches; default for other loads, but "
        "with the formats of weights and KV cache that published peak runs use",
    ),
    _text(
        "weight_dtype", "storage format of weights", "that of the checkpoint; MLPerf-style TensorRT-LLM runs: narrowest"
    ),
    _text("act_dtype", "arithmetic type of matrix products", "follows from the weights and the device"),
    _text("kv_dtype", "storage format of the KV cache", "the recipe's, else 16 bits or fp8 where checkpoints bring it"),
    _text("mode", f"arrival of requests: {', '.join(ARRIVALS)}", "what the first given number below says, else single"),
    _number(
        "request_rate_rps",
        "requests/s",
        "rate at which requests are sent (open), or at which the clients of a closed loop start",
        "not an open loop",
    ),
    _number("concurrency", "requests", "requests in flight (closed)", "not a closed loop"),
    _number("batch", "sequences", "sequences that start together (static)", "not a static batch"),
    _number("n_requests", "requests", "requests in the run", "10 per client (5 with pools); a million offline"),
    _number(
        "duration_s",
        "s",
        "seconds over which requests arrive (open), or clients go on sending (closed), where n_requests is blank",
        "n_requests",
    ),
    _number(
        "warmup_requests",
        "requests",
        "requests at the start of a closed loop's run, under its load, that are not measured; n_requests counts them",
        "0: the opening burst is measured",
    ),
    _number(
        "ramp_s",
        "s",
        "seconds over which the clients of a closed loop start, evenly",
        "concurrency / request_rate_rps; else 0",
    ),
    _number(
        "kept_ttft_ms_p99",
        "ms",
        "limit on the p99 of TTFT that the measured run is known to have kept (open)",
        "that of its protocol, else none",
    ),
    _number(
        "kept_tpot_ms_p99",
        "ms",
        "limit on the p99 of TPOT that the measured run is known to have kept (open)",
        "that of its protocol, else none",
    ),
    _length("isl", "mean prompt length", "mean prompt length of the data set in trace"),
    _length("osl", "mean output length", "mean output length of the data set in trace"),
    _text(
        "isl_dist",
        f"spread of lengths: {SPREADS}",
        "that of the data set in trace, if one is named; else only the means count, and requests do not move in step",
    ),
    _text(
        "trace",
        "data set that lengths come from; where isl and osl are blank and it ships length classes, those classes",
        "no data set; isl and osl must be given",
    ),
    _number(
        "prefix_hit",
        "share",
        "share of prompt tokens found in the prefix cache, 0 to 1",
        "that of the length classes in trace, else 0: no token is cached",
    ),
    _number("cv", "ratio", "coefficient of variation of the gaps between arrivals (open)", "1: Poisson arrivals"),
    _text("spec_decode", "speculative decoding method", "none"),
    _count("tp", "devices", "tensor parallelism", "all devices in latency runs, else the fewest that hold the weights"),
    _count("pp", "devices", "pipeline stages", "1; all devices in engines that split by layers"),
    _count("ep", "devices", "expert parallelism", "1"),
    _count("dp_attention", "ranks", "attention data parallelism", "1; ep / tp where ep is wider than tp"),
    _count(
        "max_num_batched_tokens", "tokens/step", "token budget of an engine step", "the recipe's, else the engine's"
    ),
    _count(
        "max_num_seqs",
        "sequences",
        "most sequences in a batch, as in the flag of the engine",
        "the recipe's, else the engine's",
    ),
    _number("power_cap_w", "W", "power limit set on each device", "the limit of the device"),
    _count("cp", "devices", "context parallelism of long prompts", "1"),
    _share("gpu_memory_utilization", "share of device memory that the engine uses, 0 to 1", "the engine's"),
    _share("host_weights", "share of the layers' weights in host memory, 0 to 1", "0"),
    _share("host_experts", "share of the routed experts in host memory, 0 to 1", "0"),
    _share("host_kv", "share of the KV cache in host memory, 0 to 1", "0"),
    _count("lora_rank", "rank", "rank of the LoRA adapters that requests use", "no adapters"),
    _count("lora_count", "adapters", "adapters in use", "1"),
    _count("lora_resident", "adapters", "adapters in device memory", "all of them"),
    _number("lora_zipf", "exponent", "Zipf exponent of the adapters' popularity", "0: all alike"),
    *_pool("prefill"),
    *_pool("decode"),
)
TEXT_COLUMNS = tuple(c for c in INPUT if not c.is_number)
NUMBER_COLUMNS = tuple(c for c in INPUT if c.is_number)
SHARE_COLUMNS = tuple(c.name for c in INPUT if c.unit == "share")
#: Columns that make a row disaggregated when any of them is given.
POOL_COLUMNS = tuple(c.name for c in INPUT if c.name.startswith(("prefill_", "decode_")))


def columns() -> list[tuple[str, str, str]]:
    """List (name, unit, meaning) of every known input column; the meaning ends with what a blank cell means.

    >>> [unit for name, unit, _ in columns() if name in ("isl", "request_rate_rps")]
    ['requests/s', 'tokens']
    >>> dict((name, meaning) for name, _, meaning in columns())["pp"]
    'pipeline stages; blank: 1; all devices in engines that split by layers'
    """
    return [(c.name, c.unit, f"{c.meaning}; blank: {c.blank}") for c in INPUT]
