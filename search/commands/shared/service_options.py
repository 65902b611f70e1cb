"""Options of `serve` and `mcp`: what one request may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import typer

from hwdb import InputError
from search.commands.shared.options import HwdbOptions
from search.options import COUNT
from search.service import Bounds

MIB, GIB = 2**20, 2**30
#: Largest values that are taken. Chosen: a day, and more than any machine has; a request that waits holds a thread.
MOST_SECONDS, MOST_WORKERS, MOST_WAITING, MOST_MB, MOST_GB = 86_400.0, 256, 1024, 1024.0, 4096.0


@dataclass(frozen=True)
class BoundOptions(HwdbOptions):
    """What one request may take, and how many are answered at once."""

    section: ClassVar[str] = "Bounds of a request"

    processes: Annotated[
        int, typer.Option(metavar=COUNT, help="Requests that are answered at once, each in a process of its own.")
    ] = Bounds.workers
    waiting: Annotated[int, typer.Option(metavar=COUNT, help="Requests that may wait; more are refused.")] = (
        Bounds.waiting
    )
    timeout_s: Annotated[float, typer.Option(metavar="S", help="Seconds until an answer is given up.")] = Bounds.seconds
    most_mb: Annotated[float, typer.Option(metavar="MB", help="Most MB of a request.")] = Bounds.body / MIB
    most_memory_gb: Annotated[float, typer.Option(metavar="GB", help="Most GB of memory of a worker.")] = (
        Bounds.memory / GIB
    )
    most_candidates: Annotated[int, typer.Option(metavar=COUNT, help="Most candidates of a plan.")] = Bounds.candidates
    most_plans: Annotated[int, typer.Option(metavar=COUNT, help="Most plans of a what-if, its grid included.")] = (
        Bounds.plans
    )
    most_rows: Annotated[int, typer.Option(metavar=COUNT, help="Most rows of an estimate.")] = Bounds.rows

    def bounds(self) -> Bounds:
        """Return the bounds; raise `InputError` for values that mean nothing."""
        most = {
            "processes": MOST_WORKERS,
            "timeout_s": MOST_SECONDS,
            "most_mb": MOST_MB,
            "most_memory_gb": MOST_GB,
            "waiting": MOST_WAITING,
            **dict.fromkeys(("most_candidates", "most_plans", "most_rows"), float("inf")),
        }
        for name, greatest in most.items():
            value = getattr(self, name)
            if not (0 if name == "waiting" else 1e-3) <= value <= greatest:
                flag = name.replace("_", "-")
                least = "0 or more" if name == "waiting" else "more than 0"
                text = f"{least}{f', at most {greatest:g}' if greatest < float('inf') else ''}"
                raise InputError(f"--{flag} {value:g} is impossible; give {text}")
        return Bounds(
            body=int(self.most_mb * MIB),
            seconds=self.timeout_s,
            workers=self.processes,
            waiting=self.waiting,
            candidates=self.most_candidates,
            plans=self.most_plans,
            rows=self.most_rows,
            memory=int(self.most_memory_gb * GIB),
            folders=tuple(folder.resolve() for folder in self.folders),
        )


def refuse_without(extra: str, *packages: str) -> None:
    """Raise `InputError` where a package of an extra is not installed."""
    from importlib.util import find_spec

    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise InputError(f"{missing[0]} is not installed; install it with: pip install 'perfmodel[{extra}]'")
