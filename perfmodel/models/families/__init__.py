"""Readers of configurations, one short function per family, by `model_type` and by name of the architecture.

To add a family, write a function that takes the fields of a `config.json` (`Fields`) and returns a `ModelSpec`, and
register it: `@reads("its_model_type", "ItsForCausalLM")`. `common` has the parts that most families share. Each
docstring says which checkpoints the function reads and which keys matter besides the usual ones (see `common`).
"""

from perfmodel.models.families import dense, early, gemma, hybrid, latent, moe
from perfmodel.models.families.common import READERS, Reader

__all__ = ["READERS", "Reader", "dense", "early", "gemma", "hybrid", "latent", "moe"]
