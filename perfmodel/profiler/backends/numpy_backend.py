"""NumPy backend: measures a processor, with BLAS for GEMMs and threads over slices for element-wise operators."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hwdb import InputError
from perfmodel.profiler import power, timing
from perfmodel.profiler.backends.protocol import Abilities, Call, NotHere
from perfmodel.profiler.grid import Point
from perfmodel.profiler.machine import machine

Values = NDArray[np.float32]

#: Element-wise operators of fewer bytes than this run on one thread, since starting others would take longer. Chosen.
ONE_THREAD = 2**20
#: Size of the buffer that flushes the caches: multiple of the last-level cache, and least bytes, since virtual machines
#: do not report their cache. Chosen.
FLUSH_FACTOR, FLUSH_LEAST = 2.0, 2**26
#: Environment variables that BLAS libraries read at start-up.
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
#: Largest share of main memory for one point. Chosen.
MEMORY_SHARE = 0.4
FP32_BYTES, FP64_BYTES = 4, 8
#: Rough bytes per value of the arrays of a point: three arrays of scores in prefill attention, keys and values and two
#: arrays of scores in decode attention; share of the moved bytes that element-wise operators allocate.
PREFILL_SCORE_BYTES, DECODE_BYTES, STREAM_SHARE = 12.0, 8.0, 1.5


class NumpyBackend:
    """Run fp32 operators on this machine's processors. Methods: see `perfmodel.profiler.backends.protocol.Backend`."""

    kind = "cpu"

    def __init__(self, threads: int = 0) -> None:
        host = machine()
        self.title, self.memory = host.title, host.memory
        self.vendor = next(
            (v for v in ("AMD", "Intel", "Apple", "Ampere") if v.lower() in host.title.lower()), "unknown"
        )
        self.threads = threads or host.cores
        self._limit = limit_threads(threads, host.cores)
        self.software = f"numpy {np.__version__} {blas()}"
        self.meter = power.processor()
        fewer = tuple(f"copy t{2**p}" for p in range(int(math.log2(self.threads)) + 1) if 2**p < self.threads)
        self.abilities = Abilities(
            gemms=(("fp32", "fp32"),), caches=("fp32",), kernels=("copy", "triad", *fewer), stream="fp32"
        )
        cache = host.cache if host.cache == host.cache else 0.0
        self._buffer = np.zeros(int(max(FLUSH_FACTOR * cache, FLUSH_LEAST)) // FP64_BYTES)
        self._pool = ThreadPoolExecutor(max_workers=self.threads)
        self._random = np.random.default_rng(0)

    def prepare(self, point: Point) -> Call:
        """Allocate the inputs of a point and return its call. Raises `NotHere` without a kernel or enough memory."""
        makers: dict[str, Callable[[Point], Call]] = {
            "gemm": self._gemm,
            "attention_prefill": self._prefill,
            "attention_decode": self._decode,
            "elementwise": self._stream,
        }
        if point.family not in makers or point.act != "fp32":
            raise NotHere(f"NumPy has no {point.act} {point.family}")
        if _footprint(point) > MEMORY_SHARE * self.memory:
            raise NotHere("larger than the memory available for a point")
        return makers[point.family](point)

    def flush(self) -> None:
        """Read and write a buffer larger than the caches."""
        self._buffer += 1.0

    def stopwatch(self, call: Call) -> float:
        """Return the wall time of one call, in s; NumPy calls return when they are done."""
        return timing.wall(call)

    def wait(self) -> None:
        """Return at once, since NumPy calls return when they are done."""

    def _values(self, *shape: int) -> Values:
        """Random fp32 values."""
        return np.asarray(self._random.standard_normal(shape, dtype=np.float32))

    def _gemm(self, point: Point) -> Call:
        x, weight = self._values(point["m"], point["k"]), self._values(point["n"], point["k"])
        out = np.empty((point["m"], point["n"]), dtype=np.float32)
        return lambda: np.matmul(x, weight.T, out=out)

    def _prefill(self, point: Point) -> Call:
        batch, query, shared, size = point["batch"], point["query"], point["kv_heads"], point["head_dim"]
        group = point["heads"] // shared
        q = self._values(batch, shared, group * query, size)
        k, v = self._values(batch, shared, query, size), self._values(batch, shared, query, size)
        future = np.tile(np.triu(np.full((query, query), -np.inf, dtype=np.float32), 1), (group, 1))

        def call() -> Values:
            scores = q @ k.swapaxes(-1, -2)
            scores += future
            return _softmax(scores) @ v

        return call

    def _decode(self, point: Point) -> Call:
        batch, context, shared, size = point["batch"], point["context"], point["kv_heads"], point["head_dim"]
        q = self._values(batch, shared, point["heads"] // shared, size)
        k, v = self._values(batch, shared, context, size), self._values(batch, shared, context, size)
        return lambda: _softmax(q @ k.swapaxes(-1, -2)) @ v

    def _stream(self, point: Point) -> Call:
        arrays = 3 if point.kernel == "triad" else 2
        count = max(1, point["moved_bytes"] // (FP32_BYTES * arrays))
        a, b, c = np.zeros(count, np.float32), np.ones(count, np.float32), np.ones(count, np.float32)
        threads = int(point.kernel.partition(" t")[2] or self.threads)
        threads = 1 if point["moved_bytes"] < ONE_THREAD else threads
        edges = np.linspace(0, count, threads + 1).astype(int)
        slices = [slice(i, j) for i, j in pairwise(edges)]

        def part(where: slice) -> None:
            if arrays == 2:
                np.copyto(a[where], b[where])
            else:
                np.add(b[where], c[where], out=a[where])

        if threads == 1:
            return lambda: part(slices[0])
        return lambda: wait([self._pool.submit(part, where) for where in slices])


def _softmax(scores: Values) -> Values:
    """Return the softmax of `scores` along the last axis."""
    scores = scores - scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def _footprint(point: Point) -> float:
    """Estimate the bytes of inputs and intermediate results of a point."""
    if point.family == "gemm":
        return FP32_BYTES * (point["m"] * point["k"] + point["n"] * point["k"] + point["m"] * point["n"])
    if point.family == "attention_prefill":
        return PREFILL_SCORE_BYTES * point["batch"] * point["heads"] * point["query"] ** 2
    if point.family == "attention_decode":
        return (
            DECODE_BYTES * point["batch"] * point["context"] * (point["kv_heads"] * point["head_dim"] + point["heads"])
        )
    return STREAM_SHARE * point["moved_bytes"]


def limit_threads(threads: int, cores: int) -> object:
    """Limit BLAS to `threads` threads (0: no limit), for as long as the caller keeps the returned object.

    cores: logical processors; the same number of threads needs no limit. Raises `InputError` if threadpoolctl is not
    installed and the environment does not already set the limit.
    """
    if not threads or threads == cores:
        return None
    try:
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        if any(os.environ.get(name) == str(threads) for name in THREAD_VARIABLES):
            return None
        raise InputError(
            f"--threads {threads}: set {THREAD_VARIABLES[0]}={threads} before the start, or pip install threadpoolctl"
        ) from error
    return threadpool_limits(limits=threads)


def blas() -> str:
    """Return name and version of the BLAS that NumPy was built with."""
    build = np.show_config(mode="dicts")
    found = (build or {}).get("Build Dependencies", {}).get("blas", {})
    return f"{found.get('name', 'blas')} {found.get('version', '')}".strip()
