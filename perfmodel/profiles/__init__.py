"""Measured operator tables (profiles): file storage, loading, and interpolation between measured points.

Front door: `load(device)` returns a `Profile`; its `tables(family, framework)` are read with `Table.read`.
"""

from __future__ import annotations

from perfmodel.profiles import store
from perfmodel.profiles.compiled import expect_reads, numbering
from perfmodel.profiles.equal_rows import MIX_1, MIX_2, SHIFT_1, SHIFT_2
from perfmodel.profiles.families import FAMILY, Family, Reference, Variant, bound, causal_length, reference
from perfmodel.profiles.joint_reads import read_jointly
from perfmodel.profiles.monotone import Bounds
from perfmodel.profiles.shape_batch import ShapeBatch
from perfmodel.profiles.shapes import held_in_length, shape_at, shape_of
from perfmodel.profiles.store import Measured, Profile, folders, load, names

__all__ = [
    "FAMILY",
    "MIX_1",
    "MIX_2",
    "SHIFT_1",
    "SHIFT_2",
    "Bounds",
    "Family",
    "Measured",
    "Profile",
    "Reference",
    "ShapeBatch",
    "Variant",
    "bound",
    "causal_length",
    "expect_reads",
    "folders",
    "held_in_length",
    "load",
    "names",
    "numbering",
    "read_jointly",
    "reference",
    "shape_at",
    "shape_of",
    "store",
]
