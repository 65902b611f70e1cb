"""Change the code a little, at random places, and count how many of the changes any test notices.

    python -m benchmarks.mutants --count 300 --seed 0 [--group memory] [--survivors] [-o results.csv]
    python -m benchmarks.mutants --named [--only "logits are gathered twice"]

Mutants are drawn in equal numbers from five groups of code. Each runs in a process of its own against the tests that
reach the changed line, the quickest first, until one fails; limits are in CPU time. The working tree is never changed.
Results are written as they come, so that a run that is stopped still has figures. `mutants.toml` lists mutants by
name, each with the test that must notice it, and drawn ones that change nothing (equivalent), which do not count.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import random
import signal
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import zip_longest
from pathlib import Path

import hypothesis
import numpy
import pandas
import pytest
import scipy.optimize
import scipy.stats

from benchmarks.mutant_map import Reach, reach
from benchmarks.mutant_sites import Mutant, sites
from benchmarks.mutant_tests import ROOT, Job, Result, run

#: Folders of the code under mutation, by group.
GROUPS = {
    "equations": "perfmodel/equations",
    "operators": "perfmodel/operators",
    "memory": "perfmodel/memory",
    "serving": "perfmodel/serving",
    "fleet": "search/fleet",
}
#: Files of tests that are asked, besides the doctests of the code itself.
TESTS = (
    *("equations", "memory", "operators", "serving", "fleet", "deployment"),
    *("estimates_columns", "estimates_disaggregated", "estimates_explanation", "estimates_percentiles"),
    *("costs_overlap", "costs_launch_floor", "costs_step_cache", "costs_roofline"),
    *("costs_context_parallel", "power_capping"),
)
#: Named and equivalent mutants.
DATA = Path(__file__).with_suffix(".toml")
#: CPU seconds of tests that one mutant may cost, and those that tests which only share a file with others may add.
MOST_SECONDS, MORE_SECONDS = 8.0, 2.0
#: Files of tests that are asked about a change of what runs on import: those with the most tests that reach the file.
MOST_FILES = 3
#: CPU seconds that the test of a named mutant may take on the unchanged code.
NAMED_SECONDS = 10.0
#: Everything that is imported once and that no mutant changes.
_ONCE = (hypothesis, numpy, pandas, pytest, scipy.optimize, scipy.stats)


@dataclass(frozen=True)
class Outcome:
    """Say what became of one mutant. outcome: `killed`, `survived` or `equivalent`. by: the test that noticed it, or
    the reason why none can. seconds: wall time."""

    group: str
    path: str
    function: str
    line: int
    operator: str
    was: str
    becomes: str
    outcome: str
    by: str
    seconds: float
    name: str = ""


@dataclass(frozen=True)
class Named:
    """Hold a mutant by its name. test: that notices it. equivalent: why none can, "" where one does."""

    name: str
    mutant: Mutant
    test: str
    equivalent: str


def sources(group: str) -> list[str]:
    """List the files of a group, relative to the root."""
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / GROUPS[group]).rglob("*.py"))


def drawn(group: str, count: int, seed: int) -> list[Mutant]:
    """Draw `count` mutants of a group by `seed`: sites without replacement, and one mutant of each."""
    chosen = random.Random(f"{seed} {group}")
    found = [site for path in sources(group) for site in sites(path, (ROOT / path).read_text(encoding="utf-8"))]
    return [chosen.choice(site) for site in chosen.sample(found, min(count, len(found)))]


def named(path: Path = DATA) -> list[Named]:
    """Read the mutants by name: each replaces the text `before`, which its file has once, by `after`."""
    return [_named(entry) for entry in tomllib.loads(path.read_text(encoding="utf-8"))["named"]]


def _named(entry: dict[str, str]) -> Named:
    """Return the mutant that an entry describes; it runs on import unless the entry names its function."""
    source = (ROOT / entry["file"]).read_text(encoding="utf-8")
    if source.count(entry["before"]) != 1:
        raise ValueError(f"{entry['name']}: {entry['file']} has {entry['before']!r} not once; correct {DATA.name}")
    at = source.index(entry["before"])
    start, line = len(source[:at].encode()), source.count("\n", 0, at) + 1
    end_line = line + entry["before"].count("\n")
    function = entry.get("function", "")
    where = (line, end_line, start, start + len(entry["before"].encode()))
    after = entry["after"]
    mutant = Mutant(entry["file"], "named", function, bool(function), *where, after, entry["before"], after)
    return Named(entry["name"], mutant, entry["killed_by"], entry.get("equivalent", ""))


def equivalent(path: Path = DATA) -> dict[tuple[str, str, str], str]:
    """Read the mutants that change nothing: (file, line before, line after) -> reason."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("equivalent", [])
    return {(e["file"], e["was"], becomes): e["reason"] for e in entries for becomes in e["becomes"]}


