"""Options of `estimate` for expert parallelism: all-to-alls, their overlap, and how evenly experts are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from hwdb import UnknownName
from search.options.words import COUNT

if TYPE_CHECKING:
    from perfmodel.deployment import ExpertRouting
    from perfmodel.engines import Engine

#: Settings of an engine by the value of --two-batch-overlap; None: those that it has.
_OVERLAPS: dict[str, dict[str, Any]] = {
    "": {},
    "off": {"overlap": "none", "overlap_always": False},
    "auto": {"overlap": "dual_batch", "overlap_always": False},
    "on": {"overlap": "dual_batch", "overlap_always": True},
}


@dataclass(frozen=True)
class ExpertOptions:
    """How tokens reach their experts, and how evenly the load of the experts is spread."""

    section: ClassVar[str] = "Expert parallelism"

    all_to_all: Annotated[
        str,
        typer.Option(
            metavar="WAY", help="How tokens reach experts: collective, normal, low_latency (default: auto, by step)."
        ),
    ] = "auto"
    two_batch_overlap: Annotated[
        str,
        typer.Option(
            metavar="WHEN", help="Two micro-batches in turn: on, off, auto where it pays (default: engine's)."
        ),
    ] = ""
    expert_balancer: Annotated[
        str, typer.Option(metavar="STATE", help="Experts placed by load (EPLB): on, off (default: auto).")
    ] = "auto"
    redundant_experts: Annotated[
        int, typer.Option(metavar=COUNT, help="Copies of popular experts in all, for the balancer.")
    ] = 0
    expert_imbalance: Annotated[
        float | None,
        typer.Option(metavar="RATIO", help="Load of the busiest rank over the mean (default: by the balancer)."),
    ] = None

    def routing(self) -> ExpertRouting:
        """Return the settings of expert parallelism; raises `InputError` for impossible ones."""
        from perfmodel.deployment import ExpertRouting

        imbalance = float("nan") if self.expert_imbalance is None else self.expert_imbalance
        return ExpertRouting(self.all_to_all, self.expert_balancer, self.redundant_experts, imbalance)

    def overlapped(self, engine: Engine) -> Engine:
        """Return `engine` with the overlap asked for; raises `UnknownName` for an unknown word."""
        if self.two_batch_overlap not in _OVERLAPS:
            known = [word for word in _OVERLAPS if word]
            raise UnknownName("--two-batch-overlap", self.two_batch_overlap, known, f"({', '.join(known)})")
        settings = _OVERLAPS[self.two_batch_overlap]
        return engine.configured(**settings) if settings else engine
