"""Properties that every estimate must have, tried on random deployments: how often each is violated, the worst case.

    python -m benchmarks.physics [--count 10000] [--seed 0] [--only WORD]

Each deployment is estimated as it is and with one thing changed, such as 30 % more memory bandwidth or twice the batch;
columns of the two estimates are compared. Devices are all that have measured tables. Deployments are columns of a few
hundred, so that a property is two array calls. A difference of up to 1 % in the wrong direction counts as none.
The command fails where a property that is not among `EXCEPTIONS` is violated.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from benchmarks.random_deployments import ARRIVALS, Batch, batches
from perfmodel.arrays import Array, Mask
from perfmodel.dtypes import FORMAT_CODE
from perfmodel.estimates import Estimates
from perfmodel.workload import RANKS

#: Difference in the wrong direction from which a property counts as violated.
TOLERANCE = 0.01


# ---------------------------------------------------------------------------------------------------- the properties


@dataclass
class Tally:
    """Count comparisons and violations of one property, and keep the worst case."""

    tried: int = 0
    violated: int = 0
    worst: float = 0.0
    where: str = ""
    excused: dict[str, int] = field(default_factory=dict)
    cases: list[tuple[float, str]] = field(default_factory=list)

    def add(self, batch: Batch, excess: Array, valid: Mask, excuses: dict[str, Mask]) -> None:
        """Add one comparison; excess: how far each row goes in the wrong direction, 0.01 for 1 %, (N,)."""
        wrong = valid & (excess > TOLERANCE)
        self.tried += int(valid.sum())
        for name, rows in excuses.items():
            self.excused[name] = self.excused.get(name, 0) + int((wrong & rows).sum())
            wrong = wrong & ~rows
        self.violated += int(wrong.sum())
        if wrong.any():
            row = int(np.argmax(np.where(wrong, excess, -np.inf)))
            self.cases.append((float(excess[row]), batch.describe(row)))
            if excess[row] > self.worst:
                self.worst, self.where = float(excess[row]), batch.describe(row)


#: A property's comparison: what must not fall (+1) or not rise (-1), from the first estimate to the second.
Change = Callable[[Batch], "Estimates | None"]
Columns = dict[str, int]
#: Latencies that must not rise, and rates that must not fall.
NOT_SLOWER: Columns = {"ttft": -1, "tpot": -1, "e2e": -1, "rate": 1}


def _replicas(b: Batch) -> Estimates:
    return b.again(replicas=b.rows.replicas * 2)


def _loads(*arrivals: str) -> Callable[[Batch], bool]:
    return lambda b: b.load.arrival in arrivals


def _lengths(name: str, factor: float) -> Change:
    return lambda b: b.again({name: np.ceil(getattr(b.load, name) * factor)})


def _count(name: str) -> Change:
    return lambda b: b.again({name: getattr(b.load, name) * 2})


#: Property -> (kinds of load, change, columns).
PROPERTIES: dict[str, tuple[Callable[[Batch], bool], Change, Columns]] = {
    "faster memory is not slower": (_loads(*ARRIVALS), lambda b: b.on_faster("memory"), NOT_SLOWER),
    "faster arithmetic is not slower": (_loads(*ARRIVALS), lambda b: b.on_faster("compute"), NOT_SLOWER),
    "a faster link is not slower": (_loads(*ARRIVALS), lambda b: b.on_faster("link"), NOT_SLOWER),
    "more replicas are not slower": (_loads(*ARRIVALS), _replicas, NOT_SLOWER),
    "more clients: TPOT does not fall, the rate neither": (
        _loads("closed"), _count("concurrency"), {"tpot": 1, "rate": 1, "ttft": 1}),
    "larger batches: TPOT does not fall, the rate neither": (
        _loads("static"), _count("concurrency"), {"step": 1, "rate": 1, "ttft": 1}),
    "more requests at once: the rate does not fall": (_loads("offline"), _count("n_requests"), {"rate": 1, "e2e": 1}),
    "a higher rate is not faster": (
        _loads("open"), lambda b: b.again({"rate": b.load.rate * 1.2}),
        {"ttft": 1, "tpot": 1, **{f"{m}_{s}": 1 for m in ("ttft", "tpot", "e2e") for s in RANKS}}),
    "longer prompts are not faster": (
        _loads(*ARRIVALS), _lengths("input", 1.3), {"ttft": 1, "tpot": 1, "e2e": 1, "rate": -1}),
    "longer answers are not faster": (_loads(*ARRIVALS), _lengths("output", 1.3), {"e2e": 1, "rate": -1}),
    "less cached is not faster": (
        _loads(*ARRIVALS), lambda b: b.again({"hit": b.load.hit * 0.5}), {"ttft": 1, "e2e": 1, "rate": -1}),
    "narrower weights do not take more memory": (
        _loads(*ARRIVALS), lambda b: b.again(weight=np.full_like(b.rows.weight, FORMAT_CODE["int4"])), {"room": 1}),
    "a narrower cache holds no fewer sequences": (
        _loads(*ARRIVALS), lambda b: b.again(kv=np.full_like(b.rows.kv, FORMAT_CODE["fp8"])), {"room": 1}),
    "more sequences at once: the rate does not fall": (
        _loads("closed", "offline"), lambda b: b.again(max_num_seqs=b.rows.max_num_seqs * 2), {"rate": 1, "room": 1}),
}  # fmt: skip


def column(found: Estimates, name: str) -> Array:
    """Return a column of estimates by its name here, (N,)."""
    metric, _, rank = name.partition("_")
    if rank:
        from perfmodel.estimates import overall

        return overall(found, metric, rank)
    if name == "rate":
        return found.request_rate
    if name == "room":
        return found.memory_use.max_running
    return found.mean(getattr(found.latency, name))


def excess_of(first: Array, second: Array, direction: int) -> Array:
    """Return by how much the change goes in the wrong direction, relative to the first value, (N,)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = second / first
        out = 1.0 - ratio if direction > 0 else ratio - 1.0
    return np.where(np.isfinite(out), out, 0.0)


