"""Replay traffic on pools of replicas with the compiled loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwdb import InputError, UnknownName
from perfmodel.arrays import Array
from perfmodel.simulator.event_replay.initial import initial_arrays, opening_loop
from perfmodel.simulator.kernel import interpreted, records, state
from perfmodel.simulator.replica_pools.policy import Affinity, Pool
from perfmodel.simulator.replica_pools.reservation import rejection_reasons, reserved_tokens
from perfmodel.simulator.request_traffic.requests import Traffic, Whole, in_blocks
from perfmodel.simulator.simulation import Simulation, notes_of
from perfmodel.simulator.stationarity.warming import warm_up_of

#: Called now and then with the number of completed requests and of all requests that can be served.
Progress = Callable[[int, int], None]
#: Events between two calls of `Progress`. Chosen: some tenths of a second apart.
_EVENTS_PER_CALL = 250_000
#: What this process may simulate without compiling.
ALLOWANCE = interpreted.Allowance(interpreted.MOST_EVENTS)
#: Rows by which a full log grows, beyond half its length.
_MORE_ROWS = 4096


def run(
    traffic: Traffic,
    pools: Pool | Sequence[Pool],
    *,
    router: str = "round_robin",
    seed: int = 0,
    progress: Progress | None = None,
    affinity: Affinity | None = None,
) -> Simulation:
    """Simulate `traffic` on `pools` behind a router; the same arguments give the same result.

    Pools are one or more of role `both`, or of roles `prefill` and `decode`. Single requests that do not fit are
    rejected and counted in `notes`. affinity: thresholds of the router `prefix_aware`, None for its defaults.

    Raises:
        InputError: for combinations that mean nothing, and where no request fits.
    """
    pools = (pools,) if isinstance(pools, Pool) else tuple(pools)
    if router not in records.ROUTERS:
        raise UnknownName("router", router, records.ROUTERS)
    _check_pools(pools)
    traffic = in_blocks(traffic, math.lcm(*(p.policy.kv_block for p in pools)))
    reserved = reserved_tokens(traffic, pools[0].policy)
    reasons = rejection_reasons(traffic, pools, reserved)
    kept = np.flatnonzero(reasons == "")
    if not len(kept):
        raise InputError(f"{traffic.name}: none of {len(traffic)} requests can be served: {reasons[0]}")
    loop = opening_loop(traffic, len(kept), router, seed, affinity or Affinity())
    arrays = _played(initial_arrays(traffic, pools, kept, reserved, loop), progress)
    return _result(traffic, pools, router, seed, reasons, arrays)


def _check_pools(pools: tuple[Pool, ...]) -> None:
    """Raise `InputError` where the roles or the links of the pools do not make a working service."""
    roles = {p.role for p in pools}
    if not pools or (roles != {"both"} and roles != {"prefill", "decode"}):
        raise InputError("pools must all have role `both`, or be `prefill` and `decode` pools; at least one of each")
    if any(p.role == "prefill" and p.link is None for p in pools):
        raise InputError("a prefill pool needs the link that carries its KV to the decode pool; give `link`")
    if len({(p.policy.admission, p.policy.batching) for p in pools}) > 1:
        raise InputError("pools of one service must share their KV admission rule and kind of batching")


def _played(arrays: state.Arrays, progress: Progress | None) -> state.Arrays:
    """Run the loop to the last event and return the final state: as plain Python while compiling would take longer."""
    from perfmodel.simulator.kernel import compiled

    total = len(arrays.requests)

    def tell(finished: int) -> None:
        if progress:
            progress(finished, total)

    tell(0)
    ended = False
    if not compiled.ready() and ALLOWANCE.covers(arrays):
        arrays, ended = ALLOWANCE.play(arrays, tell)
    if not ended:
        arrays = _compiled(arrays, tell)
    tell(total)
    return arrays


def _compiled(arrays: state.Arrays, tell: Callable[[int], None]) -> state.Arrays:
    """Run the compiled loop to the last event and return the final state; log arrays are enlarged as needed.

    tell: called with the number of finished requests.
    """
    from perfmodel.simulator.kernel import compiled

    advance = compiled.advance()
    while (status := advance(arrays, _EVENTS_PER_CALL)) != records.ALL_DONE:
        if status == records.LOG_FULL:
            arrays = arrays._replace(runs=_enlarged(arrays.runs), stints=_enlarged(arrays.stints))
        tell(int(arrays.loop["finished"][0]))
    return arrays


def _enlarged(log: NDArray[np.void]) -> NDArray[np.void]:
    """Return the log with half as many rows again, and `_MORE_ROWS`, of free space at its end."""
    return np.concatenate([log, np.zeros(len(log) // 2 + _MORE_ROWS, log.dtype)])


@dataclass(frozen=True)
class _Columns:
    """Expands fields of the records of the `kept` requests to columns for all `count` requests."""

    count: int
    kept: Whole
    records: NDArray[np.void]

    def time(self, field: str) -> Array:
        """Return a field in seconds, (count,); NaN where a request was rejected."""
        full = np.full(self.count, np.nan)
        full[self.kept] = self.records[field]
        return full

    def whole(self, field: str, empty: int) -> Whole:
        """Return a field of whole numbers, (count,); `empty` where a request was rejected."""
        full = np.full(self.count, empty, np.int64)
        full[self.kept] = self.records[field]
        return full


def _result(
    traffic: Traffic,
    pools: tuple[Pool, ...],
    router: str,
    seed: int,
    reasons: NDArray[np.object_],
    arrays: state.Arrays,
) -> Simulation:
    """Turn the final state of the loop into a `Simulation`. reasons: (R,) why requests were rejected, "" if served."""
    kept = np.flatnonzero(reasons == "")
    columns = _Columns(count=len(traffic), kept=kept, records=arrays.requests)
    issued, admitted, first, finish = (columns.time(f) for f in ("issued", "admitted", "first", "finish"))
    stints = arrays.stints[: int(arrays.loop["logged_stints"][0])]
    stints["request"] = kept[stints["request"]]  # numbered as in the traffic
    runs = arrays.runs[: int(arrays.loop["logged_runs"][0])]
    warm_up = warm_up_of(traffic, issued, first, finish, runs)
    return Simulation(
        traffic=traffic,
        pools=pools,
        router=router,
        seed=seed,
        issued=issued,
        admitted=admitted,
        first=first,
        finish=finish,
        replica=columns.whole("replica", -1),
        prefiller=columns.whole("prefiller", -1),
        emitted=columns.whole("emitted", 0),
        cached=columns.whole("cached", 0),
        preempted=columns.whole("preempted", 0),
        rejected=reasons != "",
        runs=runs,
        stints=stints,
        notes=notes_of(traffic, reasons, issued, admitted, finish, warm_up),
        events=int(arrays.loop["processed_events"][0]),
        warm_up=warm_up,
    )
