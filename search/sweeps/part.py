"""Estimate every combination of a sweep for one model and one engine, with prices, and explain single rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwdb import Device, Hwdb, InputError
from perfmodel import Deployments, Engine, Estimates, ModelSpec, Slo, Workload, deployments, explain
from perfmodel.arrays import NAN, Mask
from perfmodel.estimates import (
    Term,
    beyond_context,
    check,
    check_context,
    configuration_remarks,
    estimate_load,
    joint_chance,
    overall,
    placed,
)
from perfmodel.unit_factors import MS_PER_S
from perfmodel.workload import Load, load_of
from search.planning import cost_columns, power_columns, tariff
from search.scenario import Site
from search.space import refuse_impossible
from search.sweeps.axes import LENGTHS, Axes

#: How an unknown price is given.
OWN_PRICE = "usd_per_hour={device: USD}"
#: Columns that decide whether an engine can start a deployment.
STARTED = ("tp", "pp", "ep", "dp", "cp", "kvp")
#: Arguments that are columns of their own where they are given.
SETTINGS = ("power_cap_w", "activations", "cp_method")


@dataclass(frozen=True)
class Asked:
    """What all rows of a sweep have in common.

    requests: their lengths where a workload states them, None where the axes do. slo: what a chance is given for.
    prices: USD per hour of a device by its name, which override those of the database. nodes: names of the nodes that
    hold the devices. price_kind: kind of price.
    """

    hwdb: Hwdb
    requests: Workload | None = None
    slo: Slo = field(default_factory=Slo)
    prices: Mapping[str, float] | None = None
    nodes: tuple[str, ...] = ()
    price_kind: str = "on_demand"
    allow_long_context: bool = False


@dataclass(frozen=True)
class Part:
    """The rows of a sweep for one model and one engine: every combination of `axes`."""

    model: ModelSpec
    engine: Engine
    axes: Axes
    asked: Asked

    def __len__(self) -> int:
        return len(self.axes)

    @cached_property
    def deployments(self) -> Deployments:
        """Return the deployment of each row."""
        given = self.axes.columns["device"]
        found = {one: self._card(one) for one in dict.fromkeys(given)}
        cards = list(dict.fromkeys(found.values()))
        place = {one: cards.index(card) for one, card in found.items()}
        return deployments(cards, device=np.array([place[one] for one in given]), **self.axes.placed())

    @cached_property
    def startable(self) -> Deployments:
        """Return the deployment of each row, that of one device where an engine cannot start it."""
        none = self.refused != ""
        single: dict[str, Any] = {n: np.where(none, 1.0, getattr(self.deployments, n)) for n in STARTED}
        return replace(self.deployments, **single)

    def _card(self, given: str | Device) -> Device:
        """Return a device, looked up where it is given by name."""
        return given if isinstance(given, Device) else self.asked.hwdb.device(given)

    @cached_property
    def load(self) -> Load:
        """Return the load of each row."""
        axes, count = self.axes, len(self)
        found = load_of(self.workload(0), count)
        if self.asked.requests is None:
            isl, osl, hit = (axes.numbers(name)[None, :] for name in LENGTHS)
            found = replace(found, input=isl, output=osl, hit=hit)
        amount: dict[str, Any] = {self._amount: axes.numbers(axes.load)}
        return replace(found, **amount)

    @property
    def _amount(self) -> str:
        """Return what a workload calls the argument that states the load."""
        return "rate" if self.axes.arrival == "open" else "concurrency"

    def workload(self, row: int) -> Workload:
        """Return the workload of one row."""
        axes = self.axes
        arrives: Any = {"arrival": axes.arrival, self._amount: float(axes.columns[axes.load][row])}
        if self.asked.requests is not None:
            return self.asked.requests.at(rate=NAN, n_requests=NAN, **{"concurrency": NAN, **arrives})
        isl, osl, hit = (float(axes.numbers(name)[row]) for name in LENGTHS)
        return Workload.from_lengths(isl, osl, prefix_hit=hit, **arrives)

    @cached_property
    def estimates(self) -> Estimates:
        """Return the estimates of all rows."""
        found = estimate_load(self.model, self.load, self.startable, engine=self.engine)
        return replace(found, placed=placed(self.model, self.deployments))

    @cached_property
    def refused(self) -> NDArray[Any]:
        """Return why no engine can start a row, or serve its requests, (N,) texts; "" where one can."""
        keys = np.stack([getattr(self.deployments, name) for name in STARTED])
        _, first, back = np.unique(keys, axis=1, return_index=True, return_inverse=True)
        found = np.array([self._refusal(row) for row in first.tolist()], dtype=object)[np.ravel(back)]
        beyond = np.any(beyond_context(self.model, self.load.input + self.load.output), axis=0)
        for row in np.flatnonzero(beyond & (found == "")) if not self.asked.allow_long_context else ():
            found[row] = self._refusal(int(row))
        return found

    def _refusal(self, row: int) -> str:
        """Return why no engine can start the deployment of a row, or serve its requests; "" where one can."""
        one = self.deployments.take(np.array([row]))
        try:
            check(one)
            refuse_impossible(self.model, one)
            allowed = self.asked.allow_long_context
            check_context(self.model, self.workload(row), allowed=allowed, way_out="allow_long_context=True")
        except InputError as error:
            return str(error)
        return ""

    def columns(self) -> dict[str, Any]:
        """Return all columns of the frame, (N,) each: what was asked, the answer, what it costs, and why not."""
        found, none = self.estimates, self.refused != ""
        identity = {"model": self.model.name, **(found.placed.columns if found.placed else {})}
        answer = {**self._answer(found), **self._bill(found)}
        if none.any():
            answer = {name: _without(values, none) for name, values in answer.items()}
            answer |= {"fits": np.asarray(answer["fits"]) & ~none}
        asked: dict[str, Any] = {name: self.axes.numbers(name) for name in LENGTHS} if not self.asked.requests else {}
        asked |= {n: np.array(self.axes.columns[n]) for n in ("concurrency", "batch") if n in self.axes.columns}
        asked |= {n: np.array(self.axes.columns[n]) for n in SETTINGS if n in self.axes.columns}
        if self.axes.arrival == "open":
            answer["request_rate_rps"] = self.axes.numbers("request_rate_rps")
        return {
            **identity,
            "engine": self.engine.name,
            **asked,
            "devices": self.deployments.devices_per_replica * self.deployments.replicas,
            **answer,
            "reason": np.where(none, self.refused, np.array(found.memory_use.reasons, dtype=object)),
            "remark": configuration_remarks(self.model, self.deployments, self.engine, self._longest()),
        }

    def _longest(self) -> Any:
        """Return the tokens of the longest request of each row, (N,)."""
        return np.max(self.load.input + self.load.output, axis=0)

    def _answer(self, found: Estimates) -> dict[str, Any]:
        """Return the columns of the estimate, and the chance of the SLO where there is one."""
        slo = self.asked.slo
        bounded = {o.key: overall(found, o.metric, o.statistic) * MS_PER_S for o in slo.objectives}
        chance = {"slo_chance": joint_chance(found, slo)} if slo.objectives else {}
        served = {"served_request_rate_rps": found.request_rate}
        per_device = {"output_tok_s_per_device": found.output_rate / found.devices}
        return {**found.columns(), **served, **per_device, **bounded, **chance}

    def _bill(self, found: Estimates) -> dict[str, Any]:
        """Return USD per hour and per million tokens, and the power at the meter, as a plan counts them."""
        d = self.deployments
        names = tuple(card.name for card in d.devices)
        prices = dict(self.asked.prices or {})
        offer = tariff(self.asked.hwdb, names, self.asked.nodes, self.asked.price_kind, prices, way_out=OWN_PRICE)
        due = offer.bill((d.device, d.devices_per_replica, d.replicas), caps=(d.power_cap,))
        power = power_columns(found, offer, due, Site())
        costs = cost_columns(found, due["usd_per_hour"])
        costs.pop("devices")
        told = {"power_w": power["power_w"], "price": np.array(offer.price, dtype=object)[d.device]}
        return {"usd_per_hour": due["usd_per_hour"], **costs, **told}

    def terms(self, row: int) -> tuple[Term, ...]:
        """Return the operators of a prefill and of a decode step of one row; `InputError` for a refused one."""
        if self.refused[row]:
            raise InputError(f"explain: row {row}: {self.refused[row]}")
        return explain(self.model, self.workload(row), self.deployments, row, engine=self.engine)


def _without(values: Any, none: Mask) -> Any:
    """Return a column without the figures of the rows `none`: NaN for numbers, "" for texts, False for booleans."""
    column = np.array(values)
    if column.dtype == bool:
        return column & ~none
    return np.where(none, np.nan if column.dtype.kind == "f" else "", column)
