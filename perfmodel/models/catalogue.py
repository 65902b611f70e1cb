"""Models by name: one TOML file of shape facts per base model, and `aliases.toml` for copies and fine-tunes.

A name leads to its file without reading the others. The table `[config]` holds the fields of the model's `config.json`
and is read by the same readers, so a model is added by copying them.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from hwdb import InputError, UnknownName, nearest
from hwdb.errors import check_name
from hwdb.tomlfile import Table, read_toml
from perfmodel.arrays import NAN
from perfmodel.dtypes import storage
from perfmodel.models.checkpoint_name import is_draft, no_decoder, unestimated
from perfmodel.models.config import read_config, read_mapping
from perfmodel.models.format_suffix import Suffix
from perfmodel.models.layers import Block
from perfmodel.models.library_tag import tagged
from perfmodel.models.resolver import Reading, Resolver
from perfmodel.models.spec import UNQUANTISED, ModelSpec

FOLDER = Path(__file__).parent / "catalogue"
_ALIASES = "aliases.toml"
#: Characters of the longest text that is read as a name; reading takes more than its length. Chosen: above a path into
#: the cache of Hugging Face's hub, whose owners and names have 96 characters at most.
_LONGEST = 500
#: Characters of such a text that a message shows.
_SHOWN = 40
_OF_DRAFTS = (
    "(it is a draft model for speculative decoding: give the model that it drafts for, and --speculation or "
    "[speculation] with the method)"
)
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

    The part after the slash is enough where only one owner has it. Other names are read by their parts (`resolver`):
    family, version and size have to be those of a known model, and the storage format in the name becomes that of the
    weights. `ModelSpec.reading` then says what was taken. Raises `UnknownName` with the nearest names, and `InputError`
    for a malformed file.

    >>> model("llama-3.1-70b").layers
    80
    >>> model("RedHatAI/Qwen3-14B-FP8-dynamic").reading
    'RedHatAI/Qwen3-14B-FP8-dynamic: Qwen/Qwen3-14B, fp8 per token'
    """
    check_name("model", name)
    path = Path(name)
    if path.suffix == ".toml":
        return read_file(path)
    if path.suffix == ".json" or _has_config(path):
        return read_config(path)
    if len(name) > _LONGEST:
        raise InputError(f"model {name[:_SHOWN]!r}... has {len(name)} characters; give a name of at most {_LONGEST}")
    return _typed(name.strip())


def _has_config(path: Path) -> bool:
    """Return whether a path is a folder with a `config.json`; not where the system takes no path of that length."""
    try:
        return path.is_dir() and (path / "config.json").exists()
    except OSError:
        return False


def _check_one(name: str) -> None:
    """Raise `InputError` for the names of several models, "a/b,c/d": read by its parts it would be the last of them."""
    parts = [part.strip() for part in re.split("[,;]", name) if part.strip()]
    if len(parts) > 1 and all(_known(part.lower()) is not None or "/" in part for part in parts):
        raise InputError(f"model {name!r} is {len(parts)} names; give one model (a fleet serves several)")


@lru_cache(maxsize=4096)
def _typed(name: str) -> ModelSpec:
    """Return the model that a name as typed stands for, known or read by its parts."""
    _check_one(name)
    of_library = tagged(name, lambda known: model(known).parameters() / 1e9)
    if of_library:
        return _as_read(name, of_library)
    known = _known(name.lower())
    if known is not None:
        return known
    why, draft = no_decoder(name), is_draft(name)
    reading = None if why or draft else _resolver().find(name)
    if reading is None:
        why = why or unestimated(name)
        if why:
            raise InputError(f"model {name!r}: {why}")
        near = _near(name)
        hint = "(perfmodel models list has all; or give the path to its config.json)"
        raise UnknownName("model", name, names(), _OF_DRAFTS if draft else hint, near)
    return _as_read(name, reading)


def _near(name: str, most: int = 3) -> list[str]:
    """Return known names that one may mean: the shortest that it begins, then those of its family; [] for none.

    "Qwen3-8" begins Qwen3-8B, and may also be a size of Qwen3.8.
    """
    leaf = name.rsplit("/", 1)[-1].lower()
    told = any(c.isdigit() for c in leaf)
    begun = [n for n in names() if told and n.rsplit("/", 1)[-1].lower().startswith(leaf)]
    rest = {n: n.rsplit("/", 1)[-1][len(leaf) :] for n in begun}  # "Llama-3" begins Llama-3-8B rather than llama-30b
    first = sorted(begun, key=lambda n: (rest[n][:1].isdigit(), len(n)))[:1]
    return list(dict.fromkeys([*first, *nearest(name, _resolver().family(name))]))[:most]


@cache
def _known(lowered: str) -> ModelSpec | None:
    """Return the model of a name in lower case: from its own file, as an alias, or as the only name that ends in it.

    None where the catalogue does not have that name.
    """
    key = lowered.replace("/", "--", 1)
    if key in _files():
        return read_file(_files()[key])
    if lowered in _by_case():
        return _read_alias(_by_case()[lowered])
    owned = _by_ending().get(lowered, ())
    return _known(owned[0].lower()) if len(owned) == 1 else None


