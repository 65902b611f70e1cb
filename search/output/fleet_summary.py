"""Write a fleet (a mix of hardware for several classes of requests) as sentences and tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from search.fleet import account
from search.output.plan_tables import SURE
from search.output.row_printer import print_rows
from search.output.table_fit import Layout
from search.output.terminal import print_text
from search.output.value_format import money, number, percent
from search.scenario import device_type

if TYPE_CHECKING:
    from search.fleet import FleetPlan, SimulatedFleet

#: Largest relative gap between a fleet's cost and the solver's bound at which the fleet counts as optimal
#: (chosen: below what any price is known to).
OPTIMAL_GAP = 1e-6

#: What is proven least, by the objective of a fleet.
LEAST_OF = {"cost": "cost", "power": "power", "carbon": "CO2e", "devices": "number of devices"}
#: Least relative saving that is called one.
LEAST_SAVING = 5e-3
#: Columns that a narrow table keeps, and those that it leaves out, the least important first.
KEPT = ("replicas", "usd_per_hour", "utilisation_percent", "slo_chance")
LESS_IMPORTANT = ("nodes", "device", "request_rate_rps", "power_w", "devices", "model")
#: Columns of starts, which a remark sums up.
OF_STARTS = ("start_up_s", "start_up_basis")
#: Columns that only rows of several periods need.
OF_PERIODS = ("period", "start_h", "hours", "replicas_needed")
#: The same of the table by the hour.
HOURS_KEPT = ("start_h", "request_rate_rps", "replicas", "devices", "usd_per_hour")
LESS_IMPORTANT_OF_HOURS = ("option", "hours")


def fleet_rows(fleet: FleetPlan) -> list[dict[str, Any]]:
    """Return one row per option and period in use; each row repeats the totals of the fleet."""
    totals = {"fleet_usd_per_hour": fleet.usd_per_hour, "fleet_power_w": fleet.power, "gap_percent": 100.0 * fleet.gap}
    for name, other in (("static", fleet.static), ("scaled", fleet.scaled)):
        totals |= {f"{name}_fleet_usd_per_hour": other.usd_per_hour} if other is not None else {}
    totals |= account(fleet)
    rows = [{**row, **totals, "solver": fleet.solver} for row in fleet.rows()]
    told = [*fleet.problem.remarks, *_left_idle(fleet)]
    return [{**row, **({"remark": "; ".join(told)} if told else {})} for row in rows]


def fleet_headline(fleet: FleetPlan) -> str:
    """Return the fleet in one sentence: devices, cost, power, and how close to the least cost it is proven to be."""
    changes = fleet.changes
    devices = ", ".join(f"{number(count)} x {name}" for name, count in fleet.devices.items())
    most = "up to " if changes else ""
    drawn = "up to " if fleet.static is not None else ""
    power = [f"{drawn}{number(fleet.power / 1e3)} kW"] if fleet.power == fleet.power else []
    mean = " on average" if changes else ""
    cost = [f"${money(fleet.usd_per_hour)} per hour{mean}"] if fleet.usd_per_hour == fleet.usd_per_hour else []
    figures = ", ".join([*cost, *power])
    return f"Take {most}{devices}{': ' if figures else ''}{figures}; {_proof(fleet)}."


def _proof(fleet: FleetPlan) -> str:
    """Return in words what the fleet serves where that was asked, and how close to the best it is proven to be."""
    if fleet.problem.objective != "traffic":
        return fleet_proof(fleet)
    rate = number(float(fleet.problem.rate.sum(axis=1).max()))
    return f"serves {number(fleet.served)} x the demand, {rate} requests/s; {fleet_proof(fleet)}"


def fleet_proof(fleet: FleetPlan) -> str:
    """Return in words what the fleet is best in, and how close to the best it is proven to be."""
    objective = fleet.problem.objective
    near = "" if fleet.gap <= OPTIMAL_GAP else f"within {number(100.0 * fleet.gap)} % of "
    if objective == "traffic":
        return f"proven {near}the most traffic"
    what = LEAST_OF["devices" if fleet.problem.counts_devices else objective]
    return f"proven {near}{'the ' if near else ''}least {what}"


def fleet_power_notes(fleet: FleetPlan) -> list[str]:
    """Say of which devices in use the power leaves hosts out, as no node holds them; [] where it leaves none out."""
    if fleet.modelled is None:
        return []
    tariff, used = fleet.modelled.tariff, set(fleet.devices)
    powered = [o for o in fleet.problem.options if any((o.name, m) in fleet.modelled.powered for m in o.runs)]
    modelled = {place for o in powered for place in o.devices_of}
    whole = {d.name for d, node in zip(tariff.devices, tariff.whole, strict=True) if node}
    alone = ", ".join(sorted({device_type(place) for place in used & modelled} - whole))
    way_out = "name their node in [hardware] nodes to count it and to pay whole nodes"
    return [f"Power: the mean draw of devices; no host is counted for {alone}: {way_out}."] if alone else []


def _account(fleet: FleetPlan) -> list[str]:
    """Say what a month and a request cost and emit; nothing where neither is known."""
    told = account(fleet)
    usd, grams = told["fleet_usd_per_month"], told["fleet_co2_kg_per_month"]
    cost = [f"${money(usd)} per month, ${money(told['fleet_usd_per_request'])} per request"] if usd == usd else []
    made = [f"{number(grams)} kg CO2e per month, {number(told['fleet_gco2_per_request'])} g per request"]
    carbon = made if grams == grams else []
    where = [f"Carbon: {fleet.site.carbon}."] if carbon and fleet.site.carbon else []
    return [*([f"{'; '.join([*cost, *carbon])}."] if cost or carbon else []), *where]


def print_fleet(fleet: FleetPlan, *, wide: bool = False) -> None:
    """Print a fleet: its headline, its rows, and what each binding limit costs.

    A load that changes over the day is shown by the hour. wide: every column, whatever the width of the terminal.
    """
    optimal = "proven optimal" if fleet.gap <= OPTIMAL_GAP else f"gap {number(100.0 * fleet.gap)} %"
    limits = [f"Without the limit on {b.name}: ${money(b.saving)} per hour less." for b in fleet.binding]
    remarks = [f"{_begun(text)}." for text in fleet.problem.remarks]
    idle = [f"{text}." for text in _left_idle(fleet)]
    power = fleet_power_notes(fleet)
    notes = [
        f"Solver: {fleet.solver}, {optimal}.",
        *_account(fleet),
        *_planned_to(fleet),
        *limits,
        *idle,
        *power,
        *remarks,
    ]
    print_text(" ".join([fleet_headline(fleet), *_beside(fleet)]), bold=True)
    print_text("")
    if fleet.problem.periods > 1:
        _print_hours(fleet, wide)
    rows = [{**row, "model": _short(row["model"])} for row in _busiest(fleet)]
    title = "Each option at its busiest" if fleet.problem.periods > 1 else ""
    hidden = ("remark", *OF_STARTS, *OF_PERIODS)
    keep = (*KEPT, *(["model"] if len({r["model"] for r in rows}) > 1 else []))
    columns = [c for c in rows[0] if c not in hidden and not c.endswith(("_lo", "_hi"))]
    columns = [c for c in columns if any(r[c] not in ("", None) for r in rows)]
    print_rows(
        rows,
        layout=Layout(
            title=title, label="option", columns=columns, keep=keep, drop=LESS_IMPORTANT, notes=notes, wide=wide
        ),
    )


def _short(models: str) -> str:
    """Return the names of the models of an option without their makers."""
    return " + ".join(name.rsplit("/", 1)[-1] for name in models.split(" + "))


def _planned_to(fleet: FleetPlan) -> Iterator[str]:
    """Say to which share of their capacity the modelled options are planned, and what the chances mean."""
    shares = {o.most_used for o in fleet.problem.options if o.model}
    if shares:
        most = percent(max(shares))
        yield f"Each replica is planned to at most {most} of what it serves within the SLOs (utilisation in [limits])."
        yield f"Sure %: {SURE}"


def _print_hours(fleet: FleetPlan, wide: bool) -> None:
    """Print what each period needs. wide: every column."""
    from search.fleet import hour_rows

    rows = hour_rows(fleet)
    kinds = (fleet.scaled or fleet).replicas.any(axis=1).sum()
    columns = [c for c in rows[0] if c != "period" and (c != "option" or kinds > 1)]
    print_rows(
        rows,
        layout=Layout(
            title="What each period needs" if fleet.static is None else "By the hour",
            columns=columns,
            keep=HOURS_KEPT,
            drop=LESS_IMPORTANT_OF_HOURS,
            wide=wide,
        ),
    )


def _busiest(fleet: FleetPlan) -> list[dict[str, Any]]:
    """Return one row per option in use: that of the period in which it is used most."""
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for row in fleet.rows():
        key = (row["option"], row["model"])
        known = best.get(key)
        if known is None or (row["replicas"], row["utilisation_percent"]) > (
            known["replicas"],
            known["utilisation_percent"],
        ):
            best[key] = row
    return list(best.values())


def _beside(fleet: FleetPlan) -> Iterator[str]:
    """Compare a fleet that changes over the day with one that does not, in a sentence; nothing for one period."""
    from search.fleet import is_a_day

    changing, static = (fleet, fleet.static) if fleet.static is not None else (fleet.scaled, fleet)
    if changing is None or static is None or fleet.problem.counts_devices:
        return
    total = float(fleet.problem.hours.sum())
    per = "per day" if is_a_day(fleet.problem) else f"for these {number(total)} hours"
    costs = [c.usd_per_hour * total for c in (changing, static)]
    held = ", ".join(f"{number(count)} x {name}" for name, count in static.devices.items())
    if costs[0] >= costs[1] * (1.0 - LEAST_SAVING):
        yield f"Every hour needs {held}: ${money(costs[1])} {per}."
        return
    less = f"{100.0 * (1.0 - costs[0] / costs[1]):.0f} % less"
    yield (
        f"Replicas that follow the load cost ${money(costs[0])} {per}, {less} than {held} all the time "
        f"(${money(costs[1])})."
    )


def _left_idle(fleet: FleetPlan) -> Iterator[str]:
    """Say in one sentence which devices on hand the fleet leaves idle, with what they draw and cost; else nothing."""
    told = []
    for left in fleet.idle:
        cost = [f"${money(left.usd_per_hour)} per hour at your price"] if left.usd_per_hour == left.usd_per_hour else []
        power = [f"{number(left.power / 1e3)} kW while switched on"] if left.power == left.power else []
        figures = f" ({', '.join([*power, *cost])})" if power or cost else ""
        told.append(f"{number(left.devices)} of {number(left.on_hand)} {left.device}{figures}")
    if told:
        yield f"Idle on hand, not counted above: {', '.join(told)}"


#: Columns of the table of a growing demand that a narrow terminal keeps, and those that go first.
GROWTH_KEPT = ("quantile", "month", "request_rate_rps", "buy")
GROWTH_DROPPED = ("usd_per_hour", "growth", "next_purchase_rps")


def print_growth(rows: list[dict[str, Any]], *, wide: bool = False) -> None:
    """Print when a growing demand makes the next purchases due: a sentence per quantile, and the months that buy."""
    for quantile in dict.fromkeys(r["quantile"] for r in rows):
        print_text(_next_purchase([r for r in rows if r["quantile"] == quantile]))
    print_text("")
    shown = [r for r in rows if r["month"] == 0 or r["buy_devices"] or r.get("remark")]
    print_rows(
        shown,
        layout=Layout(
            title="Purchases that the forecast needs",
            columns=[c for c in rows[0] if c != "remark"],
            keep=GROWTH_KEPT,
            drop=GROWTH_DROPPED,
            footnotes=["remark"],
            wide=wide,
        ),
    )


def _next_purchase(rows: list[dict[str, Any]]) -> str:
    """Say in a sentence at which rate, and in which month, the first purchase of a forecast falls due."""
    first = next((r for r in rows if r["buy_devices"] or r.get("remark")), None)
    rate = number(rows[0]["next_purchase_rps"])
    what = f"The next purchase falls due above {rate} requests/s"
    quantile = f"at quantile {rows[0]['quantile']:g} of the forecast"
    if first is None:
        return f"{what}, which {quantile} is not reached in {rows[-1]['month']} months."
    if first.get("remark"):
        return f"{what}, {quantile} in month {first['month']}; no fleet within the limits serves it."
    order = first["order_by_month"]
    early = f", to be ordered by month {number(order)}" if order < first["month"] else ""
    early = ", sooner than an order of today arrives" if order < 0 else early
    return f"{what}, {quantile} in month {first['month']}{early}: {first['buy']}."


def verified_rows(passed: SimulatedFleet) -> list[dict[str, Any]]:
    """Return the rows of a simulated fleet, with how often it was planned again and what that lowered."""
    text = "; ".join(passed.told)
    remark = {"remark": text} if text else {}
    return [{**row, "planned_again": passed.rounds, **remark} for row in passed.rows]


def print_verified(passed: SimulatedFleet, *, wide: bool = False) -> None:
    """Print the SLO bounds of each option's mix of classes, by the closed form and by simulation."""
    rows = passed.rows
    missed = [r for r in rows if not r["kept"]]
    sentence = f"{len(missed)} of {len(rows)} bounds are missed in simulation" if missed else "all bounds are kept"
    again = f"planned again {passed.rounds} time{'s' if passed.rounds != 1 else ''}" if passed.rounds else ""
    notes = [f"{text[:1].upper()}{text[1:]}." for text in passed.told]
    if missed:
        notes.append(f"This fleet has not passed its simulation{f', {again}' if again else ''}.")
    elif again:
        notes.append(f"This fleet has passed its simulation, {again}.")
    shown = [{**row, "model": _short(row["model"])} for row in rows]
    columns = [c for c in rows[0] if c not in ("period", "model", "replicas", "request_rate_rps")]
    print_rows(
        shown,
        layout=Layout(
            title=f"The mix that each option serves, simulated at its busiest: {sentence}",
            label="class",
            columns=columns,
            keep=("class", "slo_bound", "limit_ms", "simulated_ms", "kept"),
            drop=("slo_attainment", "closed_form_ms"),
            numbered=("option",),
            notes=notes,
            wide=wide,
        ),
    )


