"""Run chosen tests on mutants, each in a process of its own, and record which tests reach which line.

One process imports everything and collects the tests; a fork of it exchanges the code of one function and runs the
tests that reach the function, so a mutant costs what its tests cost. Changes of what runs on import need a process that
imports everything anew. No file is written.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib.abc
import importlib.util
import io
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import hypothesis
import pytest

from benchmarks.mutant_children import Late, Stopped, Write, lines_of
from benchmarks.mutant_sites import Mutant

#: Root of the repository.
ROOT = Path(__file__).resolve().parents[1]
#: What pytest is called with besides the files: no plugin that follows processes, no stored state.
_PYTEST = ["-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:pytest_cov", "--capture=no"]
_PYTEST += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
#: CPU seconds beyond those of the unchanged tests before a mutant counts as one that hangs, and their factor.
_SLACK_SECONDS, _SLACK_FACTOR = 8.0, 2.0
#: CPU seconds that importing everything and collecting tests may add.
_IMPORT_SECONDS = 20.0


@dataclass(frozen=True)
class Job:
    """Ask for one mutant: its number, the tests to run in this order, the CPU seconds that they take unchanged."""

    number: int
    mutant: Mutant
    tests: tuple[str, ...]
    seconds: float

    @property
    def limit(self) -> float:
        """Return the CPU seconds after which the mutant counts as one that hangs."""
        return self.seconds * _SLACK_FACTOR + _SLACK_SECONDS


@dataclass(frozen=True)
class Result:
    """Say which test noticed a mutant, "" where none did, and the CPU seconds that its tests took."""

    number: int
    test: str
    seconds: float


class _Session:
    """Make pytest collect quietly, then hand the tests to `work` instead of running them.

    Examples of property tests are not shrunk: only whether a test fails matters.
    """

    def __init__(self, work: Callable[[pytest.Session], None], finder: _Changed | None) -> None:
        self.work, self.finder = work, finder

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Choose the property tests' settings before the modules of tests read them."""
        usual = hypothesis.settings()
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile("mutants", usual, phases=phases, database=None)
        hypothesis.settings.load_profile("mutants")
        if self.finder is not None:  # before pytest's own finder, which imports the files that it is called with
            sys.meta_path.insert(0, self.finder)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Hand over the collected tests."""
        session.config.pluginmanager.unregister(name="terminalreporter")
        self.work(session)
        return True


def collect(files: Iterable[str], work: Callable[[pytest.Session], None], finder: _Changed | None = None) -> str:
    """Collect the tests of `files` in this process and call `work` with them; return what pytest says instead where
    they cannot be collected, else "". finder: imports a changed module."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        code = pytest.main([*_PYTEST, *(str(ROOT / name) for name in files)], plugins=[_Session(work, finder)])
    return "" if code == pytest.ExitCode.OK else told.getvalue()


class _Failures:
    """Collect the tests that fail."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test of which any phase failed."""
        if report.failed:
            self.found.append(report.nodeid)


def first_failure(session: pytest.Session, tests: Sequence[str]) -> str:
    """Run `tests`, by name or name without parameters, in this order until one fails; return it or "" if none does."""
    failures = _Failures()
    session.config.pluginmanager.register(failures)
    known: dict[str, list[pytest.Item]] = {}
    for item in session.items:  # by name with and without parameters
        for name in {item.nodeid, item.nodeid.partition("[")[0]}:
            known.setdefault(name, []).append(item)
    if missing := [name for name in tests if name not in known]:
        raise ValueError(f"no test is called {missing[0]}")
    items = [item for name in tests for item in known[name]]
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if failures.found:
            return failures.found[0]
    return ""


def run(jobs: Sequence[Job], done: Callable[[Result], None]) -> None:
    """Run all jobs, one after the other, and call `done` with each result.

    Importing perfmodel in this process beforehand would hide what runs on import.
    """
    warm = [job for job in jobs if job.mutant.called]
    cold = [job for job in jobs if not job.mutant.called]
    files = sorted({name.partition("::")[0] for job in warm for name in job.tests})

    def serve(write: Write) -> None:
        if told := collect(files, lambda session: _serve(session, warm, write)):
            raise RuntimeError(told)

    if warm:
        total = sum(job.limit for job in warm) + _IMPORT_SECONDS
        for line in lines_of(serve, total):
            result = Result(**json.loads(line))
            if result.test == _IMPORTED:
                cold.append(next(job for job in warm if job.number == result.number))
            else:
                done(result)
    for job in cold:
        done(_result(job, functools.partial(_anew, job), job.limit + _IMPORT_SECONDS))


