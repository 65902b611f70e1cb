"""Hugging Face `config.json` to `ModelSpec`: finds the reader of the architecture and the formats of the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hwdb import InputError, infile, jsonfile
from perfmodel.models.families import Reader, known_types, reader_of, unknown
from perfmodel.models.fields import Fields
from perfmodel.models.quantisation import stored_formats
from perfmodel.models.spec import ModelSpec
from perfmodel.models.towers import encoders

#: Sections that hold the language model inside a multimodal one; `thinker_config` holds one of them again (Qwen Omni).
_TEXT_SECTIONS = ("text_config", "llm_config", "language_config", "thinker_config", "lm_config")
#: No published model has more parameters, wider layers, more layers; larger ones are taken for errors in the file.
_MOST_PARAMETERS, _MOST_WIDTH, _MOST_LAYERS = 1e14, 10**6, 2000


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
    elif not isinstance(config, str | Path):
        raise InputError(f"config {repr(config)[:40]} is neither a path nor a mapping; give one of them")
    else:
        path = Path(config)
        path = path / "config.json" if path.is_dir() else path
        values, place = read_json(path), str(path)
        beside = path.with_name(path.name.replace("config.json", "hf_quant_config.json"))
        if "quantization_config" not in values and beside != path and beside.exists():
            values = {**values, "quantization_config": read_json(beside).get("quantization")}
        own = path.parent.name if path.name.startswith("config.json") else path.stem  # "step3.json" names the model
        name = name or str(values.get("_name_or_path") or own or path.stem)
    return read_mapping(values, place, name or place)


def read_json(path: Path) -> Mapping[str, Any]:
    """Return the mapping in a JSON file; `InputError` names the file, and the line where it stops being JSON."""
    try:
        values = jsonfile.parse(infile.read_text(path, "config.json"))
    except RecursionError as error:
        raise InputError(
            f"{path}: nested too deeply to be a configuration; give the config.json of the model"
        ) from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}; correct it") from error
    if not isinstance(values, Mapping):
        raise InputError(f"{path}: a JSON object of fields is needed, this is a {type(values).__name__}")
    return values


def read_mapping(values: Mapping[str, Any], place: str, name: str) -> ModelSpec:
    """Return the model that the fields of a configuration describe. place: what messages call the configuration."""
    top = Fields(values, place)
    facts = text_model(top)
    reader = find_reader(top)
    spec = reader(facts)
    check_size(facts, spec)
    formats, kv_format = stored_formats(facts, spec.layers, spec.experts, tied=spec.tied)
    state = facts.text("mamba_ssm_dtype") or facts.text("mamba_ssm_cache_dtype")
    beside = encoders(top, spec.hidden, (top.text("model_type"), architecture(top)))
    return replace(
        spec,
        name=name,
        formats=formats,
        kv_format=kv_format or spec.kv_format,
        state_format="fp32" if state == "float32" else spec.state_format,
        architecture=architecture(top),
        source=spec.source or place,
        encoder_parameters=beside.parameters,
        encoder_heads=beside.heads,
        assumed="; ".join(filter(None, (spec.assumed, beside.remark))),
    )


def text_model(top: Fields) -> Fields:
    """Return the fields of the language model: those of the section inside, on top of the outer ones."""
    found = top
    while True:
        inner = next(filter(None, map(found.section, _TEXT_SECTIONS)), None)
        if inner is None:
            return found
        outer = {k: v for k, v in found.values.items() if k not in _TEXT_SECTIONS}
        found = Fields({**outer, **inner.values}, inner.place)


def check_size(c: Fields, spec: ModelSpec) -> None:
    """Refuse a model of a size that no published one comes near; `InputError` names the key and the bound."""
    if spec.hidden > _MOST_WIDTH:
        raise c.fail("hidden_size", spec.hidden, f"at most {_MOST_WIDTH} is expected")
    if spec.layers > _MOST_LAYERS:
        raise c.fail("num_hidden_layers", spec.layers, f"at most {_MOST_LAYERS} layers are expected")
    for b in spec.blocks:
        if b.mlp and max(b.mlp.intermediate, b.mlp.shared) > _MOST_WIDTH:
            raise c.fail(
                "intermediate_size", max(b.mlp.intermediate, b.mlp.shared), f"at most {_MOST_WIDTH} is expected"
            )
        if b.mixer and b.mixer.heads * max(b.mixer.head_dim, b.mixer.value_dim) > _MOST_WIDTH and not b.mixer.recurrent:
            raise c.fail("head_dim", b.mixer.head_dim, f"at most {_MOST_WIDTH} is expected of all heads together")
    if spec.parameters() > _MOST_PARAMETERS:
        raise InputError(
            f"{c.place}: its sizes make {spec.parameters():.3g} parameters, more than any published model; check "
            "hidden_size, num_hidden_layers, intermediate_size, vocab_size and the number of experts"
        )


def architecture(c: Fields) -> str:
    """Return the name of the architecture: the first of `architectures`, else the `model_type`."""
    names = c.items("architectures")
    if names and not isinstance(names[0], str):
        raise c.fail("architectures", names[0], "a string is needed")
    return names[0] if names else c.text("model_type")


def find_reader(c: Fields) -> Reader:
    """Return the reader of a configuration.

    It is chosen by the `model_type`, else by the architecture, else by those of the language model inside; else the
    configuration is read from the facts that it states (`families.unknown`).
    """
    kind, name = c.text("model_type"), architecture(c)
    inner = text_model(c)
    if not kind and not name and not inner.text("model_type"):
        raise InputError(f"{c.place}: neither model_type nor architectures is given; add one of them")
    for each in (kind, name, inner.text("model_type"), architecture(inner)):
        reader = reader_of(each)
        if reader:
            return reader
    return partial(unknown.unknown, name=name or inner.text("model_type"), known=known_types())