#: Columns of the table of latencies, and those that a narrow terminal leaves out first.
LATENCY = ("class", "option", "slo_bound", "limit_ms", "closed_form_ms", "slo_bound_chance", "running")
LATENCY_DROPPED = ("running", "option", "slo_bound_chance")


def _begun(remark: str) -> str:
    """Return a remark as the beginning of a sentence; a name in front of a colon stays as it is written."""
    return remark if remark.partition(" ")[0].endswith(":") else f"{remark[:1].upper()}{remark[1:]}"


def print_latencies(rows: list[dict[str, Any]], *, wide: bool = False) -> None:
    """Print the latency of each class beside its SLO, and the batch of each option. rows: of `fleet.latency_rows`."""
    bounded = any(row["limit_ms"] == row["limit_ms"] for row in rows)
    several = len({row["option"] for row in rows}) > 1
    columns = [c for c in rows[0] if c not in ("period", "replicas")] if wide else list(LATENCY)
    text = "What each class gets at its busiest" + (", beside its SLO" if bounded else "")
    print_rows(
        rows,
        layout=Layout(
            title=text,
            label="class",
            columns=[c for c in columns if several or c != "option"],
            keep=("class", "slo_bound", "limit_ms", "closed_form_ms"),
            drop=LATENCY_DROPPED,
            numbered=("option",),
            headings={"slo_bound_chance": "Sure %", "closed_form_ms": "Estimate ms"},
            without_range=() if wide else ("closed_form_ms",),
            wide=wide,
            brief=True,
        ),
    )


def print_alternatives(rows: list[dict[str, Any]], *, wide: bool = False) -> None:
    """Print the fleet and its alternatives, with what each consists of, or why there is none, below its figures.

    rows: of `fleet.alternative_rows`.
    """
    if len(rows) == 1:
        print_text("Nothing else is offered that could stand in for a part of this fleet.")
        return
    columns = [c for c in rows[0] if c not in ("answer", "reason")]
    print_rows(
        rows,
        layout=Layout(
            title="The fleet, and the best without parts of it",
            label="what_if",
            columns=columns,
            keep=("what_if", "usd_per_hour", "change_percent", "devices"),
            drop=("power_w", "slo_chance", "price_fall_percent"),
            below=("answer", "reason"),
            wide=wide,
        ),
    )
