"""Read the files that people hand over: whole, with a limit on their size, and only files that end.

A device such as /dev/zero never ends and a pipe may never begin; both are refused in a sentence, while the pipe of a
shell's `<(command)` is read. The command line keeps a list of the files that it reads (`recorded`), so that no output
of the same run overwrites one of them.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hwdb.errors import InputError

_MIB = 2**20
#: Most bytes of a configuration (TOML, JSON). Chosen: hundreds of times the largest that people write, parsed in
#: seconds.
MOST_CONFIG = 4 * _MIB
#: Most bytes of a table (a trace, cases, measured rows), also after unpacking. Chosen: 20 million requests.
MOST_TABLE = 1024 * _MIB
#: Seconds for which a pipe may bring nothing. Chosen: a command that is slow to start is waited for.
MOST_SILENCE = 20.0
_CHUNK = _MIB
#: What to do about a file that cannot be read, where the reader knows nothing better.
GIVE_ANOTHER = "give the path of an existing file"
GZIP_MAGIC = b"\x1f\x8b"
#: First bytes of files that hold tables and are no text -> what they are.
_NO_TEXT = {
    b"PK\x03\x04": "a spreadsheet or a zip archive",
    b"\xd0\xcf\x11\xe0": "a spreadsheet of the old kind (.xls)",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF file",
}
#: Bytes at the beginning of a file that show whether every other one is 0 (UTF-16 without its mark).
_LOOK = 200
#: `zlib`'s code for the gzip format.
_GZIP_FORMAT = 31

#: Device and inode of the files read so far; None where nobody keeps the list.
_read: set[tuple[int, int]] | None = None


@contextmanager
def read_errors(path: str | Path, what: str, remedy: str = GIVE_ANOTHER) -> Iterator[None]:
    """Turn what goes wrong while a file is read as text into `InputError`: the path, what is wrong, and the remedy.

    what: what messages call the file. remedy: what to give instead, without a point.
    """
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: no such {what}; {remedy}") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, not a {what}; {remedy}") from None
    except PermissionError:
        raise InputError(f"{path}: may not be read; check the permissions of the {what}") from None
    except UnicodeDecodeError as error:
        table = "CSV" in what or str(path).lower().endswith((".csv", ".csv.gz"))
        how = " (in Excel: CSV UTF-8)" if table else ""
        raise InputError(f"{path}: byte {error.start} is not UTF-8; save the {what} as UTF-8 text{how}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); {remedy}") from None


@contextmanager
def recorded() -> Iterator[None]:
    """Keep a list of the files that are read meanwhile, for `is_input`."""
    global _read
    before, _read = _read, set()
    try:
        yield
    finally:
        _read = before


def is_input(path: str | Path) -> bool:
    """Return whether the file at `path` has been read while a list is kept (`recorded`)."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return False
    return _read is not None and (found.st_dev, found.st_ino) in _read


def expanded(path: str | Path) -> Path:
    """Return the path with a leading "~" replaced by the home folder; unchanged where nobody says where that is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def read_bytes(path: str | Path, what: str, most: int) -> bytes:
    """Return the content of a file or of a pipe, at most `most` bytes.

    what: what messages call the file. Raises `InputError` for a device, a silent pipe, a larger file or an impossible
    path, and `OSError` where the file is absent, a folder or unreadable.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:  # a NUL character
        raise InputError(f"{str(path)!r}: no path of a {what} ({error}); give the path of an existing file") from None
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISFIFO(found.st_mode)):
            raise InputError(f"{path}: is a device, not a {what}; give the path of a file")
        if found.st_size > most:
            raise too_large(path, what, most)
        if _read is not None:
            _read.add((found.st_dev, found.st_ino))
        return _content(descriptor, path, what, most)
    finally:
        os.close(descriptor)


def _content(descriptor: int, path: str | Path, what: str, most: int) -> bytes:
    """Read an open file to its end; arguments as in `read_bytes`."""
    parts: list[bytes] = []
    size, pipe = 0, stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    while True:
        if pipe:
            _await(descriptor, path, what)
        part = os.read(descriptor, _CHUNK)
        if not part:
            return b"".join(parts)
        size += len(part)
        if size > most:
            raise too_large(path, what, most)
        parts.append(part)


def _await(descriptor: int, path: str | Path, what: str) -> None:
    """Wait until a pipe has something to read, or has ended; raise `InputError` after `MOST_SILENCE` seconds."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLHUP)
    if not poll.poll(1000 * MOST_SILENCE):
        raise InputError(
            f"{path}: is a pipe, and nothing was written to it for {MOST_SILENCE:g} s; give the path of a {what}"
        )


def too_large(path: str | Path, what: str, most: int, how: str = "") -> InputError:
    """Return the error for a file of more than `most` bytes. how: said of the size ("unpacked")."""
    larger = f"is{how and ' ' + how} larger than the {most // _MIB:,} MiB that a {what} may have"
    return InputError(f"{path}: {larger}; give a smaller file, such as a part of this one")


def read_text(path: str | Path, what: str, remedy: str = GIVE_ANOTHER) -> str:
    """Return the text of a configuration (UTF-8, at most `MOST_CONFIG` bytes); errors as of `read_errors`."""
    with read_errors(path, what, remedy):
        return _decoded(read_bytes(path, what, MOST_CONFIG))


def read_table_text(path: str | Path, what: str, remedy: str = GIVE_ANOTHER, most: int = MOST_TABLE) -> str:
    """Return the text of a table (UTF-8), unpacked where it is gzipped; errors as of `read_errors`.

    most: bytes that the file may have, also after unpacking.
    """
    with read_errors(path, what, remedy):
        raw = read_bytes(path, what, most)
        if raw.startswith(GZIP_MAGIC) or str(path).endswith(".gz"):
            raw = _unpacked(raw, path, what, most)
        kind = next((kind for magic, kind in _NO_TEXT.items() if raw.startswith(magic)), "")
        if kind:
            raise InputError(f"{path}: is {kind}, not a {what}; save it as CSV in UTF-8")
        return _decoded(raw)


def _decoded(raw: bytes) -> str:
    """Return the text of a file: UTF-8, or UTF-16 where it begins with its mark (what PowerShell's ">" writes).

    Bytes that only begin like UTF-16 are refused as no UTF-8: of configurations and tables most signs are ASCII.
    """
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = raw.decode("utf-16", "replace")
        if 2 * len(text.encode("ascii", "ignore").replace(b"\0", b"")) > len(text):
            return text
    begin = raw[:_LOOK]
    for first, coding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if len(begin) > 1 and not begin[first::2].strip(b"\0") and begin[1 - first :: 2].isascii():
            return raw.decode(coding)
    return raw.decode("utf-8-sig")


def _unpacked(raw: bytes, path: str | Path, what: str, most: int) -> bytes:
    """Return what a gzip file holds, all members of it; `InputError` where it is damaged or holds too much."""
    whole, size = io.BytesIO(), 0
    try:
        while raw:
            unpack = zlib.decompressobj(_GZIP_FORMAT)
            while not unpack.eof:
                part = unpack.decompress(raw, _CHUNK)
                raw = unpack.unconsumed_tail
                if not part and not raw and not unpack.eof:
                    raise EOFError
                size += whole.write(part)
                if size > most:
                    raise too_large(path, what, most, "unpacked")
            raw = unpack.unused_data.lstrip(b"\0")
    except (EOFError, zlib.error):
        raise InputError(f"{path}: not a {what}: the gzip file is damaged or cut short; fetch it again") from None
    return whole.getvalue()
