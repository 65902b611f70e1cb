"""Engines by name and version."""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path

from hwdb import InputError, UnknownName
from perfmodel.engines.reader import FOLDER, load_engine
from perfmodel.engines.spec import Engine
from perfmodel.engines.versions import YEAR_MONTH, numbers_in

#: The engine that an empty name means.
PLAIN = "generic"
#: How versions of unreleased builds begin; they belong to the newest era.
_UNRELEASED = ("nightly", "main", "latest")


def names() -> list[str]:
    """Names of the engines that ship, one per era."""
    return sorted(p.stem for p in FOLDER.glob("*.toml"))


@lru_cache(maxsize=64)
def _shipped(name: str) -> Engine:
    return load_engine(FOLDER / f"{name}.toml")


@cache
def _aliases() -> dict[str, str]:
    """Other names in use -> engine."""
    return {alias: name for name in names() for alias in _shipped(name).aliases}


def _fork(name: str, version: str) -> str:
    """The fork of engine `name` that the version text speaks of: tables list forks under their parent's name."""
    forks = (e.name for e in map(_shipped, names()) if e.fork_of == name)
    return next((fork for fork in forks if fork in version.lower()), name)


def _of_version(family: str, eras: list[Engine], version: str) -> Engine:
    """The era of `family` that `version` falls into: by release number, else by date, else the era that bears the
    family's own name. eras: oldest first."""
    default = next((e for e in eras if e.name == family), eras[-1])
    numbers, date = numbers_in(version), YEAR_MONTH.search(version)
    if numbers:
        older = [e for e in eras if e.since <= numbers]
        return older[-1] if older else eras[0]
    if date:
        month = (int(date.group(1)), int(date.group(2)))
        return [e for e in eras if e.since_month <= month][-1]
    if version.lower().startswith(_UNRELEASED):
        return eras[-1]
    return default


@lru_cache(maxsize=512)
def engine(name: str = PLAIN, version: str = "") -> Engine:
    """The engine called `name` in the era of `version`, or the one described by the TOML file at path `name`.

    Raises `UnknownName` for a name that no engine has, `InputError` for a file that cannot be read.

    >>> engine("vllm", "0.6.3").name, engine("vllm", "0.11").name, engine("other").name
    ('vllm-v0', 'vllm-v1', 'generic')
    """
    if name.endswith(".toml"):
        return load_engine(name)
    key = name.strip().lower() or PLAIN
    known = names()
    if key not in known:
        key = _aliases().get(key, key)
    if key not in known:
        raise UnknownName("engine", name, [*known, *_aliases()], "or give the path of an engine TOML file")
    key = _fork(key, version) if version else key
    chosen = _shipped(key)
    if not version or chosen.family != key:
        return chosen
    eras = sorted((e for e in map(_shipped, known) if e.family == chosen.family), key=lambda e: e.since)
    return _of_version(key, eras, version)


def shipped(name: str) -> Engine | None:
    """The engine that ships under exactly this name, or None."""
    return _shipped(name) if name in names() else None


def check_engine_name(name: str) -> None:
    """Raise `UnknownName` or `InputError` when `name` is no engine; for callers that validate before computing."""
    if name.endswith(".toml") and not Path(name).is_file():
        raise InputError(f"{name}: no such engine file; give a name such as 'vllm' or an existing TOML file")
    engine(name)
