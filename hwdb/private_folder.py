"""Folders for what is kept from one run to the next: nobody but the user may change what is in them."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def of_user() -> list[Path]:
    """Return our folder in the user's cache, as a list; [] where no home folder is known."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return [Path(cache) / "perfmodel"] if os.path.isabs(cache) else []  # "~" stays where no home folder is known


def usable(place: Path) -> Path | None:
    """Return `place`, made where it is absent; None where it cannot be written, or somebody else may write it."""
    import tempfile

    try:
        if not place.is_dir():
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            place.mkdir(mode=0o700, exist_ok=True)
        if not private(place):
            return None
        with tempfile.TemporaryFile(dir=place):  # permissions alone do not tell: the file system may be read-only
            return place
    except OSError:
        return None


def private(place: Path) -> bool:
    """Return whether nobody but this user (and the system's administrator) may replace what is in a folder."""
    try:
        # others may write beside it where the sticky bit keeps them off our files
        return _own(place) and _own(place.parent, stat.S_ISVTX)
    except OSError:
        return False


def _own(place: Path, allowed: int = 0) -> bool:
    """Return whether a folder is this user's or the administrator's, and nobody else may write in it.

    allowed: a bit of the folder's mode with which others may.
    """
    if not hasattr(os, "getuid"):
        return True
    found = place.lstat()
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid in (os.getuid(), 0)
    return mine and (not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or bool(found.st_mode & allowed))
