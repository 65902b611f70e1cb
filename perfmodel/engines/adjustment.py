"""Hold what a user's own benchmarks say of an engine on a device: factors on the parts of its time and on its power.

`perfmodel calibrate` fits them (`perfmodel.measured`); an engine that carries them (`Engine.adjusted_by`) is estimated,
simulated and planned with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hwdb import Device

#: Parts of a deployment that factors apply to: seconds of work that arithmetic, memory, links or launches limit, of
#: the host per step, of the front end per request; and watts of a device above idle.
PARTS = ("compute", "memory", "link", "launch", "host", "front_end", "power")


@dataclass(frozen=True)
class Adjustment:
    """Holds the factors of one engine family on one device.

    device: its name. engine: family of the engine. factors: (part of `PARTS`, factor on what the model answers); parts
    that are not listed keep 1. spreads: (part, log standard deviation that is left). models: names of the models that
    were measured. runs: measured runs behind the factors.
    """

    device: str
    engine: str
    factors: tuple[tuple[str, float], ...] = ()
    spreads: tuple[tuple[str, float], ...] = field(default=(), compare=False)
    models: tuple[str, ...] = ()
    runs: int = 0

    def factor(self, part: str) -> float:
        """Return the factor on a part of `PARTS`."""
        return dict(self.factors).get(part, 1.0)


def adjustment_on(device: Device, adjustments: Iterable[Adjustment]) -> Adjustment | None:
    """Return the adjustment of `device`, else that of the closest device that it is a variant of, None without one."""
    kin = [one.name for one in device.lineage]
    found = [one for one in adjustments if one.device in kin]
    return min(found, key=lambda one: kin.index(one.device), default=None)
