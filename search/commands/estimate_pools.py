"""One disaggregated deployment asked about by flags: a pool of prefill workers before a pool of decode workers."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from hwdb import Device, Hwdb, InputError
from perfmodel import estimate_disaggregated
from perfmodel.deployment import Deployments, deployments
from perfmodel.estimates import Estimates, Term, check, explain
from search.commands.estimate import Single, layout_words
from search.space import refuse_impossible


@dataclass(frozen=True)
class Pooled(Single):
    """Two pools of workers; `deployments` lays out a decode worker, `front` a prefill worker.

    workers: of the prefill pool and of the decode pool.
    """

    front: Deployments
    workers: tuple[int, int]

    @property
    def estimates(self) -> Estimates:
        """What it takes; (1,) columns."""
        sizes = (np.array([float(n)]) for n in self.workers)
        return estimate_disaggregated(
            self.model,
            self.workload,
            self.front,
            self.deployments,
            prefill_workers=next(sizes),
            decode_workers=next(sizes),
            engine=self.engine,
        )

    @property
    def terms(self) -> tuple[Term, ...]:
        """The prefill pass of the one pool, then the decode pass of the other."""
        parts = (("prefill", self.front), ("decode", self.deployments))
        found = (explain(self.model, self.workload, pool, engine=self.engine) for _, pool in parts)
        return tuple(t for (phase, _), terms in zip(parts, found, strict=True) for t in terms if t.phase == phase)

    @property
    def devices(self) -> dict[str, float]:
        """Devices by name."""
        out: dict[str, float] = {}
        for pool, count in zip((self.front, self.deployments), self.workers, strict=True):
            name = pool.devices[0].name
            out[name] = out.get(name, 0.0) + count * float(pool.devices_per_replica[0])
        return out

    @property
    def cards(self) -> tuple[Device, ...]:
        """The kinds of device in it, that of the answers first."""
        return (*super().cards, self.front.devices[0])

    @property
    def layout(self) -> dict[str, Any]:
        """How the pools are laid out, in numbers and in words."""
        front, back = (layout_words(p) for p in (self.front, self.deployments))
        prefill, decode = self.workers
        degrees = {f"prefill_{k}": int(getattr(self.front, k)[0]) for k in ("tp", "pp", "ep", "dp", "cp")}
        return {
            **super().layout,
            "prefill_device": self.front.devices[0].name,
            **degrees,
            "prefill_workers": prefill,
            "decode_workers": decode,
            "layout": f"{prefill} prefill ({self.front.devices[0].name}, {front}), {decode} decode ({back})",
        }


def pooled(
    asked: Single,
    hwdb: Hwdb,
    *,
    prefill_workers: int | None,
    decode_workers: int | None,
    device: str = "",
    **degrees: int | None,
) -> Single:
    """`asked` with its prompts computed by a pool of their own; `asked` itself where no number of workers is given.

    device, degrees: of a prefill worker; by default those of a decode worker, which `asked` lays out. Raises
    `InputError` where one of the pools has no workers, the replicas are given as well, or a recipe that set `asked` up
    does not speak of the device.
    """
    given = {"prefill-workers": prefill_workers, "decode-workers": decode_workers}
    flags = {"device": device or None, **{"dp-attention" if k == "dp" else k: v for k, v in degrees.items()}}
    named = {f"prefill-{flag}": value for flag, value in flags.items() if value is not None}
    if all(n is None for n in given.values()):
        if named:
            raise InputError(f"--{next(iter(named))} is of a prefill pool; give --prefill-workers and --decode-workers")
        return asked
    for name, count in given.items():
        if count is None or not (isfinite(count) and count >= 1):
            raise InputError(f"--{name} {'is missing' if count is None else f'{count:g} are none'}; give 1 or more")
    back = asked.deployments
    if back.replicas[0] != 1:
        raise InputError("--replicas and --decode-workers exclude each other; give the workers of both pools")
    same = {
        k: float(getattr(back, k)[0]) for k in ("tp", "pp", "ep", "dp", "cp", "max_num_batched_tokens", "max_num_seqs")
    }
    formats = {k: int(getattr(back, k)[0]) for k in ("weight", "act", "kv")}
    host = {k: float(getattr(back, k)[0]) for k in ("host_weights", "host_experts", "host_kv")}
    own = {k: float(v) for k, v in degrees.items() if v is not None}
    card = hwdb.device(device) if device else back.devices[0]
    if asked.recipe is not None and not asked.recipe.meets(card):
        raise InputError(
            f"--recipe and --prefill-device {card.name} exclude each other: the recipe is published for "
            f"{', '.join(asked.recipe.devices)}; leave --recipe out and give its settings by flags instead"
        )
    front = deployments([card], host=back.host, adapters=back.adapters, **{**same, **formats, **host, **own})
    check(front)
    refuse_impossible(asked.model, front, "prefill-")
    workers = (int(prefill_workers or 0), int(decode_workers or 0))
    return Pooled(asked.model, asked.workload, back, asked.engine, front, workers, recipe=asked.recipe)