def tested_by() -> list[str]:
    """List the files of tests, and the files of code that have doctests, relative to the root."""
    files = {str(p.relative_to(ROOT)) for name in TESTS for p in (ROOT / "tests").glob(f"test_{name}*.py")}
    code = (path for group in GROUPS for path in sources(group))
    return sorted(files) + [path for path in code if ">>>" in (ROOT / path).read_text(encoding="utf-8")]


def tests_of(mutant: Mutant, known: Reach) -> tuple[tuple[str, ...], float]:
    """Return the tests to ask about a mutant in their order, and the CPU seconds that they take on the unchanged code.

    First come those that reach it, the quickest first; then others of the same files, which may have reached it by
    values that an earlier test left in a cache.
    """
    reaching = known.of(mutant)
    files = {name.partition("::")[0] for name in reaching}
    if not mutant.called:  # everything is imported and collected anew, so few files of tests are asked
        counts = Counter(name.partition("::")[0] for name in reaching)
        files = {name for name, _ in counts.most_common(MOST_FILES)}
        reaching = {name for name in reaching if name.partition("::")[0] in files}
    beside = {name for name in known.seconds if name.partition("::")[0] in files} - reaching
    chosen, spent = _quickest(reaching, known, MOST_SECONDS)
    more, added = _quickest(beside, known, min(MORE_SECONDS, MOST_SECONDS - spent))
    return (*chosen, *more), spent + added


def _quickest(tests: Iterable[str], known: Reach, most: float) -> tuple[list[str], float]:
    """Return the quickest of `tests` that take `most` CPU seconds together, at least one test, and what they take."""
    chosen: list[str] = []
    spent = 0.0
    for name in sorted(tests, key=lambda test: (known.seconds[test], test)):
        if chosen and spent + known.seconds[name] > most:
            break
        chosen.append(name)
        spent += known.seconds[name]
    return chosen, spent


def outcomes(
    asked: Sequence[Mutant], known: Reach, tell: Callable[[list[Outcome]], None], done_before: Sequence[Outcome] = ()
) -> None:
    """Run the mutants `asked` and tell after each what became of all so far.

    done_before: those that are asked for again are not run again; others are of other code, and do not count.
    """
    settled = {(o.path, o.line, o.was, o.becomes): o for o in done_before}
    same, jobs = equivalent(), []
    found: list[Outcome] = []
    for number, drawn_one in enumerate(asked):
        before = settled.get((drawn_one.path, drawn_one.line, drawn_one.was, drawn_one.becomes))
        if before is not None:
            found.append(before)
            continue
        mutant = replace(drawn_one, called=drawn_one.called and not known.on_import(drawn_one))
        reason = same.get((mutant.path, mutant.was, mutant.becomes))
        tests, seconds = tests_of(mutant, known)
        if reason or not tests:
            found.append(_outcome("", drawn_one, Result(number, reason or "", 0.0), same))
            continue
        jobs.append(Job(number, mutant, tests, seconds))

    def done(result: Result) -> None:
        found.append(_outcome("", asked[result.number], result, same))
        tell(found)

    tell(found)
    run(jobs, done)


def _outcome(name: str, mutant: Mutant, result: Result, same: dict[tuple[str, str, str], str]) -> Outcome:
    """Describe what became of one mutant."""
    known_same = (mutant.path, mutant.was, mutant.becomes) in same
    outcome = "equivalent" if known_same else "killed" if result.test else "survived"
    group = next(group for group, folder in GROUPS.items() if mutant.path.startswith(folder + "/"))
    lines = (mutant.line, mutant.operator, mutant.was, mutant.becomes)
    return Outcome(group, mutant.path, mutant.function, *lines, outcome, result.test, result.seconds, name)


def named_outcomes(asked: Sequence[Named]) -> list[Outcome]:
    """Run mutants by name, each against its own test alone, and return what became of them, in order."""
    results: dict[int, Result] = {}
    jobs = [Job(n, each.mutant, (each.test,), NAMED_SECONDS) for n, each in enumerate(asked)]
    run(jobs, lambda result: results.update({result.number: result}))
    return [_outcome(each.name, each.mutant, results[n], {}) for n, each in enumerate(asked)]


