"""The table of families: how the layers of an architecture are built, as data (`families.toml`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from hwdb import InputError
from hwdb.tomlfile import read_toml
from perfmodel.models.fields import Fields

FILE = Path(__file__).parent / "families.toml"
#: Forms of attention that a row describes, and the most of anything that it counts (norms per layer, a period).
_ATTENTION, _MOST = ("grouped", "latent"), 1000
#: Stands between the spellings of a switch, before the value that holds where a file has none of them, and before the
#: word that a file must have.
_OR, _ELSE, _WORD = "|", "=", ":"


@dataclass(frozen=True)
class Family:
    """How the layers of a family are built, where its `config.json` does not say it in the usual keys.

    A switch is true, false, or the key of `config.json` that says so: "use_bias", "bias|qkv_bias" (the first one that
    the file has), "use_bias=true" (true where the file has no such key), "gating:per-head" (true where the file has
    this word under the key; "gating:per-head=true" also where it has no such key, or `true` in place of a word).

    Attributes:
        names: `model_type`s and names of architectures.
        models: the checkpoints, for the documentation.
        source: where the row comes from.
        attention: "grouped" (multi-head, grouped-query, multi-query) or "latent" (DeepSeek's MLA).
        norms: norm vectors of the model's width per layer.
        norm_bias: layer norms, which have a bias besides their weight; false: RMS norms.
        head_norm: switch: norms of the size of a head on queries and keys.
        row_norm: switch: norms over all query heads together, and over all key heads.
        bias, output_bias, mlp_bias, head_bias: switches: biases of the query, key and value projections, of the output
            projection, of the MLP, of the LM head.
        attention_gate: switch: an output gate of the size of the queries.
        head_gate: switch: an output gate of one value per head.
        gated: whether the MLP has two up-projections (SwiGLU, GeGLU).
        router_bias: switch: a bias in the router.
        shared_gate: switch: a gate on the shared experts.
        full_every: every so many layers one attends to all tokens, the others to their sliding window; a number, or a
            key with a default ("sliding_window_pattern=4"). `layer_types` of a file goes before it. 0: every layer has
            the window where the file states one.
        tied: whether embedding and LM head are shared where the file does not say.
        positions: whether positions are learned: one vector for each.
        mlp_ratio: inner width of the MLP over the model's width where the file has none; 0: it must state one.
        halved_intermediate: whether `intermediate_size` counts both up-projections (Qwen 1).
        fill: values of fields that published files leave out.
        spelled: usual key -> key of this family, beside the spellings that all families may use.
    """

    names: list[str] = field(default_factory=list)
    models: str = ""
    source: str = "transformers 5.24.0"
    attention: str = "grouped"
    norms: int = 2
    norm_bias: bool = False
    head_norm: bool | str = False
    row_norm: bool | str = False
    bias: bool | str = "attention_bias"
    output_bias: bool | str = "attention_bias"
    mlp_bias: bool | str = "mlp_bias"
    head_bias: bool | str = False
    attention_gate: bool | str = False
    head_gate: bool | str = False
    gated: bool = True
    router_bias: bool | str = False
    shared_gate: bool | str = False
    full_every: int | str = 0
    tied: bool = False
    positions: bool = False
    mlp_ratio: int = 0
    halved_intermediate: bool = False
    fill: dict[str, Any] = field(default_factory=dict)
    spelled: dict[str, str] = field(default_factory=dict)


@cache
def families() -> tuple[Family, ...]:
    """Read the table of families, once."""
    table = read_toml(FILE, "table of families")
    return tuple(family(entry.values, f"{FILE.name}: {entry.values['names'][0]}") for entry in table.tables("family"))


@cache
def by_name() -> dict[str, Family]:
    """Return the families by each of their names."""
    return {name: row for row in families() for name in row.names}


def family(values: Mapping[str, Any], place: str, base: Family | None = None) -> Family:
    """Return the family that a mapping of `Family`'s attributes describes, on top of `base` where one is given.

    Raises `InputError` with the key for one that is not an attribute, or whose value cannot be used.
    """
    base = base or Family()
    found = {f.name: getattr(base, f.name) for f in fields(Family)}
    for key, value in values.items():
        if key not in found:
            raise InputError(f"{place}: {key} is not known; known are {', '.join(found)}")
        want = _fault(key, value)
        if want:
            raise InputError(f"{place}: {key} = {value!r}: {want} is needed")
        found[key] = value
    return Family(**found)


def _fault(key: str, value: object) -> str:
    """Return what is needed in place of `value` for an attribute of `Family`; "" where the value can be used."""
    kind = {f.name: str(f.type) for f in fields(Family)}[key]
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST
    if key == "full_every":
        keyed = isinstance(value, str) and value.partition(_ELSE)[2].isdecimal()
        return "" if whole or keyed else "a whole number, or a key with a default such as window_pattern=4,"
    if key == "attention":
        return "" if value in _ATTENTION else " or ".join(_ATTENTION)
    if kind == "bool | str":
        return "" if isinstance(value, bool | str) else "true, false or a key of the file"
    if kind == "bool":
        return "" if isinstance(value, bool) else "true or false"
    if kind == "int":
        return "" if whole else f"a whole number from 0 to {_MOST}"
    if kind == "str":
        return "" if isinstance(value, str) else "a text"
    if key == "names":
        return "" if isinstance(value, list) else "a list of names"
    return "" if isinstance(value, Mapping) else "a mapping"


def switch(c: Fields, value: bool | str) -> bool:
    """Return a switch of a family for the configuration `c`.

    >>> switch(Fields({"use_bias": True}, "example"), "bias|use_bias=false")
    True
    >>> switch(Fields({"gating": "per-element"}, "example"), "gating:per-head=true")
    False
    """
    if isinstance(value, bool):
        return value
    keys, _, absent = value.partition(_ELSE)
    key, _, word = keys.partition(_WORD)
    if word:
        found = c.values.get(key)
        return found == word if isinstance(found, str) else found is not False and absent == "true"
    return c.flag(*keys.split(_OR), default=absent == "true")


def number(c: Fields, value: int | str) -> int:
    """Return a number of a family for the configuration `c`: itself, or under its key with the default behind it.

    >>> number(Fields({}, "example"), "sliding_window_pattern=4")
    4
    """
    if isinstance(value, int):
        return value
    keys, _, absent = value.partition(_ELSE)
    return c.count(*keys.split(_OR), default=int(absent))
