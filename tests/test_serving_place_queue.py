"""Waits for a place in a closed loop of more clients than places: against a loop that is played request by request."""

from __future__ import annotations

import heapq
from dataclasses import replace

import numpy as np
import pytest

from perfmodel.serving.fixed_concurrency.closed_admission import PlaceQueue, place_queue
from perfmodel.workload import RANKS, Workload
from perfmodel.workload.load import load_of


def played(clients: int, places: int, rounds: int, cv: float, seed: int) -> np.ndarray:
    """Return the waits for a place of all requests of a run; a residence takes 1 s on average."""
    generator = np.random.default_rng(seed)
    shape = 1.0 / cv**2 if cv else np.inf
    ends: list[float] = []
    sent, waits = [0.0] * clients, []
    for k in range(rounds * clients):
        begin = sent[k] if k < places else max(heapq.heappop(ends), sent[k])
        waits.append(begin - sent[k])
        end = begin + (generator.gamma(shape, 1.0 / shape) if cv else 1.0)
        heapq.heappush(ends, end)
        if k >= places:  # the client whose answer made room sends its next request
            sent.append(begin)
    return np.array(waits)


def queue(clients: float, places: float, rounds: float, cv: float) -> PlaceQueue:
    load = load_of(Workload.from_lengths(100, 100, concurrency=clients), 1, rounds)
    load = replace(load, length_cv=np.full(1, cv))
    return place_queue(load, (np.full(1, clients), np.full(1, places)), np.ones(1), np.zeros(1))


@pytest.mark.parametrize("cv", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("rounds", [1, 2, 10])
@pytest.mark.parametrize(("clients", "places"), [(9, 4), (219, 4), (96, 64), (40, 32)])
def test_clients_wait_for_a_place_as_in_a_loop_that_is_played(
    clients: int, places: int, rounds: int, cv: float
) -> None:
    waits = np.array([played(clients, places, rounds, cv, seed) for seed in range(40 if cv else 1)])
    found = queue(float(clients), float(places), float(rounds), cv)
    # few residences, or equal ones, end in waves, whose last one is rarely full
    assert found.mean[0] == pytest.approx(waits.mean(), rel=0.12, abs=0.12 if clients < 10 or not cv else 0.03)


def test_a_loop_without_end_waits_as_littles_law_says() -> None:
    assert queue(12.0, 8.0, np.inf, 1.0).mean.tolist() == [0.5]
    assert queue(8.0, 8.0, 10.0, 1.0).mean.tolist() == [0.0]


@pytest.mark.parametrize(("clients", "places", "rounds"), [(219, 4, 1), (219, 4, 2), (60, 8, 10)])
def test_ranks_of_waits_for_a_place_are_those_that_are_played(clients: int, places: int, rounds: int) -> None:
    waits = np.sort([played(clients, places, rounds, 0.3, seed) for seed in range(40)], axis=1).mean(axis=0)
    found = queue(float(clients), float(places), float(rounds), 0.3)
    steady = (clients - places) / places
    for rank, (name, value) in zip(RANKS.values(), zip(RANKS, found.by_rank[:, 0], strict=True), strict=True):
        assert value == pytest.approx(np.quantile(waits, rank), abs=0.2 * steady), name
