"""Keep what shipped TOML files say in a form that is read a hundred times as fast: tomllib takes a second per megabyte.

An entry has the name of its text's hash, so that a changed file never gets the values of another text. Entries lie
beside the package, else in the user's cache; where neither can be written, files are parsed each time.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from hwdb import private_folder

#: Where shipped files lie: the packages, and the profiles beside them in a checkout. Other files there are the user's.
_SHIPPED = tuple(
    str(Path(__file__).resolve().parents[1] / name) + os.sep for name in ("hwdb", "perfmodel", "search", "data")
)
#: Characters from which a text is kept. Chosen: less is parsed as fast as found.
_LEAST = 1000
#: Name of the folder of entries; a new one where their form changes.
_FOLDER = "toml-1"
#: Entries above which all are removed: they are of files that changed. Chosen: several times what is shipped.
_MOST = 3000


def values(text: str, file: str) -> dict[str, Any] | None:
    """Return what a text was found to say before; None where it is not kept. file: where it was read."""
    place = _entry(text) if _kept(text, file) else None
    if place is None:
        return None
    try:
        found = json.loads(place.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def keep(text: str, file: str, found: dict[str, Any]) -> None:
    """Keep what a text says, for other processes. Nothing is kept of dates and times, or where no folder is ours."""
    place = _entry(text) if _kept(text, file) and not sys.dont_write_bytecode else None
    if place is None or _writable(place.parent) is None:
        return
    with suppress(OSError, TypeError):  # TypeError: a date
        _write(place, json.dumps(found).encode())


def _write(place: Path, content: bytes) -> None:
    """Write an entry so that other processes find all of it or nothing. `OSError` where it cannot be written."""
    import tempfile

    descriptor, name = tempfile.mkstemp(dir=place.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        os.replace(name, place)
    except OSError:  # a full disk: nothing is left behind
        os.unlink(name)
        raise


def _kept(text: str, file: str) -> bool:
    """Return whether a text is worth keeping and of a shipped file; what users write changes, and is theirs."""
    return len(text) >= _LEAST and file.startswith(_SHIPPED)


def _entry(text: str) -> Path | None:
    """Return the file of the entry of a text; None where there is no folder for it."""
    folder = _folder()
    return None if folder is None else folder / hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@lru_cache(maxsize=1)
def _folder() -> Path | None:
    """Return the folder of entries: one that is ours already, else the first that can be made; None where none can.

    One that the administrator made for themselves is nobody else's: they can neither read nor write it.
    """
    places = [base / _FOLDER for base in (Path(__file__).parent / "__pycache__", *private_folder.of_user())]
    ours = (place for place in places if private_folder.private(place) and os.access(place, os.R_OK | os.X_OK))
    return next(ours, None) or (None if sys.dont_write_bytecode else next(filter(None, map(_writable, places)), None))


@lru_cache(maxsize=8)
def _writable(place: Path) -> Path | None:
    """Return the folder, made where it is absent, without old entries; None where it cannot be written."""
    found = private_folder.usable(place)
    with suppress(OSError):
        entries = list(os.scandir(found)) if found is not None else []
        for entry in entries if len(entries) > _MOST else ():
            os.unlink(entry.path)
    return found
