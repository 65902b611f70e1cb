"""List what a plan may be ranked by, both for the scenario's `rank_by` and for `search.searchers.ranked`."""

from __future__ import annotations

from hwdb.tomlfile import Table

#: Ranking by carbon, which needs the intensity of the electricity.
CARBON = "gco2_per_million_tokens"
#: Column of a plan -> whether less of it is better.
RANKINGS = {
    "usd_per_hour": True,
    "usd_per_million_tokens": True,
    "usd_per_million_total_tokens": True,
    "devices": True,
    "power_w": True,
    "site_energy_j_per_output_token": True,
    CARBON: True,
    "output_tok_s_per_device": False,
    "output_tok_s": False,
    "request_rate_rps": False,
    "request_rate_rps_per_replica": False,
    "ttft_ms": True,
    "tpot_ms": True,
    "e2e_ms": True,
}
#: Rankings by money: the candidates without a known price come last.
MONEY = ("usd_per_hour", "usd_per_million_tokens", "usd_per_million_total_tokens")
#: Rankings that one replica answers where the workload gives no load: the least that serves at all, or one replica.
#: Under every other ranking the plan then takes all replicas that stock and limits allow.
ONE_REPLICA = ("usd_per_hour", "devices", "power_w", "request_rate_rps_per_replica")
#: Rankings by a latency. Without a load and without an SLO they are asked at the least load: one request in flight.
BY_LATENCY = ("ttft_ms", "tpot_ms", "e2e_ms")
#: Rankings by what is served, more first: they ask for as much as the hardware serves, so that the rate that a trace or
#: data set happens to have is no demand.
MOST_SERVED = tuple(name for name, less in RANKINGS.items() if not less)
#: Ranking where a scenario names none.
DEFAULT_RANKING = "usd_per_hour"
#: Short words for rankings, as `plan --objective` takes them -> ranking.
OBJECTIVES = {
    "cost": "usd_per_hour",
    "token-cost": "usd_per_million_tokens",
    "energy": "site_energy_j_per_output_token",
    "carbon": CARBON,
    "power": "power_w",
    "throughput": "output_tok_s",
    "latency": "e2e_ms",
}
#: Former spellings of rankings, still read for one release -> the present spelling.
FORMER_RANKINGS = {"energy_j_per_token": "site_energy_j_per_output_token", "request_rate": "request_rate_rps"}


def read_ranking(objective: Table) -> str:
    """Read the ranking that an `[objective]` table asks for: `rank_by`, a key of `RANKINGS` or of `OBJECTIVES`."""
    written = objective.get("rank_by", DEFAULT_RANKING)
    if isinstance(written, str) and written in FORMER_RANKINGS:
        return FORMER_RANKINGS[written]
    if isinstance(written, str) and written in OBJECTIVES:
        return OBJECTIVES[written]
    return objective.text("rank_by", DEFAULT_RANKING, choices=(*RANKINGS, *OBJECTIVES))
