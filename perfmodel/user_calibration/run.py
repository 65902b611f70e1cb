"""Define one measured run: the configuration that was benchmarked, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from perfmodel.cases import OUTPUT

#: Columns of `predict` that runs are not fitted on: memory is no measurement of speed, power at the wall is that of
#: hosts too, and the mean gap between tokens and the median end-to-end latency have no scatter of their own.
NOT_FITTED = ("memory_gb_per_device", "wall_power_w", "itl_ms", "e2e_ms_p50")
#: Metrics that a run may measure: columns of `perfmodel.predict`, in the units of their names.
METRICS = tuple(column for column in OUTPUT if column not in NOT_FITTED)


@dataclass(frozen=True)
class MeasuredRun:
    """Holds one run of a benchmark.

    place: file and record, as messages begin. given: input columns of `perfmodel.predict` that the result states, as
    text. measured: metric of `METRICS` -> value. remarks: what was assumed or left out, without a full stop. span: from
    when to when it ran, seconds since 1970, None where the result does not state it.
    """

    place: str
    given: Mapping[str, str]
    measured: Mapping[str, float]
    remarks: tuple[str, ...] = field(default=())
    span: tuple[float, float] | None = None

    def completed(self, more: Mapping[str, str]) -> MeasuredRun:
        """Return the run with columns that the result does not state; those that it states stay."""
        return replace(self, given={**more, **{name: text for name, text in self.given.items() if text}})
