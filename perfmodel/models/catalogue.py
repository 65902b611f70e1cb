"""Models by name: one TOML file of shape facts per base model, and `aliases.toml` for copies and fine-tunes.

A name leads to its file without reading the others. The table `[config]` holds the fields of the model's `config.json`
and is read by the same readers, so a model is added by copying them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from hwdb import UnknownName
from hwdb.tomlfile import Table, read_toml
from perfmodel.arrays import NAN
from perfmodel.dtypes import storage
from perfmodel.models.config import read_config, read_mapping
from perfmodel.models.spec import ModelSpec

FOLDER = Path(__file__).parent / "catalogue"
_ALIASES = "aliases.toml"
#: Letter behind a printed parameter count -> factor.
_UNITS = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


def names() -> list[str]:
    """Return every name of the catalogue, aliases included, sorted."""
    return sorted([*base_names(), *_aliases().keys()], key=str.lower)


def base_names() -> list[str]:
    """Return the names of the models that have a file of their own, sorted."""
    return sorted((_name_of(path) for path in _files().values()), key=str.lower)


def aliases() -> Mapping[str, Mapping[str, Any]]:
    """Return what `aliases.toml` says of each alias: its base model, and its storage formats where they differ."""
    return dict(_aliases().values)


def model(name: str) -> ModelSpec:
    """Return the model of that name (any case), or in that file: a `config.json`, its folder, or a catalogue TOML.

    The part after the slash is enough where only one owner has it. Raises `UnknownName` with the nearest names, and
    `InputError` for a malformed file.

    >>> model("llama-3.1-70b").layers
    80
    """
    path = Path(name)
    if path.suffix == ".toml":
        return read_file(path)
    if path.suffix == ".json" or (path.is_dir() and (path / "config.json").exists()):
        return read_config(path)
    return _named(name.strip().lower())


@cache
def _named(lowered: str) -> ModelSpec:
    """Return the model of a name in lower case: from its own file, as an alias, or as the only name that ends in it."""
    key = lowered.replace("/", "--", 1)
    if key in _files():
        return read_file(_files()[key])
    by_case = {alias.lower(): alias for alias in _aliases().values}
    if lowered in by_case:
        return _read_alias(by_case[lowered])
    owned = [n for n in names() if n.lower().endswith("/" + lowered)]
    if len(owned) == 1:
        return _named(owned[0].lower())
    raise UnknownName("model", lowered, names(), hint="(or give the path to its config.json)")


def read_file(path: Path) -> ModelSpec:
    """Read the model of a catalogue file; `InputError` names file, line and key."""
    top = read_toml(path, "catalogue file")
    config, source = top.table("config"), top.text("source")
    published = top.table("published", None)
    name = top.text("name", _name_of(path))
    top.text("note", "")
    top.done()
    total, active = (printed_count(published, key) for key in ("total", "active"))
    published.done(also=("source", "active_counts"))
    spec = read_mapping(config.values, f"{path}: config", name)
    return replace(spec, source=source, published_total=total, published_active=active)


def printed_count(table: Table, key: str) -> float:
    """Read a parameter count as printed ("70.6B", "~1T"); NaN where the table has no such key.

    >>> printed_count(Table({"total": "70.6B"}, "example"), "total")
    70600000000.0
    """
    text = table.text(key, "").removeprefix("~")
    if not text:
        return NAN
    try:
        return float(text[:-1]) * _UNITS[text[-1]]
    except (ValueError, KeyError):
        raise table.error(key, f"{text!r} is not a count; write it like 70.6B (with K, M, B or T)") from None


def _read_alias(name: str) -> ModelSpec:
    """Return the base model of an alias, with the name, formats and context length of the alias."""
    entry = _aliases().table(name)
    spec = model(entry.text("base"))
    weights = entry.text("weights", "")
    if weights:
        spec = spec.with_weights(weights)
    formats = entry.table("formats", None)
    if formats.values:
        spec = replace(spec, formats={part: storage(formats.text(part)).name for part in formats.values})
    changed = replace(
        spec,
        name=name,
        kv_format=entry.text("kv", spec.kv_format),
        max_context=entry.whole("max_context", spec.max_context, least=1),
    )
    entry.done(also=("source",))
    return changed


def _name_of(path: Path) -> str:
    """Return the name of the model whose file is `OWNER--NAME.toml`."""
    return path.stem.replace("--", "/", 1)


@cache
def _files() -> dict[str, Path]:
    """Return the files of base models, by their stem in lower case."""
    stems = (entry.name[:-5] for entry in os.scandir(FOLDER) if entry.name.endswith(".toml") and entry.name != _ALIASES)
    return {stem.lower(): FOLDER / f"{stem}.toml" for stem in stems}


@cache
def _aliases() -> Table:
    """Read `aliases.toml`, once."""
    return read_toml(FOLDER / _ALIASES, "table of aliases")
