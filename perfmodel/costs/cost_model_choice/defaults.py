"""Choose the cost model to use: measured tables first, then tables of related devices, then a roofline."""

from __future__ import annotations

from functools import cache

from perfmodel.costs.cost import CostModel
from perfmodel.costs.cost_model_choice.fallback import Fallback, OnProcessors
from perfmodel.costs.cost_model_choice.sparse_tables import BeyondSparse
from perfmodel.costs.engine_effects.engine_factors import EngineFactors
from perfmodel.costs.engine_effects.expert_exchange import ExpertExchange
from perfmodel.costs.engine_effects.launch_floor import LaunchFloor
from perfmodel.costs.measured_tables.profiled import Profiled
from perfmodel.costs.related_devices.calibrated import Calibrated
from perfmodel.costs.rooflines.roofline import Roofline
from perfmodel.engines import Engine, defaults, shipped


def default(engine: Engine | str = "") -> CostModel:
    """Return the best cost model at hand for an engine.

    It prices each operator by the first that can: measured tables of the device itself, tables of related devices, a
    roofline with borrowed efficiencies. An engine with kernels of its own has their published rates in place of tables.

    The launch floor is applied twice. The inner one belongs to the times that `EngineFactors` multiplies: the factors
    were fitted on times with the floor in them, and it decides which operators count as launch-bound and take the
    factor of launches. The outer one restores the floor, since a factor below 1 makes a kernel shorter but not the
    host's launch.

    Args:
        engine: an `Engine`, for operators as that engine runs them, with its fitted factors (`EngineFactors`). Or the
            name of a serving framework, for its kernels as timed alone, without factors; empty for any framework.
    """
    if isinstance(engine, str):
        return _stand_alone(shipped(engine), engine)
    known = unfitted(engine)
    return LaunchFloor(EngineFactors(known, engine), engine)


def unfitted(engine: Engine) -> CostModel:
    """Return the cost model whose times the fitted factors of `engine` multiply: its kernels as timed alone."""
    return _stand_alone(engine, engine.family)


def _stand_alone(engine: Engine | None, framework: str) -> CostModel:
    """Return the cost model of the kernels of `framework` as timed alone, outside a serving engine.

    Each operator takes at least a launch by the host of `engine`. engine: None where `framework` is no known engine.
    """
    if engine is None:
        return _timed(framework, foreign=True, shared=defaults().library_kernels)
    if engine.kernel_source == "own":
        from perfmodel.costs.engine_effects.engine_kernels import Between, EngineKernels

        era = engine.name if shipped(engine.name) else engine.family  # a user's own file runs the newest kernels
        return LaunchFloor(ExpertExchange(Between(Fallback((EngineKernels(era), Roofline())), era)), engine)
    foreign = engine.kernel_source != "vendor"
    timed = _timed(framework, foreign=foreign, shared=engine.library_kernels)
    return LaunchFloor(OnProcessors(engine.family, timed), engine)


@cache
def _timed(framework: str, *, foreign: bool, shared: tuple[str, ...]) -> CostModel:
    """Return the cost model of the kernels of a framework by tables; engines that run the same kernels share it.

    foreign, shared: as for `Calibrated`.
    """
    measured, related = Profiled(framework, shared=shared), Calibrated(framework, foreign=foreign, shared=shared)
    return ExpertExchange(Fallback((BeyondSparse(measured, related), measured, related, Roofline())))
