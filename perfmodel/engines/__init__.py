"""Serving engines as data: defaults, eras, recipes."""
