"""Make a plan again for a changed scenario, with as little work as the change needs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from search.planning import Plan, plan, repriced

if TYPE_CHECKING:
    from search.planning import Asks
    from search.scenario import Scenario

#: Parts of a scenario that decide how long a step of a layout takes.
OF_STEPS = ("model", "described", "engine", "adapters", "routing", "offload", "hand_over", "allow_long_context")


def planned_again(before: Plan, scenario: Scenario, asks: Asks | None = None) -> Plan:
    """Return the plan of `scenario`, a changed form of that of `before`.

    Where prices alone differ, the candidates are priced and ranked again. Else it is planned anew; the steps that
    `before` priced are known where model, engine and devices are the same. asks: answers the questions of the plan
    where several are made together. Raises `InputError` for an impossible scenario.
    """
    found = repriced(before, scenario)
    if found is not None:
        return found
    target = before.scorer.target
    same = not before.rivals and scenario.offer.folders == before.scenario.offer.folders
    same = same and all(getattr(scenario, name) == getattr(before.scenario, name) for name in OF_STEPS)
    return plan(scenario, costs=target.costs, before=replace(target, asks=asks) if same else None)