def table(found: Sequence[Outcome]) -> str:
    """Return the score of each group and of all: killed mutants over those that are not equivalent."""
    lines = [f"{'group':<12}{'mutants':>8}{'killed':>8}{'survived':>10}{'equivalent':>12}{'score':>9}"]
    for group in [*GROUPS, "all"]:
        kinds = [o.outcome for o in found if group in (o.group, "all")]
        if kinds:
            killed, survived, same = (kinds.count(kind) for kind in ("killed", "survived", "equivalent"))
            score = killed / max(killed + survived, 1)
            lines.append(f"{group:<12}{len(kinds):>8}{killed:>8}{survived:>10}{same:>12}{score:>9.1%}")
    return "\n".join(lines)


def write(found: Sequence[Outcome], path: Path) -> None:
    """Write one row per mutant, as JSON where the name of the file ends so, else as CSV; the file is always whole."""
    rows, text = [asdict(o) for o in found], io.StringIO(newline="")
    if path.suffix == ".json":
        json.dump(rows, text, indent=1)
    else:
        writer = csv.DictWriter(text, [column.name for column in fields(Outcome)])
        writer.writeheader()
        writer.writerows(rows)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text.getvalue(), encoding="utf-8", newline="")
    beside.replace(path)


def run_drawn(
    groups: Sequence[str], count: int, seed: int, output: Path | None, done_before: Sequence[Outcome] = ()
) -> list[Outcome]:
    """Run `count` mutants of `groups`, a mutant of each group in turn, and write what became of them as they come.

    A run that is interrupted or terminated returns what is known by then. done_before: results of an earlier run, which
    are kept.
    """
    by_group = [drawn(group, -(-count // len(groups)), seed) for group in groups]
    asked = [m for together in zip_longest(*by_group) for m in together if m is not None]
    found: list[Outcome] = []

    def tell(known: list[Outcome]) -> None:
        found[:] = known
        noticed = sum(o.outcome == "killed" for o in known)
        print(f"\r{len(known)} of {len(asked)} mutants, {noticed} noticed", end="", file=sys.stderr, flush=True)
        if output:
            write(known, output)

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        reached = reach(tested_by(), [path for group in GROUPS for path in sources(group)])
        outcomes(asked, reached, tell, done_before)
    except KeyboardInterrupt:
        print(f"\nstopped after {len(found)} of {len(asked)} mutants", file=sys.stderr)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run mutants as the command line says; return 1 where a mutant by name fares otherwise than it should."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300, help="mutants to draw, in equal numbers from the groups")
    parser.add_argument("--seed", type=int, default=0, help="decides which are drawn")
    parser.add_argument("--group", choices=list(GROUPS), action="append", help="draw from this group; repeatable")
    parser.add_argument("--named", action="store_true", help="run the mutants by name instead of drawing")
    parser.add_argument("--only", action="append", help="of the mutants by name, run this one; repeatable")
    parser.add_argument("--survivors", action="store_true", help="list the mutants that survive")
    parser.add_argument("-o", "--output", type=Path, help="write one row per mutant: CSV, or JSON by its ending")
    parser.add_argument("--go-on", type=Path, help="JSON of a run that was stopped: what it settled is kept")
    options = parser.parse_args(arguments)
    started, wrong = time.monotonic(), []
    if options.named:
        asked = [each for each in named() if not options.only or each.name in options.only]
        found = named_outcomes(asked)
        wrong = [o.name for o, n in zip(found, asked, strict=True) if (o.outcome == "survived") != bool(n.equivalent)]
    else:
        before = [Outcome(**row) for row in json.loads(options.go_on.read_text())] if options.go_on else []
        found = run_drawn(options.group or list(GROUPS), options.count, options.seed, options.output, before)
    report(found, survivors=options.survivors)
    print(f"{time.monotonic() - started:.0f} s", *(f"wrong: {name}" for name in wrong), sep="\n")
    if options.output:
        write(found, options.output)
    return int(bool(wrong))


def report(found: Sequence[Outcome], *, survivors: bool) -> None:
    """Print the fate of mutants by name, the table of scores, and with `survivors` the drawn ones that survive."""
    for o in found:
        if o.name:
            print(f"{o.outcome}: {o.name}")
    print("\n" + table(found))
    for o in found if survivors else []:
        if o.outcome == "survived":
            print(f"{o.operator}: {o.path}:{o.line}\n  - {o.was}\n  + {o.becomes}")


if __name__ == "__main__":
    sys.exit(main())
