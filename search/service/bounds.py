"""State what one request to the server may take: bytes, seconds, memory, candidates, plans, rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# chosen: far above what a question needs, and what a small machine answers in a minute.
MOST_BYTES = 8 * 2**20
SECONDS = 60.0
WORKERS = 2
WAITING = 16
MOST_CANDIDATES = 1_000_000
MOST_PLANS = 64
MOST_ROWS = 5_000
MEMORY = 8 * 2**30


@dataclass(frozen=True)
class Bounds:
    """What one request may take, and how many are answered at once.

    body: bytes. seconds: until an answer is given up. workers: requests that are answered at once. waiting: requests
    that may wait for a worker. candidates: of the search space of a plan. plans: of a what-if, its grid included. rows:
    of an estimate or a list. memory: bytes of a worker. folders: hardware files of whoever runs the server.
    """

    body: int = MOST_BYTES
    seconds: float = SECONDS
    workers: int = WORKERS
    waiting: int = WAITING
    candidates: int = MOST_CANDIDATES
    plans: int = MOST_PLANS
    rows: int = MOST_ROWS
    memory: int = MEMORY
    folders: tuple[Path, ...] = ()
