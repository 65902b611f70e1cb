"""The compiled event loop, loaded on first use.

numba takes most of a second to import. The first run on a machine compiles the loop; later ones read it from numba's
cache on disk.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from perfmodel.simulator.kernel.state import Arrays

#: Modules whose code is compiled. A change in any of them must compile it anew.
SOURCES = (
    "core",
    "planning",
    "admission",
    "lifecycle",
    "queues",
    "kvcache",
    "router",
    "steptime",
    "tokenwalk",
    "records",
    "state",
    "jit",
)


def fingerprint() -> int:
    """Checksum of the compiled sources."""
    folder = Path(__file__).parent
    return zlib.crc32(b"".join((folder / f"{name}.py").read_bytes() for name in SOURCES))


@lru_cache(maxsize=1)
def advance() -> Callable[[Arrays, int], int]:
    """`perfmodel.simulator.kernel.core.advance`, compiled."""
    from perfmodel.simulator.kernel import core

    return core.cached(fingerprint())


@lru_cache(maxsize=1)
def token_walk() -> Callable[[Any, Any, Any, tuple[float, float], Any], None]:
    """`perfmodel.simulator.kernel.tokenwalk.walk`, compiled."""
    from perfmodel.simulator.kernel import tokenwalk

    return tokenwalk.cached(fingerprint())
