"""Hold the layouts that one option of a scenario becomes in the fleet program: names, throughputs, deployments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hwdb import InputError, plain
from perfmodel import Deployments
from perfmodel.arrays import Array
from perfmodel.dtypes import FORMAT_CODE
from search.fleet.replicas.batches import Batch
from search.fleet.replicas.pairs import PlacedPair
from search.fleet.replicas.shared_replicas import SharedRates, Tenant
from search.planning import Target, deployment_words
from search.scenario import FleetOption, FleetSpec, Option
from search.searchers import pareto
from search.space import SearchSpace

#: Code of the model's own format.
OWN_FORMAT = -1


@dataclass(frozen=True)
class Layouts:
    """The L options of the fleet program that one option of the scenario becomes.

    options: (L,). throughput: (L, C) requests/s that one replica serves of each of C request classes. placed: (L,) the
    deployment of each modelled option; () for a stated one. shared: (L,) the models of each replica that serves
    several. pairs: (L,) the pools of each pair.
    """

    options: tuple[Option, ...]
    throughput: Array
    placed: tuple[Deployments, ...] = ()
    shared: tuple[SharedRates, ...] = ()
    pairs: tuple[PlacedPair, ...] = ()


@dataclass(frozen=True)
class Speeds:
    """What L layouts of a model serve and draw.

    throughput: (L, C) requests/s of one replica by class. watts: (L,) the most per device at these rates.
    """

    throughput: Array
    watts: Array

    @classmethod
    def none(cls, layouts: int, classes: int) -> Speeds:
        """Return the speeds of layouts that serve nothing."""
        return cls(np.zeros((layouts, classes)), np.full(layouts, np.nan))


def legal_layouts(space: SearchSpace) -> Deployments:
    """Return the layouts of a space that are legal and in stock; raise `InputError` where none is legal in any stock.

    Where the stock has too few devices for any, they are those of a larger one: the program takes none of them, and
    says how many devices would be enough.
    """
    try:
        return space.legal().deployments()
    except InputError:
        return replace(space, stock={}).legal().deployments()


def layout_names(option: FleetOption, placed: tuple[Deployments, ...]) -> list[str]:
    """Name the layouts of an option, each by the option's own name, where it has one, and its deployment in words.

    Layouts of the same words are told apart by tokens per step and running sequences.
    """
    own = f"{option.name}: " if option.name != option.device else ""
    words = [own + deployment_words(d) for d in placed]
    settings = [f", {plain(d.max_num_batched_tokens[0])} tok, {plain(d.max_num_seqs[0])} seqs" for d in placed]
    return [w + (s if words.count(w) > 1 else "") for w, s in zip(words, settings, strict=True)]


def models_named(parts: Sequence[Layouts]) -> list[Layouts]:
    """Add the model to the names of options that run different models under one name: `H: 1 l4 (Qwen3-8B)`."""
    models: dict[str, set[str]] = {}
    for one in (o for part in parts for o in part.options):
        models.setdefault(one.name, set()).add(one.model)
    return [
        replace(
            part,
            options=tuple(
                replace(o, name=f"{o.name} ({o.model.rsplit('/', 1)[-1]})") if len(models[o.name]) > 1 else o
                for o in part.options
            ),
        )
        for part in parts
    ]


def together(parts: Sequence[Layouts]) -> Layouts:
    """Join the layouts of one option that run different models."""
    return Layouts(
        options=tuple(o for p in parts for o in p.options),
        throughput=np.concatenate([p.throughput for p in parts]),
        placed=tuple(d for p in parts for d in p.placed),
        pairs=tuple(d for p in parts for d in p.pairs),
    )


def tenants_of(parts: Sequence[Layouts]) -> dict[tuple[str, str], Tenant]:
    """Return the models of shared replicas by (name of the option, model)."""
    both = [(o, found) for p in parts for o, found in zip(p.options, p.shared, strict=False)]
    return {(o.name, tenant.name): tenant for o, found in both for tenant in found.tenants}


def pairs_of(parts: Sequence[Layouts]) -> dict[tuple[str, str], PlacedPair]:
    """Return the pools of pairs by (name of the option, model)."""
    return {(o.name, o.model): pair for p in parts for o, pair in zip(p.options, p.pairs, strict=False)}


def alike(spaces: Sequence[Deployments]) -> list[list[Deployments]]:
    """Return the layouts of several models that split a replica in the same way, one row of each model."""
    found: list[dict[tuple[float, ...], Deployments]] = []
    for space in spaces:
        keys = np.stack([space.tp, space.pp, space.devices_per_replica], axis=1).tolist()
        rows = [space.take(np.array([row])) for row in range(len(space))]
        found.append({tuple(key): row for key, row in reversed(list(zip(keys, rows, strict=True)))})
    common = [key for key in found[0] if all(key in other for other in found)]
    return [[rows[key] for rows in found] for key in sorted(common)]


def undominated(made: Layouts) -> Layouts:
    """Return the layouts of shared replicas without those that another one beats in price, devices and every class."""
    if not made.options:
        return made
    weights = [np.nan_to_num([o.usd_per_hour for o in made.options]), np.array([o.devices for o in made.options])]
    kept = np.nonzero(pareto([*made.throughput.T, *weights], largest=[True] * made.throughput.shape[1]))[0]
    chosen = tuple(made.options[i] for i in kept)
    return Layouts(chosen, made.throughput[kept], shared=tuple(made.shared[i] for i in kept))


def rate_and_watts(target: Target, layouts: Deployments, share: float = 1.0) -> tuple[Array, Array]:
    """Find the greatest request rate that one replica of each layout serves within the target, times `share`.

    Returns (requests/s, watts per device at that rate), (N,) each, as `Batch.capacities` does.
    """
    return Batch.of(layouts, [target]).capacities(share)


def stated_rates(option: FleetOption, spec: FleetSpec) -> list[float]:
    """Return the requests/s of one replica by class, in the order of the classes; 0 for a class without one."""
    return [(option.throughput or {}).get(c.name, 0.0) for c in spec.classes]


def format_codes(names: tuple[str, ...]) -> tuple[int, ...]:
    """Return the codes of the number formats `names`; the code of the model's own format where there are none."""
    return tuple(FORMAT_CODE[n] for n in names) or (OWN_FORMAT,)
