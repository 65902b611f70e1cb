"""Answer requests in this process, one after another: for tests, and for programs that trust what they ask."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from search.service.bounds import Bounds
from search.service.problems import Outcome
from search.service.workers import answered

if TYPE_CHECKING:
    from search.service.bodies import Body


@dataclass
class InProcess:
    """Answers requests in this process in place of worker processes, without limits on time and memory."""

    bounds: Bounds = field(default_factory=Bounds)
    _one: Lock = field(default_factory=Lock)

    def answer(self, name: str, body: Body) -> Outcome:
        """Return the outcome of a request."""
        with self._one:
            return answered(name, body, self.bounds)

    def close(self) -> None:
        """Do nothing: nothing else is running."""
