"""Vision and audio encoders beside a language model: their parameters, with the projector into the model's width."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from hwdb import InputError
from hwdb.tomlfile import read_toml
from perfmodel.models.fields import Fields

FILE = Path(__file__).parent / "towers.toml"
#: Sections of a configuration that describe an encoder.
_SECTIONS = ("vision_config", "audio_config", "visual")
#: Section that holds those of the model which reads images and sound (Qwen Omni).
_THINKER = "thinker_config"
#: Spellings of an encoder's facts, the first that a file has counts.
_DEPTH = ("depth", "num_hidden_layers", "num_layers", "layers", "encoder_layers", "vt_num_hidden_layers", "n_layer")
_WIDTH = ("embed_dim", "hidden_size", "width", "d_model", "vt_hidden_size", "embed_width")
_INNER = ("intermediate_size", "mlp_dim", "encoder_ffn_dim", "vt_intermediate_size", "ffn_dim")
_HEADS = ("num_heads", "num_attention_heads", "heads", "encoder_attention_heads", "vt_num_attention_heads")


@dataclass(frozen=True)
class Tower:
    """How an encoder is built, where its section does not say it.

    Attributes:
        names: `model_type`s of the section or of the model, and names of architectures.
        models: the models, for the documentation.
        source: where the row comes from.
        section: the section that it describes.
        gated: whether its MLPs have two up-projections.
        mlps: MLPs per layer (a conformer has two).
        projector: "merger" (two layers over patches merged: square, then to the model's width), "mlp" (to the model's
            width, then square) or "linear".
        inner: key of the inner width of the MLPs, where it is not one of the usual ones; the projector then ends in an
            MLP of the width `intermediate_size` (GLM-V).
        merge: patches per side that the projector merges where the section does not say.
        parameters: total where the code fixes the encoder, with adapters that are always loaded; it goes first.
        always: whether the model has the encoder even if its file has no such section.
        fill: values of fields that published files leave out.
    """

    names: list[str] = field(default_factory=list)
    models: str = ""
    source: str = "transformers 5.24.0"
    section: str = "vision_config"
    gated: bool = False
    mlps: int = 1
    projector: str = "mlp"
    inner: str = ""
    merge: int = 1
    parameters: float = 0.0
    always: bool = False
    fill: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Encoders:
    """The encoders of a model: their parameters, the attention heads of the vision encoder, and what is not counted."""

    parameters: int = 0
    heads: int = 0
    remark: str = ""


@cache
def towers() -> tuple[Tower, ...]:
    """Read the table of encoders, once."""
    return tuple(Tower(**entry.values) for entry in read_toml(FILE, "table of encoders").tables("tower"))


def encoders(c: Fields, text_width: int, names: tuple[str, ...]) -> Encoders:
    """Return the encoders that a configuration describes.

    text_width: width of the language model. names: `model_type` and architecture of the model, by which an encoder is
    found whose section has no `model_type` of its own.
    """
    holder = c.section(_THINKER) or c
    total, heads, remarks = 0, 0, []
    rows = {row.section: row for row in towers() if row.always and set(row.names) & set(names)}
    for key in dict.fromkeys((*(k for k in _SECTIONS if holder.has(k)), *rows)):
        section = holder.section(key) or Fields({}, f"{c.place}: {key}")
        row = _row(section, key, names)
        try:
            total += _parameters(section, row, text_width)
        except InputError as error:
            remarks.append(f"its weights are not counted: {error}")
        if key != "audio_config" and not (row.parameters and not section.values):
            heads = heads or _sizes(section, row).count(*_HEADS, default=0, least=0)
    return Encoders(total, heads, "; ".join(remarks))


def _row(section: Fields, key: str, names: tuple[str, ...]) -> Tower:
    """Return the row of an encoder: by the `model_type` of its section, else by the model's names, else the default."""
    for name in (section.text("model_type"), *names):
        for row in towers():
            if name and name in row.names and row.section == key:
                return row
    return Tower(section=key)


def _sizes(section: Fields, row: Tower) -> Fields:
    """Return the fields of an encoder with those that published files leave out."""
    known = {key for keys in (_DEPTH, _WIDTH, _INNER, _HEADS) for key in keys if section.has(key)}
    same = {key: keys for keys in (_DEPTH, _WIDTH, _INNER, _HEADS) for key in keys}
    free = {key: v for key, v in row.fill.items() if not known & set(same.get(key, ()))}
    return section.filled(**free)


def _parameters(section: Fields, row: Tower, text_width: int) -> int:
    """Count the parameters of one encoder and of its projector.

    Counted are the matrices and biases of attention and MLPs, the embedding of patches, learned positions and the
    projector.
    """
    if row.parameters:
        return int(row.parameters)
    c = _sizes(section, row)
    depth, width = c.count(*_DEPTH), c.count(*_WIDTH)
    ratio = c.number("mlp_ratio", default=0.0)
    inner = c.count(*((row.inner,) if row.inner else _INNER), default=int(ratio * width) or None)
    up = 2 if row.gated else 1
    attention = c.count("qkv_hidden_size", default=width)
    layer = 4 * width * (attention + 1) + row.mlps * ((up + 1) * width * inner + up * inner + width) + 4 * width
    patch, channels = _side(c, "patch_size") or 1, c.count("in_channels", "num_channels", "in_chans", default=3)
    patches = patch**2 * channels * c.count("temporal_patch_size", default=1) * width
    positions = (_side(c, "image_size") // patch) ** 2 * width
    return depth * layer + patches + positions + _projector(c, row, width, text_width)


def _side(c: Fields, key: str) -> int:
    """Return the side of a square in pixels, which some files give as a list of two; 0 without the key."""
    value = c.values.get(key)
    return (c.stating(**{key: value[0]}) if isinstance(value, list) and value else c).count(key, default=0)


def _projector(c: Fields, row: Tower, width: int, text_width: int) -> int:
    """Count the parameters between the encoder and the language model; one projector more per deep-stack layer."""
    merge = c.count("spatial_merge_size", "merge_size", default=row.merge)
    merged = width * merge**2
    out = c.count("out_hidden_size", default=text_width)
    if row.inner:
        return merged * out + out * out + (3 if row.gated else 2) * out * c.count(*_INNER)
    sizes = {"merger": merged * (merged + out), "mlp": merged * out + out * out, "linear": merged * out}
    return sizes[row.projector] * (1 + len(c.items("deepstack_visual_indexes")))
