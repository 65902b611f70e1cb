"""Options that `simulate` and `capacity` share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from hwdb import InputError
from perfmodel.simulator.runs.sequential import PRECISION

if TYPE_CHECKING:
    from perfmodel.costs import CostModel
    from perfmodel.deployment import Deployments
    from perfmodel.engines import Engine
    from perfmodel.simulator.replica_pools.policy import Policy


class ReplayOptions(TypedDict, total=False):
    """Keyword arguments of `simulate` and `capacity`; meanings and defaults are those of `Replay`."""

    engine: Engine | str
    prefill: Deployments | None
    policy: Policy | None
    costs: CostModel | None
    router: str
    seed: int
    count: int
    allow_long_context: bool
    precision: float


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Holds the options of a simulation: how requests are replayed.

    Attributes:
        engine: Serving engine, or its name in the catalogue.
        prefill: A deployment (one row) whose replicas compute the prompts; the main deployment then only decodes. None:
            no disaggregation.
        policy: Scheduling rules in place of the engine's own.
        costs: Cost model of steps in place of the engine's own.
        router: How requests find a replica, one of `perfmodel.simulator.ROUTERS`.
        seed: Seed of all random draws. The same options and arguments give the same result.
        count: Requests to take from a trace or to draw from a workload. 0: all of a trace; of an open workload as many
            as `precision` needs. Of a closed loop that states no number of requests: the least.
        precision: Half width of the 95 % intervals that is aimed at where `count` is 0, as a share of each figure.
        allow_long_context: False refuses requests beyond the context of the model, as engines do.
    """

    engine: Engine | str = "vllm"
    prefill: Deployments | None = None
    policy: Policy | None = None
    costs: CostModel | None = None
    router: str = "join_shortest_queue"
    seed: int = 0
    count: int = 0
    allow_long_context: bool = True
    precision: float = PRECISION

    def __post_init__(self) -> None:
        """Raise `InputError` for numbers that mean nothing; the router is checked where it is used."""
        for name in ("seed", "count"):
            value = getattr(self, name)
            if not value >= 0 or value != int(value):
                raise InputError(f"{name} is {value}; give a whole number of 0 or more")
        if not 0 < self.precision < 1:
            raise InputError(
                f"precision is {self.precision:g}; give a share of the figures between 0 and 1, such as 0.05"
            )
