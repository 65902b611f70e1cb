"""The mutation runner: what it changes, and that it tells a change that tests notice from one that changes nothing."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import mutant_children, mutant_tests, mutants
from benchmarks.mutant_children import Late, Stopped, lines_of
from benchmarks.mutant_map import Reach
from benchmarks.mutant_sites import sites
from benchmarks.mutants import DATA, ROOT, drawn, equivalent, named, sources

#: A few mutants by name, of each way to run them; the others are run by `python -m benchmarks.mutants --named`.
SOME = (
    "the busiest expert-parallel rank has no more than the mean",
    "logits are gathered twice",
    "sampling moves a quarter",
    "experts are reduced under attention data parallelism too",
    "the smaller of embedding and head decides the ends of a pipeline",
    "the cache of a stage is the mean over stages",
    "logits of 25 rows exist at once",
    "adapters without a slot take no host memory",
    "a node that fails takes fewer of the replicas on it",
)
SAME = "factors in another order"
SOURCE = '''\
"""Two and 3."""
from __future__ import annotations
__all__ = ["area"]
LIMIT: float = 4.0
def area(width: float, height: float = 2.0) -> tuple[float, float]:
    """Return 5 and 6."""
    if width < 0 and not height:
        raise ValueError(f"{width + 1}")
    print(7)
    return max(width, 1e-9) * height, -width
'''


def changes() -> dict[str, set[str]]:
    """What the mutants of `SOURCE` make of its lines, by kind of change."""
    found: dict[str, set[str]] = {}
    for site in sites("x.py", SOURCE):
        for mutant in site:
            found.setdefault(mutant.operator, set()).add(mutant.becomes)
            compile(mutant.applied(SOURCE), "x.py", "exec")
    return found


def test_each_kind_of_change_is_made_where_something_is_computed() -> None:
    found = changes()
    assert found["constant"] == {
        *("LIMIT: float = 8.0", "LIMIT: float = 1.0", "LIMIT: float = 5.0"),
        *(f"def area(width: float, height: float = {v}) -> tuple[float, float]:" for v in ("4.0", "0.5", "3.0")),
        "if width < 1 and not height:",
        "return max(width, 1.000000001) * height, -width",
    }
    assert found["comparison"] == {"if (width <= 0) and not height:"}
    assert found["and, or"] == {"if (width < 0 or not height):"}
    assert found["dropped not"] == {"if width < 0 and (height):", "return max(width, 1e-9) * height, (width)"}
    assert found["branch forced"] == {"if True:", "if False:"}
    assert found["arithmetic"] == {"return (max(width, 1e-09) / height), -width"}
    assert "return (height), -width" in found["dropped term"]
    assert found["function"] == {"return (min(width, 1e-09)) * height, -width"}
    assert found["returned order"] == {"return ((-width, max(width, 1e-09) * height))"}


def test_a_change_leaves_the_rest_of_the_file_as_it_is() -> None:
    for site in sites("x.py", SOURCE):
        for mutant in site:
            before, after = SOURCE.splitlines(), mutant.applied(SOURCE).splitlines()
            different = [n for n, (a, b) in enumerate(zip(before, after, strict=True), 1) if a != b]
            assert different == [mutant.line]
            assert mutant.called is (mutant.line > 5)
            assert mutant.function == ("" if mutant.line == 4 else "area" if mutant.line > 5 else "")


def test_mutants_are_drawn_by_seed_and_alike_each_time() -> None:
    first, again, other = (drawn("memory", 5, seed) for seed in (1, 1, 2))
    assert first == again != other
    assert all(mutant.path in sources("memory") for mutant in first)


def test_the_data_fit_the_code() -> None:
    known = named()
    assert len({each.name for each in known}) == len(known)
    for each in known:
        file, _, test = each.test.partition("::")
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), each.name
    for (path, was, _), reason in equivalent(DATA).items():
        lines = " ".join((ROOT / path).read_text(encoding="utf-8").split())
        assert was in lines, f"{path} no longer has {was!r}; take it out of {DATA.name}"
        assert len(reason) > 10
    assert len(tomllib.loads(DATA.read_text(encoding="utf-8"))["named"]) >= 30


def test_a_process_is_stopped_at_its_limit_and_its_lines_are_read() -> None:
    assert list(lines_of(lambda write: [write(str(n)) for n in range(3)] and None, 5.0)) == ["0", "1", "2"]
    with pytest.raises(Stopped, match="SIGXCPU"):
        list(lines_of(lambda write: sum(1 for _ in iter(int, 1)) and None, 1.0))


def test_a_process_that_only_the_clock_stops_has_noticed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutant_children, "LEAST_PATIENCE", 1.0)
    monkeypatch.setattr(mutant_children, "PATIENCE", 0.0)
    with pytest.raises(Late):
        list(lines_of(lambda write: time.sleep(60), 5.0))
    late = mutant_tests._result(mutant_tests.Job(3, drawn("memory", 1, 0)[0], (), 5.0), lambda _: time.sleep(60), 5.0)
    assert (late.number, late.test) == (3, "")


@pytest.mark.parametrize("name", ["found.csv", "found.json"])
def test_results_are_written_as_they_come_and_a_stopped_run_keeps_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    def interrupted(jobs: list[mutant_tests.Job], done: Callable[[mutant_tests.Result], None]) -> None:
        done(mutant_tests.Result(jobs[0].number, "tests/test_x.py::test_y", 0.5))
        done(mutant_tests.Result(jobs[1].number, "", 0.5))
        raise KeyboardInterrupt

    monkeypatch.setattr(mutants, "run", interrupted)
    monkeypatch.setattr(mutants, "reach", lambda _tests, _sources: Reach())
    monkeypatch.setattr(mutants, "tests_of", lambda _mutant, _known: (("tests/test_x.py::test_y",), 1.0))
    found = mutants.run_drawn(["memory", "fleet"], 10, 0, tmp_path / name)
    text = (tmp_path / name).read_text()
    rows = json.loads(text) if name.endswith("json") else list(csv.DictReader(text.splitlines()))
    assert [row["outcome"] for row in rows] == [o.outcome for o in found] == ["killed", "survived"]
    assert {row["group"] for row in rows} == {"memory", "fleet"}
    assert [path.name for path in tmp_path.iterdir()] == [name]
    again: list[int] = []
    monkeypatch.setattr(mutants, "run", lambda jobs, _done: again.extend(job.number for job in jobs))
    assert mutants.run_drawn(["memory", "fleet"], 10, 0, None, found) == found
    assert again == list(range(2, 10))  # the two that are settled are not run again


def test_some_mutants_by_name_are_noticed_and_one_that_changes_nothing_survives() -> None:
    chosen = [part for name in (*SOME, SAME) for part in ("--only", name)]
    command = [sys.executable, "-m", "benchmarks.mutants", "--named", *chosen]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert {line for line in found.stdout.splitlines() if ": " in line} == {
        *(f"killed: {name}" for name in SOME),
        f"survived: {SAME}",
    }
