"""Hold the factors on time and power of an engine on a device that were fitted to a user's own benchmarks.

`perfmodel calibrate` fits them (`perfmodel.user_calibration`). Estimates, simulations and plans use the factors of an
engine that carries them (`Engine.adjusted_by`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hwdb import Device

#: Parts of a deployment that factors apply to: seconds of work that arithmetic, memory, links or launches limit, of
#: the host per step, of the front end per request; and watts of a device above idle.
PARTS = ("compute", "memory", "link", "launch", "host", "front_end", "power")
#: Share of a log factor that holds for a model that was not measured, and the log standard deviation that it adds.
#: Chosen on published groups of split `train`: factors from four runs of one model hold at 0.15 to 0.20 for other
#: models on the same device under the same engine (slope of what these measured over what the factors say). Spread:
#: that of the factors over systems, mean of the parts, of which so small a share takes little away.
OTHER_MODEL_SHARE, OTHER_MODEL_SPREAD = 0.2, 0.22


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

    def for_model(self, model: str) -> Adjustment:
        """Return the factors to use for a model: closer to 1 and less certain if the model itself was not measured.

        Without names of measured models, or for a model without a name, the factors stay.
        """
        if not model or not self.models or model in self.models:
            return self
        factors = tuple((part, value**OTHER_MODEL_SHARE) for part, value in self.factors)
        spreads = tuple((part, math.hypot(value, OTHER_MODEL_SPREAD)) for part, value in self.spreads)
        return replace(self, factors=factors, spreads=spreads)


def adjustment_on(device: Device, adjustments: Iterable[Adjustment]) -> Adjustment | None:
    """Return the adjustment of `device`, else that of the closest device that it is a variant of, None without one."""
    kin = [one.name for one in device.lineage]
    found = [one for one in adjustments if one.device in kin]
    return min(found, key=lambda one: kin.index(one.device), default=None)
