"""Shard a model over deployments as an engine does."""

from __future__ import annotations

import numpy as np

from perfmodel.deployment import Deployments, HostHabits, Sharding, shard
from perfmodel.engines import Engine
from perfmodel.models import ModelSpec


def sharded(model: ModelSpec, deployments: Deployments, engine: Engine) -> Sharding:
    """Return `perfmodel.deployment.shard` of `model` with the kernels, files and habits of `engine`."""
    habits = HostHabits(engine.host_copied_first, engine.host_matrix_experts)
    if np.isfinite(engine.host_hand_over):
        habits = habits._replace(hand_over=engine.host_hand_over)
    own_files = engine.kernel_source == "own"
    return shard(model, deployments, library=engine.library_all_to_all, gguf=own_files, habits=habits)
