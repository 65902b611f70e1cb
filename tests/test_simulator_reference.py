"""The compiled loop against a plain one that takes every iteration by itself, and what must be conserved."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from simulator_reference import Reference

from perfmodel.simulator import Link, Policy, Pool, Prefixes, StepTable, arrivals, experience, run, token_times, traffic
from perfmodel.simulator.measurement.tokens import gaps, timeline
from perfmodel.simulator.replica_pools.reservation import rejection_reasons, reserved_tokens

TIMES = ("issued", "admitted", "first", "finish")
COUNTS = ("emitted", "preempted", "cached", "replica", "prefiller")


def random_policy(draw, block: int, hashed: bool, static: bool) -> Policy:
    """Scheduling rules chosen at random."""
    policy = Policy(
        max_num_batched_tokens=float(draw.choice([16, 64, 1e9])),
        max_num_seqs=int(draw.choice([2, 8, 64])),
        batching="static" if static else "continuous",
        prefill_first=bool(draw.random() < 0.5),
        chunked=bool(draw.random() < 0.5),
        kv_block=block,
        watermark=float(draw.choice([0, 0.05])),
        admission=str(draw.choice(["grow", "grow", "grow", "reserve", "power_of_two"])),
        preemption=str(draw.choice(["recompute", "swap"])),
        prefix_cache=bool(hashed and not static),
        request_time=float(draw.choice([0, 0.01])),
        serial_front_end=bool(draw.random() < 0.5),
        schedules_ahead=bool(draw.random() < 0.5),
        hands_on_late=bool(draw.random() < 0.5) and not static,
        streaming_token=float(draw.choice([0, 1e-4, 5e-3])) * (not static),
        prompts_together=int(draw.choice([1, 2, 4])),
        hold_steps=float(draw.choice([3, 30, np.nan])),
    )
    return policy.changed(tokenize_time=policy.request_time / 100.0)


def random_case(seed: int):
    """A small service with everything chosen at random: (traffic, pools, router, step time)."""
    draw = np.random.default_rng(seed)
    count = int(draw.integers(1, 40))
    prompt, output = draw.integers(1, 200, count), draw.integers(1, 60, count)
    block = int(draw.choice([1, 4, 16]))
    settings: dict = {}
    hashed, static = draw.random() < 0.4, draw.random() < 0.1
    if hashed:
        settings["prefixes"] = random_prefixes(draw, prompt, block)
    kind = draw.choice(["open", "closed", "offline"])
    if kind == "open":
        settings["arrival"] = arrivals(float(draw.choice([2, 10, 50])), count, seed=seed)
    if kind == "closed":
        settings |= {"concurrency": int(draw.integers(1, 8)), "think": float(draw.choice([0, 0.05]))}
    rates = {
        "per_token": draw.uniform(1e-5, 1e-4),
        "per_seq": draw.uniform(0, 1e-4),
        "per_key": draw.uniform(0, 1e-7),
        "per_context": draw.uniform(0, 1e-6),
    }
    table = StepTable.affine(5e-3, **rates, most_tokens=1 << 14, most_seqs=64)
    policy = random_policy(draw, block, hashed, static)
    capacity = int((prompt + output).max() * draw.choice([1, 1.3, 2])) + 16 + int(draw.choice([0, 200, 2000])) + 16
    common = {"table": table, "policy": policy, "kv_tokens": capacity, "kv_bytes": 1e5, "swap_bandwidth": 1e9}
    pools = [Pool(replicas=int(draw.integers(1, 4)), **common)]
    if not static and draw.random() < 0.3:
        first = Pool(role="prefill", replicas=int(draw.integers(1, 3)), link=Link(1e9, 1e-3), **common)
        pools = [first, Pool(role="decode", replicas=int(draw.integers(1, 3)), **common)]
    router = str(draw.choice(["round_robin", "least_loaded", "join_shortest_queue"]))
    return traffic(prompt, output, **settings), pools, router, affine(5e-3, **rates)


def affine(fixed, per_token=0.0, per_seq=0.0, per_key=0.0, per_context=0.0):
    """The step time of `StepTable.affine`, as a formula."""

    def time(tokens, keys, seqs, context):
        return fixed + per_token * tokens + per_key * tokens * keys + per_seq * seqs + per_context * seqs * context

    return time


def random_prefixes(draw, prompt, block):
    """Prompts that begin with one of three documents, shared to a random depth."""
    tokens, rows = block * int(draw.integers(1, 4)), []
    for r, length in enumerate(prompt):
        whole = int(length) // tokens
        shared, base = int(draw.integers(0, whole + 1)), int(draw.integers(0, 3))
        rows.append([base * 1000 + j for j in range(shared)] + [10**6 + r * 1000 + j for j in range(shared, whole)])
    first = np.concatenate([[0], np.cumsum([len(x) for x in rows])])
    return Prefixes(first, np.array(list(itertools.chain(*rows)), int), tokens)


def both(seed: int):
    """(simulation, reference) of a random case, None where a request cannot fit."""
    requests, pools, router, time = random_case(seed)
    reserve = reserved_tokens(requests, pools[0].policy)
    if np.any(rejection_reasons(requests, tuple(pools), reserve) != ""):
        return None
    return run(requests, pools, router=router), Reference(requests, pools, reserve, time, router).run()


def of(reference, field):
    return np.array([getattr(s, field) for s in reference.sequences])


@pytest.mark.parametrize("block", range(4))
def test_agrees_with_the_plain_loop_on_random_cases(block):
    """Counts exactly, times to rounding: 200 services of random policy, memory, router and traffic."""
    seen = {"steps": 0, "runs": 0, "preempted": 0, "cached": 0, "pools": 0}
    for seed in range(50 * block, 50 * block + 50):
        pair = both(seed)
        if pair is None:
            continue
        simulation, reference = pair
        for field in TIMES:
            np.testing.assert_allclose(getattr(simulation, field), of(reference, field), rtol=1e-9, err_msg=f"{seed}")
        for field in COUNTS:
            np.testing.assert_array_equal(getattr(simulation, field), of(reference, field), err_msg=f"{seed} {field}")
        assert simulation.runs["steps"].sum() == reference.steps
        seen["steps"] += reference.steps
        seen["runs"] += len(simulation.runs)
        seen["preempted"] += simulation.preempted.sum()
        seen["cached"] += simulation.cached.sum()
        seen["pools"] += len(simulation.pools) == 2
    # the cases must reach what they are to prove
    assert seen["steps"] > 2 * seen["runs"]
    assert min(seen["preempted"], seen["cached"], seen["pools"]) > 0


def test_agrees_to_the_last_bit_where_arithmetic_is_exact():
    """Step times and arrivals that are multiples of 2^-20 s leave no rounding: both loops give the same numbers."""
    draw = np.random.default_rng(5)
    count = 60
    table = StepTable.affine(2.0**-7, per_token=2.0**-16, per_seq=2.0**-12, most_tokens=1024, most_seqs=64)
    requests = traffic(
        draw.integers(1, 300, count),
        draw.integers(1, 80, count),
        arrival=np.cumsum(draw.integers(0, 1 << 15, count)) * 2.0**-20,
    )
    pool = Pool(table, Policy(max_num_batched_tokens=64, max_num_seqs=16, kv_block=16), kv_tokens=2048)
    simulation = run(requests, pool)
    reference = Reference(requests, [pool], np.zeros(count, int), affine(2.0**-7, 2.0**-16, 2.0**-12)).run()
    assert simulation.preempted.sum() > 0
    for field in TIMES:
        np.testing.assert_array_equal(getattr(simulation, field), of(reference, field))


def test_random_cases_hold_prompts_back():
    """In the cases above prompts are held back for others, or the two loops could agree on that by ignoring it."""
    moved = 0
    for seed in range(50):
        requests, pools, router, _ = random_case(seed)
        if np.any(rejection_reasons(requests, tuple(pools), reserved_tokens(requests, pools[0].policy)) != ""):
            continue
        alone = [replace(p, policy=p.policy.changed(prompts_together=1)) for p in pools]
        moved += np.any(run(requests, pools, router=router).first != run(requests, alone, router=router).first)
    assert moved >= 5


def test_prompts_wait_for_as_many_as_begin_together_or_for_so_many_steps():
    """By hand: one sequence decodes in steps of 10 ms; three prompts come at 15, 31 and 52 ms, a fourth at 195 ms."""
    table = StepTable.affine(0.01, most_tokens=1024, most_seqs=64)
    at = [0.0, 0.015, 0.031, 0.052, 0.195]
    requests = traffic(np.full(5, 10), np.array([100, 60, 60, 60, 2]), arrival=np.array(at))
    for longest, begins in ((np.nan, [0.0, 0.06, 0.06, 0.06]), (3.0, [0.0, 0.05, 0.05, 0.09])):
        policy = Policy(prompts_together=3, hold_steps=longest)
        found = run(requests, Pool(table, policy, kv_tokens=10_000))
        np.testing.assert_allclose(found.admitted[:4], begins)
    # the fourth alone: for the three steps of the limit, from the boundary at which it is seen
    np.testing.assert_allclose(found.admitted[4], 0.23)


def test_token_times_gaps_and_the_longest_wait_agree_with_the_plain_loop():
    for seed in range(200, 230):
        pair = both(seed)
        if pair is None:
            continue
        simulation, reference = pair
        times = [np.array(s.token_times) for s in reference.sequences]
        for r, expected in enumerate(times):
            if len(expected) == 1:  # when the client got it
                expected = [reference.sequences[r].first]
            np.testing.assert_allclose(token_times(simulation, r), expected, rtol=1e-9)
        found, weights, _ = gaps(simulation)
        between = np.concatenate([np.diff(t) for t in times])
        assert weights.sum() == len(between)
        np.testing.assert_allclose((found * weights).sum(), between.sum(), rtol=1e-9, atol=1e-12)
        longest = [max(np.diff(t), default=0.0) for t in times]
        np.testing.assert_allclose(experience(simulation, ttft=0.1, tpot=0.01).longest, longest, rtol=1e-6, atol=1e-9)


def test_nothing_is_lost_and_kv_stays_within_capacity():
    """Every request ends once with all its tokens; blocks in use never exceed what there is; time runs forward."""
    for seed in range(300, 340):
        requests, pools, router, _ = random_case(seed)
        if np.any(rejection_reasons(requests, tuple(pools), reserved_tokens(requests, pools[0].policy)) != ""):
            continue
        simulation = run(requests, pools, router=router)
        np.testing.assert_array_equal(simulation.emitted, requests.output_tokens)
        decoded = timeline(simulation).tokens.sum()
        resumed = int((np.isfinite(simulation.stints["time"]) & (simulation.stints["made"] > 1)).sum())
        assert decoded + resumed + len(requests) == requests.output_tokens.sum()
        block = pools[0].policy.kv_block
        assert simulation.runs["used"].max() <= pools[0].kv_tokens // block
        assert simulation.runs["used"].min() >= 0
        order = [simulation.issued, simulation.admitted, simulation.first, simulation.finish]
        assert all(np.all(a <= b) for a, b in itertools.pairwise(order))
        steps = simulation.runs["steps"].astype(float)
        length = simulation.runs["step"] * steps + simulation.runs["slope"] * 0.5 * steps * (steps - 1)
        for i in np.unique(simulation.runs["replica"]):
            mine = simulation.runs["replica"] == i
            ends = (simulation.runs["start"] + length)[mine]
            assert np.all(simulation.runs["start"][mine][1:] >= ends[:-1] - 1e-9)


def test_prompt_tokens_computed_are_those_offered_less_cached_plus_recomputed():
    for seed in range(400, 430):
        requests, pools, router, _ = random_case(seed)
        if np.any(rejection_reasons(requests, tuple(pools), reserved_tokens(requests, pools[0].policy)) != ""):
            continue
        if pools[0].policy.batching == "static":
            continue
        simulation = run(requests, pools, router=router)
        computed, needed = simulation.runs["prompt"].sum(), (requests.input_tokens - simulation.cached).sum()
        if simulation.preempted.sum() == 0:
            assert computed == needed
        else:
            assert computed >= needed


def test_the_same_arguments_give_the_same_answer_and_another_seed_another():
    requests, _, _, _ = random_case(1)
    table = StepTable.affine(5e-3, per_seq=1e-3, most_tokens=1024, most_seqs=64)
    pool = Pool(table, Policy(max_num_seqs=2), kv_tokens=4096, replicas=3)
    one, same, other = (run(requests, pool, router="random", seed=s) for s in (7, 7, 8))
    np.testing.assert_array_equal(one.finish, same.finish)
    np.testing.assert_array_equal(one.runs, same.runs)
    assert np.any(one.replica != other.replica)
