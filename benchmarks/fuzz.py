"""Damage valid inputs of every kind and see that perfmodel answers each with a result or a sentence.

    python -m benchmarks.fuzz --count 10000 --seed 0 [--kind scenario] [--show 20] [--only NUMBER]

Runs in this process. Counted by kind of input: defects (exit code 70), other exit codes than 0, 1 and 2, runs that take
too long, and absurd answers (a latency that is negative, NaN or infinity printed as a number). The number of a finding
repeats it (`--only`).
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import math
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import cli
from benchmarks.fuzz_damage import generated
from benchmarks.fuzz_inputs import SEEDS, Input

#: CPU seconds after which a run counts as hanging, and GB of memory that it may add.
PATIENCE, MOST_GB = 20.0, 6.0
#: Seconds by the clock after which a run hangs though it computes nothing; chosen for a machine that others use too.
WALL_PATIENCE = 600.0
#: Exit codes that a run may end with.
GOOD_CODES = (0, 1, 2)
#: Columns of answers that are times or rates: never below 0, and latencies never 0.
_TIMES = re.compile(r"^(ttft|tpot|e2e|itl)_ms")
_QUANTITIES = re.compile(r"(_ms|_rps|_tok_s|_gb|_w|_kw|usd_per_hour)(_|$)")
_NUMBER = re.compile(r"-?(\d|nan|inf)")
_UNREAL = re.compile(r"(?<![\w.'\"-])(nan|-?inf)(?![\w'\"])", re.IGNORECASE)


class Hang(BaseException):
    """A run took more than `PATIENCE`; no `Exception`, so that nothing catches it on its way."""


@dataclass(frozen=True)
class Finding:
    """What is wrong with one answer. number: of the input. problem: its kind. detail: where, or which figure."""

    number: int
    kind: str
    problem: str
    detail: str


@contextlib.contextmanager
def _limited(cpu_seconds: float, wall_seconds: float) -> Iterator[None]:
    """Raise `Hang` inside the block after so much CPU time of this process, or so much time by the clock."""

    def ring(_signal: int, _frame: FrameType | None) -> None:
        raise Hang

    before = [(name, signal.signal(name, ring)) for name in (signal.SIGPROF, signal.SIGALRM)]
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
    signal.setitimer(signal.ITIMER_REAL, wall_seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for name, handler in before:
            signal.signal(name, handler)


def answer(made: Input) -> tuple[int | None, str, str]:
    """Run one input in a folder of its own; return its exit code (None: it hangs), stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    here = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        try:
            made.write(Path(folder))
        except (OSError, ValueError, UnicodeError):
            return 2, "", "error: the input cannot be written"
        os.chdir(folder)
        try:
            with (
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
                warnings.catch_warnings(),
                _limited(PATIENCE, WALL_PATIENCE),
            ):
                warnings.simplefilter("ignore")
                code: int | None = cli.main(made.words)
        except Hang:
            code = None
        finally:
            os.chdir(here)
    return code, out.getvalue(), err.getvalue()


def judge(number: int, made: Input) -> list[Finding]:
    """Return what is wrong with the answer to an input; nothing where it is a result or a sentence."""
    code, out, err = answer(made)
    if code is None:
        return [Finding(number, made.kind, "hang", f"more than {PATIENCE:g} CPU-seconds")]
    if code == cli.DEFECT:
        return [Finding(number, made.kind, "defect", err.strip()[:300])]
    if code not in GOOD_CODES:
        return [Finding(number, made.kind, "exit code", f"{code}: {err.strip()[:200]}")]
    if code == 2 and not err.startswith(("error: ", "Usage:")):
        return [Finding(number, made.kind, "no sentence", err.strip()[:200])]
    absurd = _absurd(out) if code == 0 else []
    return [Finding(number, made.kind, "absurd", text) for text in absurd]