#: Stands for a test where a function cannot be exchanged, so that everything must be imported anew.
_IMPORTED = "imported"


def _serve(session: pytest.Session, jobs: Sequence[Job], write: Write) -> None:
    """Run the jobs on the collected tests, each in a fork of this process."""
    gc.collect()
    gc.freeze()
    for job in jobs:
        result = _result(job, functools.partial(_exchanged, session, job), job.limit)
        write(json.dumps(result.__dict__))


def _result(job: Job, work: Callable[[Write], None], limit: float) -> Result:
    """Run `work` in a process of its own: the test that it writes has failed, and a process that needs far more CPU
    time than the unchanged code hung. One that only the clock stops has not been noticed: the machine may be busy."""
    started = time.monotonic()
    try:
        test = next(iter([*lines_of(work, limit), ""]))
    except Stopped as stopped:
        test = f"stopped by {stopped}"
    except Late:
        test = ""
    return Result(number=job.number, test=test, seconds=round(time.monotonic() - started, 2))


def _exchanged(session: pytest.Session, job: Job, write: Write) -> None:
    """Exchange the code of the changed functions and write the first test that fails."""
    if not exchange(job.mutant):
        write(_IMPORTED)
    elif test := first_failure(session, job.tests):
        write(test)


def exchange(mutant: Mutant) -> bool:
    """Give all functions of the mutant's file, wherever they are referred to, the code that the mutant gives them.

    Returns False where that is impossible: the file is not imported, or a closure changes its variables.
    """
    path = str(ROOT / mutant.path)
    source = Path(path).read_text(encoding="utf-8")
    old, new = (_codes(compile(text, path, "exec")) for text in (source, mutant.applied(source)))
    changed = {name: new.get(name) for name, code in old.items() if code != new.get(name)}
    gc.unfreeze()
    functions = [f for f in gc.get_objects() if isinstance(f, FunctionType) and f.__code__.co_filename == path]
    exchanged = False
    for function in functions:
        code = changed.get(_key(function.__code__))
        if code is not None and code.co_freevars == function.__code__.co_freevars:
            function.__code__ = code
            exchanged = True
    return exchanged


def _key(code: CodeType) -> tuple[str, int]:
    """Return what tells the functions of a file apart: dotted name and first line."""
    return code.co_qualname, code.co_firstlineno


def _codes(code: CodeType) -> dict[tuple[str, int], CodeType]:
    """Return the code of all functions within `code`, by name and first line."""
    found: dict[tuple[str, int], CodeType] = {}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            found[_key(inner)] = inner
            found.update(_codes(inner))
    return found


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):
    """Import one module from the text of a mutant, all others as usual."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant
        self.path = str(ROOT / mutant.path)
        parts = Path(mutant.path).with_suffix("").parts
        self.name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def find_spec(self, name: str, _path: object = None, _target: ModuleType | None = None) -> object:
        """Return the specification of the changed module; None for all others."""
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)

    def get_filename(self, _name: str) -> str:
        """Return the path of the module."""
        return self.path

    def get_data(self, path: str) -> bytes:
        """Return the changed text of the module; nothing else, so that no compiled copy is read."""
        if path != self.path:
            raise OSError(path)
        return self.mutant.applied(Path(path).read_text(encoding="utf-8")).encode()


def _anew(job: Job, write: Write) -> None:
    """Import everything with the mutant's text in place; write the first test that fails, or that nothing imports."""
    outcome: list[str] = []
    files = sorted({name.partition("::")[0] for name in job.tests})
    collect(files, lambda session: outcome.append(first_failure(session, job.tests)), _Changed(job.mutant))
    if not outcome:
        write("importing it")
    elif outcome[0]:
        write(outcome[0])
