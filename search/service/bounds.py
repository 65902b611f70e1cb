"""State what one request to the server may take: bytes, seconds, memory, candidates, plans, rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Bounds:
    """What one request may take, and how many are answered at once.

    body: bytes. seconds: until an answer is given up. workers: requests that are answered at once. waiting: requests
    that may wait for a worker. candidates: of the search space of a plan. plans: of a what-if, its grid included. rows:
    of an estimate or a list. memory: bytes of a worker. folders: hardware files of whoever runs the server.
    """

    # chosen: far above what a question needs, and what a small machine answers in a minute.
    body: int = 8 * 2**20
    seconds: float = 60.0
    workers: int = 2
    waiting: int = 16
    candidates: int = 1_000_000
    plans: int = 64
    rows: int = 5_000
    memory: int = 8 * 2**30
    folders: tuple[Path, ...] = ()
