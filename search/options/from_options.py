"""Make the one deployment that the options of `estimate` describe, with its load and its engine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hwdb import Device, Hwdb, InputError
from perfmodel.deployment import Deployments, check_drafts, check_routing, deployments
from perfmodel.engines import Engine, Recipe, engine, instead, recipe
from perfmodel.estimates import (
    Estimates,
    StartUp,
    Term,
    check,
    check_context,
    configuration_remarks,
    estimate,
    explain,
    start_up,
)
from perfmodel.models import ModelSpec, model
from perfmodel.workload import Workload, longest_over_mean
from search.options.deployment_options import DeploymentOptions, EngineOptions
from search.options.expert_options import ExpertOptions
from search.options.memory_options import HostOptions, LoraOptions
from search.options.speculation_options import SpeculationOptions
from search.planning import deployment_words
from search.space import refuse_impossible

DEGREES = ("tp", "pp", "ep", "dp", "cp", "kvp")


@dataclass(frozen=True, kw_only=True)
class Colocated:
    """A deployment whose replicas run both prefill and decode (no pools of their own), with its load and its engine.

    deployments: a batch of one. recipe: the published recipe whose settings are used, if any.
    """

    model: ModelSpec
    workload: Workload
    deployments: Deployments
    engine: Engine
    recipe: Recipe | None = None

    def estimates(self) -> Estimates:
        """Estimate latency, throughput, memory and power; every column has one entry."""
        return estimate(self.model, self.workload, self.deployments, engine=self.engine)

    def without_cached(self) -> Colocated:
        """Return the same with prompts of the tokens alone that the prefix cache does not serve."""
        work = self.workload
        new = np.maximum(np.asarray(work.input_tokens) * (1.0 - np.asarray(work.prefix_hit)), 1.0)
        return replace(self, workload=replace(work, input_tokens=new, prefix_hit=np.zeros_like(new)))

    def terms(self) -> tuple[Term, ...]:
        """Return the operators of a prefill step and of a decode step, with their times."""
        return explain(self.model, self.workload, self.deployments, engine=self.engine)

    def start(self) -> StartUp:
        """Return how long a replica, or a decode worker, takes to start."""
        return start_up(self.model, self.deployments, self.engine)

    def pools(self) -> tuple[tuple[str, float, float], ...]:
        """Return what is paid for: (name of the device, devices per replica, replicas) of each pool."""
        one = self.deployments
        return ((one.devices[0].name, float(one.devices_per_replica[0]), float(one.replicas[0])),)

    def power_caps(self) -> tuple[float, ...]:
        """Return the power limit set on the devices of each of `pools`, W; NaN for the devices' own."""
        return (float(self.deployments.power_cap[0]),)

    def placements(self) -> tuple[Deployments, ...]:
        """Deployments of one row each that make up the whole."""
        return (self.deployments,)

    def remarks(self) -> list[str]:
        """Return what engines would refuse or do otherwise than asked, a sentence each, every one once."""
        longest = float(np.max(self.workload.input_tokens + self.workload.output_tokens))
        found = [configuration_remarks(self.model, one, self.engine, longest)[0] for one in self.placements()]
        return list(dict.fromkeys(text for text in found if text))

    def kinds(self) -> tuple[Device, ...]:
        """Kinds of device in use."""
        return (self.deployments.devices[0],)

    def layout(self) -> dict[str, Any]:
        """Return the degrees of parallelism as numbers, and `layout`: the deployment in words, as a plan names it."""
        one = self.deployments
        degrees = {k: int(getattr(one, k)[0]) for k in (*DEGREES, "replicas")}
        return {**degrees, "layout": f"{degrees['replicas']} x {deployment_words(one)}{self._adapters_in_words()}"}

    def _adapters_in_words(self) -> str:
        """Return number and rank of the adapters in words, to be added to `layout`; "" without adapters."""
        lora = self.deployments.adapters
        return f", {lora.count} adapter{'s' if lora.count > 1 else ''} of rank {lora.rank}" if lora else ""


def _longest_prompt(workload: Workload) -> float:
    """Return the tokens of the longest prompt of the workload."""
    return float(np.max(workload.input_tokens)) * longest_over_mean(workload.isl_dist)


def colocated(
    options: DeploymentOptions,
    workload: Workload,
    engine_options: EngineOptions,
    *,
    experts: ExpertOptions,
    host: HostOptions,
    lora: LoraOptions,
    drafting: SpeculationOptions,
    hwdb: Hwdb,
) -> Colocated:
    """Return the deployment that the options describe.

    Settings without an option are those of the published recipe (with --recipe), else the engine's. Raises `InputError`
    where an option is impossible, and where no recipe is published for this model, engine, device and weight format.
    """
    settings = {**options.columns(), **engine_options.columns(), **host.columns()}
    card, spec = hwdb.device(options.device), model(options.model)
    if options.kv and not spec.kv_bytes_per_token():
        raise InputError(f"--kv {options.kv}: {spec.name} keeps no KV cache, only states of fixed size; leave it out")
    check_context(spec, workload, allowed=options.allow_long_context, way_out="--allow-long-context")
    runs = engine(engine_options.engine, engine_options.engine_version)
    published = recipe(spec, runs, card, options.weights) if engine_options.recipe else None
    if engine_options.recipe and published is None:
        raise InputError(
            f"--recipe: none is published for {options.model} with {options.weights or 'its own'} weights on "
            f"{options.device} under {runs.title}; {instead(spec, runs)}; leave the flag out for the engine's defaults"
        )
    if published is not None:
        runs = published.tuned(runs)
        settings = published.columns(_longest_prompt(workload), settings["dp"]) | settings
    runs = experts.overlapped(engine_options.configured(runs, spec.name))
    speculation, drafts = drafting.drafting()
    beside: dict[str, Any] = {"host": host.host(hwdb), "adapters": lora.adapters(), "speculation": speculation}
    columns = deployments([card], drafts=drafts, routing=experts.routing(), **beside, **settings)
    check_routing(spec, columns.routing)
    check_drafts(columns.drafts, speculation)
    check(columns)
    refuse_impossible(spec, columns)
    return Colocated(model=spec, workload=workload, deployments=columns, engine=runs, recipe=published)
