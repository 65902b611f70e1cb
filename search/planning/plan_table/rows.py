"""Convert candidates to flat rows: one record per candidate, with units in the names of its keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from perfmodel import Deployments, Estimates
from perfmodel.arrays import NAN, Array
from perfmodel.costs import remarks_of
from perfmodel.estimates import chances, configuration_remarks, overall
from perfmodel.unit_factors import MS_PER_S
from perfmodel.vocabulary import BASES
from search.planning.configuration.names import layout_columns
from search.planning.configuration.quantised import checkpoint_remark
from search.planning.configuration.settings import resolved_settings
from search.planning.evaluation.internal_columns import INTERNAL
from search.planning.operating_point.sizing import Target
from search.planning.plan_table.cost_range import account_rows, cost_range
from search.planning.plan_table.headroom import headroom_columns
from search.planning.ranking.candidates import Candidates
from search.planning.ranking.odds import odds_columns
from search.planning.ranking.reasons import reason, remarks

#: Columns that are whole numbers.
COUNTS = ("replicas", "devices_per_replica", "devices", "nodes", "devices_billed", "prefill_workers", "decode_workers")
#: Percentiles of TTFT and TPOT that every row has.
PERCENTILES = [(metric, statistic) for metric in ("ttft", "tpot") for statistic in ("p50", "p90", "p99")]


def candidate_rows(candidates: Candidates, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Return one flat row for each of the candidates `numbers`; `_lo` and `_hi` bound the 80 % interval."""
    known = candidates.known_rows
    missing = list(dict.fromkeys(n for n in map(int, numbers) if n not in known))
    if missing:
        known |= dict(zip(missing, _made(candidates, missing), strict=True))
    return [dict(known[int(n)]) for n in numbers]


def _made(candidates: Candidates, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Build the flat rows of the candidates `numbers`, which are estimated together."""
    found, slo = candidates.estimates_of(numbers), candidates.scorer.target.slo
    tails = {f"{metric}_ms_{s}": overall(found, metric, s) * MS_PER_S for metric, s in PERCENTILES}
    tails |= _intervals(candidates, numbers, found) | headroom_columns(candidates, numbers)
    tails |= account_rows(candidates, numbers, found) | cost_range(candidates, numbers)
    tails |= {f"{o.key}_chance": p for o, p in zip(slo.objectives, chances(found, slo), strict=True)}
    odds = odds_columns(candidates, [int(n) for n in numbers], found)
    return [
        {
            **_row(candidates, number, {name: float(column[i]) for name, column in tails.items()}),
            **{name: values[i] for name, values in odds.items()},
        }
        for i, number in enumerate(numbers)
    ]


def _row(candidates: Candidates, number: int, tails: Mapping[str, float]) -> dict[str, Any]:
    """Build the flat row of candidate `number`. tails: latency percentiles and chances of it, by key."""
    c = {k: float(v[number]) for k, v in candidates.columns.items()}
    tariff, types = candidates.scorer.tariff, candidates.device_types(number)
    row: dict[str, Any] = {
        "candidate": candidates.name(number),
        "mode": "disaggregated" if candidates.disaggregated(number) else "colocated",
        **_layout(candidates, number),
        **{k: c[k] for k in c if k not in INTERNAL},
        **tails,
        "slo_ratio": c["slo_ratio"],
        **({} if candidates.scorer.target.slo.objectives else {"slo_chance": NAN}),
        "basis": BASES[int(c["basis"])],
        "qualifies": c["verdict"] == 0,
        "reason": reason(candidates, number),
        "price": "; ".join(dict.fromkeys(tariff.price[t] for t in types)),
        "carbon": candidates.scorer.site.carbon,
    }
    told = [
        *_configuration(candidates, number),
        *remarks_of(tariff.devices[t] for t in types),
        *remarks(candidates, number),
    ]
    row |= {"remark": "; ".join(told)} if told else {}
    return {k: int(v) if k in COUNTS and v == v else v for k, v in row.items()}


def _configuration(candidates: Candidates, number: int) -> list[str]:
    """Return what engines do otherwise than asked with candidate `number`, a sentence each."""
    target = candidates.scorer.target
    longest = float(np.max(target.workload.input_tokens + target.workload.output_tokens))
    if candidates.disaggregated(number):
        pair = candidates.pair(number)
        placed = [pair.decode, pair.prefill]
    else:
        placed = [candidates.layouts.take(np.array([number]))]
    found = [configuration_remarks(target.model, one, target.engine, longest)[0] for one in placed]
    stored = [code for code in (int(one.weight[0]) for one in placed) if code in candidates.checkpoints]
    found += [checkpoint_remark(target.model, code) for code in stored]
    return list(dict.fromkeys(text for text in found if text))


def _layout(candidates: Candidates, number: int) -> dict[str, Any]:
    """Return the columns that describe the layout of candidate `number`.

    Of a pair of pools, they are those of the decode pool, then those of the prefill pool with `prefill_` before each
    name.
    """
    target = candidates.scorer.target
    if not candidates.disaggregated(number):
        return _settings(target, candidates.deployment(number))
    pair = candidates.pair(number)
    prefill = {f"prefill_{k}": v for k, v in _settings(target, pair.prefill).items()}
    return {**_settings(target, pair.decode), **prefill}


def _settings(target: Target, deployment: Deployments) -> dict[str, Any]:
    """Return layout and settings of a deployment (a batch of one) as the engine runs it, its defaults included."""
    return {**layout_columns(deployment, 0), **resolved_settings(target, deployment)}


def _intervals(candidates: Candidates, numbers: Sequence[int], found: Estimates) -> dict[str, Array]:
    """Return the ends of the 80 % intervals of the estimated columns, named `_lo` and `_hi`, (N,) each.

    Those of cost are in `cost_range`. Where the workload sets the request rate, the throughput is no estimate and gets
    no interval. found: the estimates of the candidates `numbers`.
    """
    given = candidates.scorer.target.workload.arrival == "open"
    metric_of = {"ttft_ms": "ttft", "tpot_ms": "tpot", "power_w": "power"}
    metric_of["site_energy_j_per_output_token"] = "power" if given else "energy"
    metric_of |= {} if given else {"output_tok_s": "throughput"}
    out: dict[str, Array] = {}
    for column, metric in metric_of.items():
        low, high = found.ends(metric)
        value = candidates.columns[column][list(numbers)]
        out[f"{column}_lo"], out[f"{column}_hi"] = value * low, value * high
    return out
