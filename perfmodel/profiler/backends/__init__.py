"""Backends: the numerical libraries that the profiler times (numpy, torch)."""
