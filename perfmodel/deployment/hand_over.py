"""Define how the KV cache moves from prefill workers to decode workers: over which link, how fast, when."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from hwdb import InputError
from perfmodel.arrays import NAN

#: Links that KV cache may cross. `auto`: the fabric of the node or rack where it joins the devices of both pools, else
#: the network.
Place = Literal["auto", "node", "rack", "network"]
PLACES: tuple[str, ...] = get_args(Place)


@dataclass(frozen=True)
class HandOver:
    """How a request goes from a prefill worker to a decode worker. NaN: what follows from the devices.

    Attributes:
        place: the link that the KV cache crosses, one of `PLACES`.
        bandwidth: B/s of the link per device, as transfers reach it.
        delay: seconds that a request needs besides the transfer: router, handshake, the other engine's scheduler.
        layerwise: whether the KV cache of each layer leaves as soon as the layer is computed, so that the transfer
            overlaps the prefill; otherwise all of it leaves after the prefill.
    """

    place: Place = "auto"
    bandwidth: float = NAN
    delay: float = NAN
    layerwise: bool = False

    def __post_init__(self) -> None:
        if self.place not in PLACES:
            raise InputError(f"pools: link {self.place!r} is unknown; choose one of {', '.join(PLACES)}")
        if not math.isnan(self.bandwidth) and not (math.isfinite(self.bandwidth) and self.bandwidth > 0):
            raise InputError(f"pools: a link of {self.bandwidth / 1e9:g} GB/s moves nothing; give more than 0")
        if not math.isnan(self.delay) and not (math.isfinite(self.delay) and self.delay >= 0):
            raise InputError(f"pools: a hand-over of {self.delay * 1e3:g} ms is impossible; give 0 or more")
