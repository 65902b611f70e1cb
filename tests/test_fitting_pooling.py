"""Partial pooling of kernel factors: devices with few measurements keep what the others share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from perfmodel.costs import BOUNDS, FACTORS
from perfmodel.fitting.pooling import OF_DEVICES, Pulls, Slopes, errors_left_out, left_out, pool, ratios_at


def pooled_runs(values: dict[str, int], off: dict[str, float]) -> Slopes:
    """Return values on some devices, all off by `off` (log ratio), that depend on the factor of memory alone.

    Runs of four values are a group, and those of a fifth of the groups have a model in common.
    """
    device = np.repeat(list(values), list(values.values()))
    slopes = np.zeros((len(device), 1 + len(FACTORS)))
    slopes[:, 1 + BOUNDS.index("memory")] = 1.0
    groups = [f"{d}|{n // 4}" for n, d in enumerate(device)]
    models = [f"model {n // 4 % 5}" for n in range(len(device))]
    rows = pd.DataFrame({"device": device, "group": groups, "model": models})
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


def test_a_model_is_left_out_with_all_its_groups() -> None:
    """Values of one model alone say something: a fit without it leaves them where they are, one with it does not."""
    runs = pooled_runs({"slow": 100}, {"slow": -0.3})
    odd = (runs.rows.model == "model 0").to_numpy()
    alone = Slopes(runs.rows, np.where(odd, -0.3, 0.0), np.where(odd[:, None], runs.slopes, 0.0), runs.weight)
    missed = left_out(alone, {"slow": "gpu"}, Pulls(), 100)
    assert np.allclose(missed[odd], -0.3)
    assert np.abs(ratios_at(alone, pool(alone, {"slow": "gpu"}, Pulls()), {"slow": "gpu"})[odd]).max() < 0.2


def test_a_class_is_drawn_to_its_members_and_its_strangers_are_not() -> None:
    runs = pooled_runs({"a": 40, "b": 40, "new": 2, "far": 40}, {"a": -0.4, "b": -0.4, "new": -0.4, "far": 0.0})
    kinds = {"a": "card", "b": "card", "new": "card", "far": "gpu"}
    places = pool(runs, kinds, OF_DEVICES).places
    memory = {p: f[BOUNDS.index("memory")] for p, f in places.items()}
    assert abs(memory[""]) < 1e-3, "the engine stays as it is"
    assert 0.25 < memory["card"] < memory["a"] < 0.45
    assert memory["card"] < memory["new"] < 0.4
    assert abs(memory["far"]) < 0.01


def test_a_device_that_is_slow_throughout_is_told_by_its_level() -> None:
    runs = pooled_runs({"slow": 6}, {"slow": -0.8})
    for bound in ("compute", "launch"):  # a third of the time each
        runs.slopes[:, 1 + BOUNDS.index(bound)] = 1.0 / 3.0
    runs.slopes[:, 1 + BOUNDS.index("memory")] = 1.0 / 3.0
    with_level, without = (
        pool(runs, {"slow": "gpu"}, pulls).places["slow"][BOUNDS.index("memory")]
        for pulls in (OF_DEVICES, replace(OF_DEVICES, level=np.inf))
    )
    assert with_level > 0.5 > 2.0 * without
