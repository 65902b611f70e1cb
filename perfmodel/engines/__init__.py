"""Serving engines as data: defaults by version, published recipes, overlap settings."""

from __future__ import annotations

from perfmodel.engines.adjustment import OTHER_MODEL_SHARE, OTHER_MODEL_SPREAD, PARTS, Adjustment, adjustment_on
from perfmodel.engines.catalogue import engine, families, shipped
from perfmodel.engines.overlap import Overlap, overlap_of, ways
from perfmodel.engines.own_words import spellings
from perfmodel.engines.platforms import CACHE_FORMATS, ENGINE_VENDORS, LOCAL_ENGINE, instead_of, keeps_cache_in
from perfmodel.engines.reader import FOLDER, defaults
from perfmodel.engines.recipes import Recipe, assumed, instead, recipe
from perfmodel.engines.spec import Engine, Limits

__all__ = [
    "CACHE_FORMATS",
    "ENGINE_VENDORS",
    "FOLDER",
    "LOCAL_ENGINE",
    "OTHER_MODEL_SHARE",
    "OTHER_MODEL_SPREAD",
    "PARTS",
    "Adjustment",
    "Engine",
    "Limits",
    "Overlap",
    "Recipe",
    "adjustment_on",
    "assumed",
    "defaults",
    "engine",
    "families",
    "instead",
    "instead_of",
    "keeps_cache_in",
    "overlap_of",
    "recipe",
    "shipped",
    "spellings",
    "ways",
]
