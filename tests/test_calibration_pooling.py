"""Partial pooling of kernel factors: devices with few measurements keep what the others share."""

from __future__ import annotations

import numpy as np
import pandas as pd

from perfmodel.calibration.pooling import Pulls, Slopes, errors_left_out, left_out, pool
from perfmodel.costs import BOUNDS, KERNELS

FACTORS = len(BOUNDS) + len(KERNELS)


def pooled_runs(values: dict[str, int], off: dict[str, float]) -> Slopes:
    """Return values on some devices, all off by `off` (log ratio), that depend on the factor of memory alone."""
    device = np.repeat(list(values), list(values.values()))
    slopes = np.zeros((len(device), 1 + FACTORS))
    slopes[:, 1 + BOUNDS.index("memory")] = 1.0
    groups = [f"{d}|{n // 4}" for n, d in enumerate(device)]
    rows = pd.DataFrame({"device": device, "group": groups})
    return Slopes(rows, np.array([off[d] for d in device]), slopes, np.ones(len(device)))


def test_a_device_with_few_values_keeps_what_the_others_share() -> None:
    kinds = {"many": "gpu", "few": "gpu", "other": "gpu"}
    runs = pooled_runs({"many": 200, "few": 12, "other": 200}, {"many": -0.3, "few": -0.3, "other": -0.3})
    places = pool(runs, kinds, Pulls()).places
    memory = {p: f[BOUNDS.index("memory")] for p, f in places.items()}
    assert 0.2 < memory["many"] < 0.3
    assert memory[""] < memory["few"] < memory["many"]
    unused = [f[BOUNDS.index("compute")] for f in places.values()]
    assert np.abs(unused).max() < 1e-9


def test_devices_that_differ_are_told_apart() -> None:
    runs = pooled_runs({"slow": 200, "fast": 200}, {"slow": -0.3, "fast": 0.3})
    places = pool(runs, {"slow": "gpu", "fast": "gpu"}, Pulls()).places
    memory = {p: f[BOUNDS.index("memory")] for p, f in places.items()}
    assert memory["slow"] > 0.2 > abs(memory[""])
    assert memory["fast"] < -0.2
    missed = left_out(runs, {"slow": "gpu", "fast": "gpu"}, Pulls(), 4)
    assert np.abs(missed).max() < 0.1
    errors = errors_left_out(runs, {"slow": "gpu", "fast": "gpu"}, 4)
    loose, firm = (errors[Pulls(engine=8.0, device=d)][0] for d in (2.0, 4.0))
    assert loose < firm
