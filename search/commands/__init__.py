"""The commands of the command line; `app` holds all of them. Loads no numerics: commands import what they need."""

from __future__ import annotations

from search.commands.application import app

__all__ = ["app"]