def _as_read(name: str, reading: Reading) -> ModelSpec:
    """Return the model of a reading of `name`, in the format of the name, with a sentence on what was taken."""
    spec, stored = model(reading.known), reading.stored
    if stored.unknown:
        raise InputError(
            f"model {name!r}: the format {stored.unknown!r} in the name is not known; give {reading.known} and state "
            "the format of the weights (--weights, weight_dtype, [search] weight)"
        )
    changed = spec.with_weights(stored.weights) if stored.weights else spec
    wider = reading.context > spec.max_context > 0 and _all_in_windows(spec)
    if wider:
        changed = replace(changed, blocks=tuple(_without_window(block) for block in changed.blocks))
    cached = stored.kv or (_kv_of_publisher(name, stored) if stored.weights else "")
    told = [stored.words or _narrow(spec.formats)]
    told += [f"{cached} KV cache"] if cached else _cache_words(spec)
    told += [f"{reading.context} tokens of context"] if reading.context else []
    told += ["attention to all of them"] if wider else []
    lacking = reading.encoders or _lacks_encoders(reading.known)
    told += ["encoders not counted"] if lacking and not spec.encoder_parameters else []
    if stored.bare_gguf and spec.weight_format != "mxfp4":  # files of models in MXFP4 (gpt-oss) keep it
        told.append(f"GGUF of a type that the name does not say, counted as {spec.weight_format}; state the weights")
    return replace(
        changed,
        name=name if stored.weights and "/" in name.strip("/.~") else spec.name,
        base=spec.name,
        kv_format=cached or spec.kv_format,
        max_context=reading.context or (model(reading.plain) if reading.plain else spec).max_context,
        reading=_told(name, reading.known, told),
        named_format=stored.weights,
    )


def _lacks_encoders(name: str) -> bool:
    """Return whether a known name is an alias of a model that has encoders which the base lacks."""
    return name in _aliases().values and bool(_aliases().table(name).text("encoders", ""))


def _all_in_windows(spec: ModelSpec) -> bool:
    """Return whether no layer attends to all tokens, so that a copy of longer context has to do without the windows.

    The copies of Mistral 7B for 64K and 128K tokens state a window of as many (config.json of
    NousResearch/Yarn-Mistral-7b-128k, recalled); those of models with full layers between windows keep the windows.
    """
    kinds = {block.mixer.kind for block in spec.blocks if block.mixer and not block.mixer.reuses_kv}
    return bool(kinds) and kinds <= {"sliding"}


def _without_window(block: Block) -> Block:
    """Return a block whose attention sees all tokens."""
    return replace(block, mixer=replace(block.mixer, kind="full", window=math.inf)) if block.mixer else block


def _kv_of_publisher(name: str, stored: Suffix) -> str:
    """Return the format of the KV cache that a publisher's checkpoints bring scales for; "" for most.

    NVIDIA's FP8 and NVFP4 checkpoints have `kv_cache_quant_algo` FP8: 23 of the 27 files hf_quant_config.json in
    aiconfigurator-core 0.12.0, the others do not state one.
    """
    return "fp8" if name.lower().startswith("nvidia/") and stored.weights in ("fp8", "fp4") else ""


def counts(name: str) -> tuple[float, float]:
    """Return the published (total, active) parameters of a known name; NaN where its authors state none."""
    spec = model(name)
    return spec.published_total, spec.published_active


@cache
def _resolver() -> Resolver:
    """Return what reads the names that the catalogue does not have, built once."""
    return Resolver(names(), counts)


@cache
def _by_case() -> dict[str, str]:
    """Return the aliases by their lower case."""
    return {alias.lower(): alias for alias in _aliases().values}


@cache
def _by_ending() -> dict[str, list[str]]:
    """Return the names of the catalogue by what follows the slash, in lower case."""
    found: dict[str, list[str]] = {}
    for name in names():
        found.setdefault(name.lower().partition("/")[2], []).append(name)
    return found


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
    experts = entry.whole("experts", 0, least=0)
    changed = replace(
        spec,
        name=name,
        blocks=tuple(_pruned(block, experts) for block in spec.blocks) if experts else spec.blocks,
        kv_format=entry.text("kv", spec.kv_format),
        max_context=entry.whole("max_context", spec.max_context, least=1),
    )
    encoders = entry.text("encoders", "")
    entry.done(also=("source",))
    texts = [_narrow(changed.formats), *_cache_words(changed), f"encoders {encoders}" if encoders else ""]
    texts += [f"{experts} experts per layer"] if experts else []
    return replace(changed, reading=_told(name, spec.name, texts)) if texts[0] or encoders or experts else changed


def _pruned(block: Block, experts: int) -> Block:
    """Return a block with so many routed experts per layer, where it has any (REAP, arXiv:2510.13999)."""
    return replace(block, mlp=replace(block.mlp, experts=experts)) if block.mlp and block.mlp.experts else block


def _narrow(formats: Mapping[str, str]) -> str:
    """Return in words the formats of fewer than 16 bits in a checkpoint: "fp8", or "fp4 experts, fp8 attention"."""
    if formats["default"] not in UNQUANTISED:
        return formats["default"]
    return ", ".join(f"{kind} {part}" for part, kind in formats.items() if kind not in UNQUANTISED)


def _cache_words(spec: ModelSpec) -> list[str]:
    """Return the format of the KV cache in words, where it is not in 16 bits."""
    return [] if spec.kv_format in UNQUANTISED else [f"{spec.kv_format} KV cache"]


def _told(name: str, known: str, details: Iterable[str]) -> str:
    """Return the sentence that says what a name was taken for.

    >>> _told("amd/Qwen3-8B-FP8-KV", "Qwen/Qwen3-8B", ["fp8", "", "fp8 KV cache"])
    'amd/Qwen3-8B-FP8-KV: Qwen/Qwen3-8B, fp8, fp8 KV cache'
    """
    return f"{name}: {', '.join(filter(None, [known, *details]))}"


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
