"""List the columns of candidates that no row shows: codes, intermediate values, parts of a bill.

`Candidates.columns` holds two kinds of columns. Those that rows show have their meaning in `perfmodel/glossary.toml`;
`Scorer.finish` collects them from the functions `..._columns` of `columns`. The others are listed here, each with what
it means, its unit, and what makes it.
"""

from __future__ import annotations

from dataclasses import dataclass

from search.planning.evaluation.scoring import LIMITED, NEEDED
from search.searchers import SCORE


@dataclass(frozen=True)
class InternalColumn:
    """One column of candidates that rows leave out, (N,).

    meaning: one sentence without a point. unit: "" for codes and ratios. made_by: dotted name, below `search`, of the
    function that computes it.
    """

    meaning: str
    unit: str
    made_by: str


_BILL = "planning.money.prices.Tariff.bill"
_HOSTS = "planning.money.prices.Tariff.host_columns"
_SLO = "planning.evaluation.columns.slo_columns"
_BASIS = "planning.evaluation.columns.basis_columns"
_SCORE = "planning.evaluation.scoring.Scorer.score"
_FINISH = "planning.evaluation.scoring.Scorer.finish"
#: Name -> what it is. Rows restate `basis` in words, and `slo_ratio` beside the chances.
INTERNAL = {
    SCORE: InternalColumn("rank among qualifying candidates: less is better, inf does not qualify", "", _FINISH),
    "verdict": InternalColumn("why the candidate does not qualify, a code of `VERDICTS`; 0 qualifies", "", _FINISH),
    "excess": InternalColumn("largest ratio of a latency, a limit or the memory to what is allowed", "", _FINISH),
    "within_limits": InternalColumn("1 where stock and all limits of the scenario hold, else 0", "", _FINISH),
    **{
        f"{NEEDED}{name}": InternalColumn(f"`{name}` of as many replicas as keep the SLO", "as of that column", _FINISH)
        for name in LIMITED
    },
    "slo_ratio": InternalColumn("worst ratio of a latency to its bound at the confidence asked for", "", _SLO),
    "worst_slo_bound": InternalColumn("position of that bound among the objectives of the SLO", "", _SLO),
    "basis": InternalColumn("what the estimate rests on, a code of `BASES`", "", _BASIS),
    "fits": InternalColumn("1 where the model fits in memory, else 0", "", _BASIS),
    "offered": InternalColumn(
        "load of the whole candidate where the search chooses it: requests in flight, or a rate; NaN where stated",
        "requests or requests/s",
        _SCORE,
    ),
    "over_stock": InternalColumn(
        "devices beyond those on hand, negative where some are left",
        "devices",
        "planning.evaluation.scoring.Scorer.score",
    ),
    "mean_power_w": InternalColumn(
        "power at the meter of the site, mean over all hours", "W", "planning.evaluation.columns.power_columns"
    ),
    "devices_owned": InternalColumn("devices of the bill that are owned, not rented", "devices", _BILL),
    "idle_w": InternalColumn("power of devices that are paid for and not in use", "W", _BILL),
    "ready_w": InternalColumn("power of all devices in use while they wait for requests", "W", _BILL),
    "rated_w": InternalColumn("sum of the power limits of the devices of the bill", "W", _BILL),
    "tdp_w": InternalColumn("sum of the power limits of all devices of nodes with known hosts", "W", _HOSTS),
    "host_w": InternalColumn("most power of the hosts", "W", _HOSTS),
    "host_loaded_w": InternalColumn("power of the hosts beside devices at their power limits", "W", _HOSTS),
    "host_idle_w": InternalColumn("power of the hosts beside idle devices", "W", _HOSTS),
}