def _absurd(out: str) -> list[str]:
    """Return the figures of an answer that cannot be."""
    try:
        rows = json.loads(out)
    except ValueError:
        rows = _csv_rows(out)
    for row in rows if isinstance(rows, list) else [rows]:
        for name, value in row.items() if isinstance(row, dict) else ():
            if isinstance(value, bool) or not isinstance(value, int | float) or not _QUANTITIES.search(name):
                continue
            if value < 0 or not math.isfinite(value) or (value == 0 and _TIMES.match(name)):
                return [f"{name} = {value:g}"]
    return [] if rows else [f"{match.group()} is printed" for match in list(_UNREAL.finditer(out))[:1]]


def _csv_rows(out: str) -> list[dict[str, float]]:
    """Return the numbers of a table of predictions, which follow the columns of the input; [] for another text."""
    rows = []
    for row in csv.DictReader(io.StringIO(out)):
        names = list(row)
        if "ttft_ms" not in names:
            return []
        texts = {name: row[name] for name in names[names.index("ttft_ms") :]}
        rows.append({n: float(t) for n, t in texts.items() if t and n != "error" and _NUMBER.match(t)})
    return rows


def fuzz(count: int, seed: int, kind: str = "", progress: bool = False) -> tuple[Counter[str], list[Finding]]:
    """Run `count` inputs; return how many of each kind, and the findings. kind: only these inputs; "" for all."""
    counts: Counter[str] = Counter()
    findings: list[Finding] = []
    for number in range(count):
        damaged = made(number, seed)
        if kind and damaged.kind != kind:
            continue
        counts[damaged.kind] += 1
        findings += judge(number, damaged)
        if progress and number % 500 == 499:
            print(f"{number + 1} inputs, {len(findings)} findings", file=sys.stderr)
    return counts, findings


def made(number: int, seed: int) -> Input:
    """Return the input with this number."""
    return generated(number, random.Random(f"{seed}/{number}"))


def main() -> int:
    """Run and print the counts; exit code 1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", default="", help="only inputs of this kind")
    parser.add_argument("--show", type=int, default=20, help="findings that are printed")
    parser.add_argument("--only", type=int, default=None, metavar="NUMBER", help="show one input and its answer")
    asked = parser.parse_args()
    if asked.only is not None:
        damaged = made(asked.only, asked.seed)
        print(damaged.words)
        for name, content in damaged.files.items():
            shown = damaged.writers[name](content) if name in damaged.writers else content
            print(f"--- {name}\n{str(shown)[:3000]}")
        print(*answer(damaged), sep="\n")
        return 0
    begin = time.process_time()
    resource.setrlimit(resource.RLIMIT_AS, (int((MOST_GB + 4) * 1e9), resource.RLIM_INFINITY))
    counts, findings = fuzz(asked.count, asked.seed, asked.kind, progress=True)
    _print(counts, findings, asked.show)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{len(SEEDS)} valid inputs damaged; {time.process_time() - begin:.0f} CPU-seconds, {peak:.2f} GB at most")
    return 1 if findings else 0


def _print(counts: Counter[str], findings: list[Finding], show: int) -> None:
    """Print counts by kind of input and problem, then each place once."""
    problems = ("defect", "exit code", "hang", "absurd", "no sentence")
    print(f"| kind | inputs | {' | '.join(problems)} |\n|{'---|' * (len(problems) + 2)}")
    for kind, count in sorted(counts.items()):
        cells = [sum(f.kind == kind and f.problem == p for f in findings) for p in problems]
        print(f"| {kind} | {count} | {' | '.join(map(str, cells))} |")
    seen: Counter[tuple[str, str]] = Counter()
    for found in findings:
        place = (found.problem, re.sub(r"[\d.e+]{4,}", "#", found.detail)[:90])
        seen[place] += 1
        if seen[place] == 1 and len(seen) <= show:
            print(f"{found.number} {found.kind}: {found.problem}: {found.detail}")


if __name__ == "__main__":
    sys.exit(main())
