"""Record which tests reach which line of the code under mutation, and how long each takes; keep it beside the sources.

The record of a file of tests is made anew where the file, or a source that its tests reach, has changed. What a fixture
of a module runs counts for all tests of the module.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from benchmarks.mutant_children import Write, lines_of
from benchmarks.mutant_sites import Mutant
from benchmarks.mutant_tests import ROOT, collect

#: Where the records are kept; git ignores it.
FOLDER = ROOT / ".mutants"
#: CPU seconds that recording all tests may take.
_MOST_SECONDS = 3600.0


@dataclass
class Reach:
    """Say which tests reach which line.

    seconds: CPU seconds of each test. tests: by file of the code and line, the tests that reach it. imported: by file,
    the lines that run on import.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    tests: dict[str, dict[int, set[str]]] = field(default_factory=dict)
    imported: dict[str, set[int]] = field(default_factory=dict)

    def add(self, record: dict[str, Any]) -> None:
        """Add the record of one file of tests."""
        self.seconds.update(record["seconds"])
        for path, by_line in record["lines"].items():
            into = self.tests.setdefault(path, {})
            for line, contexts in by_line.items():
                named = (self._named(record, context) for context in contexts if context)
                into.setdefault(int(line), set()).update(*named)
                if "" in contexts:
                    self.imported.setdefault(path, set()).add(int(line))

    @staticmethod
    def _named(record: dict[str, Any], context: str) -> list[str]:
        """Return the tests of a context: one test, or all of a module for what its fixtures run."""
        if context in record["seconds"]:
            return [context]
        return [name for name in record["seconds"] if name.partition("::")[0] == context]

    def of(self, mutant: Mutant) -> set[str]:
        """Return the tests that reach the site of a mutant; all tests that import the file where it runs on import."""
        by_line = self.tests.get(mutant.path, {})
        lines = range(mutant.line, mutant.end_line + 1)
        found = set().union(*(by_line.get(line, set()) for line in lines))
        if mutant.called:
            return found
        return found | set().union(*by_line.values())

    def on_import(self, mutant: Mutant) -> bool:
        """Return whether the site of a mutant runs when its file is imported."""
        return not self.imported.get(mutant.path, set()).isdisjoint(range(mutant.line, mutant.end_line + 1))


def reach(tests: Iterable[str], sources: Iterable[str]) -> Reach:
    """Return what the files `tests` reach of the files `sources`, from the records where these are still valid.

    Both are paths relative to the root.
    """
    found, missing = Reach(), []
    for name in tests:
        kept = _kept(name)
        record = json.loads(kept.read_text()) if kept.exists() else {}
        if record and all(_digest(path) == digest for path, digest in record["digests"].items()):
            found.add(record)
        else:
            missing.append(name)
    for names in _together(missing):
        for line in lines_of(functools.partial(_record, names, sorted(sources)), _MOST_SECONDS):
            name, record = json.loads(line)
            reached = (path for path, by_line in record["lines"].items() if any(map(any, by_line.values())))
            record["digests"] = {path: _digest(path) for path in (name, *reached)}
            _kept(name).parent.mkdir(exist_ok=True)
            _kept(name).write_text(json.dumps(record))
            found.add(record)
    return found


def _together(names: list[str]) -> list[list[str]]:
    """Group files for one process each: every file of tests, so that no other leaves values in caches, and the
    doctests."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name if name.startswith("tests/") else "", []).append(name)
    return list(groups.values())


def _kept(name: str) -> Path:
    """Return where the record of a file of tests is kept."""
    return FOLDER / (name.replace("/", "+") + ".json")


def _digest(name: str) -> str:
    """Return a digest of the content of a file; "" where there is none."""
    path = ROOT / name
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else ""


class _Clock:
    """Switch the context of the coverage measurement with the tests, and take their CPU times."""

    def __init__(self, coverage: Any) -> None:
        self.coverage = coverage
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        """Time one test; its fixtures count for its module."""
        started = time.process_time()
        self.coverage.switch_context(item.nodeid.partition("::")[0])
        done = yield
        self.coverage.switch_context("")
        self.seconds[item.nodeid] = round(time.process_time() - started, 4)
        return done

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Any:
        """Record the body of one test."""
        self.coverage.switch_context(item.nodeid)
        try:
            return (yield)
        finally:
            self.coverage.switch_context(item.nodeid.partition("::")[0])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note tests that fail or are skipped: they can say nothing about a mutant."""
        if report.outcome != "passed":
            self.failed.add(report.nodeid)


def _record(tests: list[str], sources: list[str], write: Write) -> None:
    """Run the files `tests` in this process and write the record of each as one line of JSON: [file, record]."""
    import coverage

    measured = coverage.Coverage(data_file=None, include=[str(ROOT / name) for name in sources], config_file=False)
    measured.start()
    clock = _Clock(measured)
    if told := collect(tests, lambda session: _run_all(session, clock)):
        raise RuntimeError(told)
    measured.stop()
    data = measured.get_data()
    lines = {str(Path(path).relative_to(ROOT)): data.contexts_by_lineno(path) for path in sorted(data.measured_files())}
    for name in tests:
        seconds = {t: s for t, s in clock.seconds.items() if t.partition("::")[0] == name and t not in clock.failed}
        kept = {*seconds, name, ""}
        own = {p: {n: sorted(kept.intersection(c)) for n, c in by_line.items()} for p, by_line in lines.items()}
        write(json.dumps([name, {"seconds": seconds, "lines": own}]))


def _run_all(session: pytest.Session, clock: _Clock) -> None:
    """Run all collected tests."""
    session.config.pluginmanager.register(clock)
    for item, following in zip(session.items, [*session.items[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
