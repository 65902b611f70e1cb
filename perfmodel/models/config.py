"""Hugging Face `config.json` to `ModelSpec`: finds the reader of the architecture and the formats of the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hwdb import InputError
from perfmodel.models.families import READERS, Reader
from perfmodel.models.fields import Fields
from perfmodel.models.quantisation import stored_formats
from perfmodel.models.spec import ModelSpec

#: Facts that nearly every architecture has, with their spellings; for the message on an unknown architecture.
_USUAL = {
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "num_attention_heads": ("num_attention_heads", "n_head"),
    "num_key_value_heads": ("num_key_value_heads",),
    "head_dim": ("head_dim",),
    "intermediate_size": ("intermediate_size", "ffn_dim", "n_inner"),
    "vocab_size": ("vocab_size",),
}


def read_config(config: str | Path | Mapping[str, Any], name: str = "") -> ModelSpec:
    """Return the model that a `config.json` describes.

    Args:
        config: path of the file or of its folder, or the parsed mapping. A file `hf_quant_config.json` in the same
            folder is read too.
        name: name of the model; "" takes it from the file.

    Raises:
        InputError: names file and field, for malformed JSON the line, for an unknown architecture what is missing.
    """
    if isinstance(config, Mapping):
        values, place = config, name or str(config.get("_name_or_path") or "config")
    else:
        path = Path(config)
        path = path / "config.json" if path.is_dir() else path
        values, place = read_json(path), str(path)
        beside = path.with_name(path.name.replace("config.json", "hf_quant_config.json"))
        if "quantization_config" not in values and beside != path and beside.exists():
            values = {**values, "quantization_config": read_json(beside).get("quantization")}
        name = name or str(values.get("_name_or_path") or path.parent.name or path.stem)
    return read_mapping(values, place, name or place)


def read_json(path: Path) -> Mapping[str, Any]:
    """Return the mapping in a JSON file; `InputError` names the file, and the line where it stops being JSON."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {error.start} is not UTF-8 ({error.reason}); save the file as UTF-8 text"
        ) from error
    except RecursionError as error:
        raise InputError(
            f"{path}: nested too deeply to be a configuration; give the config.json of the model"
        ) from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from error
    if not isinstance(values, Mapping):
        raise InputError(f"{path}: a JSON object of fields is needed, this is a {type(values).__name__}")
    return values


def read_mapping(values: Mapping[str, Any], place: str, name: str) -> ModelSpec:
    """Return the model that the fields of a configuration describe. place: what messages call the configuration."""
    top = Fields(values, place)
    reader = find_reader(top)
    inner = top.section("text_config") or top.section("llm_config")
    facts = Fields({**values, **inner.values}, inner.place) if inner else top
    spec = reader(facts)
    formats, kv_format = stored_formats(facts, spec.layers, spec.experts)
    state = facts.text("mamba_ssm_dtype") or facts.text("mamba_ssm_cache_dtype")
    return replace(
        spec,
        name=name,
        formats=formats,
        kv_format=kv_format or spec.kv_format,
        state_format="fp32" if state == "float32" else spec.state_format,
        architecture=architecture(top),
        source=spec.source or place,
    )


def architecture(c: Fields) -> str:
    """Return the name of the architecture: the first of `architectures`, else the `model_type`."""
    names = c.items("architectures")
    if names and not isinstance(names[0], str):
        raise c.fail("architectures", names[0], "a string is needed")
    return names[0] if names else c.text("model_type")


def find_reader(c: Fields) -> Reader:
    """Return the reader of a configuration.

    It is chosen by the `model_type`, else by the architecture, else by the `model_type` of the text model inside.
    """
    kind, name = c.text("model_type"), architecture(c)
    inner = c.section("text_config") or c.section("llm_config") or c
    if not kind and not name:
        raise InputError(f"{c.place}: neither model_type nor architectures is given; add one of them")
    reader = READERS.get(kind) or READERS.get(name) or READERS.get(inner.text("model_type"))
    if reader:
        return reader
    absent = [fact for fact, keys in _USUAL.items() if not any(inner.has(k) or c.has(k) for k in keys)]
    facts = "how its attention, MLP, norms and biases are built (config.json does not say; its code does)"
    if absent:
        facts = f"{', '.join(absent)}, and {facts}"
    families = ", ".join(sorted(k for k in READERS if k == k.lower()))
    raise InputError(
        f"{c.place}: architecture {name!r} (model_type {kind!r}) is not known; missing facts: {facts}. "
        f"Known model types: {families}. docs/models.md tells how to add one"
    )
