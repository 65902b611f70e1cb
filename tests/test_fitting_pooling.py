"""Partial pooling of kernel factors: devices with few measurements keep what the others share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from perfmodel.costs import BOUNDS, FACTORS
from perfmodel.fitting.pooling import (
    LEAST_PULL,
    OF_DEVICES,
    SOFT_FROM,
    Place,
    Pulls,
    Slopes,
    errors_left_out,
    left_out,
    pool,
    ratios_at,
)

MEMORY = BOUNDS.index("memory")


def pooled_runs(
    values: dict[str, int], off: dict[str, float], kinds: dict[str, str] | None = None, family: str = ""
) -> Slopes:
    """Return values on some devices, all off by `off` (log ratio), that depend on the factor of memory alone.

    Runs of four values are a group, and those of a fifth of the groups have a model in common. kinds: device -> class,
    "gpu" by default. family: chip family of all devices.
    """
    device = np.repeat(list(values), list(values.values()))
    slopes = np.zeros((len(device), 1 + len(FACTORS)))
    slopes[:, 1 + MEMORY] = 1.0
    groups = [f"{d}|{n // 4}" for n, d in enumerate(device)]
    models = [f"model {n // 4 % 5}" for n in range(len(device))]
    rows = pd.DataFrame({"device": device, "group": groups, "model": models})
    places = {d: Place(np.ones(len(FACTORS)), (kinds or {}).get(d, "gpu"), family) for d in values}
    return Slopes(rows, np.array([off[d] for d in device]), slopes, np.ones(len(device)), places)


def memory_of(runs: Slopes, pulls: Pulls) -> dict[str, float]:
    """Return the fitted factor of memory of each place of one engine, as logarithm."""
    return {p: float(f[MEMORY]) for p, f in pool({"it": runs}, pulls)["it"].places.items()}


def test_a_device_with_few_values_keeps_what_the_others_share() -> None:
    runs = pooled_runs({"many": 200, "few": 12, "other": 200}, {"many": -0.3, "few": -0.3, "other": -0.3})
    places = pool({"it": runs}, Pulls())["it"].places
    memory = {p: f[MEMORY] for p, f in places.items()}
    assert 0.2 < memory["many"] < 0.3
    assert memory[""] < memory["few"] < memory["many"]
    unused = [f[BOUNDS.index("compute")] for f in places.values()]
    assert np.abs(unused).max() < 1e-9


def test_devices_that_differ_are_told_apart() -> None:
    runs = pooled_runs({"slow": 200, "fast": 200}, {"slow": -0.3, "fast": 0.3})
    memory = memory_of(runs, Pulls())
    assert memory["slow"] > 0.2 > abs(memory[""])
    assert memory["fast"] < -0.2
    missed = left_out({"it": runs}, Pulls(), 4)["it"]
    assert np.abs(missed).max() < 0.1
    errors = errors_left_out({"it": runs}, 4)["it"]
    loose, firm = (errors[Pulls(device=d)][0] for d in (2.0, 4.0))
    assert loose < firm


def test_a_model_is_left_out_with_all_its_groups() -> None:
    """Values of one model alone say something: a fit without it leaves them where they are, one with it does not."""
    runs = pooled_runs({"slow": 100}, {"slow": -0.3})
    odd = (runs.rows.model == "model 0").to_numpy()
    alone = replace(runs, ratios=np.where(odd, -0.3, 0.0), slopes=np.where(odd[:, None], runs.slopes, 0.0))
    missed = left_out({"it": alone}, Pulls(), 100)["it"]
    assert np.allclose(missed[odd], -0.3)
    assert np.abs(ratios_at(alone, pool({"it": alone}, Pulls())["it"])[odd]).max() < 0.2


def test_a_class_is_drawn_to_its_members_and_its_strangers_are_not() -> None:
    off = {"a": -0.4, "b": -0.4, "new": -0.4, "far": 0.0}
    runs = pooled_runs({"a": 40, "b": 40, "new": 2, "far": 40}, off, {"a": "card", "b": "card", "new": "card"})
    memory = memory_of(runs, OF_DEVICES)
    assert abs(memory[""]) < 1e-3, "the engine stays as it is"
    assert 0.25 < memory["card"] < memory["a"] < 0.45
    assert memory["card"] < memory["new"] < 0.4
    assert abs(memory["far"]) < 0.01


def test_a_device_that_is_slow_throughout_is_told_by_its_level() -> None:
    runs = pooled_runs({"slow": 6}, {"slow": -0.8})
    for bound in ("compute", "launch"):  # a third of the time each
        runs.slopes[:, 1 + BOUNDS.index(bound)] = 1.0 / 3.0
    runs.slopes[:, 1 + MEMORY] = 1.0 / 3.0
    with_level, without = (memory_of(runs, pulls)["slow"] for pulls in (OF_DEVICES, replace(OF_DEVICES, level=np.inf)))
    assert with_level > 0.5 > 2.0 * without


def test_a_chip_family_tells_one_engine_what_another_measured() -> None:
    many = pooled_runs({"new": 200}, {"new": -0.3}, family="chips")
    few = pooled_runs({"new": 12, "far": 40}, {"new": 0.0, "far": 0.0})
    few.slopes[few.rows.device == "new"] = 0.0  # its runs there say nothing of memory
    few = replace(few, places={**few.places, "new": many.places["new"]})
    apart, alike = (
        pool({"a": many, "b": few}, replace(Pulls(), family=f))["b"].places for f in (np.inf, Pulls().family)
    )
    assert abs(apart["new"][MEMORY]) < 0.01
    assert alike["new"][MEMORY] > 0.08
    assert abs(alike["far"][MEMORY]) < 0.01, "a device of another family is left alone"
    strangers = replace(few, places={**few.places, "new": replace(many.places["new"], family="others")})
    found = pool({"a": many, "b": strangers}, Pulls())["b"].places
    assert abs(found["new"][MEMORY]) < 0.01


def test_engines_without_a_family_in_common_are_fitted_as_if_alone() -> None:
    first, second = pooled_runs({"a": 80, "b": 8}, {"a": -0.3, "b": 0.2}), pooled_runs({"a": 40}, {"a": 0.4})
    together = pool({"x": first, "y": second}, Pulls())
    for name, runs in (("x", first), ("y", second)):
        (alone,) = pool({name: runs}, Pulls()).values()
        for place, factors in alone.places.items():
            np.testing.assert_allclose(together[name].places[place], factors, atol=1e-12)


def test_values_that_are_far_off_do_not_speak_for_the_others() -> None:
    """Nine in ten values ask for 0.1, the tenth for a factor of three: the fit keeps to the nine."""
    runs = pooled_runs({"d": 400}, {"d": -0.1})
    far = np.arange(400) % 10 == 0
    mixed = replace(runs, ratios=np.where(far, -1.1, -0.1))
    assert memory_of(mixed, Pulls())["d"] == pytest.approx(memory_of(runs, Pulls())["d"], abs=0.02)


def test_the_fit_is_where_its_loss_is_least() -> None:
    """The gradient of Cauchy's loss and of the pulls is nought at what was found, by its closed form."""
    generator = np.random.default_rng(3)
    runs = pooled_runs({"d": 300}, {"d": -0.2})
    runs = replace(runs, ratios=generator.normal(-0.2, 0.1, 300), weight=generator.uniform(0.5, 1.5, 300))
    pulls = Pulls(engine=8.0, device=3.0)
    memory = memory_of(runs, pulls)
    engine, device = memory[""], memory["d"] - memory[""]
    miss = runs.ratios + engine + device
    slope = (np.square(runs.weight) * miss / (1.0 + np.square(runs.weight * miss / SOFT_FROM))).sum()
    assert slope + pulls.engine**2 * engine == pytest.approx(0.0, abs=1e-3 * abs(slope))
    assert slope + pulls.device**2 * device == pytest.approx(0.0, abs=1e-3 * abs(slope))
    assert min(pulls.engine, pulls.device) > LEAST_PULL
