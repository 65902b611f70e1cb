"""Models by name: one TOML file of shape facts a base model, and an explicit list of copies and fine-tunes.

A name leads to its file without reading the others. The facts of `[config]` are those of the model's `config.json`,
read by the same readers, so a file is added by copying them.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from hwdb import InputError, UnknownName
from perfmodel.dtypes import storage
from perfmodel.models.config import read_config, read_mapping
from perfmodel.models.fields import Fields
from perfmodel.models.spec import ModelSpec

FOLDER = Path(__file__).parent / "catalogue"
_ALIASES = "aliases.toml"
_UNITS = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_KEYS = {"name", "source", "note", "published", "config"}
_ALIAS_KEYS = {"base", "weights", "formats", "kv", "max_context", "source"}


def names() -> list[str]:
    """Every name of the catalogue, aliases included, sorted."""
    return sorted([*base_names(), *_aliases()], key=str.lower)


def base_names() -> list[str]:
    """Names of the models that have a file of their own, sorted."""
    return sorted((path.stem.replace("--", "/", 1) for path in _files().values()), key=str.lower)


def aliases() -> Mapping[str, Mapping[str, Any]]:
    """What each alias states: its base, and its formats where they differ from the base's."""
    return dict(_aliases())


def model(name: str) -> ModelSpec:
    """The model of that name (any case), or in that file: a `config.json`, its folder, or a catalogue TOML.

    The part after the slash is enough where only one owner has it. Raises `UnknownName` with the nearest names, and
    `InputError` for a file that makes no sense.

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
    key = lowered.replace("/", "--", 1)
    if key in _files():
        return read_file(_files()[key])
    by_case = {alias.lower(): alias for alias in _aliases()}
    if lowered in by_case:
        return _alias(by_case[lowered])
    owned = [n for n in names() if n.lower().endswith("/" + lowered)]
    if len(owned) == 1:
        return _named(owned[0].lower())
    raise UnknownName("model", lowered, names(), hint="(or give the path to its config.json)")


def read_file(path: Path) -> ModelSpec:
    """The model of a catalogue file; `InputError` names file and key."""
    values = _toml(path)
    facts = Fields(values, str(path))
    for key in values.keys() - _KEYS:
        raise InputError(f"{path}: {key} is not known here; known keys are {', '.join(sorted(_KEYS))}")
    config = facts.section("config")
    if config is None:
        raise facts.missing("config")
    if not facts.text("source"):
        raise facts.missing("source")
    spec = read_mapping(config.values, f"{path}: config", facts.text("name") or path.stem.replace("--", "/", 1))
    published = facts.section("published") or Fields({}, f"{path}: published")
    return replace(
        spec,
        source=facts.text("source"),
        published_total=printed_count(published, "total"),
        published_active=printed_count(published, "active"),
    )


def printed_count(c: Fields, key: str) -> float:
    """A parameter count as printed ("70.6B"), NaN where not stated.

    >>> printed_count(Fields({"total": "70.6B"}, "example"), "total")
    70600000000.0
    """
    text = c.text(key).removeprefix("~")
    if not text:
        return float("nan")
    try:
        return float(text[:-1]) * _UNITS[text[-1]]
    except (ValueError, KeyError) as error:
        raise c.fail(key, text, "a count like 70.6B is needed (K, M, B or T)") from error


def _alias(name: str) -> ModelSpec:
    facts = Fields(_aliases()[name], f"{_ALIASES}: {name}")
    for key in facts.values.keys() - _ALIAS_KEYS:
        raise InputError(f"{facts.place}: {key} is not known here; known keys are {', '.join(sorted(_ALIAS_KEYS))}")
    base = facts.text("base")
    if not base:
        raise facts.missing("base")
    spec = model(base)
    if facts.has("weights"):
        spec = spec.with_weights(facts.text("weights"))
    formats = facts.section("formats")
    if formats is not None:
        spec = replace(spec, formats={part: storage(formats.text(part)).name for part in formats.values})
    return replace(
        spec,
        name=name,
        kv_format=facts.text("kv") or spec.kv_format,
        max_context=facts.count("max_context", default=spec.max_context),
    )


@cache
def _files() -> dict[str, Path]:
    stems = (entry.name[:-5] for entry in os.scandir(FOLDER) if entry.name.endswith(".toml") and entry.name != _ALIASES)
    return {stem.lower(): FOLDER / f"{stem}.toml" for stem in stems}


@cache
def _aliases() -> dict[str, dict[str, Any]]:
    return _toml(FOLDER / _ALIASES)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML: {error}") from error
