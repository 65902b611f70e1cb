"""Power and energy."""

from __future__ import annotations

from perfmodel.power import device

__all__ = ["device"]
