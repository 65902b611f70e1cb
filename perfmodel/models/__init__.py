"""Model shapes: the catalogue, readers of `config.json`, LoRA adapters."""

from __future__ import annotations

from perfmodel.models.catalogue import aliases, base_names, model, names
from perfmodel.models.config import read_config
from perfmodel.models.described import Described
from perfmodel.models.drafters import eagle_head, leaves_mtp_out, mtp_layer
from perfmodel.models.format_suffix import is_format_word
from perfmodel.models.layers import Block, Mlp
from perfmodel.models.lora import Adapters, adaptable, check_rank, slices
from perfmodel.models.mixer import Mixer
from perfmodel.models.projections import Projection
from perfmodel.models.spec import UNQUANTISED, ModelSpec, index_bytes

__all__ = [
    "UNQUANTISED",
    "Adapters",
    "Block",
    "Described",
    "Mixer",
    "Mlp",
    "ModelSpec",
    "Projection",
    "adaptable",
    "aliases",
    "base_names",
    "check_rank",
    "eagle_head",
    "index_bytes",
    "is_format_word",
    "leaves_mtp_out",
    "model",
    "mtp_layer",
    "names",
    "read_config",
    "slices",
]
