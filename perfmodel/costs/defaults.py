"""The cost model to use: measured tables first, then relatives, then a roofline."""

from __future__ import annotations

from perfmodel.costs.calibrated import Calibrated
from perfmodel.costs.cost import CostModel
from perfmodel.costs.engine_factors import EngineFactors
from perfmodel.costs.engine_kernels import EngineKernels
from perfmodel.costs.fallback import Fallback
from perfmodel.costs.launch_floor import LaunchFloor
from perfmodel.costs.profiled import Profiled
from perfmodel.costs.roofline import Roofline

#: Families whose kernels are libraries that every framework can call: experts by FlashInfer, TensorRT-LLM gen, DeepGEMM
#: and Triton (vLLM, SGLang and TensorRT-LLM list the same ones as MoE backends).
SHARED_KERNELS = ("grouped_gemm",)


#: Engines whose kernels are theirs alone and were not measured: tables of other engines' kernels say nothing of them.
OWN_KERNELS = ("llamacpp", "ik_llama")


#: Engines of no known make, whose kernels are taken to be those of the device's vendor.
UNKNOWN = ("generic",)


def default(framework: str = "", engine: str = "") -> CostModel:
    """The best model at hand for a serving framework ('' for any): measured tables of the device itself, then those
    of its measured relatives, then a roofline with borrowed efficiencies.

    engine: name of an engine file; its kernels' factors over stand-alone ones then apply (`EngineFactors`).
    """
    own = framework in OWN_KERNELS
    relatives = Calibrated(framework, foreign=framework not in UNKNOWN)
    measured = Profiled(framework, shared=SHARED_KERNELS)
    tables: tuple[CostModel, ...] = (EngineKernels(framework),) if own else (measured, relatives)
    known = LaunchFloor(Fallback((*tables, Roofline())), framework)
    # no factor makes a launch by the host shorter
    return LaunchFloor(EngineFactors(known, engine), framework) if engine else known
