"""Closed loops as benchmarks run them: with an end, for a stated number of requests or for a stated time.

At the end of a run fewer and fewer requests are in flight, and the rate of the run is that of all its requests over all
its time. Latencies are those in the middle of the run, and of its opening burst.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from perfmodel.arrays import Array, Mask
from perfmodel.cases.case_groups import Group, group_load, group_pools
from perfmodel.cases.evaluate import aggregated, costs_of, evaluate, replaced
from perfmodel.cases.kept_limits import evaluate_kept
from perfmodel.cases.settings import Settings
from perfmodel.costs import CostModel
from perfmodel.estimates import Estimates, overall, prepare
from perfmodel.workload import Load, longest, measured_per_client

#: Rates of a run that its end lowers.
_RATES = ("requests", "output", "total")
#: Columns that say how a run goes on and ends.
_OF_A_RUN = ("duration_s", "n_requests", "warmup_requests", "ramp_s")


def evaluate_run(settings: Settings, group: Group, costs: CostModel | None = None) -> tuple[Estimates, Array]:
    """Estimate the group's rows as `evaluate_kept` does; closed loops with the requests and the end of their runs.

    Returns the estimates and the share of the stated rate that each open loop is taken at, (N,).
    """
    found, share = evaluate_kept(settings, group, costs)
    if group.mode != "closed":
        return found, share
    load = group_load(settings, group)
    number = {c: settings.cases.number[c][group.rows] for c in _OF_A_RUN}
    measured = settings.cases.text["recipe"][group.rows] != "default"  # `estimate` answers for the middle of a run
    once = measured & (number["n_requests"] <= load.concurrency)
    timed = np.isfinite(number["duration_s"]) & np.isnan(number["n_requests"])
    if timed.any():
        cycle = load.concurrency / found.request_rate
        once |= measured & timed & (number["duration_s"] < cycle) & ~settings.pooled[group.rows]
        rounds = timed_rounds(number["duration_s"], cycle)
        rounds = measured_per_client(rounds, load.concurrency, np.nan_to_num(number["warmup_requests"]))
        load = replace(load, requests_per_client=np.where(timed, rounds, load.requests_per_client))
        found = evaluate(settings, group, costs, load=load)
    idle = np.where(measured, idle_at_end(load, whole_rounds=np.isfinite(number["n_requests"])), 0.0)
    lasting = 1.0 + idle * _alone(settings, group, load, found, costs) / load.requests_per_client
    rates = {name: getattr(found.rates, name) / lasting for name in _RATES}
    ended = replace(found, rates=replace(found.rates, **rates))
    slow = measured & np.isnan(number["ramp_s"]) & (load.rate > 0) & (once | (load.rate < found.request_rate))
    return _at_a_rate(settings, group, costs, _sent_once(settings, group, costs, ended, once), slow), share


def _sent_once(settings: Settings, group: Group, costs: CostModel | None, found: Estimates, once: Mask) -> Estimates:
    """Return estimates of closed loops, those of the rows `once` (N,) as batches whose requests all come at the start.

    Such a run ends before any client sends a second request. Its clients send to a server.
    """
    if not once.any():
        return found
    some = replace(group, rows=group.rows[once], engine=group.engine.behind_server())
    load = group_load(settings, some)
    requests = np.fmin(settings.cases.number["n_requests"][some.rows], load.concurrency)
    batches = evaluate(settings, some, costs, load=replace(load, arrival="offline", n_requests=requests))
    return replaced(found, batches, once)


def _at_a_rate(settings: Settings, group: Group, costs: CostModel | None, found: Estimates, slow: Mask) -> Estimates:
    """Return estimates of closed loops, those of the rows `slow` (N,) as open loops where these leave clients idle.

    Requests that are sent at a lower rate than the clients would send at never have all of these in flight.
    """
    if not slow.any():
        return found
    some = replace(group, rows=group.rows[slow])
    load = group_load(settings, some)
    number = settings.cases.number
    sent = np.maximum(np.round(load.rate * number["duration_s"][some.rows]), 1.0)
    requests = np.where(np.isnan(load.n_requests), sent, load.n_requests)
    stream = evaluate(settings, some, costs, load=replace(load, arrival="open", n_requests=requests))
    in_flight = np.minimum(load.rate * overall(stream, "e2e", "mean"), requests)
    idle = (in_flight < load.concurrency) | (requests <= load.concurrency)
    chosen = slow.copy()
    chosen[slow] = idle
    return replaced(found, stream.take(np.flatnonzero(idle)), chosen) if idle.any() else found


def timed_rounds(duration: Array, cycle: Array) -> Array:
    """Return the requests per client of a loop whose clients go on sending for `duration` seconds, (N,).

    Derived: a client starts its first request at once and the next one each time that one ends, so that it starts
    ceil(duration / cycle), half a request more than duration / cycle on average. cycle: seconds per request, (N,).
    """
    return np.maximum(duration / cycle + 0.5, 1.0)


def idle_at_end(load: Load, *, whole_rounds: Array) -> Array:
    """Return how long a place of a closed run stands empty at its end, in mean times of a request in flight, (N,).

    Derived: places that are filled again as soon as they are free end together on average. After k requests each, whose
    lengths have the deviation c and the longest of C of them is q means long, the last place ends (q - 1) sqrt(k) later
    than the mean, as far as sums of k lengths spread; at most q less the mean rest of a length in progress,
    (1 + c^2) / 2 (Cox, Renewal Theory, 1962, section 5.2). A stated number of requests that fills no whole round leaves
    the rest of the last one empty.

    Args:
        load: the load of the whole deployment.
        whole_rounds: whether the run is of a stated number of requests, (N,).
    """
    rounds, one = load.requests_per_client, np.ones_like(load.concurrency)
    last = longest(one, load.length_cv, load.concurrency)
    output = np.maximum(load.mean(load.output), 1.0)
    last = np.where(load.concurrency > 1.0, np.minimum(last, np.maximum(load.longest / output, 1.0)), 1.0)
    last = np.where(load.length_cv > 0.0, last, 1.0)
    with np.errstate(invalid="ignore"):
        apart = np.where(last > 1.0, (last - 1.0) * np.sqrt(rounds), 0.0)
        unfilled = np.where(whole_rounds & np.isfinite(rounds), np.ceil(rounds) - rounds, 0.0)
    apart = np.minimum(apart, np.maximum(last - (1.0 + np.square(load.length_cv)) / 2.0, 0.0))
    return np.maximum(apart, unfilled)


def _alone(settings: Settings, group: Group, load: Load, found: Estimates, costs: CostModel | None) -> Array:
    """Return the gap between tokens of a sequence that runs alone over that under the load, (N,), at most 1.

    A place that stands empty at the end costs the run this part of the time: what is left to run gets faster.
    """
    placed = group_pools(settings, group)[1].worker if group.pooled else aggregated(settings, group, load)
    steps = prepare(group.spec, placed, group.engine, costs or costs_of(group.engine), load).steps
    (decode,) = steps.run(steps.decode_step(np.ones(len(group.rows)), load.decode_context, load.drafts))
    gap = load.mean(found.latency.tpot * found.latency.tokens_per_step)
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.minimum(decode.wall / gap, 1.0), nan=1.0)
