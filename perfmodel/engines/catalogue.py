"""Look up serving engines by name and version, among the engine files that ship or by the path of a file."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from pathlib import Path

from hwdb import InputError, UnknownName
from hwdb.errors import check_name
from perfmodel.engines.reader import FOLDER, load_engine
from perfmodel.engines.spec import Engine
from perfmodel.engines.versions import YEAR_MONTH, numbers_in, release_on_tensorrt

#: Name of the engine that is used where none is named.
PLAIN = "generic"
#: An engine with its version: "vllm==0.9.1", "lmsysorg/sglang:v0.5.2", "vLLM 0.11", "vllm0.11", "llama.cpp-b4384".
_WITH_VERSION = re.compile(
    r"(?:[\w.-]+/)*([a-z][\w. -]*?)\s*(?:==|[:@ -]|(?<=[a-z]))\s*((?:v?\d+\.\d|b\d{3}|latest|nightly).*)"
)
#: An image whose tag has the version somewhere: "rocm/vllm:rocm6.4.1_vllm_0.10.1", "nvcr.io/nvidia/.../release:1.2.0".
_IMAGE = re.compile(r"(?:[\w.-]+/)+([a-z][\w.-]*)(?::(.+))?")
_RELEASE = re.compile(r"/release(?=:)")
#: What the platform of a build is called, in front of the name of an engine or behind it ("vllm-rocm", "ROCm vLLM").
_ON = r"(?:rocm|xpu|tpu|cuda|cpu|hpu|gaudi|npu)"
_PLATFORM = re.compile(rf"^{_ON}[ _-](?=[a-z])|[ _-]{_ON}$")
_BRACKETS = re.compile(r"[()\[\]]")
#: Engines that are not modelled -> the engine that batches and stores most alike, and what differs. From their public
#: documentation; none of them has been compared with measurements.
_NOT_MODELLED = {
    "lmdeploy": ("vllm", "it too batches step by step over a paged cache; its kernels, TurboMind, are its own"),
    "turbomind": ("vllm", "it too batches step by step over a paged cache; its kernels are its own"),
    "mlc-llm": ("vllm", "it too batches step by step over a paged cache; its kernels are compiled by TVM"),
    "lightllm": ("sglang", "it too caches token by token and shares prefixes; its kernels are its own"),
    "aphrodite-engine": ("vllm", "it was forked from vLLM"),
}
#: How versions of unreleased builds begin; they belong to the newest era.
_UNRELEASED = ("nightly", "main", "latest")


def names() -> list[str]:
    """Return the names of the engine files that ship, sorted; an engine has one file per era (range of versions)."""
    return sorted(p.stem for p in FOLDER.glob("*.toml"))


@lru_cache(maxsize=64)
def _shipped(name: str) -> Engine:
    """Read the engine file that ships under the name `name`; it has to exist."""
    return load_engine(FOLDER / f"{name}.toml")


@cache
def _aliases() -> dict[str, str]:
    """Return a map from the other names that engines go by to the name of the engine file that lists them."""
    return {alias: name for name in names() for alias in _shipped(name).aliases}


def _spelled(key: str, known: list[str]) -> str:
    """Return the engine that a name in lower case means with other signs between its words; the name itself for none.

    known: names of the engine files.
    """
    found = {_plain(alias): name for alias, name in _aliases().items()} | {_plain(name): name for name in known}
    plain = _PLATFORM.sub("", key)
    return _aliases().get(key) or found.get(_plain(key)) or found.get(_plain(plain), key)


def _plain(name: str) -> str:
    """Return the letters, digits and dots of a name."""
    return re.sub(r"[^a-z0-9.]", "", name)


def _fork(name: str, version: str) -> str:
    """Return the name of the fork of engine `name` that the text `version` mentions, else `name` itself.

    Tables of measurements list forks under the name of the engine that they were forked from.
    """
    forks = (e.name for e in map(_shipped, names()) if e.fork_of == name)
    return next((fork for fork in forks if fork in version.lower()), name)


def _of_version(family: str, eras: list[Engine], version: str) -> Engine:
    """Return the engine of `family` whose era the text `version` falls into; `eras` lists its engines, oldest first.

    Decided by release number, else by date (year-month). Unreleased builds belong to the newest era, builds that an era
    lists (`Engine.builds`) to that one, any other text to the era that has the family's own name.
    """
    default = next((e for e in eras if e.name == family), eras[-1])
    builds = any(len(e.since) == 1 for e in eras)
    numbers, date = numbers_in(version, builds=builds), YEAR_MONTH.search(version)
    if family == "trtllm":  # whose releases tables name by the TensorRT under them
        numbers = numbers or release_on_tensorrt(version)
    if numbers:
        older = [e for e in eras if e.since <= numbers]
        return older[-1] if older else eras[0]
    if date:
        month = (int(date.group(1)), int(date.group(2)))
        return [e for e in eras if e.since_month <= month][-1]
    if version.lower().startswith(_UNRELEASED):
        return eras[-1]
    return next((e for e in eras if version.lower() in e.builds), default)


@lru_cache(maxsize=512)
def engine(name: str = PLAIN, version: str = "") -> Engine:
    """Return the engine called `name` in the era that `version` belongs to, or read the TOML file at path `name`.

    Raises `UnknownName` for a name that no engine has, `InputError` for a file that cannot be read and for a version
    in the name that is not `version`.

    A name may have the version behind it, as package managers and images write it ("vllm==0.11", "sglang:v0.5.2").

    >>> engine("vllm", "0.6.3").name, engine("vllm==0.11").name, engine("other").name
    ('vllm-v0', 'vllm-v1', 'generic')
    """
    check_name("engine", name)
    if name.endswith(".toml"):
        return load_engine(name)
    key = " ".join(_BRACKETS.sub(" ", name.lower()).split()) or PLAIN
    known = names()
    if key not in known:
        key = _spelled(key, known)
    image = _RELEASE.sub("", key)
    with_version = (_WITH_VERSION.fullmatch(image) or _IMAGE.fullmatch(image)) if key not in known else None
    if with_version:
        return _of_both(name, with_version.group(1), (with_version.group(2) or "latest").replace("_", " "), version)
    if key not in known:
        _check_modelled(name, key)
        hint = f"(families: {', '.join(families())}; or give the path of an engine TOML file)"
        raise UnknownName("engine", name, known, hint, others=_aliases())
    key = _fork(key, version) if version else key
    chosen = _shipped(key)
    if not version or chosen.family != key:
        return chosen
    eras = sorted((e for e in map(_shipped, known) if e.family == chosen.family), key=lambda e: e.since)
    return _of_version(key, eras, version)


def _check_modelled(name: str, key: str) -> None:
    """Raise `InputError` with the closest engine where `key`, a name in lower case, is no modelled one."""
    short = {known.partition("-")[0]: known for known in _NOT_MODELLED}  # "mlc" of "mlc-llm"
    wanted = {_plain(word): known for word, known in [*short.items(), *((k, k) for k in _NOT_MODELLED)]}
    if _plain(key) in wanted:
        closest, why = _NOT_MODELLED[wanted[_plain(key)]]
        raise InputError(f"engine {name!r} is not modelled; the closest is {closest!r}: {why}")


def _of_both(name: str, called: str, within: str, version: str) -> Engine:
    """Return the engine of a name that has its version behind it; raise `InputError` where `version` is another one.

    called, within: the name without its version, and that version. Texts of one release ("0.6", "v0.6.3") agree, and so
    do those of one era where a text has no release.
    """
    found = engine(called, within)
    stated = engine(called, version) if version else found
    builds = len(found.since) == 1
    releases = {numbers_in(text, builds=builds) for text in (within, version or within)} - {()}
    if stated is not found or len(releases) > 1:
        raise InputError(f"engine {name!r} has another version than {version!r}, which is stated too; give one of them")
    return found


def shipped(name: str) -> Engine | None:
    """Return the engine that ships under exactly this name (aliases do not count), or None."""
    return _shipped(name) if name in names() else None


def families() -> list[str]:
    """Return the families that the shipped engines belong to, sorted."""
    return sorted({engine(name).family for name in names()})


def check_engine_name(name: str) -> None:
    """Check before computing that `name` is an engine: a name or alias, or the path of an engine TOML file.

    Raises `UnknownName` for an unknown name, `InputError` for a file that is missing or cannot be read.
    """
    if name.endswith(".toml") and not Path(name).is_file():
        raise InputError(f"{name}: no such engine file; give a name such as 'vllm' or an existing TOML file")
    engine(name)
