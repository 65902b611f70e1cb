"""Readers of configuration files, one small function a family, by `model_type` and architecture."""

from perfmodel.models.families import dense, latent, moe
from perfmodel.models.families.common import READERS, Reader

__all__ = ["READERS", "Reader", "dense", "latent", "moe"]
