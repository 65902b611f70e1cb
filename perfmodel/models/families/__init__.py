"""Readers of configuration files, one small function a family, by `model_type` and architecture."""

from perfmodel.models.families import dense, early, gemma, hybrid, latent, moe
from perfmodel.models.families.common import READERS, Reader

__all__ = ["READERS", "Reader", "dense", "early", "gemma", "hybrid", "latent", "moe"]
