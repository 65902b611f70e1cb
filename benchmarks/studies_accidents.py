"""Run studies into accidents (workers, drivers, cluster nodes and databases that die), and count what is lost."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import postgres_server
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
        found += _ray(made, whole)
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
    words = ["tune", str(scenario), "--trials", str(BUDGET.trials), "--requests", str(BUDGET.requests)]
    words += ["--storage", url, "--study", "driver"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", *words], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
    )
    end = time.monotonic() + 300
    while _finished(url) < MIDDLE and time.monotonic() < end and process.poll() is None:
        time.sleep(0.2)
    process.kill()
    process.wait()
    before = _finished(url)
    tuned = tune(made, budget=BUDGET, storage=Storage(url, "driver", True))
    return _told("the command is killed and resumed", name, whole, (tuned, before))


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


@contextmanager
def _cluster() -> Iterator[tuple[str, subprocess.Popen[bytes], subprocess.Popen[bytes]]]:
    """Start a Ray cluster of two nodes with one CPU each; yield its address and the processes of both nodes."""
    program = shutil.which("ray") or str(Path(sys.executable).parent / "ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    common = ["--num-cpus", "1", "--object-store-memory", "100000000", "--block"]

    def node(*words: str) -> subprocess.Popen[bytes]:
        quietly = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([program, "start", *words, *common], env=environment, start_new_session=True, **quietly)  # type: ignore[call-overload,no-any-return]

    head = node("--head", "--port", str(port), "--include-dashboard=false")
    time.sleep(20)
    second = node("--address", address)
    time.sleep(15)
    try:
        yield address, head, second
    finally:
        for one in (second, head):
            _end(one)


def _end(node: subprocess.Popen[bytes]) -> None:
    """End a node of the cluster with all processes of its session."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for pid in _session(node.pid):
            try:
                os.kill(pid, sign)
            except ProcessLookupError:
                continue
        time.sleep(2)


def _session(leader: int) -> list[int]:
    """Return the processes of the session that `leader` began, and those below them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader:
            found.append(int(folder.name))
    children = {int(f.name): _parent(f) for f in Path("/proc").glob("[0-9]*")}
    while more := [pid for pid, parent in children.items() if parent in found and pid not in found]:
        found += more
    return found


def _parent(folder: Path) -> int:
    """Return the parent of a process; 0 where it has ended."""
    try:
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _ray(made: Plan, whole: Tuned) -> list[dict[str, Any]]:
    """Return the rows of a Ray cluster of two nodes: a worker is killed, then a node."""
    found = []
    with _cluster() as (address, _, second):
        executor = executor_of("ray", address=address)

        def shoot() -> None:
            for pid in _session(second.pid):
                if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::"):
                    os.kill(pid, signal.SIGKILL)
                    return

        found.append(_told("a worker of a Ray cluster is killed", "memory", whole, _in_process(made, executor, shoot)))
        found.append(
            _told("a node of a Ray cluster is lost", "memory", whole, _in_process(made, executor, lambda: _end(second)))
        )
    return found
