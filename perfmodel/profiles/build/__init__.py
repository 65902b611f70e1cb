"""Builds the shipped profiles (operator tables) from published operator measurements."""

from __future__ import annotations

from perfmodel.profiles.build import aiconfigurator, files, heldout, runfile
from perfmodel.profiles.build.fit import Points, fitted_table
from perfmodel.profiles.build.package import package_rows
from perfmodel.profiles.build.spreads import half_width, merge
from perfmodel.profiles.build.tables import Provenance, located, polynomial, split, write_family

__all__ = [
    "Points",
    "Provenance",
    "aiconfigurator",
    "files",
    "fitted_table",
    "half_width",
    "heldout",
    "located",
    "merge",
    "package_rows",
    "polynomial",
    "runfile",
    "split",
    "write_family",
]
