"""Define the plan, the answer to a scenario: ranked candidates, the winner, and why the others do not qualify."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hwdb import Infeasible
from search.manifest import Manifest
from search.planning.candidates import Candidates
from search.planning.names import told_apart
from search.planning.reasons import nearest_misses, notes, reason
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
        if not len(self):
            return f"{self.scenario.title}: nothing meets the request, because no candidate was left to try"
        return f"{self.scenario.title}: nothing meets the request. Nearest is {nearest_misses(self)}"

    @property
    def notes(self) -> list[str]:
        """List what concerns the whole plan, in sentences: devices without a known price, and their rank."""
        return notes(self)

    def reason(self, number: int) -> str:
        """Say why candidate `number` does not qualify, by how much, and what to relax; "" when it qualifies."""
        return reason(self, number)

    def row(self, number: int) -> dict[str, Any]:
        """Return candidate `number` as one flat row; units are in its keys, `_lo` and `_hi` bound the 80 % interval."""
        return candidate_rows(self, [number])[0]

    def rows(self, most: int | None = 20, misses: int = 0) -> list[dict[str, Any]]:
        """Return flat rows of the best `most` candidates that qualify (None: all), ranked from 1.

        misses: so many of the rows of `misses()` follow; their rank is None.
        """
        count, order = int(self.qualifies.sum()), self.order.tolist()
        best = distinct(self, order[:count], count if most is None else most)
        return told_apart([*self._flat(best, ranked=True), *self._missed(misses)])

    def misses(self, most: int = 5) -> list[dict[str, Any]]:
        """Return flat rows of the `most` candidates that miss by the least, nearest first, each with its `reason`.

        Each is shown with no more replicas than stock and limits allow. Candidates of which one replica exceeds them
        are listed only where there are no others. `rank` is None.
        """
        return told_apart(self._missed(most))

    def _missed(self, most: int) -> list[dict[str, Any]]:
        """Return the rows of `misses`, under names that may be equal."""
        missed = self.order[int(self.qualifies.sum()) :]
        inside = missed[self.columns["within_limits"][missed] > 0]
        return self._flat(distinct(self, (inside if len(inside) else missed).tolist(), most), ranked=False)

    def _flat(self, numbers: list[int], *, ranked: bool) -> list[dict[str, Any]]:
        """Return the flat rows of the candidates `numbers`. ranked: count their rank from 1, else it is None."""
        return [
            {"rank": i if ranked else None, "front": bool(self.front[number]), **row}
            for i, (number, row) in enumerate(zip(numbers, candidate_rows(self, numbers), strict=True), start=1)
        ]