def identities(b: Batch) -> Iterator[tuple[str, Array]]:
    """Yield (name, relative error) of what must hold in each estimate by itself."""
    found, load = b.base, b.load
    for metric in ("ttft", "tpot", "itl", "e2e"):
        values = [column(found, f"{metric}_{s}") for s in RANKS]
        yield "percentiles rise", np.max([excess_of(x, y, 1) for x, y in pairwise(values)], axis=0)
    tokens = load.mean(load.output)
    yield "tokens per second = rate x tokens", _apart(found.output_rate, found.request_rate * tokens)
    later = np.maximum(load.output - 1.0, 0.0)
    yield "E2E = TTFT + (tokens - 1) x TPOT", np.max(_apart(found.e2e, found.ttft + later * found.tpot), axis=0)
    yield "energy = power / throughput", _apart(found.energy, found.power * found.devices / found.output_rate)
    inside = np.where(found.fits, found.memory / found.memory_use.capacity - 1.0, 0.0)
    yield "memory in use <= capacity where it fits", inside
    if load.arrival == "closed":
        in_flight = found.request_rate * found.mean(found.e2e) / load.concurrency
        # of a run beyond its places, the first requests, one per client, wait less
        first = np.where(load.concurrency > found.running, 1.0 / load.requests_per_client, 0.0)
        yield "clients = rate x E2E (Little)", np.maximum(in_flight - 1.0, (1.0 - first) - in_flight)
    if load.arrival == "open":
        yield "no more is served than arrives", found.request_rate / load.rate - 1.0
    columns = found.columns()
    for name in ("ttft_ms", "tpot_ms", "output_tok_s", "power_w_per_device"):
        low, value, high = (columns[f"{name}{end}"] for end in ("_lo", "", "_hi"))
        yield "ranges hold their value", np.maximum(excess_of(low, value, 1), excess_of(value, high, 1))
    if load.arrival in ("static", "closed"):
        yield "TPOT >= the decode step", excess_of(found.mean(found.latency.step), found.mean(found.tpot), 1)


