"""Find the checkpoint to serve: the model itself, a published one in the format of the plan, or one yet to be made."""

from __future__ import annotations

from dataclasses import dataclass

from perfmodel import model as model_of
from perfmodel.dtypes import storage
from search.planning import ONLINE_ENGINES, ONLINE_FORMAT, published

#: Engines that read GGUF files.
GGUF = ("llamacpp", "ik_llama")
#: Bits from which a format counts as not quantised.
PLAIN_BITS = 16.0


@dataclass(frozen=True)
class Checkpoint:
    """The weights to load. name: of the checkpoint. format: storage format of its weights. notes: what to know."""

    name: str
    format: str
    notes: tuple[str, ...] = ()


def checkpoint(model: str, weight: str, engine: str) -> Checkpoint:
    """Return the checkpoint of `model` that serves it with weights of the format `weight`."""
    own = model_of(model).weight_format
    if engine in GGUF:
        name = f"{model.rsplit('/', 1)[-1]}-{weight.upper()}.gguf"
        return Checkpoint(
            name, weight, (f"{name}: make it with llama.cpp's convert_hf_to_gguf.py and llama-quantize.",)
        )
    if weight == own:
        return Checkpoint(model, own)
    if engine in ONLINE_ENGINES and weight == ONLINE_FORMAT and storage(own).bits >= PLAIN_BITS:
        return Checkpoint(
            model, own, (f"{engine} quantises {model} to {weight} as it loads it: check how well it answers.",)
        )
    known = published(model).get(weight)
    if known:
        return Checkpoint(known, weight, (f"{known} has {weight} weights: check how well it answers.",))
    name = f"{model}-{weight.upper()}"
    return Checkpoint(
        name, weight, (f"{name} stands for a checkpoint with {weight} weights: put its path in its place.",)
    )
