"""Make the two pools that the options of `estimate` describe: prefill workers hand requests over to decode workers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hwdb import Device, Hwdb, InputError
from perfmodel.deployment import Deployments, deployments
from perfmodel.estimates import Estimates, Term, check, estimate_disaggregated, explain_disaggregated
from search.options.deployment_options import PoolOptions
from search.options.from_options import DEGREES, Colocated
from search.planning import deployment_words
from search.space import refuse_impossible

#: Columns that a prefill worker takes over from a decode worker unless options say otherwise.
SHARED_COLUMNS = (
    *(name for name in DEGREES if name != "kvp"),  # a prefill worker has no decode steps to split
    "cp_method",
    "max_num_batched_tokens",
    "max_num_seqs",
    "power_cap",
    "weight",
    "act",
    "kv",
    "host_weights",
    "host_experts",
    "host_kv",
)


@dataclass(frozen=True, kw_only=True)
class Disaggregated(Colocated):
    """Two pools of workers: `deployments` is one decode worker, `prefill` one prefill worker.

    workers: number of prefill workers and of decode workers.
    """

    prefill: Deployments
    workers: tuple[int, int]

    def estimates(self) -> Estimates:
        """Estimate latency, throughput, memory and power of both pools together; every column has one entry."""
        prefill_workers, decode_workers = (np.array([float(n)]) for n in self.workers)
        return estimate_disaggregated(
            self.model,
            self.workload,
            self.prefill,
            self.deployments,
            prefill_workers=prefill_workers,
            decode_workers=decode_workers,
            engine=self.engine,
        )

    def terms(self) -> tuple[Term, ...]:
        """Return the operators of the prefill pool's prefill step, then of the decode pool's decode step."""
        pools = (self.prefill, self.deployments)
        return explain_disaggregated(self.model, self.workload, pools, self.workers, engine=self.engine)

    def pools(self) -> tuple[tuple[str, float, float], ...]:
        """Return (name of the device, devices per worker, workers) of the prefill pool, then of the decode pool."""
        placed = zip((self.prefill, self.deployments), self.workers, strict=True)
        return tuple((p.devices[0].name, float(p.devices_per_replica[0]), float(n)) for p, n in placed)

    def power_caps(self) -> tuple[float, ...]:
        """Return the power limit set on the devices of each of `pools`, W; NaN for the devices' own."""
        return float(self.prefill.power_cap[0]), float(self.deployments.power_cap[0])

    def placements(self) -> tuple[Deployments, ...]:
        """A decode worker and a prefill worker."""
        return (self.deployments, self.prefill)

    def kinds(self) -> tuple[Device, ...]:
        """Kinds of device in use, that of the decode pool first."""
        return (*super().kinds(), self.prefill.devices[0])

    def layout(self) -> dict[str, Any]:
        """Return degrees and workers of both pools, and `layout`: both in words, as a plan names them."""
        front, back = (deployment_words(pool) for pool in (self.prefill, self.deployments))
        prefill_workers, decode_workers = self.workers
        words = f"prefill {prefill_workers} x {front} + decode {decode_workers} x {back}{self._adapters_in_words()}"
        return {
            **super().layout(),
            "prefill_device": self.prefill.devices[0].name,
            **{f"prefill_{k}": int(getattr(self.prefill, k)[0]) for k in DEGREES},
            "prefill_workers": prefill_workers,
            "decode_workers": decode_workers,
            "layout": words,
        }


def with_pools(decode: Colocated, pools: PoolOptions, hwdb: Hwdb) -> Colocated:
    """Return `decode` with prefill in a pool of its own; `decode` itself where no pools are asked for.

    What the options do not say of a prefill worker is as in a decode worker. Raises `InputError` where the pools are
    incomplete, where replicas are given as well, and where a recipe in use is not published for the prefill device.
    """
    workers = pools.workers()
    if workers is None:
        return decode
    one = replace(decode.deployments, hand_over=pools.hand_over())
    if one.replicas[0] != 1:
        raise InputError("--replicas and --decode-workers exclude each other; give the workers of both pools")
    card = hwdb.device(pools.prefill_device) if pools.prefill_device else one.devices[0]
    if decode.recipe is not None and not decode.recipe.meets(card):
        raise InputError(
            f"--recipe and --prefill-device {card.name} exclude each other: the recipe is published for "
            f"{', '.join(decode.recipe.devices)}; leave --recipe out and give its settings by flags instead"
        )
    columns = {name: getattr(one, name)[0] for name in SHARED_COLUMNS} | pools.columns()
    prefill = deployments([card], host=one.host, adapters=one.adapters, routing=one.routing, **columns)
    check(prefill, "prefill-")
    refuse_impossible(decode.model, prefill, "prefill-")
    return Disaggregated(
        model=decode.model,
        workload=decode.workload,
        deployments=one,
        engine=decode.engine,
        recipe=decode.recipe,
        prefill=prefill,
        workers=workers,
    )
