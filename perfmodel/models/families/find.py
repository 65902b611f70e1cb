"""Find the reader of a name: a function of its own, or its row in the table of families."""

from __future__ import annotations

from functools import partial

from perfmodel.models.families.common import READERS, Reader
from perfmodel.models.families.decoder import decoder
from perfmodel.models.families.table import by_name


def reader_of(name: str) -> Reader | None:
    """Return the reader of a `model_type` or of an architecture; None where there is none."""
    if name in READERS:
        return READERS[name]
    row = by_name().get(name)
    return partial(decoder, family=row) if row else None


def known_types() -> list[str]:
    """Return every `model_type` that has a reader, sorted (names in lower case; architectures have capitals)."""
    return sorted(name for name in {*READERS, *by_name()} if name == name.lower())
