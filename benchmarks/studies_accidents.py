"""Run studies into accidents (workers, drivers, cluster nodes and databases that die), and count what is lost."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import postgres_server, ray_cluster
from search.planning import Plan, plan
from search.scenario import load_scenario
from search.studies import Budget, Executor, Storage, Tuned, executor_of, tune
from search.studies.storage import closed, opened, quiet

ROOT = Path(__file__).resolve().parents[1]
BUDGET = Budget(trials=40, requests=2000, batch=8)
#: Trials after which the accident happens, and seconds from then on.
MIDDLE, DELAY_S = 16, 0.4
#: Seconds that a database is down.
DOWN_S = 2.0


def rows(scenario: Path, *, ray: bool) -> tuple[list[dict[str, Any]], str]:
    """Return one row per accident, and notes about those that could not happen here."""
    found, notes = [], []
    made = plan(load_scenario(scenario))
    whole = tune(made, budget=BUDGET)
    print(whole.counts, flush=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        databases = {"SQLite": f"sqlite:///{folder}/studies.db"}
        server = None
        if postgres_server.missing():
            notes.append(f"PostgreSQL was not tried: {postgres_server.missing()}.")
        else:
            server = stack.enter_context(postgres_server.server())
            databases["PostgreSQL"] = server.url
        found.append(
            _told("a worker process is killed", "memory", whole, _in_process(made, executor_of(jobs=2), _shoot))
        )
        for name, url in databases.items():
            found.append(_driver(scenario, made, name, url, whole))
        if server is not None:
            storage = Storage(server.url, "restart")
            crash = _crash_of(server)
            found.append(
                _told(
                    "the database crashes and restarts",
                    "PostgreSQL",
                    whole,
                    _in_process(made, executor_of(), crash, storage),
                )
            )
    if ray:
        found += _ray(scenario, made, whole)
    else:
        notes.append("The Ray cluster was not tried (`--ray`).")
    return found, "\n".join(notes)


def _in_process(
    made: Plan, executor: Executor, accident: Callable[[], None], storage: Storage | None = None
) -> tuple[Tuned, int]:
    """Run a study in which `accident` happens; return it, and how many trials were finished when it happened."""
    happened: list[int] = []

    def watch(done: float, _total: float) -> None:
        if done >= MIDDLE and not happened:
            happened.append(int(done))
            threading.Timer(DELAY_S, accident).start()

    return tune(made, budget=BUDGET, executor=executor, storage=storage, progress=watch), happened[0]


def _told(accident: str, place: str, whole: Tuned, found: tuple[Tuned, int]) -> dict[str, Any]:
    """Return the row of an accident that the driver survived."""
    tuned, before = found
    kept = sum(a == b for a, b in zip(tuned.rows[:before], whole.rows, strict=False))
    row = {
        "accident": accident,
        "storage": place,
        "trials finished before": str(before),
        "kept": str(kept),
        "trials in the end": str(len(tuned.rows)),
        "replays, undisturbed": str(whole.replays),
        "replays told": str(tuned.replays),
        "workers lost": str(tuned.lost),
        "equal": "yes" if tuned.rows == whole.rows else "no",
    }
    print(row, flush=True)
    return row


def _shoot() -> None:
    """Kill one worker process of this one."""
    children = [c for c in multiprocessing.active_children() if c.pid is not None]
    if children:
        os.kill(children[0].pid or 0, signal.SIGKILL)


def _crash_of(server: postgres_server.Server) -> Callable[[], None]:
    """Return what crashes a server and starts it again."""

    def crash() -> None:
        server.stop("immediate")
        time.sleep(DOWN_S)
        server.start()

    return crash


def _driver(scenario: Path, made: Plan, name: str, url: str, whole: Tuned) -> dict[str, Any]:
    """Kill the command itself in the middle of a study, resume it, and return the row."""
    process = subprocess.Popen(_command(scenario, url), cwd=ROOT, env=_environment(), stdout=subprocess.DEVNULL)
    end = time.monotonic() + 300
    while _finished(url) < MIDDLE and time.monotonic() < end and process.poll() is None:
        time.sleep(0.2)
    process.kill()
    process.wait()
    before = _finished(url)
    tuned = tune(made, budget=BUDGET, storage=Storage(url, "driver", True))
    return _told("the command is killed and resumed", name, whole, (tuned, before))


def _command(scenario: Path, url: str, cluster: ray_cluster.Cluster | None = None) -> list[str]:
    """Return the command of the study, which keeps it at `url`; on a Ray cluster where one is given."""
    words = ["tune", str(scenario), "--trials", str(BUDGET.trials), "--requests", str(BUDGET.requests)]
    words += ["--storage", url, "--study", "driver"]
    words += ["--executor", "ray", "--address", cluster.address] if cluster else []
    return [sys.executable, "-m", "cli", *words]


def _environment() -> dict[str, str]:
    """Return the environment in which commands of this checkout run."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _finished(url: str) -> int:
    """Return how many trials of the killed command's study are finished."""
    import optuna

    with quiet():
        place = opened(url)
        try:
            return sum(t.state.is_finished() for t in optuna.load_study(study_name="driver", storage=place).trials)
        except KeyError:
            return 0
        finally:
            closed(place)


def _ray(scenario: Path, made: Plan, whole: Tuned) -> list[dict[str, Any]]:
    """Return the rows of a Ray cluster of two nodes: a worker is killed, by command and in process, then a node."""
    found = []
    with ray_cluster.cluster() as cluster:
        found.append(_by_command(scenario, made, cluster, whole))
        executor = executor_of("ray", address=cluster.address)
        shot = _in_process(made, executor, lambda: bool(cluster.kill_worker()))
        found.append(_told("a worker of a Ray cluster is killed", "memory", whole, shot))
        lost = _in_process(made, executor, cluster.lose_node)
        found.append(_told("a node of a Ray cluster is lost", "memory", whole, lost))
    return found


def _by_command(scenario: Path, made: Plan, cluster: ray_cluster.Cluster, whole: Tuned) -> dict[str, Any]:
    """Kill a worker of the cluster that `perfmodel tune --executor ray` uses, and return the row.

    The trials are read from the storage in which the command kept them: resuming its finished study replays nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/ray.db"
        process = subprocess.Popen(
            _command(scenario, url, cluster), cwd=ROOT, env=_environment(), stdout=subprocess.PIPE
        )
        end = time.monotonic() + 300
        while _finished(url) < MIDDLE and time.monotonic() < end and process.poll() is None:
            time.sleep(0.2)
        before = _finished(url)
        while not cluster.kill_worker() and time.monotonic() < end and process.poll() is None:
            time.sleep(0.05)
        said = " ".join(process.communicate()[0].decode().split())
        tuned = tune(made, budget=BUDGET, storage=Storage(url, "driver", True))
        row = _told("a worker of `perfmodel tune --executor ray` is killed", "SQLite", whole, (tuned, before))
    counted = re.search(r"(\d+) replays?", said), re.search(r"(\d+) lost workers?", said)
    return row | {
        name: match[1] if match else "0" for name, match in zip(("replays told", "workers lost"), counted, strict=True)
    }
