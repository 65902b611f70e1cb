"""Shapes that tables are asked for, with what does not depend on a table computed once for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from perfmodel.arrays import Array, Codes, Index
from perfmodel.profiles.families import (
    Family,
    Formats,
    Reference,
    Shape,
    Variant,
    Work,
    bound_of,
    counted_formats,
    seconds_of,
)
from perfmodel.profiles.table import Sites, unique_sites

_ONE = np.zeros((), np.intp)


@dataclass(frozen=True)
class ShapeBatch:
    """Hold N shapes of one operator family, each of which is read in one of several tables.

    shape: coordinates of the family, (N,) or () each, or with leading axes. which: number of the table of each shape,
    (N,); () where all are read in one.
    """

    family: Family
    shape: Shape
    which: Index = field(default_factory=lambda: _ONE)
    _works: dict[tuple[Formats, ...], Work] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def place(self) -> tuple[list[Array], list[Array]]:
        """Return the logarithms of the site coordinates and of the axis coordinates, (N,) or () each."""
        return self.family.locate(self.shape)

    @cached_property
    def sites(self) -> Sites:
        """Return the different sites among the shapes."""
        return unique_sites(self.place[0])

    def each(self, values: Sequence[Any]) -> Any:
        """Return a figure of each shape, (N,), from that of each table; one where all are read in one table."""
        return np.array(values)[self.which] if self.which.ndim else values[int(self.which)]

    def bound(self, variants: Sequence[Variant], reference: Reference) -> tuple[Array, Codes]:
        """Return the bound in seconds, and what binds, (N,) each: see `perfmodel.profiles.families.bound`.

        variants: formats that the bound of each table counts. reference: constants of each shape.
        """
        return bound_of(self.family, self._work(variants), reference)

    def seconds(self, variants: Sequence[Variant], reference: Reference) -> Array:
        """Return the bound in seconds alone, (N,)."""
        return seconds_of(self.family, self._work(variants), reference)

    def _work(self, variants: Sequence[Variant]) -> Work:
        """Return the work of the shapes in the formats that the bounds of their tables count."""
        formats = tuple([counted_formats(self.family, variant) for variant in variants])
        if formats not in self._works:
            counted = formats[0]
            if any(other != counted for other in formats):
                counted = Formats(self.each([f.stored for f in formats]), self.each([f.act for f in formats]))
            self._works[formats] = self.family.work(self.shape, counted)
        return self._works[formats]

    def other(self, shape: Shape) -> ShapeBatch:
        """Return other shapes that are read in the same tables."""
        return replace(self, shape=shape)
