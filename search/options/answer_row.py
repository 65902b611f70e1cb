"""Turn an estimated deployment into a flat row, and name the sections in which the terminal prints it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import expm1
from typing import Any

import numpy as np

from hwdb import Hwdb, counted
from perfmodel.arrays import NAN
from perfmodel.costs import remarks_of
from perfmodel.dtypes import FORMAT_NAMES
from perfmodel.estimates import Estimates, joint_chance, keeps
from perfmodel.memory import held_back
from perfmodel.unit_factors import US_PER_S
from perfmodel.workload import Slo, Workload
from search.options.from_options import Colocated
from search.options.site_options import SiteOptions
from search.planning import (
    account_columns,
    cost_columns,
    drafting_columns,
    hourly_usd,
    power_columns,
    rated_columns,
    shares_of,
    tariff,
    term_row,
)
from search.scenario import refuse_free_power

#: Columns that the terminal prints, by section; JSON and CSV have every column.
SHEET: Mapping[str, Sequence[str]] = {
    "Deployment": ("model", "device", "devices", "layout", "weights", "kv", "engine", "speculation", "tokens_per_step"),
    "Load": ("load", "isl", "osl", "running"),
    "Latency": ("ttft_ms", "ttft_ms_p99", "tpot_ms", "itl_ms_p99", "e2e_ms", "e2e_ms_p99", "slo_chance"),
    "Throughput": ("request_rate_rps", "output_tok_s", "total_tok_s"),
    "Memory": ("fits", "memory_gb_per_device", "memory_capacity_gb", "kv_pool_tokens", "max_running", "reason"),
    "Start": ("start_up_s", "start_up_warm_s", "wake_s"),
    "Power and cost": (
        "power_w_per_device",
        "energy_j_per_output_token",
        "power_w",
        "rated_power_kw",
        "host_power_kw",
        "site_energy_j_per_output_token",
        "usd_per_hour",
        "usd_per_million_tokens",
        "input_usd_per_million",
        "cached_usd_per_million",
        "output_usd_per_million",
        "usd_per_request",
        "usd_per_month",
        "api_usd_per_request",
        "gco2_per_million_tokens",
        "gco2_per_request",
        "co2_kg_per_month",
        "embodied_gco2_per_request",
        "price",
        "carbon",
    ),
    "Trust": ("basis", "remark"),
    "What was read": (
        "read_layout",
        "unknown_flags",
        "conflicting_flags",
        "uncounted_flags",
        "unused_flags",
        "plan_comparison",
        "plan_changes",
    ),
}
#: What the terminal says below the sections.
NOTES = ("In brackets: 80 % ranges. perfmodel explain WORD explains a name; --json and --csv have every column.",)
#: Loads by arrival: the field of `Workload` with the number, and what it counts.
LOADS = {
    "closed": ("concurrency", "request at once"),
    "static": ("concurrency", "request in a batch"),
    "open": ("rate", "request/s"),
    "offline": ("n_requests", "request"),
}
#: How an unknown price is given.
OWN_PRICE = "--usd-per-hour USD (of one device)"
#: Said where the power has no host in it.
NO_HOST = "Power W is that of the devices alone: --node NAME adds their host, and pays whole nodes."
NETWORK_UNKNOWN = (
    "a figure of this hardware is not known, such as the link between its devices or the network between nodes or "
    "pools; `perfmodel hw show` lists those that are"
)
SATURATED = "the load exceeds the capacity: queues grow without end"

#: What the terminal says below the table of operators.
EXPLAINED = ("The times of prefill sum to the mean TTFT, those of decode to the mean TPOT.",)
#: Latencies of an estimate that `--explain` splits into parts, and the share of a phase below which a part is rounding.
TIMES, ROUNDING = ("prefill", "wait", "front_end", "tpot", "step"), 1e-6
#: A token that takes less time than its decode step by more than this share does so because drafts were accepted.
#: Chosen: above what means over steps and over tokens differ by.
DRAFTS = 0.05
#: Columns of a row that is a part of TTFT or TPOT but no operator, such as the queue.
BESIDES: dict[str, Any] = {"family": "request", "calls": 1.0, "steps": 1.0, "bound": "", "basis": ""}
BESIDES |= {"peak_share_percent": NAN, "spread_percent": NAN}


def estimate_row(asked: Colocated, hwdb: Hwdb, slo: Slo, site: SiteOptions) -> dict[str, Any]:
    """Return a deployment and its estimate as a flat row: column name -> value. site: prices, and the PUE."""
    found = asked.estimates()
    return {
        **_question(asked),
        "devices": float(found.devices[0]),
        "running": float(found.running[0]),
        **{name: values[0] for name, values in found.columns().items()},
        "memory_capacity_gb": float(found.memory_use.capacity[0]) / 1e9,
        "kv_pool_tokens": float(np.floor(found.memory_use.kv_tokens[0])),
        "max_running": float(found.memory_use.max_running[0]),
        "reason": found.reason(0),
        **{name: float(value[0]) for name, value in asked.start().columns().items()},
        **bill(hwdb, asked, found, site),
        "slo_chance": float(joint_chance(found, slo)[0]) if slo.objectives else NAN,
        "remark": "; ".join(text for text in _remarks(asked, found) if text),
    }


def keeps_slo(asked: Colocated, slo: Slo, confidence: float) -> bool:
    """Return whether the deployment fits and keeps every bound of `slo` with at least `confidence`, as a plan judges.

    True without objectives.
    """
    found = asked.estimates()
    return not slo.objectives or bool(found.fits[0] and keeps(found, slo, confidence)[0])


def operator_rows(asked: Colocated) -> list[dict[str, Any]]:
    """Return one row per operator of a prefill and of a decode step, then what else makes up TTFT and TPOT.

    The times of the phase prefill sum to the mean TTFT of the estimate and those of decode to its mean TPOT, and the
    shares to 100 %. Where the estimate is infinite (an overload), nothing is added.
    """
    rows: list[dict[str, Any]] = [{**term_row(t), "spread_percent": 100.0 * expm1(t.spread)} for t in asked.terms()]
    made: list[dict[str, Any]] = []
    for phase, parts in _besides(asked.estimates(), rows, pooled=len(asked.placements()) > 1).items():
        added = [{**BESIDES, "phase": phase, "operator": name, "time_us": time} for name, time in parts.items()]
        whole = [row for row in [*rows, *added] if row["phase"] == phase]
        total = sum(row["time_us"] for row in whole)
        made += [{**row, "share_percent": 100.0 * row["time_us"] / total} for row in whole]
    return made


def _besides(found: Estimates, rows: Sequence[dict[str, Any]], *, pooled: bool) -> dict[str, dict[str, float]]:
    """Return phase -> part of a request that is no operator of its own steps -> microseconds, mean over requests.

    Parts that are below `ROUNDING` of the phase, or not known, are left out. rows: of the operators, by phase.
    pooled: whether prefill and decode have pools of their own.
    """
    sums = {phase: sum(r["time_us"] for r in rows if r["phase"] == phase) for phase in ("prefill", "decode")}
    times = {name: float(found.mean(getattr(found.latency, name))[0]) * US_PER_S for name in TIMES}
    handed, stepped = times["prefill"] - sums["prefill"], times["step"] - sums["decode"]
    parts = {
        "prefill": {
            "KV hand-over" if pooled and handed > 0 else "prompts computed together": handed,
            "queue": times["wait"],
            "front end": times["front_end"],
        },
        "decode": {
            "several tokens per step" if stepped < -DRAFTS * sums["decode"] else "steps of other sizes": stepped,
            "prefills of other requests": times["tpot"] - times["step"],
        },
    }
    return {
        phase: {name: time for name, time in of.items() if abs(time) > ROUNDING * sums[phase] and np.isfinite(time)}
        for phase, of in parts.items()
    }


def _remarks(asked: Colocated, found: Estimates) -> tuple[str, ...]:
    """Return what to know of the estimate, of the configuration, of the memory held back and of the devices."""
    return (_remark(found), *asked.remarks(), _held_back(asked, found), *remarks_of(asked.kinds()))


def _remark(found: Estimates) -> str:
    """Return a warning about the estimate (network unknown, load above capacity); "" without one."""
    if np.isnan(found.request_rate[0]):
        return NETWORK_UNKNOWN
    return SATURATED if found.saturated[0] else ""


def _held_back(asked: Colocated, found: Estimates) -> str:
    """Return what the engine keeps from the KV cache, in words; "" where it is little."""
    use = found.memory_use
    return held_back(asked.engine, asked.model, float(use.sampler[0]), float(use.capacity[0]))


def _question(asked: Colocated) -> dict[str, Any]:
    """Return the first columns of the row: what was asked (model, device, layout, formats, engine, load)."""
    one, load = asked.deployments, asked.workload
    return {
        "model": asked.model.name,
        "device": one.devices[0].name,
        **asked.layout(),
        "weights": FORMAT_NAMES[one.weight[0]] if one.weight[0] >= 0 else asked.model.weight_format,
        "kv": FORMAT_NAMES[one.kv[0]] if one.kv[0] >= 0 else asked.model.kv_format,
        "engine": asked.engine.name,
        **drafting_columns(one, 0),
        "load": _load_in_words(load),
        "isl": load.mean_input,
        "osl": load.mean_output,
    }


def _load_in_words(load: Workload) -> str:
    """Return the load with its unit, such as the request rate; "one stream" for requests one after the other."""
    if load.arrival not in LOADS:
        return "one stream"
    field, unit = LOADS[load.arrival]
    return counted(getattr(load, field), unit)


def bill(hwdb: Hwdb, asked: Colocated, found: Estimates, site: SiteOptions) -> dict[str, Any]:
    """Return nodes, prices, and power and energy at the site's meter, by the same functions as those of a plan.

    found: the estimate of `asked`. site: prices, nodes and the PUE.
    """
    pools, at = asked.pools(), site.site()
    names = tuple(dict.fromkeys(name for name, _, _ in pools))
    own, money = site.own_prices(names, hwdb), site.money(hwdb, names)
    refuse_free_power("--own-usd-per-device", money, at.usd_per_kwh, way_out="--usd-per-kwh")
    offer = tariff(
        hwdb, names, site.nodes(names, hwdb), site.prices, own, way_out=OWN_PRICE, supply=at.psu, money=money
    )
    held = [(np.array([names.index(name)]), np.array([size]), np.array([count])) for name, size, count in pools]
    due = offer.bill(*held, caps=asked.power_caps())
    power = power_columns(found, offer, due, at, money.utilisation)
    hourly = hourly_usd(due, power["mean_power_w"], at, money.ownership)
    paid = {"usd_per_hour": hourly, **{name: due[name] for name in ("nodes", "devices_billed")}}
    of_front = offer.hourly(*held[0]) / sum(offer.hourly(*pool) for pool in held) if len(held) > 1 else None
    shares = shares_of(found, asked.without_cached().estimates(), asked.workload, of_front)
    costs = cost_columns(found, hourly, money.utilisation)
    low, high = found.ends("throughput")
    columns: dict[str, Any] = {
        **paid,
        **costs,
        "usd_per_million_tokens_lo": costs["usd_per_million_tokens"] / high,
        "usd_per_million_tokens_hi": costs["usd_per_million_tokens"] / low,
        **power,
        **rated_columns(due, at),
        **account_columns(found, {**paid, **power}, shares, asked.workload, at, money),
    }
    columns.pop("mean_power_w")
    return {
        **{k: float(v[0]) for k, v in columns.items()},
        "price": "; ".join(dict.fromkeys(offer.price)),
        "carbon": at.carbon,
    }
