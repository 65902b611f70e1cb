"""Serving engines as data: defaults by version, published recipes, overlap and speculation settings."""

from __future__ import annotations

from perfmodel.engines.catalogue import FOLDER, engine
from perfmodel.engines.overlap import Overlap, overlap_of, ways
from perfmodel.engines.recipes import Recipe, assumed, instead, recipe
from perfmodel.engines.spec import HEADROOM, WATERMARK, Engine, Limits
from perfmodel.engines.speculation import KNOWN, Speculation, speculation_of

__all__ = [
    "FOLDER",
    "HEADROOM",
    "KNOWN",
    "WATERMARK",
    "Engine",
    "Limits",
    "Overlap",
    "Recipe",
    "Speculation",
    "assumed",
    "engine",
    "instead",
    "overlap_of",
    "recipe",
    "speculation_of",
    "ways",
]
