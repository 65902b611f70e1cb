"""Where compiled code is kept: the first of several folders that can be written.

numba loads compiled code from there as Python pickles, so a folder that another user may write is never taken.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hwdb.private_folder import of_user, usable

#: Held while numba's folder, a setting of the whole process, is ours.
_SETTING = threading.RLock()


def folder(fingerprint: int, what: str = "loop") -> Path | None:
    """Return the folder for compiled code of the sources with this checksum; None where none can be written.

    what: begins the name of the folder.
    """
    name = f"{what}-{fingerprint:08x}-numba-{_numba_version()}"
    return next((made for base in _bases() if (made := usable(base / name)) is not None), None)


@contextmanager
def kept_in(place: Path, settings: Any) -> Iterator[None]:
    """Have numba keep what is compiled meanwhile in the folder `place`; other threads wait with theirs.

    settings: `numba.config`.
    """
    with _SETTING:
        before, settings.CACHE_DIR = settings.CACHE_DIR, str(place)
        try:
            yield
        finally:
            settings.CACHE_DIR = before


def _numba_version() -> str:
    """Return the version of numba without importing it."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("numba")
    except PackageNotFoundError:
        return "unknown"


def _bases() -> Iterator[Path]:
    """Yield folders in order: numba's own setting, beside the package, the user's cache, the temporary folder."""
    yield from stated()
    yield Path(__file__).parent / "__pycache__"
    yield from of_user()
    import tempfile

    yield Path(tempfile.gettempdir()) / f"perfmodel-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"


def stated() -> list[Path]:
    """Return the folder of numba's own setting, as a list; [] where it is not set."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    return [Path(given)] if given else []
