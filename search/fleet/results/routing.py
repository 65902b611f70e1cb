"""Write which class of requests goes to which option, and in what share, as routes that a gateway reads.

The form is that of the Kubernetes Gateway API: one HTTPRoute per class, whose rule has one weighted `backendRef` per
option (gateway.networking.k8s.io/v1, HTTPBackendRef.weight: whole numbers from 0 to 1,000,000, of which each is a share
of their sum; https://gateway-api.sigs.k8s.io/reference/spec/#httpbackendref, read 2026-11). The backends are
InferencePools, the kind that `perfmodel export --to llm-d` writes.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from perfmodel.arrays import Array
from perfmodel.unit_factors import MS_PER_S
from search.fleet.accounting.fleet import FleetPlan

#: Header by which a gateway tells the classes apart. Assumed: whoever classifies requests sets it.
HEADER = "x-request-class"
#: Sum of the weights of a rule: shares to a thousandth of a per cent.
WHOLE_WEIGHT = 100_000
#: Longest name of a Kubernetes object (RFC 1123 label).
LONGEST_NAME = 63


def routing_rows(found: FleetPlan) -> list[dict[str, Any]]:
    """Return one flat row per class, period and option in use: the backend and its share of the class."""
    problem, names = found.problem, backend_names(found)
    return [
        {
            "class": problem.classes[c],
            "period": t + 1,
            "option": problem.options[o].name,
            "model": problem.model_of(o, c),
            "backend": names[o, problem.model_of(o, c)],
            "region": problem.options[o].region,
            "network_ms": MS_PER_S * problem.round_trip(problem.options[o], problem.classes[c]),
            "share_percent": 100.0 * float(found.shares[o, c, t]),
            "route_weight": int(weight),
            "request_rate_rps": float(found.shares[o, c, t] * problem.rate[t, c]),
        }
        for t in range(problem.periods)
        for c in range(len(problem.classes))
        for o, weight in enumerate(weights(found.shares[:, c, t]).tolist())
        if weight
    ]


def routing_json(found: FleetPlan) -> str:
    """Return the routes of a fleet as a Kubernetes List of HTTPRoutes, one per class and set of shares."""
    problem, rows = found.problem, routing_rows(found)
    starts = problem.starts
    routes: dict[str, dict[str, Any]] = {}
    for c, name in enumerate(problem.classes):
        for t in range(problem.periods):
            mine = [r for r in rows if r["class"] == name and r["period"] == t + 1]
            refs = [_backend(r) for r in mine]
            key = json.dumps([c, refs])
            if refs and key not in routes:
                used = {r["metadata"]["name"] for r in routes.values()}
                routes[key] = _route(name, mine, _unused(_dns(name), used))
            if refs:
                hours = f"{starts[t]:g}-{starts[t] + problem.hours[t]:g}"
                marks = routes[key]["metadata"]["annotations"]
                marks["perfmodel/hours"] = ", ".join(filter(None, [marks["perfmodel/hours"], hours]))
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(routes.values())}, indent=1) + "\n"


def weights(shares: Array) -> Array:
    """Return whole weights of some shares, (O,), that sum to `WHOLE_WEIGHT`; largest remainders are rounded up.

    >>> weights(np.array([1 / 3, 2 / 3, 0.0])).tolist()
    [33333, 66667, 0]
    """
    shares = np.nan_to_num(shares)
    exact = shares / max(float(shares.sum()), np.finfo(float).tiny) * WHOLE_WEIGHT
    down = np.floor(exact).astype(np.int64)
    missing = round(float(exact.sum()) - float(down.sum()))
    down[np.argsort(-(exact - down), kind="stable")[:missing]] += 1
    return np.asarray(down)


def backend_names(found: FleetPlan) -> dict[tuple[int, str], str]:
    """Return the name of the InferencePool of each option and model: its own as Kubernetes allows it, each once."""
    names: dict[tuple[int, str], str] = {}
    for o, option in enumerate(found.problem.options):
        for model in option.runs:
            short = model.rsplit("/", 1)[-1]
            text = f"{short} {option.name.removesuffix(f' ({short})')}" if model else option.name
            names[o, model] = _unused(_dns(text), set(names.values()))
    return names


def _unused(name: str, used: set[str]) -> str:
    """Return a name that is not among the `used` ones: itself, else with a number, cut so that it is not too long.

    >>> _unused("chat", {"chat", "chat-2"})
    'chat-3'
    """
    found, number = name, 1
    while found in used:
        number += 1
        ending = f"-{number}"
        found = name[: LONGEST_NAME - len(ending)].rstrip("-") + ending
    return found


def _dns(text: str) -> str:
    """Return a text as a Kubernetes name: lower case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:LONGEST_NAME].strip("-") or "unnamed"


def _backend(row: dict[str, Any]) -> dict[str, Any]:
    """Return the `backendRef` of a routing row."""
    pool = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": row["backend"]}
    return {**pool, "weight": row["route_weight"]}


def _route(name: str, rows: list[dict[str, Any]], called: str) -> dict[str, Any]:
    """Return the HTTPRoute of a class. rows: of its backends in one period. Where they stand is in an annotation.

    name: of the class. called: the name of the route.
    """
    refs, model = [_backend(r) for r in rows], rows[0]["model"]
    marks = {"perfmodel/class": name, "perfmodel/hours": "", **({"perfmodel/model": model} if model else {})}
    places = ", ".join(f"{r['backend']}: {r['region']}" for r in rows if r["region"])
    marks |= {"perfmodel/regions": places} if places else {}
    match = {"headers": [{"type": "Exact", "name": HEADER, "value": name}]}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": called, "annotations": marks},
        "spec": {"rules": [{"matches": [match], "backendRefs": refs}]},
    }
