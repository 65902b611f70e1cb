"""Measured operator tables: where they lie, how they are read and interpolated."""

from __future__ import annotations

from perfmodel.profiles import store
from perfmodel.profiles.families import FAMILY, Family, Reference, Variant, bound, reference, shape_at
from perfmodel.profiles.store import Measured, Profile, folders, load, names

__all__ = [
    "FAMILY",
    "Family",
    "Measured",
    "Profile",
    "Reference",
    "Variant",
    "bound",
    "folders",
    "load",
    "names",
    "reference",
    "shape_at",
    "store",
]
