"""The torch backend and the collectives without a GPU: a stand-in for torch that keeps time as a device would.

Where torch is installed the processor's path runs for real as well.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from perfmodel import profiler
from perfmodel.profiler import collectives, power
from perfmodel.profiler.backends.protocol import NotHere
from perfmodel.profiler.backends.torch_backend import TRAIN, TorchBackend
from perfmodel.profiles.importers import plain

SIZE = {"float32": 4, "bfloat16": 2, "float16": 2, "float8_e4m3fn": 1, "int8": 1}
#: Device seconds of a kernel and of its launch.
KERNEL, LAUNCH = 50e-6, 2e-6


class Tensor:
    """Shape and type; every operation on it advances the device's clock."""

    def __init__(self, clock: Clock, shape: tuple[int, ...], dtype: str) -> None:
        self.clock, self.shape, self.dtype = clock, shape, dtype

    def to(self, dtype: str) -> Tensor:
        return Tensor(self.clock, self.shape, dtype)

    def t(self) -> Tensor:
        return Tensor(self.clock, self.shape[::-1], self.dtype)

    def element_size(self) -> int:
        return SIZE[self.dtype]

    def add_(self, _: float) -> Tensor:
        self.clock.seconds += 1e-3
        return self

    def copy_(self, other: Tensor) -> Tensor:
        self.clock.seconds += LAUNCH
        return other


class Clock:
    """A GPU called `name` under a torch that knows what the backend asks for."""

    def __init__(
        self, name: str = "NVIDIA H100 80GB HBM3", capability: tuple[int, int] = (9, 0), hip: str | None = None
    ):
        self.seconds = 0.0
        torch: Any = ModuleType("torch")
        torch.__version__ = "9.9"
        torch.__spec__ = SimpleNamespace(name="torch")
        torch.version = SimpleNamespace(hip=hip, cuda=None if hip else "12.8")
        for dtype in SIZE:
            setattr(torch, dtype, dtype)
        torch.device = lambda text: SimpleNamespace(type=text.partition(":")[0], index=0)
        for maker in ("zeros", "ones", "empty", "randn"):
            setattr(torch, maker, self.make)
        torch.randint = lambda _low, _high, shape, dtype, device: self.make(shape, dtype=dtype)
        torch.add = lambda _b, _c, out: self.spend(out)
        torch._int_mm = lambda x, w: self.matrix(x, w)
        torch._scaled_mm = lambda x, w, **_: self.matrix(x, w)
        torch.nn = SimpleNamespace(
            functional=SimpleNamespace(
                linear=lambda x, w: self.matrix(x, w.t()), scaled_dot_product_attention=self.attention
            )
        )
        torch.cuda = SimpleNamespace(
            is_available=lambda: True,
            get_device_capability=lambda _: capability,
            Event=self.event,
            get_device_properties=lambda _: SimpleNamespace(name=name, total_memory=80e9, L2_cache_size=50e6),
            synchronize=lambda _=None: None,
            CUDAGraph=self.graph,
            graph=self.capture,
        )
        self.torch = torch

    def make(self, *shape: Any, dtype: str = "float32", device: Any = None) -> Tensor:
        flat = shape[0] if shape and isinstance(shape[0], tuple) else shape
        return Tensor(self, flat, dtype)

    def spend(self, out: Tensor) -> Tensor:
        self.seconds += KERNEL
        return out

    def matrix(self, x: Tensor, w: Tensor) -> Tensor:
        if x.shape[1] != w.shape[0]:
            raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied\n{x.shape} {w.shape}")
        if x.dtype == "int8" and x.shape[0] <= 16:
            raise RuntimeError("self.size(0) needs to be greater than 16\nin _int_mm")
        return self.spend(x)

    def attention(self, q: Tensor, k: Tensor, v: Tensor, **_: bool) -> Tensor:
        assert q.shape[1] % k.shape[1] == 0
        return self.spend(q)

    def event(self, **_: bool) -> Any:
        stamp = SimpleNamespace(at=math.nan)
        stamp.record = lambda: setattr(stamp, "at", self.seconds)
        stamp.synchronize = lambda: None
        stamp.elapsed_time = lambda end: (end.at - stamp.at) * 1e3
        return stamp

    def graph(self) -> Any:
        held = SimpleNamespace(took=0.0)
        held.replay = lambda: setattr(self, "seconds", self.seconds + held.took / 4.0)
        return held

    def capture(self, held: Any) -> Any:
        clock = self

        class Capturing:
            def __enter__(self) -> None:
                self.start = clock.seconds

            def __exit__(self, *_: object) -> None:
                held.took = clock.seconds - self.start

        return Capturing()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., TorchBackend]:
    """Makes a backend on a pretended GPU."""

    def make(**facts: Any) -> TorchBackend:
        monkeypatch.setitem(sys.modules, "torch", Clock(**facts).torch)
        monkeypatch.setattr(power, "nvidia", lambda _index: None)
        return TorchBackend("cuda:0")

    return make


