"""Where compiled code is kept: the first of several folders that can be written.

numba loads compiled code from there as Python pickles, so a folder that another user may write is never taken.
"""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

#: Held while numba's folder, a setting of the whole process, is ours.
_SETTING = threading.RLock()


def folder(fingerprint: int, what: str = "loop") -> Path | None:
    """Return the folder for compiled code of the sources with this checksum; None where none can be written.

    what: begins the name of the folder.
    """
    name = f"{what}-{fingerprint:08x}-numba-{_numba_version()}"
    return next((made for base in _bases() if (made := _usable(base / name)) is not None), None)


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
    try:
        return version("numba")
    except PackageNotFoundError:
        return "unknown"


def _bases() -> Iterator[Path]:
    """Yield folders in order: numba's own setting, beside the package, the user's cache, the temporary folder."""
    yield from stated()
    yield Path(__file__).parent / "__pycache__"
    yield from of_user()
    yield Path(tempfile.gettempdir()) / f"perfmodel-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"


def stated() -> list[Path]:
    """Return the folder of numba's own setting; none where it is not set."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    return [Path(given)] if given else []


def of_user() -> list[Path]:
    """Return our folder in the user's cache; none where nobody says where that is."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return [Path(cache) / "perfmodel"] if os.path.isabs(cache) else []  # "~" stays where no home folder is known


def _usable(place: Path) -> Path | None:
    """Return `place`, made where it is absent; None where it cannot be written, or somebody else may write it."""
    try:
        if not place.is_dir():
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            place.mkdir(mode=0o700, exist_ok=True)
        if not (_private(place) and _private(place.parent, stat.S_ISVTX)):
            return None
        with tempfile.TemporaryFile(dir=place):  # permissions alone do not tell: the file system may be read-only
            return place
    except OSError:
        return None


def _private(place: Path, allowed: int = 0) -> bool:
    """Return whether nobody but this user (and the system's administrator) may replace what is in a folder.

    allowed: a bit of the folder's mode with which others may write in it (the sticky bit keeps them off our files).
    """
    if not hasattr(os, "getuid"):
        return True
    found = place.lstat()
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid in (os.getuid(), 0)
    return mine and (not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or bool(found.st_mode & allowed))
