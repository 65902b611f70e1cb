"""Rows and words for a terminal."""
