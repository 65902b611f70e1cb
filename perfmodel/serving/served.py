"""What the closed form of serving answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import Array
from perfmodel.costs import StepCost


@dataclass(frozen=True)
class Served:
    """One replica in equilibrium. Seconds; (C, N) where a class matters, else (N,).

    running: sequences decoding at once. rate: requests/s. step: wall time of a decode pass. stall: what one prompt
    costs the others. wait: mean time in queues before a prompt is computed; burst: mean extra of the opening burst
    over all requests. prefill: time to compute a prompt. decode_cost, prefill_cost: device costs of one pass behind
    them; prefill_passes: such passes a prompt, less than one where prompts share a pass.
    saturated: demand exceeds what the replica can serve. even: part of the wait that falls evenly on all requests of a
    run, from none for the first to twice the mean for the last. waits: (Q, N) waits at `workload.RANKS` where they are
    known, else NaN. seen: sequences of the decode pass that decode_cost is of, NaN where it is `running`.
    """

    ttft: Array
    tpot: Array
    wait: Array
    burst: Array
    prefill: Array
    step: Array
    interference: Array
    mixed_step: Array
    running: Array
    rate: Array
    saturated: np.ndarray
    decode_cost: StepCost
    prefill_cost: StepCost
    prefill_steps: Array
    even: Array | float = 0.0
    waits: Array | float = np.nan
    seen: Array | float = np.nan
