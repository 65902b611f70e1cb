"""Short simulations run as plain Python with the results of the compiled loop; where compiled code is kept."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulator_service import pool, steady

from perfmodel import Workload, cache_folder, simulator
from perfmodel.simulator import Link, Policy, run
from perfmodel.simulator.event_replay import replay
from perfmodel.simulator.kernel import compiled, interpreted

PREFIXED = {"input_tokens": [400], "output_tokens": [20], "rate": 8.0, "arrival": "open", "prefix_hit": [0.5]}
LINK = Link(bandwidth=1e10, latency=1e-3)
SERVICES: dict[str, Any] = {
    "plain": (pool(), "round_robin"),
    "random": (pool(replicas=3), "random"),
    "two": (pool(replicas=3), "power_of_two"),
    "shortest": (pool(replicas=2), "join_shortest_queue"),
    "preempting": (pool(kv=3000), "least_loaded"),
    "static": (pool(Policy(batching="static", max_num_seqs=8)), "round_robin"),
    "prefill first": (pool(Policy(prefill_first=True, chunked=False)), "round_robin"),
    "held": (pool(Policy(prefill_first=True, prompts_together=4, hold_steps=30)), "round_robin"),
    "streamed": (pool(Policy(prefill_first=True, streaming_token=2e-3)), "round_robin"),
    "prefixes": (pool(Policy(prefix_cache=True), replicas=2), "prefix_aware"),
    "pools": ((pool(role="prefill", link=LINK, kv_bytes=1e5), pool(role="decode")), "round_robin"),
}


def played(service: str, monkeypatch: pytest.MonkeyPatch, events: int | None) -> simulator.Simulation:
    """One service under load. events: that plain Python may take; None: all are compiled."""
    pools, router = SERVICES[service]
    load = simulator.offered(Workload(**PREFIXED), count=120, seed=3) if service == "prefixes" else steady(8.0, 120)
    monkeypatch.setattr(replay, "ALLOWANCE", interpreted.Allowance(events or 0))
    if events is not None:
        monkeypatch.setattr(compiled, "ready", lambda part="advance": False)
        monkeypatch.setattr(interpreted, "_EVENTS_PER_REQUEST", 0)
    return run(load, pools, router=router, seed=5)


@pytest.mark.parametrize("service", sorted(SERVICES))
@pytest.mark.parametrize("events", [10**6, 150])
def test_plain_python_gives_the_same_to_the_last_bit(
    service: str, events: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the allowance ends half-way and the compiled loop goes on from there."""
    with monkeypatch.context() as patched:
        one = played(service, patched, events)
    other = played(service, monkeypatch, None)
    for name in ("issued", "admitted", "first", "finish", "replica", "prefiller", "emitted", "cached", "preempted"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for log in ("runs", "stints"):
        for field in getattr(one, log).dtype.names:
            np.testing.assert_array_equal(getattr(one, log)[field], getattr(other, log)[field], err_msg=field)
    assert one.events == other.events


def test_the_reader_is_scored_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    found = played("preempting", monkeypatch, None)
    one = simulator.experience(found, ttft=0.1, tpot=0.012)
    monkeypatch.setattr(interpreted, "MOST_TOKENS", 0)
    other = simulator.experience(found, ttft=0.1, tpot=0.012)
    assert len(np.unique(one.fluidity)) > 1
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_full_log_is_enlarged(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = played("preempting", monkeypatch, None)
    initial = replay.initial_arrays

    def short(*arguments: Any) -> Any:
        arrays = initial(*arguments)
        return arrays._replace(runs=arrays.runs[:30], stints=arrays.stints[: len(arrays.requests)])

    monkeypatch.setattr(replay, "initial_arrays", short)
    np.testing.assert_array_equal(played("preempting", monkeypatch, 10**6).finish, expected.finish)


def test_the_allowance_is_spent_and_long_runs_are_compiled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = played("plain", monkeypatch, 10**6)
    assert replay.ALLOWANCE.left == 10**6 - found.events
    arrays = type("A", (), {"requests": np.zeros(10**6), "nodes": np.zeros(1)})()
    assert not replay.ALLOWANCE.covers(arrays) or interpreted._EVENTS_PER_REQUEST == 0
    compiled.advance.cache_clear()
    with caplog.at_level(logging.WARNING):
        compiled.advance()
    assert "compiling the simulator" in caplog.text
    compiled.advance.cache_clear()


def test_compiled_code_is_kept_where_only_this_user_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [tmp_path / name for name in ("given", "package", "user", "temporary")]
    monkeypatch.setattr(cache_folder, "_bases", lambda: iter(places))
    assert cache_folder.folder(1) == next(places[0].glob("loop-00000001-numba-*"))
    places[0].chmod(0o777)  # somebody else could put code there
    assert cache_folder.folder(1) == next(places[1].glob("loop-00000001-numba-*"))
    (tmp_path / "file").write_text("")
    places[:] = [tmp_path / "file" / "no", tmp_path / "link"]
    (tmp_path / "link").symlink_to(tmp_path / "user")
    assert cache_folder.folder(1) is None


def test_the_places_for_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/given")
    monkeypatch.setenv("XDG_CACHE_HOME", "/user")
    found = [str(p) for p in cache_folder._bases()]
    assert (found[0], found[2]) == ("/given", "/user/perfmodel")
    assert os.path.basename(found[1]) == "__pycache__"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert len(list(cache_folder._bases())) == 3
