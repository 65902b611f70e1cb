"""The commands of the command line; `command_tree` builds them. Loads no numerics: commands import what they need."""

from __future__ import annotations

from search.commands.application import command_tree

__all__ = ["command_tree"]
