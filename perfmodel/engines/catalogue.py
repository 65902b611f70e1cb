"""Engines by name and version."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from hwdb import InputError, UnknownName
from perfmodel.engines.reader import load_engine
from perfmodel.engines.versions import YEAR, numbers_in

if TYPE_CHECKING:
    pass
from perfmodel.engines.spec import Engine

FOLDER = Path(__file__).parent / "catalogue"


#: Other names in use -> engine family.
ALIASES = {
    "vllm-ascend": "vllm",
    "tensorrt-llm": "trtllm",
    "tensorrt_llm": "trtllm",
    "trt-llm": "trtllm",
    "nim": "trtllm",
    "llama.cpp": "llamacpp",
    "ik_llama.cpp": "ik_llama",
    "ik_llamacpp": "ik_llama",
    "mindie-llm": "mindie",
    "mii": "deepspeed-mii",
    "fastgen": "deepspeed-mii",
    "deepspeed-fastgen": "deepspeed-mii",
    "sarathi-serve": "sarathi",
    "ft": "fastertransformer",
    "static": "fastertransformer",
    "other": "generic",
    "": "generic",
}


#: Forks that tables list under their parent's name: parent -> (what the version text says, engine).
FORKS = {"llamacpp": ("ik_llama", "ik_llama")}


def names() -> list[str]:
    """Names of the engines that ship, eras included."""
    return sorted(p.stem for p in FOLDER.glob("*.toml"))


@lru_cache(maxsize=64)
def _shipped(name: str) -> Engine:
    return load_engine(FOLDER / f"{name}.toml")


#: First release of each era as (year, month), for versions given as dates only.
_ERA_DATES = {"vllm-v1": (2025, 3), "vllm": (2026, 1), "trtllm": (2025, 9)}


def _of_version(family: str, eras: list[Engine], version: str) -> Engine:
    """The era of `family` that `version` falls into; the newest one marked default when the version says nothing."""
    default = next((e for e in eras if e.name == family), eras[-1])
    numbers, date = numbers_in(version), YEAR.search(version)
    if numbers:
        older = [e for e in eras if e.since <= numbers]
        return older[-1] if older else eras[0]
    if date:
        month = (2000 + int(date.group(1)), int(date.group(2)))
        older = [e for e in eras if _ERA_DATES.get(e.name, (0, 0)) <= month]
        return older[-1]
    if version.lower().startswith(("nightly", "main", "latest")):
        return eras[-1]
    return default


@lru_cache(maxsize=512)
def engine(name: str = "generic", version: str = "") -> Engine:
    """The engine called `name` in the era of `version`, or the one described by the TOML file at path `name`.

    >>> engine("vllm", "0.6.3").name, engine("vllm", "0.11").name, engine("other").name
    ('vllm-v0', 'vllm-v1', 'generic')
    """
    if name.endswith(".toml"):
        return load_engine(name)
    key = name.strip().lower()
    key = ALIASES.get(key, key)
    said, fork = FORKS.get(key, ("", key))
    key = fork if said in version.lower() else key
    known = names()
    if key not in known:
        raise UnknownName("engine", name, [*known, *filter(None, ALIASES)], "or give the path of an engine TOML file")
    chosen = _shipped(key)
    if not version or chosen.family != key:
        return chosen
    eras = sorted((e for e in map(_shipped, known) if e.family == chosen.family), key=lambda e: e.since)
    return _of_version(key, eras, version)


def check_engine_name(name: str) -> None:
    """Raise `UnknownName` or `InputError` when `name` is no engine; for callers that validate before computing."""
    if name.endswith(".toml") and not Path(name).is_file():
        raise InputError(f"{name}: no such engine file; give a name such as 'vllm' or an existing TOML file")
    engine(name)
