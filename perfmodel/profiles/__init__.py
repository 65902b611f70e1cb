"""Measured operator tables by device: where they lie, what they rest on, and how demands find them.

Front door: `load(device)` -> `Profile` or None, `names()`, `folders()`. Cost models read tables through
`perfmodel.costs.lookup`; `perfmodel.profiles.build` makes profiles (`write_profile(rows, folder)` from canonical
rows). docs/profiles.md describes the format.
"""

from __future__ import annotations

from perfmodel.profiles.store import Measured, Profile, folders, load, names

__all__ = ["Measured", "Profile", "folders", "load", "names"]
