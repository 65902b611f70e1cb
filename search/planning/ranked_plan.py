"""Define the plan, the answer to a scenario: ranked candidates, the winner, and why the others do not qualify."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hwdb import Infeasible
from search.manifest import Manifest
from search.planning.candidates import Candidates
from search.planning.names import told_apart
from search.planning.reasons import nearest_misses, reason
from search.planning.rows import candidate_rows, distinct

if TYPE_CHECKING:
    from search.scenario import Scenario


@dataclass(frozen=True)
class Plan(Candidates):
    """The answer to a scenario: its candidates, scored and ranked, and what they rest on.

    `rows()` holds everything; the arrays of `Candidates` are for charts and for analysis. removed: flat rows, how many
    candidates each legality rule removed. complete: True where every legal candidate was tried. manifest: version,
    hashes, seed and command, so that the plan can be made again.
    """

    scenario: Scenario
    removed: tuple[Mapping[str, Any], ...]
    complete: bool
    manifest: Manifest

    @property
    def best(self) -> int:
        """Return the number of the winner; raise `Infeasible` with `message` when nothing qualifies."""
        if not self.feasible:
            raise Infeasible(self.message)
        return int(self.order[0])

    @property
    def message(self) -> str:
        """Say why nothing qualifies, which candidates come nearest, and what to relax; "" when something qualifies."""
        if self.feasible:
            return ""
        return f"{self.scenario.title}: nothing meets the request. Nearest is {nearest_misses(self)}"

    def reason(self, number: int) -> str:
        """Say why candidate `number` does not qualify, by how much, and what to relax; "" when it qualifies."""
        return reason(self, number)

    def row(self, number: int) -> dict[str, Any]:
        """Return candidate `number` as one flat row; units are in its keys, `_lo` and `_hi` bound the 80 % interval."""
        return candidate_rows(self, [number])[0]

    def rows(self, most: int | None = 20, misses: int = 5) -> list[dict[str, Any]]:
        """Return flat rows of the best `most` candidates that qualify (None: all), then of the nearest `misses`.

        `rank` counts from 1; a miss, which does not qualify, has rank 0.
        """
        count, order = int(self.qualifies.sum()), self.order.tolist()
        best = distinct(self, order[:count], count if most is None else most)
        numbers = [*best, *distinct(self, order[count:], misses)]
        rows = [
            {"rank": i + 1 if i < len(best) else 0, "front": bool(self.front[number]), **row}
            for i, (number, row) in enumerate(zip(numbers, candidate_rows(self, numbers), strict=True))
        ]
        return told_apart(rows)
