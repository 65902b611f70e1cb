"""Lay the inputs of a request in a folder of its own, and refuse what names a file of the server's machine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hwdb import InputError
from hwdb.tomlfile import parse_values
from hwdb.tomltext import as_toml

#: Text that names a place on a machine: absolute, of a user, of a drive, or above the folder.
_PLACE = re.compile(r"^\s*(?:[/\\~]|[A-Za-z]:[/\\]|\.{1,2}(?:[/\\]|$))|(?:^|[/\\])\.\.(?:[/\\]|$)|\0")
#: Keys of a scenario that are words for people.
SPOKEN = ("title", "note", "source")
WAY_OUT = "the server reads no file of its machine; send its content in `files` and name it as there"
SCENARIO = "scenario.toml"


def refuse_place(value: str, where: str) -> None:
    """Raise `InputError` for a text that names a place on the server's machine. where: the field, for the message."""
    if _PLACE.search(value):
        raise InputError(f"{where}: {value[:80]!r} is a path; {WAY_OUT}")


def refuse_places(values: Any, where: str) -> None:
    """Do as `refuse_place` for every text in a tree of tables, but those that are words for people."""
    for path, text in _texts(values, where):
        refuse_place(text, path)


def _texts(values: Any, where: str) -> Iterator[tuple[str, str]]:
    """Yield (place, text) of every text, keys included."""
    if isinstance(values, str):
        yield where, values
    elif isinstance(values, Mapping):
        for key, value in values.items():
            yield where, str(key)
            if key not in SPOKEN:
                yield from _texts(value, f"{where}.{key}")
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _texts(value, where)


def refuse_places_in_change(text: str, where: str) -> None:
    """Raise `InputError` where a change `KEY=VALUE`, or a grid, sets a key to a place on the server's machine."""
    _, _, value = text.partition("=")
    for part in re.split(r"[,\[\]]", value):
        refuse_place(part.strip().strip("\"'"), where)


@contextmanager
def laid_out(
    scenario: str | Mapping[str, Any] | None, files: Mapping[str, str], hardware: Mapping[str, str]
) -> Iterator[tuple[Path, tuple[Path, ...]]]:
    """Write the inputs of a request to a new folder; yield the path of the scenario, and the folders of hardware.

    Messages of `InputError` name the files as the request does, without the folder.
    """
    with TemporaryDirectory(prefix="perfmodel-") as made:
        folder = Path(made).resolve()
        try:
            own = _written(folder / "hardware", hardware, "hardware_files")
            for name, content in files.items():
                _write(folder / name, content, f"files.{name}")
            if scenario is not None:
                text = scenario if isinstance(scenario, str) else as_toml(scenario, "scenario")
                refuse_places(parse_values(text, SCENARIO), "scenario")
                _write(folder / SCENARIO, text, "scenario")
            yield folder / SCENARIO, own
        except InputError as error:
            told = str(error)
            for place in (str(folder), made):
                told = told.replace(f"{place}/hardware/", "").replace(f"{place}/", "").replace(place, "the request")
            if told == str(error):
                raise
            raise InputError(told) from None


def _written(folder: Path, files: Mapping[str, str], where: str) -> tuple[Path, ...]:
    """Write hardware files to a folder; return it, or nothing where there are none."""
    if not files:
        return ()
    folder.mkdir()
    for name, content in files.items():
        if not name.endswith(".toml"):
            raise InputError(f"{where}.{name}: is no TOML file; give a name that ends in .toml")
        refuse_places(parse_values(content, name), f"{where}.{name}")
        _write(folder / name, content, f"{where}.{name}")
    return (folder,)


def _write(path: Path, content: str, where: str) -> None:
    """Write a text to a new file; `InputError` where it cannot be encoded, or the name is taken."""
    if path.exists():
        raise InputError(f"{where}: {path.name!r} is the name of the scenario or is given twice; give another name")
    try:
        path.write_bytes(content.encode())
    except UnicodeEncodeError:
        raise InputError(f"{where}: is no text that UTF-8 can encode; send UTF-8 text") from None
