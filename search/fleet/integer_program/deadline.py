"""Keep the time that an answer may take: the solutions of a program, and of programs after it, share it."""

from __future__ import annotations

import time
from dataclasses import dataclass

#: Seconds below which no further program is begun. Chosen: less than it takes to write a program of some size.
LEAST_S = 0.05


@dataclass(frozen=True)
class Deadline:
    """A moment at which an answer is due. due: in seconds of `time.monotonic`."""

    due: float

    @classmethod
    def of(cls, seconds: float) -> Deadline:
        """Return a clock that leaves so many seconds from now on."""
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        """Return the seconds that are left, at least 0."""
        return max(self.due - time.monotonic(), 0.0)

    def part(self, share: float) -> Deadline:
        """Return a clock for a share of the seconds that are left."""
        return Deadline.of(self.left() * share)

    @property
    def over(self) -> bool:
        """Return whether no time is left for another program."""
        return self.left() < LEAST_S
