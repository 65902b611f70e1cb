"""Define one measured run: the configuration that was benchmarked, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

#: Metrics that a run may measure: columns of `perfmodel.predict`, in the units of their names.
METRICS = (
    "ttft_ms",
    "ttft_ms_p50",
    "ttft_ms_p90",
    "ttft_ms_p99",
    "tpot_ms",
    "tpot_ms_p50",
    "tpot_ms_p90",
    "tpot_ms_p99",
    "itl_ms_p50",
    "itl_ms_p99",
    "e2e_ms",
    "e2e_ms_p99",
    "req_s",
    "output_tok_s",
    "total_tok_s",
    "prefill_tok_s",
    "decode_tok_s",
    "power_w_per_device",
    "energy_j_per_output_token",
)


@dataclass(frozen=True)
class MeasuredRun:
    """Holds one run of a benchmark.

    place: file and record, as messages begin. given: input columns of `perfmodel.predict` that the result states, as
    text. measured: metric of `METRICS` -> value. remarks: what was assumed or left out, without a full stop.
    """

    place: str
    given: Mapping[str, str]
    measured: Mapping[str, float]
    remarks: tuple[str, ...] = field(default=())

    def completed(self, more: Mapping[str, str]) -> MeasuredRun:
        """Return the run with columns that the result does not state; those that it states stay."""
        return replace(self, given={**more, **{name: text for name, text in self.given.items() if text}})
