"""Levels of models: how much longer all kernels of an architecture take under an engine on a family of chips.

They are what the factors of kinds of kernel leave: how far an engine has fused and tuned what one architecture runs. A
level depends on the engine, the chip family and the architecture alone, so it changes no order of loads, of degrees of
parallelism, or of devices of a family. Fitted on measured runs by `python -m perfmodel.fitting levels`, drawn to 1;
without an entry a level is 1. Links are left out: messages do not depend on what computes them.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from hwdb import Device
from hwdb.tomlfile import read_toml

TABLE = Path(__file__).with_name("model_levels.toml")
#: What the names of classes of Transformers have beside the architecture.
_BESIDE = re.compile(r"For(CausalLM|ConditionalGeneration)$|[^a-z0-9]", re.IGNORECASE)


@cache
def plain_architecture(name: str) -> str:
    """Return the name of an architecture as the table of levels spells it, from a class or a `model_type`.

    >>> plain_architecture("Qwen3_5MoeForConditionalGeneration"), plain_architecture("qwen3_5_moe")
    ('qwen35moe', 'qwen35moe')
    """
    return _BESIDE.sub("", name).lower()


def chip_family(device: Device) -> str:
    """Return the family of chips whose devices share levels, such as "NVIDIA Hopper"."""
    return f"{device.vendor} {device.make}"


def model_level(engine: str, device: Device, architecture: str) -> float:
    """Return the factor on all kernels of an architecture under an engine on the chips of a device; 1 if unknown.

    architecture: as of `ModelSpec`; "" for none.
    """
    return _levels().get((engine, chip_family(device), plain_architecture(architecture)), 1.0)


@cache
def engines_with_levels() -> frozenset[str]:
    """Return the names of the engines that have levels."""
    return frozenset(engine for engine, _, _ in _levels())


@cache
def _levels() -> dict[tuple[str, str, str], float]:
    """Read the table as {(engine, family of chips, architecture): level}."""
    found = {}
    for table in read_toml(TABLE, "table of model levels").tables("level", ()):
        key = (table.text("engine"), table.text("chips"), table.text("architecture"))
        found[key] = table.number("level", above=0)
        table.whole("values")  # measured values behind the level, for readers
        table.whole("groups")
        table.done()
    return found
