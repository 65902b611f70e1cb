"""Numerical libraries that the profiler can time: numpy and torch."""
