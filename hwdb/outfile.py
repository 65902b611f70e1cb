"""Write output files: as a whole or not at all.

The content goes to a temporary file in the same folder, which takes the name of the output once it is complete and on
the disk. Whatever ends the process before (a full disk, a signal) leaves the old file as it was.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from hwdb.errors import InputError
from hwdb.infile import is_input

#: Mode of a new file before the user's mask is applied.
_NEW_MODE = 0o666
#: Names of the open streams of the process -> their descriptors. They are written to, not replaced.
_STREAMS = {"/dev/stdout": 1, "/dev/fd/1": 1, "/dev/stderr": 2, "/dev/fd/2": 2}
#: Characters of the output's name that the name of its temporary file repeats.
_SHOWN = 40


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, gzipped where its name ends in `.gz`. Raises as `replaced` does."""
    import gzip

    data = text.encode("utf-8", "backslashreplace")
    with replaced(path) as file:
        file.write_bytes(gzip.compress(data, mtime=0) if str(path).endswith(".gz") else data)


def check(path: str | Path, *inputs: str | Path) -> None:
    """Raise `InputError` where `path` cannot be an output: no such folder, a folder, an input of the same run.

    Commands call it before they work for long; inputs: files that they are about to read.
    """
    if str(path) == "-":
        raise InputError("-: is no name of a file; give one, or /dev/stdout for the standard output")
    if str(path) in _STREAMS:
        return
    target = _target(path)
    if not target.parent.is_dir():
        raise InputError(f"{path}: cannot be written (no such folder: {target.parent}); create it first")
    if target.is_dir():
        raise InputError(f"{path}: cannot be written (it is a folder); give the path of a file")
    if is_input(target) or any(_same(target, file) for file in inputs):
        raise InputError(f"{path}: is an input of this run and is not overwritten; give another file")


def beside(path: str | Path) -> TextIO:
    """Return where a sentence about an output goes: standard error where the output itself is the standard output."""
    return sys.stderr if _STREAMS.get(str(path)) == 1 else sys.stdout


@contextmanager
def replaced(path: str | Path) -> Iterator[Path]:
    """Yield the path of an empty temporary file, which becomes the file at `path` when the block ends without an error.

    A device or a named pipe is written directly; an open stream (/dev/stdout) when the block has ended. Raises
    `InputError` where the file cannot be written.
    """
    check(path)
    target = _target(path)
    try:
        if str(path) in _STREAMS:
            with _to_stream(_STREAMS[str(path)]) as made:
                yield made
            return
        old = target.stat() if target.exists() else None
        if old is not None and not stat.S_ISREG(old.st_mode):
            yield target
            return
        with _temporary(target) as made:
            yield made
            _settle(made, old)
            os.replace(made, target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path}: cannot be written ({reason}); what was there is unchanged") from error


@contextmanager
def _to_stream(number: int) -> Iterator[Path]:
    """Yield an empty file, whose content goes to an open descriptor: a pipe, a terminal, or the end of a file."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "output"
        made.touch()
        yield made
        with open(number, "wb", closefd=False) as stream:
            stream.write(made.read_bytes())


def _same(one: Path, other: str | Path) -> bool:
    """Return whether two paths lead to the same existing file."""
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return False


def _target(path: str | Path) -> Path:
    """Return the file to replace: the one that a link leads to. `InputError` for an impossible path."""
    try:
        return Path(os.path.realpath(path))
    except ValueError as error:  # a NUL character
        raise InputError(f"{str(path)!r}: no path of a file ({error}); give another") from None


@contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """Yield an empty file beside `target`, and remove it where it is still there afterwards."""
    import tempfile

    prefix, suffix = f".{target.name[:_SHOWN]}.", f".part{target.suffix}"
    descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=target.parent)
    os.close(descriptor)
    made = Path(name)
    try:
        yield made
    finally:
        with suppress(OSError):
            made.unlink(missing_ok=True)


def _settle(made: Path, old: os.stat_result | None) -> None:
    """Give a written file its mode (that of the file it replaces) and bring it to the disk."""
    mask = os.umask(0)
    os.umask(mask)
    made.chmod(_NEW_MODE & ~mask if old is None else stat.S_IMODE(old.st_mode))
    with made.open("rb+") as stream:
        os.fsync(stream.fileno())
