"""Closed form of serving: from passes to TTFT, TPOT and throughput of one replica under each kind of arrival.

The picture: `running` sequences decode together, one token a pass of `step` seconds. Each prompt that enters costs the
others `interference` seconds more than the decode passes it rides on. In equilibrium prompts enter at rate X, so a token takes
TPOT = step + X stall TPOT, that is step / (1 - X stall); and X = running / (residence of a request).
"""

from __future__ import annotations

import numpy as np

from perfmodel.arrays import Array
from perfmodel.serving.closed_loop import closed_loop
from perfmodel.serving.offline import offline
from perfmodel.serving.open_loop import open_loop
from perfmodel.serving.queueing import sent_back
from perfmodel.serving.served import Served
from perfmodel.serving.static import static
from perfmodel.serving.steps import StepModel
from perfmodel.workload import Load

#: Sequences a replica runs at most where neither memory nor the engine says less.
_MOST = 16384.0


def serve(passes: StepModel, load: Load, fit: Array) -> Served:
    """Equilibrium of one replica under `load` (of the replica); at most `fit` sequences run at once. (N,)"""
    if load.arrival in ("static", "single"):
        return static(passes, load, np.maximum(fit, 1.0))
    cap = np.maximum(np.minimum(fit, np.minimum(passes.max_num_seqs, _MOST)), 1.0)
    kinds = {"open": open_loop, "offline": offline}
    return kinds.get(load.arrival, closed_loop)(passes, load, cap, _again(passes, load, fit, cap))


def _again(passes: StepModel, load: Load, fit: Array, cap: Array) -> Array:
    """Times each prompt is computed, where requests wait for room: more than once where running ones grow. (N,)"""
    engine = passes.engine
    if engine.admission != "grow" or engine.preemption != "recompute":
        return np.ones_like(cap)
    # what a prompt takes of the KV room is all of it, found in the prefix cache or not
    prompt, answer = load.mean(load.input), load.mean(load.output)
    kept = engine.admission_watermark * (prompt + answer / 2.0) + engine.admission_headroom * answer / 2.0
    return 1.0 + np.where(fit <= cap, sent_back(prompt, answer, kept * cap), 0.0)
