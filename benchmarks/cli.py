"""Start-up of the command line: seconds of whole processes (median of five runs) and peak memory.

    python -m benchmarks.cli

Wall time is what a user waits for. The bounds are on processor time, which other work on the machine does not change.
"""

from __future__ import annotations

import os
import resource
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNS = 5
ESTIMATE = ("estimate", "meta-llama/Llama-3.1-70B", "--device", "h100-sxm", "--tp", "4", "--concurrency", "32")
#: Title -> (arguments of the command, most seconds of processor time).
COMMANDS = {
    "--help": (("--help",), 0.4),
    "estimate": (ESTIMATE, 1.0),
    "estimate with bounds": ((*ESTIMATE, "--ttft-ms", "500"), 1.2),
    "hw show": (("hw", "show", "h100-sxm"), 1.0),
    "plan": (("plan", str(ROOT / "examples" / "chat-70b-h100.toml")), 60.0),
}


def once(arguments: tuple[str, ...]) -> tuple[float, float, float]:
    """(wall seconds, processor seconds, peak MB) of one process."""
    null = os.open(os.devnull, os.O_WRONLY)
    started = time.perf_counter()
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, str(ROOT / "cli.py"), *arguments],
        {**os.environ, "PYTHONPATH": str(ROOT)},
        file_actions=[(os.POSIX_SPAWN_DUP2, null, 1)],
    )
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - started
    os.close(null)
    if status:
        raise SystemExit(f"perfmodel {' '.join(arguments)} failed with status {status}")
    return wall, usage.ru_utime + usage.ru_stime, _megabytes(usage)


def _megabytes(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0) / 1e6


def measure(arguments: tuple[str, ...], runs: int = RUNS) -> tuple[float, float, float]:
    """(median wall seconds, median processor seconds, highest peak MB) of `runs` processes after a first one."""
    once(arguments)
    wall, processor, memory = zip(*(once(arguments) for _ in range(runs)), strict=True)
    return statistics.median(wall), statistics.median(processor), max(memory)


def main() -> None:
    """Print a line per command; fail where a bound is exceeded."""
    late = []
    print(f"{'command':<24}{'wall s':>8}{'cpu s':>8}{'bound s':>9}{'peak MB':>9}")
    for name, (arguments, bound) in COMMANDS.items():
        wall, processor, memory = measure(arguments)
        print(f"{name:<24}{wall:>8.2f}{processor:>8.2f}{bound:>9.1f}{memory:>9.0f}")
        late += [name] if processor > bound else []
    if late:
        raise SystemExit(f"over the bound: {', '.join(late)}")


if __name__ == "__main__":
    main()
