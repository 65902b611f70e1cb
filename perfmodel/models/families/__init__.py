"""Readers of configurations, by `model_type` and by name of the architecture.

Most families are rows of a table, `families.toml`, and `decoder` reads them; docs/models.md tells how to add one. A
family whose layers the table cannot describe has a function here that takes the fields of a `config.json` (`Fields`),
returns a `ModelSpec` and is registered: `@reads("its_model_type", "ItsForCausalLM")`. `common` has the parts that most
of them share. Each docstring says which checkpoints the function reads and which keys matter besides the usual ones.
`unknown` reads a decoder that is in neither, from the facts that its file states.
"""

from perfmodel.models.families import cross, early, gemma, hybrid, latent, moe, state_space, unknown
from perfmodel.models.families.common import READERS, Reader
from perfmodel.models.families.find import known_types, reader_of

__all__ = [
    "READERS",
    "Reader",
    "cross",
    "early",
    "gemma",
    "hybrid",
    "known_types",
    "latent",
    "moe",
    "reader_of",
    "state_space",
    "unknown",
]
