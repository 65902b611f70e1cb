"""Select the backend: which ones can run on this machine, and which one to use."""

from __future__ import annotations

from collections.abc import Sequence

from hwdb import InputError, UnknownName
from perfmodel.profiler.backends.protocol import Backend

#: Names of the backends, the preferred one last.
BACKENDS = ("numpy", "torch-cpu", "torch-gpu")


def available() -> list[str]:
    """Return the names of the backends that can run on this machine, the preferred one last."""
    from importlib.util import find_spec

    found = ["numpy"]
    if find_spec("torch") is not None:
        import torch

        found.append("torch-cpu")
        if torch.cuda.is_available():
            found.append("torch-gpu")
    return found


def backend(name: str = "", index: int = 0, threads: int = 0) -> Backend:
    """Create the backend called `name`; "" selects the best available one.

    index: index of the GPU. threads: threads of a processor, 0 for all. Raises `UnknownName` for an unknown name,
    `InputError` if the library or device is missing.
    """
    have: Sequence[str] = available()
    chosen = name or have[-1]
    if chosen not in BACKENDS:
        raise UnknownName("profiler backend", chosen, BACKENDS)
    if chosen not in have:
        need = "a GPU that torch can use" if chosen == "torch-gpu" and "torch-cpu" in have else "torch"
        raise InputError(f"profiler backend {chosen!r} needs {need}; here are: {', '.join(have)}")
    if chosen == "numpy":
        from perfmodel.profiler.backends.numpy_backend import NumpyBackend

        return NumpyBackend(threads)
    from perfmodel.profiler.backends.torch_backend import TorchBackend

    return TorchBackend(f"cuda:{index}" if chosen == "torch-gpu" else "cpu", threads)
