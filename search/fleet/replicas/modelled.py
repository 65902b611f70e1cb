"""Hold what the options of a fleet run, so that they can be estimated again at their own load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from perfmodel import Deployments, Slo, Workload
from search.fleet.replicas.pairs import PlacedPair
from search.planning import Target, Tariff


@dataclass(frozen=True)
class Modelled:
    """What the options of a fleet run, to estimate them again at their own load.

    placed: (name, model) of an option -> its deployment, one replica. powered: those whose power is modelled too.
    workloads, slos: (C,) lengths (None where a class has none) and bounds of each class. targets: the task by model.
    tariff: prices and nodes. pue: of the site. shared: (name, model) of an option that serves several models -> the
    task of one of them, with the engine that it has beside the others. pairs: (name, model) of a pair of pools -> it.
    """

    placed: Mapping[tuple[str, str], Deployments]
    workloads: tuple[Workload | None, ...]
    slos: tuple[Slo, ...]
    targets: Mapping[str, Target]
    tariff: Tariff
    pue: float
    powered: frozenset[tuple[str, str]] = frozenset()
    shared: Mapping[tuple[str, str], Target] = field(default_factory=dict)
    pairs: Mapping[tuple[str, str], PlacedPair] = field(default_factory=dict)

    def decodes(self, name: str, model: str) -> Deployments | None:
        """Return the deployment of an option that decodes a model, one replica; None where nothing is modelled."""
        pair = self.pairs.get((name, model))
        return self.placed.get((name, model)) if pair is None else pair.decode
