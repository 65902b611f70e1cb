"""Estimate how long a replica takes from the start of its process until it serves, by part; vLLM with its V1 engine.

Each part is linear in what drives it (arXiv:2606.07362): bytes of weights, or layers. The constants come from published
start-up logs of models of 3B to 235B parameters; single logs lie up to a factor of 2 away from them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from perfmodel.arrays import NAN, Array
from perfmodel.deployment import Deployments
from perfmodel.engines import Engine
from perfmodel.estimates.engine_shards import sharded
from perfmodel.hardware import host_link_bandwidth
from perfmodel.memory import weights_per_device
from perfmodel.models import ModelSpec

#: Bytes/s at which one device takes weights from the page cache of its host, and those of all devices of a host
#: together: 11.1 GiB per device in 2.6 s on two devices (vllm-project/vllm pull 23066, 2025-08).
DEVICE_LOAD, HOST_LOAD = 4.5e9, 9.1e9
#: Devices of one host. Assumed: what nearly all servers have at most.
HOST_DEVICES = 8.0
#: Seconds per layer of torch.compile without its cache, geometric mean of four logs: 4.60 + 14.77 s of the 32 layers of
#: Llama-3-8B (vllm-project/vllm pull 11005, 2024-12), 60.8 s of the 80 of Llama-3-70B and 111 s of the 94 of
#: Qwen3-235B-A22B (anyscale/ray-serve-llm-perf-examples replica_initialization @04ba8ab, 2025-10), 15 + 70 s of a
#: Llama-70B in fp8 (vllm-project/vllm issue 19824, 2025-06).
COMPILE = (19.37 / 32.0 * 60.8 / 80.0 * 111.0 / 94.0 * 85.0 / 80.0) ** 0.25
#: Seconds of reading the compiled graphs from their cache on disk, which hardly depend on layers, mean of three logs:
#: 5.03 + 4.19 s of Llama-3-8B (vllm-project/vllm pull 16848, 2025-04), 7.51 s of a 3B model (issue 20264, 2025-06),
#: 5.5 to 5.8 s of Qwen3-235B-A22B (as above).
COMPILE_CACHED = (9.22 + 7.51 + 5.65) / 3.0
#: Seconds per layer of capturing graphs: 10 s of 32 layers (vllm-project/vllm pull 11005, 2024-12).
CAPTURE = 10.0 / 32.0
#: Bytes/s at which a sleeping process takes its weights back from host memory, one device and all of a host together,
#: and seconds beside that: 61.7 GiB in 2.67 s on an H100 (llm-d/llm-d guides/gke-pod-snapshots @005cf57, 2026); 236 GB
#: on four A100 in 5.5 s, 1.2 GB on one in 0.26 s (vllm-project/vllm-project.github.io 2025-10-26-sleep-mode.md).
WAKE_DEVICE, WAKE_HOST, WAKE_FIXED = 24.8e9, 43.0e9, 0.2
#: Seconds of profiling and warm-up beside them: 39.3 s of an engine's start less the above (same source).
WARM_UP = 5.0
#: Seconds until weights begin to load: imports, configuration, tokenizer, workers. Mean of two: 59 s until the first
#: answer, of which its log explains 35 (vllm-project/vllm issue 20264, 2025-06); 37.6 s of Qwen3-0.6B on an A100, of
#: which the parts above explain 22 (vllm-project/vllm-project.github.io 2025-10-26-sleep-mode.md).
PROCESS = 20.0


class StartUp(NamedTuple):
    """Hold seconds of the parts of a start, (N,); NaN where they are not known.

    load: weights from the page cache of the host to the devices. compile, compile_cached: torch.compile, without and
    with its cache. capture: graphs. fixed: process, profiling and warm-up. wake: weights that sleep in host memory
    return to the devices of a process that lives on.
    """

    load: Array
    compile: Array
    compile_cached: Array
    capture: Array
    fixed: Array
    wake: Array

    @property
    def cold(self) -> Array:
        """Return the seconds until a replica serves whose weights lie on its host and whose caches are empty, (N,)."""
        return self.load + self.compile + self.capture + self.fixed

    @property
    def warm(self) -> Array:
        """Return the same with the cache of compiled graphs filled, (N,)."""
        return self.load + self.compile_cached + self.capture + self.fixed

    def columns(self) -> dict[str, Array]:
        """Return columns by name with unit, (N,) each."""
        return {
            "start_up_s": self.cold,
            "start_up_warm_s": self.warm,
            "weights_load_s": self.load,
            "compile_s": self.compile,
            "graph_capture_s": self.capture,
            "wake_s": self.wake,
        }


def start_up(model: ModelSpec, deployments: Deployments, engine: Engine) -> StartUp:
    """Estimate the parts of the start of one replica of each deployment, all of its hosts side by side.

    A download of the weights is not in it: it takes their bytes over the rate of your storage or network.
    """
    sharding = sharded(model, deployments, engine)
    weights = weights_per_device(sharding)
    on_host = np.minimum(deployments.devices_per_replica, HOST_DEVICES)
    link = np.array([host_link_bandwidth(d) for d in deployments.devices])[deployments.device]
    known = np.full(len(deployments), 1.0 if engine.family == "vllm" else NAN)
    captures = np.array([engine.captures(d) for d in deployments.devices])[deployments.device]
    captured = known * np.where(captures, model.layers, 0.0)  # layers that are compiled, and captured in graphs
    return StartUp(
        load=np.maximum(weights / DEVICE_LOAD, weights * on_host / HOST_LOAD),
        compile=captured * COMPILE,
        compile_cached=known * np.where(captures, COMPILE_CACHED, 0.0),
        capture=captured * CAPTURE,
        fixed=known * (PROCESS + WARM_UP),
        wake=known * (WAKE_FIXED + np.maximum(weights / np.minimum(link, WAKE_DEVICE), weights * on_host / WAKE_HOST)),
    )