class TestGpu:
    def test_it_describes_itself(self, gpu: Callable[..., TorchBackend]):
        backend = gpu()
        assert (backend.title, backend.kind, backend.vendor) == ("NVIDIA H100 80GB HBM3", "gpu", "NVIDIA")
        assert backend.software == "torch 9.9 cuda 12.8"
        assert gpu(name="AMD Instinct MI300X", hip="6.4").software == "torch 9.9 rocm 6.4"

    @pytest.mark.parametrize(("capability", "has"), [((8, 0), False), ((8, 9), True), ((10, 0), True)])
    def test_fp8_where_the_chip_has_it(self, gpu: Callable[..., TorchBackend], capability: tuple[int, int], has: bool):
        assert (("fp8", "fp8") in gpu(capability=capability).abilities.gemms) is has

    def test_events_time_the_kernel_and_not_the_flush(self, gpu: Callable[..., TorchBackend]):
        backend = gpu()
        call = backend.prepare(profiler.point("gemm", m=64, n=128, k=256, weight="bf16", act="bf16"))
        backend.flush()
        assert backend.stopwatch(call) == pytest.approx(KERNEL)

    @pytest.mark.parametrize(("kernel", "each"), [("launch", LAUNCH), ("graph launch", LAUNCH / 4.0)])
    def test_a_train_of_launches_is_divided_by_its_length(
        self, gpu: Callable[..., TorchBackend], kernel: str, each: float
    ):
        backend = gpu()
        call = backend.prepare(profiler.point("elementwise", kernel, moved_bytes=4096, act="bf16"))
        assert backend.stopwatch(call) == pytest.approx(each)
        assert TRAIN > 50
        with pytest.raises(NotHere, match="small operands"):
            backend.prepare(profiler.point("elementwise", kernel, moved_bytes=2**26, act="bf16"))

    def test_a_kernel_that_refuses_is_counted_and_not_fatal(self, gpu: Callable[..., TorchBackend]):
        backend = gpu()
        with pytest.raises(NotHere, match=r"needs to be greater than 16$"):
            backend.prepare(profiler.point("gemm", m=8, n=128, k=256, weight="int8", act="int8"))
        with pytest.raises(NotHere, match="larger than the memory"):
            backend.prepare(profiler.point("gemm", m=8, n=10**6, k=10**5, weight="bf16", act="bf16"))

    def test_the_whole_grid_runs_and_fits(self, gpu: Callable[..., TorchBackend], tmp_path: Path):
        backend, path = gpu(), tmp_path / "rows.csv"
        effort = profiler.Effort(warmup=1, repeats=2, least=1)
        run = profiler.measure(backend, profiler.everything(backend, "small"), path, device="my-h100", effort=effort)
        table = plain.read(path)
        assert run.measured == len(table)
        assert set(run.refused) == {
            "self.size(0) needs to be greater than 16",
            "launches are timed on small operands of a GPU",
        }
        assert {"bf16", "fp16", "int8", "fp8"} == set(table.family("gemm")["act"])
        assert {"launch", "graph launch", "copy", "add"} == set(table.family("elementwise")["kernel"])
        np.testing.assert_allclose(table.family("attention_decode")["time"], KERNEL)


class TestCollectives:
    """The calls each rank makes, seen through a stand-in for torch.distributed."""

    @pytest.mark.parametrize("family", ["all_reduce", "all_gather", "reduce_scatter", "all_to_all"])
    def test_the_full_vector_has_the_message_s_bytes(self, family: str):
        clock, seen = Clock(), []
        clock.torch.empty_like = lambda x: x
        names = ("all_reduce", "all_gather_single", "reduce_scatter_single", "all_to_all_single")
        distributed = SimpleNamespace(**{n: lambda *a: seen.append([math.prod(x.shape) * 4 for x in a]) for n in names})
        point = profiler.point(family, message_bytes=2**20, group=4, act="fp32")
        collectives._call(distributed, clock.torch, point, None, 0)()
        assert max(seen[0]) == 2**20
        if family in ("all_gather", "reduce_scatter"):
            assert min(seen[0]) == 2**18

    @pytest.mark.parametrize(("rank", "calls"), [(0, ["send 1"]), (1, ["recv 0"]), (2, [])])
    def test_point_to_point_is_rank_0_to_rank_1(self, rank: int, calls: list[str]):
        seen: list[str] = []
        distributed = SimpleNamespace(
            send=lambda _, to: seen.append(f"send {to}"), recv=lambda _, of: seen.append(f"recv {of}")
        )
        collectives._pass_on(distributed, None, None, rank)
        assert seen == calls

    def test_every_rank_makes_the_same_number_of_calls(self):
        calls: list[int] = []
        effort = profiler.Effort(warmup=3, repeats=7)
        time = collectives._median(lambda: calls.append(1), effort, lambda: None, lambda: None)
        assert len(calls) == 10
        assert 0.0 <= time < 1.0


if find_spec("torch") is not None:  # an optional dependency

    def test_torch_measures_every_format_of_a_processor(tmp_path: Path):
        backend = profiler.backend("torch-cpu")
        points = [p for p in profiler.everything(backend, "small") if p.cost < 1e8]
        run = profiler.measure(backend, points, tmp_path / "r.csv", device="x", effort=profiler.Effort(repeats=3))
        assert run.measured + sum(run.refused.values()) == len(points)
        assert {"fp32", "bf16"} <= set(plain.read(tmp_path / "r.csv")["act"])

    def test_collectives_between_two_processes(tmp_path: Path):
        effort = profiler.Effort(warmup=1, repeats=3)
        found = [
            collectives.measure(tmp_path / "r.csv", device="x", group=2, size="small", transport="gloo", effort=effort)
            for _ in range(2)
        ]
        assert found == [15, 0]
        assert set(plain.read(tmp_path / "r.csv")["group"]) == {2.0}
