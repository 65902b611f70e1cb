"""torch backend: measures a processor or a GPU (CUDA or ROCm). torch is imported when the backend is created."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perfmodel.profiler import power, timing
from perfmodel.profiler.backends.protocol import Abilities, Call, NotHere
from perfmodel.profiler.grid import Point
from perfmodel.profiler.machine import machine

#: Number format -> name of the type in torch.
TYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "fp8": "float8_e4m3fn", "int8": "int8"}
#: Least compute capability of NVIDIA GPUs that multiply fp8 (NVIDIA CUDA C++ Programming Guide, table of types).
FP8_CAPABILITY = (8, 9)
#: Size of the buffer that flushes the caches: multiple of the last-level cache, and least bytes. Chosen.
FLUSH_FACTOR, FLUSH_LEAST = 2.0, 2**26
#: Largest share of the memory for one point. Chosen.
MEMORY_SHARE = {"cpu": 0.4, "gpu": 0.8}
#: Launches that are timed together, since one is too short to time. Chosen.
TRAIN = 200
#: Most bytes of an operator whose time is that of its launch. Chosen.
LAUNCH_BYTES = 2**20
#: Range of random int8 values. Chosen: within that of the type.
INT8_RANGE = (-100, 100)
MILLI = 1e-3
FP32_BYTES = 4
#: Rough bytes per value of queries, keys, values and results together; share of the moved bytes that element-wise
#: operators allocate.
ATTENTION_BYTES, STREAM_SHARE = 16.0, 1.5


class TorchBackend:
    """Run operators with torch on `device` ("cpu" or "cuda:0"). Methods: see
    `perfmodel.profiler.backends.protocol.Backend`."""

    def __init__(self, device: str, threads: int = 0) -> None:
        import torch

        self._torch: Any = torch
        self.device = torch.device(device)
        self.kind = "gpu" if self.device.type == "cuda" else "cpu"
        self._describe(threads)
        self._buffer = torch.zeros(int(self._flush_bytes()) // FP32_BYTES, dtype=torch.float32, device=self.device)

    def _describe(self, threads: int) -> None:
        """Set the attributes that describe the device and what it can run."""
        torch = self._torch
        if self.kind == "cpu":
            host = machine()
            if threads:
                torch.set_num_threads(threads)
            self.title, self.memory, self._cache = host.title, host.memory, host.cache
            self.vendor = next((v for v in ("AMD", "Intel", "Apple", "Ampere") if v in host.title), "unknown")
            self.software = f"torch {torch.__version__}"
            self.meter = power.processor()
            gemms = (("fp32", "fp32"), ("bf16", "bf16"), ("int8", "int8"))
            self.abilities = Abilities(gemms=gemms, caches=("fp32", "bf16"), kernels=("copy", "add"), stream="fp32")
            return
        facts = torch.cuda.get_device_properties(self.device)
        rocm = getattr(torch.version, "hip", None)
        self.title, self.memory = facts.name, float(facts.total_memory)
        self._cache = float(getattr(facts, "L2_cache_size", 0))
        self.vendor = "AMD" if rocm else "NVIDIA"
        self.software = f"torch {torch.__version__} {'rocm ' + rocm if rocm else 'cuda ' + str(torch.version.cuda)}"
        self.meter = None if rocm else power.nvidia(self.device.index or 0)
        fp8 = rocm or torch.cuda.get_device_capability(self.device) >= FP8_CAPABILITY
        gemms = (("bf16", "bf16"), ("fp16", "fp16"), ("int8", "int8"), *((("fp8", "fp8"),) if fp8 else ()))
        kernels = ("copy", "add", "launch", "graph launch")
        self.abilities = Abilities(gemms=gemms, caches=("bf16",), kernels=kernels, stream="bf16")

    def _flush_bytes(self) -> float:
        """Return the bytes of the buffer that flushes the caches."""
        return max(FLUSH_FACTOR * self._cache if self._cache == self._cache else 0.0, FLUSH_LEAST)

    def prepare(self, point: Point) -> Call:
        """Allocate the inputs of a point and return its call. Raises `NotHere` without a kernel or enough memory."""
        makers: dict[str, Callable[[Point], Call]] = {
            "gemm": self._gemm,
            "attention_prefill": self._prefill,
            "attention_decode": self._decode,
            "elementwise": self._stream,
        }
        if point.family not in makers or point.act not in TYPES:
            raise NotHere(f"torch backend has no {point.act} {point.family}")
        if _footprint(point) > MEMORY_SHARE[self.kind] * self.memory:
            raise NotHere("larger than the memory available for a point")
        try:
            call = makers[point.family](point)
            call()
            self.wait()
        except (RuntimeError, NotImplementedError, AttributeError, ValueError) as error:  # raised for missing kernels
            raise NotHere(str(error).splitlines()[0]) from error
        return call

    def flush(self) -> None:
        """Read and write a buffer larger than the caches."""
        self._buffer.add_(1.0)

    def stopwatch(self, call: Call) -> float:
        """Return the seconds of one call: on a GPU, device time between two events, which excludes launch time; on a
        processor, wall time."""
        if self.kind == "cpu":
            return timing.wall(call)
        begin, end = (self._torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        trains = TRAIN if getattr(call, "train", False) else 1
        return float(begin.elapsed_time(end)) * MILLI / trains

    def wait(self) -> None:
        """Wait until the queue of a GPU is empty."""
        if self.kind == "gpu":
            self._torch.cuda.synchronize(self.device)

    def _values(self, kind: str, *shape: int) -> Any:
        torch = self._torch
        if kind == "int8":
            return torch.randint(*INT8_RANGE, shape, dtype=torch.int8, device=self.device)
        wide = torch.randn(shape, dtype=torch.float32 if kind == "fp32" else torch.bfloat16, device=self.device)
        return wide.to(getattr(torch, TYPES[kind]))

    def _gemm(self, point: Point) -> Call:
        torch = self._torch
        x = self._values(point.act, point["m"], point["k"])
        weight = self._values(point.weight, point["n"], point["k"])
        if point.act == "int8":
            return lambda: torch._int_mm(x, weight.t())
        if point.act == "fp8":
            one = torch.ones((), device=self.device)
            return lambda: torch._scaled_mm(x, weight.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)
        return lambda: torch.nn.functional.linear(x, weight)

    def _heads(self, point: Point, keys: int, queries: int) -> tuple[Any, Any, Any]:
        batch, size = point["batch"], point["head_dim"]
        q = self._values(point.act, batch, point["heads"], queries, size)
        k, v = (self._values(point.kv, batch, point["kv_heads"], keys, size) for _ in range(2))
        return q, k, v

    def _prefill(self, point: Point) -> Call:
        attention = self._torch.nn.functional.scaled_dot_product_attention
        q, k, v = self._heads(point, point["query"], point["query"])
        return lambda: attention(q, k, v, is_causal=True, enable_gqa=True)

    def _decode(self, point: Point) -> Call:
        attention = self._torch.nn.functional.scaled_dot_product_attention
        q, k, v = self._heads(point, point["context"], 1)
        return lambda: attention(q, k, v, enable_gqa=True)

    def _stream(self, point: Point) -> Call:
        torch = self._torch
        kind = getattr(torch, TYPES[point.act])
        arrays = 3 if point.kernel == "add" else 2
        count = max(1, point["moved_bytes"] // (arrays * torch.empty((), dtype=kind).element_size()))
        a, b, c = (torch.ones(count, dtype=kind, device=self.device) for _ in range(3))
        if point.kernel == "add":
            return lambda: torch.add(b, c, out=a)
        if point.kernel == "copy":
            return lambda: a.copy_(b)
        if self.kind == "cpu" or point["moved_bytes"] > LAUNCH_BYTES:
            raise NotHere("launches are timed on small operands of a GPU")
        return self._launches(point.kernel, lambda: a.copy_(b))

    def _launches(self, kernel: str, one: Call) -> Call:
        """Return a call that launches `TRAIN` tiny kernels, to measure launch time; `stopwatch` divides by their
        number."""
        torch = self._torch

        def train() -> None:
            for _ in range(TRAIN):
                one()

        repeated: Any = train
        if kernel == "graph launch":
            graph = torch.cuda.CUDAGraph()
            one()
            with torch.cuda.graph(graph):
                train()

            def replay() -> None:
                graph.replay()

            repeated = replay
        repeated.train = True
        call: Call = repeated
        return call


def _footprint(point: Point) -> float:
    """Estimate the bytes of inputs and results of a point, at four bytes per value."""
    if point.family == "gemm":
        return FP32_BYTES * (point["m"] * point["k"] + point["n"] * point["k"] + point["m"] * point["n"])
    if point.family == "elementwise":
        return STREAM_SHARE * point["moved_bytes"]
    keys = point["query"] if point.family == "attention_prefill" else point["context"]
    return ATTENTION_BYTES * point["batch"] * keys * point["heads"] * point["head_dim"]
