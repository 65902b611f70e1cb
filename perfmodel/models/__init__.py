"""Front door of the models: `model("meta-llama/Llama-3.1-70B")`, `names()`, and the types a shape is made of."""

from perfmodel.models.catalogue import aliases, base_names, model, names
from perfmodel.models.config import read_config
from perfmodel.models.layers import Block, Mixer, Mlp, Projection
from perfmodel.models.spec import ModelSpec, index_bytes

__all__ = [
    "Block", "Mixer", "Mlp", "ModelSpec", "Projection", "aliases", "base_names", "index_bytes", "model", "names",
    "read_config",
]  # fmt: skip
