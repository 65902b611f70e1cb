"""Describe what a device does with its time, as its power depends on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.arrays import Array
from perfmodel.dtypes import COMPUTE_CODE
from perfmodel.hardware import Hardware
from perfmodel.vocabulary import MOVED, SENT, WORK

#: A device has units of a width of their own where they are this much faster than those of twice the width. Chosen:
#: between 1 (operands are widened, as fp8 on A100) and 2 (real units).
_OWN_UNITS = 1.2
#: Compute types whose peaks stand for the widths of `WORK`: 16 bits, 8, 4.
_WIDTHS = [COMPUTE_CODE[name] for name in ("bf16", "fp8", "fp4")]


@dataclass(frozen=True)
class Activity:
    """Describe what devices do, as shares of wall time; the last axis is the N candidates.

    busy: any request is in flight. kernels: kernels run; the rest of `busy` the device waits for its host. use:
    (5, ...) time that the work would take at the rated peak, by kind of work (`WORK`). prompts: what of these falls on
    steps that compute prompts, which draw more than the others; None: steps are alike.
    """

    busy: Array
    kernels: Array
    use: Array
    prompts: Activity | None = None

    def parts(self) -> tuple[Activity, ...]:
        """Return the activities of the kinds of step, which add up to this one."""
        if self.prompts is None:
            return (self,)
        one = self.prompts
        others = Activity(
            busy=np.maximum(self.busy - one.busy, 0.0),
            kernels=np.maximum(self.kernels - one.kernels, 0.0),
            use=np.maximum(self.use - one.use, 0.0),
        )
        return others, one


def use_of(hardware: Hardware, rates: Array) -> Array:
    """Return the share of time that work at `rates` would take at the rated peaks, (5, ...).

    FLOP of a width that the device has no units for count as those of twice the width, which compute them.

    Args:
        hardware: the devices.
        rates: FLOP/s by width of the operands, B/s of device memory, B/s sent, as `WORK` lists them, (5, ...).
    """
    peaks = [hardware.peak[:, code] for code in _WIDTHS]
    flop = [rates[WORK.index(name)] for name in ("flop_16", "flop_8", "flop_4")]
    for narrow in (2, 1):
        own = peaks[narrow] > _OWN_UNITS * peaks[narrow - 1]
        flop[narrow - 1] = flop[narrow - 1] + np.where(own, 0.0, flop[narrow])
        flop[narrow] = np.where(own, flop[narrow], 0.0)
    rated = np.stack([*peaks, hardware.bandwidth, hardware.link_bandwidth])
    done = np.stack([*flop, rates[MOVED], rates[SENT]])
    shape = (len(WORK), *([1] * (done.ndim - 2)), -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        used = done / rated.reshape(shape)
    return np.where(done > 0, used, 0.0)
