"""Which backend runs here."""

from __future__ import annotations

from collections.abc import Sequence

from hwdb import InputError, UnknownName
from perfmodel.profiler.backends.protocol import Backend

BACKENDS = ("numpy", "torch-cpu", "torch-gpu")


def available() -> list[str]:
    """Backends that can run here."""
    from importlib.util import find_spec

    found = ["numpy"]
    if find_spec("torch") is not None:
        import torch

        found.append("torch-cpu")
        if torch.cuda.is_available():
            found.append("torch-gpu")
    return found


def backend(name: str = "", index: int = 0, threads: int = 0) -> Backend:
    """The backend called `name`; "" takes the best there is. index: which GPU. threads: of a processor, 0 for all.

    Raises `UnknownName` for another name, `InputError` where its library or device is missing.
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
