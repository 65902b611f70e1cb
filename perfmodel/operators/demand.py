"""What an operator asks of the hardware, and what a cost model answers. The contract between the two.

Arrays are float64 and broadcast against (N,), the candidate axis; request classes, where present, lead: (C, N).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.arrays import Array

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Demand:
    """One operator of one step, as asked of one device.

    flop: floating-point operations a call; moved: bytes to and from device memory a call; message: bytes the
    collective is called with on each device (0 for local operators; see `perfmodel.costs.collectives` for the convention);
    count: calls a step; compute: compute-type code (`perfmodel.dtypes.COMPUTE`) of each candidate.
    hosted: share of the work whose operands lie in host memory; host_bytes: bytes a call reads of those operands, were
    all of them there (see `perfmodel.deployment.offload`).
    shape: the family's own coordinates, as listed at `FAMILIES`, for cost models that look up tables.
    """

    name: str
    family: str
    flop: Array
    moved: Array
    count: Array
    compute: NDArray[np.intp] | int = 2
    message: Array | float = 0.0
    shape: Mapping[str, Any] = field(default_factory=dict)
    hosted: Array | float = 0.0
    host_bytes: Array | float = 0.0
