"""Scenario files: TOML in, frozen data out."""
