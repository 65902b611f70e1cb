"""The compiled event loop, loaded on first use.

numba takes most of a second to import. The first run on a machine compiles the loop; later ones read it from numba's
cache on disk.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from perfmodel import cache_folder
from perfmodel.simulator.kernel.state import Arrays

#: Modules whose code is compiled. A change in any of them must compile it anew.
SOURCES = (
    "core",
    "planning",
    "admission",
    "holding",
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
LOG = logging.getLogger("perfmodel.simulator")
#: Said before the loop is compiled; times on one core of a server of 2020.
COMPILING = "perfmodel: compiling the simulator for long runs; this takes about 20 s, {}"
KEPT, NOT_KEPT = "once on this machine", "and on each run, because no folder for caches can be written"


def fingerprint() -> int:
    """Checksum of the compiled sources."""
    folder = Path(__file__).parent
    return zlib.crc32(b"".join((folder / f"{name}.py").read_bytes() for name in SOURCES))


@lru_cache(maxsize=1)
def _spaces() -> dict[str, dict[str, Any]]:
    """The modules of the loop with compiled functions."""
    from perfmodel.simulator.kernel import core, jit, tokenwalk

    del core, tokenwalk  # importing them marks what is compiled
    return jit.compiled_spaces()


@lru_cache(maxsize=1)
def _folder() -> Path | None:
    """Where compiled code of this version is kept; None where no folder can be written."""
    return cache_folder.folder(fingerprint())


def ready(part: str = "advance") -> bool:
    """Whether a compiled function ("advance", "walk") is loaded or kept on disk, so that using it compiles nothing."""
    made = {"advance": advance, "walk": token_walk}[part]
    if made.cache_info().currsize:
        return True
    folder = _folder()
    return folder is not None and any(folder.rglob(f"*.{part}_cached-*.nbc"))


@lru_cache(maxsize=1)
def advance() -> Callable[[Arrays, int], Any]:
    """`perfmodel.simulator.kernel.core.advance`, compiled."""
    from perfmodel.simulator.kernel import core

    if not ready("advance"):
        LOG.warning(COMPILING.format(KEPT if _folder() else NOT_KEPT))
    return _outer(core)


@lru_cache(maxsize=1)
def token_walk() -> Callable[[Any, Any, Any, tuple[float, float], Any], Any]:
    """`perfmodel.simulator.kernel.tokenwalk.walk`, compiled."""
    from perfmodel.simulator.kernel import tokenwalk

    return _outer(tokenwalk)


def _outer(module: Any) -> Callable[..., Any]:
    """Return what `cached` of a module makes, compiled when it is first called."""
    from perfmodel.simulator.kernel import jit

    made = jit.outer(module.cached, fingerprint(), _spaces()[module.__name__], _folder())

    def call(*arguments: Any) -> Any:
        """Call the compiled function; where its code cannot be kept, it is there all the same."""
        try:
            return made(*arguments)
        except OSError:  # numba compiles, then writes to its cache (a full disk), then runs
            return made(*arguments)

    return call
