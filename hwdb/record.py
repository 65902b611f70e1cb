"""A number of a hardware file with its provenance: no number enters the database without a source."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from hwdb.errors import InputError
from hwdb.units import to_si

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

#: rated: printed by the maker; measured: somebody ran it; derived: computed from other printed quantities (the
#: note says how); assumed: a working value that nobody prints for this part.
KINDS = ("rated", "measured", "derived", "assumed")
#: Numbers in SI outside this range are taken for errors. Chosen: from less than a nanosecond and a fraction of a byte
#: per second to more than all computers of the world together.
SMALLEST, LARGEST = 1e-15, 1e27


@dataclass(frozen=True)
class Record:
    """One numeric quantity of a hardware file, as its source prints it.

    Attributes:
        value: the number, or the text of a range ("350-400").
        unit: as printed, a key of `hwdb.units.UNITS`.
        kind: one of `KINDS`.
        source: publication, page or repository.
        note: conditions, or the reason for the choice.
        chosen: for a range, the number that is used, in `unit`.
        alternatives: values that other sources print; their notes say why they are not used.
    """

    value: float | str
    unit: str
    kind: str
    source: str
    note: str = ""
    chosen: float | None = None
    alternatives: tuple[Record, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"kind {self.kind!r} of a figure is unknown; choose one of {', '.join(KINDS)}")
        if not self.source.strip():
            raise InputError("a figure has no source; name the publication, page or repository it comes from")
        if isinstance(self.value, str) and self.chosen is None:
            raise InputError(f"value {self.value!r} is a text; give the number to use as chosen")
        if not math.isfinite(self.number) or self.number < 0.0:
            raise InputError(f"value {self.number!r} is impossible; give a finite number of at least 0")
        if self.number and not SMALLEST <= self.si <= LARGEST:
            raise InputError(f"value {self.number:g} {self.unit} is impossible; check the number and its unit")

    @property
    def number(self) -> float:
        """The number that is used, in `unit`."""
        return float(self.value) if self.chosen is None else float(self.chosen)

    @property
    def si(self) -> float:
        """The number that is used, in SI.

        >>> Record(3350, "GB/s", "rated", "NVIDIA H100 datasheet").si
        3350000000000.0
        """
        return to_si(self.number, self.unit)

    def __str__(self) -> str:
        printed = self.value if isinstance(self.value, str) else f"{self.value:g}"
        return f"{printed} {self.unit} ({self.kind}; {self.source})"


def rebuilt(owner: DataclassInstance) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return the result of `__reduce__` for a frozen dataclass with read-only mappings, which pickle refuses."""
    values = {f.name: getattr(owner, f.name) for f in fields(owner) if f.init}
    plain = {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}
    return _build, (type(owner), plain)


def _build(kind: Callable[..., Any], values: Mapping[str, Any]) -> object:
    """Make an object of the dataclass `kind` from the values of its fields; pickle calls it."""
    return kind(**values)