def _apart(a: Array, b: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        out = np.abs(a / b - 1.0)
    return np.where(np.isfinite(out), out, 0.0)


def _near_capacity(b: Batch, second: Estimates) -> Mask:
    """Rows of an open loop above 60 % of capacity, and runs that last longer than their requests take to arrive."""
    if b.load.arrival != "open":
        return np.zeros(len(b.rows), bool)
    late = np.isfinite(b.load.n_requests) & (np.minimum(b.base.request_rate, second.request_rate) < 0.9 * b.load.rate)
    return (b.demand > 0.6) | b.base.saturated | second.saturated | late


def _fewer_fit(b: Batch, second: Estimates) -> Mask:
    """Rows on which the cache holds fewer sequences after the change, so that fewer requests run at once."""
    cache = [e.memory_use.max_running for e in (b.base, second)]
    return (cache[1] < cache[0]) & ((second.running < b.base.running) | second.saturated)


def _more_reserved(b: Batch, second: Estimates) -> Mask:
    """Rows on which the engine reserves more memory for samples after the change."""
    return np.asarray(second.memory_use.sampler > b.base.memory_use.sampler)


def _preempted(b: Batch, second: Estimates) -> Mask:
    """Rows on which requests wait for the cache after the change, and not for a slot.

    They are admitted as soon as a prompt fits, so that growing sequences are preempted and computed again.
    """
    asked = {"closed": b.load.concurrency, "offline": b.load.n_requests}.get(b.load.arrival)
    if asked is None or b.engine.admission != "grow":
        return np.zeros(len(b.rows), bool)
    cache = second.memory_use.max_running
    slots = np.where(np.isnan(b.rows.max_num_seqs), np.inf, 2.0 * b.rows.max_num_seqs * b.rows.dp)
    return np.asarray((2.0 * asked / b.rows.replicas > cache) & (cache < slots))


def _sooner_back(b: Batch, second: Estimates) -> Mask:
    """Rows of a closed loop whose requests end sooner after the change, so that prompts come at a higher rate."""
    return (b.load.arrival == "closed") & (column(second, "e2e") <= column(b.base, "e2e"))


def _whole_batches(b: Batch, second: Estimates) -> Mask:
    """Rows whose requests start in whole batches, as static ones do, and equal ones of an offline run, and do not fit.

    The last batch holds what is left, so that a few more requests may need a batch of their own.
    """
    if b.load.arrival == "static":
        return np.asarray(np.ceil(2.0 * b.load.concurrency / b.rows.replicas) > second.memory_use.max_running)
    if b.load.arrival != "offline":
        return np.zeros(len(b.rows), bool)
    room = np.minimum(
        second.memory_use.max_running, np.where(np.isnan(b.rows.max_num_seqs), np.inf, b.rows.max_num_seqs)
    )
    equal = (b.load.length_cv == 0.0) & (np.ptp(b.load.output, axis=0) == 0.0)
    return equal & (np.ceil(2.0 * b.load.n_requests / b.rows.replicas) > room)


def _first_fill(b: Batch, _: Estimates) -> Mask:
    """Rows of an offline run whose replica is refilled, so that the first fill is a larger part of a shorter run."""
    return (b.load.arrival == "offline") & (b.load.n_requests / b.rows.replicas > b.base.running)


def _short(b: Batch, _: Estimates) -> Mask:
    """Rows with answers of a few tokens, as many of which end in a step as begin; no batch is static."""
    return (b.load.arrival != "static") & (b.load.output.min(axis=0) < 32)


def _not_captured(b: Batch, second: Estimates) -> Mask:
    """Rows whose batch outgrows the largest captured graph, so that the host launches kernels one by one."""
    together = (b.rows.tp * b.rows.dp * b.rows.cp).astype(int)
    of_row = zip((b.rows.devices[d] for d in b.rows.device), together, strict=True)
    limits = [b.engine.limits(d, devices=n).graph_seqs if b.engine.captures(d) else np.inf for d, n in of_row]
    captured = np.array(limits)
    most = second.running
    if b.load.arrival == "offline":
        most = np.minimum(2.0 * b.load.n_requests / b.rows.replicas, second.memory_use.max_running)
    return np.asarray(most > captured * b.rows.dp)


#: One part of an exception: (properties by their start, columns, rows). No columns: all of them.
Part = tuple[tuple[str, ...], tuple[str, ...], Callable[[Batch, Estimates], Mask]]
#: Known exceptions, one for each reason: name -> parts.
#: The first two are shortcomings of the method, the others are physics.
EXCEPTIONS: dict[str, tuple[Part, ...]] = {
    "answers of a few tokens: prompts per step are taken at a full batch": ((
        ("faster", "a faster", "longer", "less cached", "a higher rate", "more replicas", "more clients",
         "more requests", "more seq"),
        (),
        _short,
    ),),
    "open loops near capacity: prompts enter in larger groups": ((
        ("faster", "a faster", "longer", "less cached", "a higher rate", "more replicas"),
        (),
        _near_capacity,
    ),),
    "closed loops: clients that are served sooner send their next prompts sooner": (
        (("faster", "a faster", "more replicas"), ("ttft",), _sooner_back),
    ),
    "a full cache: fewer sequences fit, or they are preempted and computed again": (
        (("longer prompts", "less cached"), ("tpot", "ttft"), _fewer_fit),
        (("more sequences",), (), _more_reserved),
        (("more sequences", "more clients", "more requests"), ("rate",), _preempted),
    ),
    "runs with an end: whole batches, and filling and draining": (
        (("more requests", "larger"), ("rate",), _whole_batches),
        (("more replicas",), ("tpot",), _first_fill),
    ),
    "a batch beyond the largest captured graph is launched kernel by kernel": (
        (("more sequences", "more clients", "more requests", "larger"), ("rate",), _not_captured),
    ),
}  # fmt: skip


def excuses_of(name: str, key: str, b: Batch, second: Estimates) -> dict[str, Mask]:
    """Return the exceptions that apply to a property of the column `key`, with the rows they hold on."""
    found: dict[str, Mask] = {}
    for exception, parts in EXCEPTIONS.items():
        held = [
            rows(b, second) for starts, keys, rows in parts if name.startswith(starts) and (not keys or key in keys)
        ]
        if held:
            found[exception] = np.logical_or.reduce(held)
    return found


def check(b: Batch, tallies: dict[str, Tally], only: str = "") -> None:
    """Try every property on a batch."""
    everything = np.ones(len(b.rows), bool)
    for name, error in identities(b):
        if only in name:
            tallies.setdefault(name, Tally()).add(b, error, everything, {})
    for name, (applies, change, columns) in PROPERTIES.items():
        if only not in name or not applies(b):
            continue
        second = change(b)
        valid = b.base.fits & second.fits
        if name.startswith("a faster link"):
            valid &= b.rows.tp * b.rows.pp * b.rows.dp > 1
        for key, direction in columns.items():
            full = f"{name}: {key}"
            excess = excess_of(column(b.base, key), column(second, key), direction)
            tallies.setdefault(full, Tally()).add(b, excess, valid, excuses_of(name, key, b, second))


def main() -> None:
    """Print a line per property; fail where one is violated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="properties whose name contains this")
    parser.add_argument("--cases", type=int, default=0, help="violations to list per property")
    given = parser.parse_args()
    tallies: dict[str, Tally] = {}
    for b in batches(given.count, given.seed):
        check(b, tallies, given.only)
        print(
            f"{b.spec.name}, {b.engine.name}, {b.load.arrival} on {', '.join(d.name for d in b.rows.devices)}",
            file=sys.stderr,
        )
    print(f"{'property':<72}{'tried':>8}{'excused':>9}{'violated':>10}{'worst':>9}")
    for name, t in tallies.items():
        excused = sum(t.excused.values())
        print(f"{name:<72}{t.tried:>8}{excused:>9}{t.violated:>10}{t.worst:>9.1%}  {t.where}")
        for size, where in sorted(t.cases, reverse=True)[: given.cases]:
            print(f"      {size:7.1%} {where}")
    print("\nexcused, by exception")
    for exception in EXCEPTIONS:
        print(f"{exception:<80}{sum(t.excused.get(exception, 0) for t in tallies.values()):>8}")
    if any(t.violated for t in tallies.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
