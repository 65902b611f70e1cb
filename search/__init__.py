"""search: which hardware, how many devices and which configuration meet the SLOs of a scenario.

Names are loaded on first use, so that `import search` stays fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwdb.lazy import lazy_names

if TYPE_CHECKING:
    from search.fleet import Binding, FleetInfeasible, FleetPlan, FleetProblem, Relaxation, fleet_plan, formulate
    from search.manifest import Manifest
    from search.notebook import (
        FleetView,
        PlanView,
        Sweep,
        TrialsView,
        TunedView,
        plan,
        plan_fleet,
        sweep,
        try_changes,
        tune,
    )
    from search.output import headline
    from search.planning import NextRuns, Plan, memory_of, next_runs, terms_of
    from search.report import figures, render_report
    from search.scenario import Inventory, Option, Scenario, load_scenario
    from search.searchers import RANKINGS, SCORE, Exhaustive, Found, OptunaSearcher, Score, Searcher, pareto, ranked
    from search.space import WHOLE_GROUP, Legal, SearchSpace
    from search.studies import Budget, Storage, Tuned, executor_of
    from search.whatif import Trial, Trials, compared, what_if

__all__ = [
    "RANKINGS",
    "SCORE",
    "WHOLE_GROUP",
    "Binding",
    "Budget",
    "Exhaustive",
    "FleetInfeasible",
    "FleetPlan",
    "FleetProblem",
    "FleetView",
    "Found",
    "Inventory",
    "Legal",
    "Manifest",
    "NextRuns",
    "Option",
    "OptunaSearcher",
    "Plan",
    "PlanView",
    "Relaxation",
    "Scenario",
    "Score",
    "SearchSpace",
    "Searcher",
    "Storage",
    "Sweep",
    "Trial",
    "Trials",
    "TrialsView",
    "Tuned",
    "TunedView",
    "compared",
    "executor_of",
    "figures",
    "fleet_plan",
    "formulate",
    "headline",
    "load_scenario",
    "memory_of",
    "next_runs",
    "pareto",
    "plan",
    "plan_fleet",
    "ranked",
    "render_report",
    "sweep",
    "terms_of",
    "try_changes",
    "tune",
    "what_if",
]

__getattr__ = lazy_names(
    __name__,
    {
        "fleet": ("Binding", "FleetInfeasible", "FleetPlan", "FleetProblem", "Relaxation", "fleet_plan", "formulate"),
        "manifest": ("Manifest",),
        "notebook": (
            "FleetView",
            "PlanView",
            "Sweep",
            "TrialsView",
            "TunedView",
            "plan",
            "plan_fleet",
            "sweep",
            "try_changes",
            "tune",
        ),
        "output": ("headline",),
        "planning": ("NextRuns", "Plan", "memory_of", "next_runs", "terms_of"),
        "report": ("figures", "render_report"),
        "scenario": ("Inventory", "Option", "Scenario", "load_scenario"),
        "searchers": (
            "Exhaustive",
            "Found",
            "OptunaSearcher",
            "RANKINGS",
            "SCORE",
            "Score",
            "Searcher",
            "pareto",
            "ranked",
        ),
        "space": ("Legal", "SearchSpace", "WHOLE_GROUP"),
        "studies": ("Budget", "Storage", "Tuned", "executor_of"),
        "whatif": ("Trial", "Trials", "compared", "what_if"),
    },
)
