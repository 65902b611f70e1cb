"""Read the columns of a table that hold a measured value under a spelling of people: "TTFT (ms)", "p99 TPOT [ms]"."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from perfmodel.user_calibration.run import METRICS

#: Other names of metrics: those with which plans and JSON write them.
ALSO = {"served_request_rate_rps": "req_s"}
#: Words that the name of a metric leaves out: a latency without a percentile is the mean.
_LEFT_OUT = frozenset(["mean", "avg", "average", "throughput"])
#: Other words of statistics and units.
_WORDS = {
    "median": "p50",
    "tokens": "tok",
    "token": "tok",
    "requests": "req",
    "request": "req",
    "sec": "s",
    "second": "s",
}


def measured_columns(names: Iterable[str]) -> dict[str, str]:
    """Return column of a table, without the spaces around it -> the metric of `METRICS` that it holds.

    The unit has to be in the name, since a latency may be in seconds as well. Of two columns that mean one metric, none
    is read unless it has the metric's own name.

    >>> measured_columns(["TTFT (ms)", "p99 TPOT [ms]", "Output throughput (tok/s)", "TTFT (s)", "TPOT"])
    {'TTFT (ms)': 'ttft_ms', 'p99 TPOT [ms]': 'tpot_ms_p99', 'Output throughput (tok/s)': 'output_tok_s'}
    """
    given = [name.strip() for name in names]
    meant = {name: metric for name in given if (metric := ALSO.get(name) or _metric(name))}
    times = Counter(meant.values())
    return {n: m for n, m in meant.items() if n == m or (m not in given and times[m] == 1)}


def _metric(name: str) -> str:
    """Return the metric that a name spells, "" for none."""
    if name in METRICS:
        return name
    words = [_WORDS.get(word, word) for word in re.findall(r"[a-z0-9]+", name.lower())]
    words = [word for word in words if word not in _LEFT_OUT]
    at = [word for word in words if re.fullmatch(r"p\d\d", word)]
    spelled = "_".join([*(word for word in words if word not in at), *at])
    return spelled if spelled in METRICS else ""
