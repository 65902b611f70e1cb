"""Percentiles of latencies: over the requests of one class (`within_class`), and of a mix (`percentiles`)."""
