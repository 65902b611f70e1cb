"""Studies survive what kills them: a worker, the driver and the database; no finished trial is lost or run again."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import study_driver
from made_up_service import die

from benchmarks import postgres_server
from hwdb import InputError
from search.studies import Budget, Storage, executor_of
from search.studies.objectives import aims_of
from search.studies.storage import closed, opened, quiet, url_of
from search.studies.tuning import trials_of

ROOT = Path(__file__).resolve().parents[1]
TRIALS = 16


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, Any]:
    """The study without any accident, in memory."""
    return study_driver.study("", TRIALS)


@pytest.fixture(scope="module")
def postgres() -> Iterator[postgres_server.Server]:
    """A PostgreSQL server of our own."""
    if postgres_server.missing():
        pytest.skip(postgres_server.missing())
    pytest.importorskip("psycopg", reason="no driver of PostgreSQL is installed: perfmodel[postgres]")
    with postgres_server.server() as made:
        yield made


@contextmanager
def watched(url: str) -> Iterator[Callable[[], dict[int, Any]]]:
    """A look into a storage from outside: the trials that it holds as finished, by number."""
    import optuna

    with quiet(), closing(_Place(opened(url))) as held:

        def finished() -> dict[int, Any]:
            try:
                study = optuna.load_study(study_name="made-up", storage=held.place)
            except KeyError:  # its process has not made it yet
                return {}
            return {t.number: (t.state.name, t.values, t.user_attrs) for t in study.trials if t.state.is_finished()}

        yield finished


@dataclass
class _Place:
    place: Any

    def close(self) -> None:
        closed(self.place)


def test_the_same_seed_gives_the_same_study_whatever_the_workers(undisturbed: dict[str, Any]) -> None:
    again = study_driver.study("", TRIALS, executor=executor_of(jobs=2))
    assert again["rows"] == undisturbed["rows"]
    assert again["replays"] == undisturbed["replays"]
    other = study_driver.study("", TRIALS, budget=Budget(trials=TRIALS, batch=4, seed=1))
    assert other["rows"] != undisturbed["rows"]


def test_short_replays_drop_most_trials_and_never_the_whole_batch(undisturbed: dict[str, Any]) -> None:
    states = Counter(state for _, state, _, _ in undisturbed["rows"])
    assert TRIALS // 6 <= states["COMPLETE"] <= TRIALS // 2 <= states["PRUNED"]
    assert all("full" in attributes for _, state, attributes, _ in undisturbed["rows"] if state == "COMPLETE")


def test_a_killed_worker_loses_no_trial(undisturbed: dict[str, Any], tmp_path: Path) -> None:
    deadly = tmp_path / "deadly"
    deadly.touch()
    found = study_driver.study("", TRIALS, shared={"deadly": str(deadly)}, executor=executor_of(jobs=2))
    assert found["lost"] == 1
    assert found["rows"] == undisturbed["rows"]


def test_workers_that_always_die_end_the_study_with_a_reason() -> None:
    workers = executor_of("processes").start(die, None)
    with pytest.raises(InputError, match="workers died 3 times"):
        list(workers.run([0, 1]))
    workers.close()


@pytest.mark.parametrize("place", ["sqlite", "postgres"])
def test_a_killed_driver_goes_on_where_it_was(
    place: str, undisturbed: dict[str, Any], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/study.db" if place == "sqlite" else request.getfixturevalue("postgres").url
    arguments = [url, str(TRIALS), "0.2", "1"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    with watched(url) as finished:
        driver = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "study_driver.py"), *arguments],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + 120
        while len(finished()) < 5 and time.monotonic() < end:
            time.sleep(0.3)
        driver.kill()
        driver.wait()
        before = finished()
        assert 5 <= len(before) < TRIALS, "killed in the middle"
        found = study_driver.study(url, TRIALS)
        after = finished()
    assert len(after) == TRIALS
    assert {n: after[n] for n in before} == before
    assert found["rows"] == undisturbed["rows"]
    known = sum(("short" in a) + ("full" in a) for _, _, a in before.values())
    assert found["replays"] <= undisturbed["replays"] - known + Counter(s for s, _, _ in before.values())["COMPLETE"]


def test_a_database_that_restarts_loses_no_trial(undisturbed: dict[str, Any], postgres: postgres_server.Server) -> None:
    stops: list[int] = []

    def crash(done: float, total: float) -> None:
        if done in (4, 12):
            postgres.stop("immediate")
            stops.append(int(done))
            threading.Timer(1.0, postgres.start).start()

    url = postgres.url.replace("/postgres", "/restarted")
    _make_database(postgres, "restarted")
    found = study_driver.study(url, TRIALS, on_batch=crash)
    assert stops == [4, 12]
    assert found["rows"] == undisturbed["rows"]
    assert found["replays"] == undisturbed["replays"]


def _make_database(server: postgres_server.Server, name: str) -> None:
    import psycopg

    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"create database {name}")


def test_a_study_that_exists_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    place, aims, budget = f"{tmp_path}/s.db", aims_of(("ttft_ms_p99",), study_driver.SLO), Budget(trials=2)
    with quiet():
        trials_of(study_driver.AXES, aims, budget, Storage(place, "x"), {"model": "a"}).close()
        with pytest.raises(InputError, match="study 'x' exists; add --resume"):
            trials_of(study_driver.AXES, aims, budget, Storage(place, "x"), {"model": "a"})
        with pytest.raises(InputError, match="was begun with model a, and not b"):
            trials_of(study_driver.AXES, aims, budget, Storage(place, "x", True), {"model": "b"})


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ("nowhere/studies.db", "its folder does not exist"),
        ("mongo://host/x", "cannot be used"),
        ("sqlite:////no/such/folder/x.db", "cannot be used"),
        ("postgresql://tuner:secret@127.0.0.1:1/x", "tuner:\\*\\*\\*@"),
    ],
)
def test_a_storage_that_cannot_be_used_is_named_without_its_password(storage: str, said: str) -> None:
    if storage.startswith("postgresql"):
        pytest.importorskip("psycopg")
    with pytest.raises(InputError, match=said) as refused:
        opened(storage)
    assert "secret" not in str(refused.value)


PASSWORDS = [
    "hunter2x",
    "p/w-secret",
    "a@b@c-secret",
    "a#secret",
    "50%25-secret",
    "p?secret=x",
    "x:secret",
    "a+b secret",
]
WRITTEN = [
    "postgresql://tuner:{}@127.0.0.1:1/x",
    "postgres://tuner:{}@/x?connect_timeout=1",
    "postgresql//tuner:{}@host/x",
    "postgresql:/tuner:{}@host/x",
    "tuner:{}@nowhere/x/y",
    "postgresql://127.0.0.1:1/x?user=tuner&password={}",
    "mongo://tuner:{}@host/x",
    "postgresql://tuner:{}@127.0.0.1:port/x",
]


@pytest.mark.parametrize("written", WRITTEN)
def test_no_message_holds_a_password_or_a_part_of_it(written: str) -> None:
    pytest.importorskip("psycopg")
    for password in PASSWORDS:
        if "?" in written and set("#?&") & set(password):
            continue
        with pytest.raises(InputError) as refused:
            opened(written.format(password))
        said = str(refused.value)
        assert "***" in said
        assert not [part for part in (password, "secret", "hunter2x") if part in said], said


def test_urls() -> None:
    assert url_of("") == ""
    assert url_of("sqlite:///a.db") == "sqlite:///a.db"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "cluster"}, "unknown executor"),
        ({"name": "serial", "address": "head:6379"}, "add --executor ray"),
        ({"name": "processes", "jobs": 0}, "give 1 or more"),
    ],
)
def test_executors_that_mean_nothing_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        executor_of(**given)


def test_without_ray_its_executor_says_what_to_install() -> None:
    try:
        import ray  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match=r"install perfmodel\[ray\]"):
            executor_of("ray", address="auto").start(die, None)
    else:
        pytest.skip("Ray is installed here")
