"""Shapes that tables are asked for, with what does not depend on a table computed once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from perfmodel.arrays import Array, Codes
from perfmodel.profiles.families import Family, Formats, Reference, Variant, Work, bound_of, counted_formats, seconds_of
from perfmodel.profiles.shapes import held_in_length
from perfmodel.profiles.table import Sites, unique_sites


@dataclass(frozen=True)
class ShapeBatch:
    """Hold N shapes of one operator family at which one or several tables are read.

    A device without tables of its own is priced from those of several others, which need the same coordinates and the
    same work. Both are kept here, for as long as this object lives.

    shape: coordinates of the family, (N,) or () each.
    """

    family: Family
    shape: Mapping[str, Array]
    _works: dict[Formats, Work] = field(default_factory=dict, repr=False, compare=False)
    _others: dict[Any, ShapeBatch] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def place(self) -> tuple[list[Array], list[Array]]:
        """Return the logarithms of the site coordinates and of the axis coordinates, (N,) or () each."""
        return self.family.locate(self.shape)

    @cached_property
    def sites(self) -> Sites:
        """Return the different sites among the shapes."""
        return unique_sites(self.place[0])

    def bound(self, variant: Variant, reference: Reference) -> tuple[Array, Codes]:
        """Return the bound in seconds, and what binds, (N,) each: see `perfmodel.profiles.families.bound`."""
        return bound_of(self.family, self._work(variant), reference)

    def seconds(self, variant: Variant, reference: Reference) -> Array:
        """Return the bound in seconds alone, (N,)."""
        return seconds_of(self.family, self._work(variant), reference)

    def _work(self, variant: Variant) -> Work:
        """Return the work of the shapes in the formats that the bound of a table counts."""
        formats = counted_formats(self.family, variant)
        if formats not in self._works:
            self._works[formats] = self.family.work(self.shape, formats)
        return self._works[formats]

    def held(self, longest: float) -> ShapeBatch:
        """Return the prefills within a table's `longest` length that stand for these: see `held_in_length`."""
        return self.other(longest, lambda shape: held_in_length(shape, longest))

    def other(self, name: Any, made: Callable[[Mapping[str, Array]], Mapping[str, Any]]) -> ShapeBatch:
        """Return the shapes that `made` makes of these, made once for each `name`; themselves if it returns them."""
        if name not in self._others:
            shape = made(self.shape)
            self._others[name] = self if shape is self.shape else ShapeBatch(self.family, shape)
        return self._others[name]
