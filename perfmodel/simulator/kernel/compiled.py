"""The compiled loop, loaded on first use: numba takes most of a second to import, and the first run on a machine
compiles; later ones read the result from numba's cache on disk."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from perfmodel.simulator.kernel.state import Arrays

SOURCES = ("core", "lifecycle", "queues", "kvcache", "router", "steptime", "state", "jit")


def fingerprint() -> int:
    """Check sum of the sources of the compiled loop."""
    folder = Path(__file__).parent
    return zlib.crc32(b"".join((folder / f"{name}.py").read_bytes() for name in SOURCES))


@lru_cache(maxsize=1)
def advance() -> Callable[[Arrays, int], int]:
    """`perfmodel.simulator.kernel.core.advance`, compiled."""
    from perfmodel.simulator.kernel import core

    return core.cached(fingerprint())
