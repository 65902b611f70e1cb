"""Offline batches: all requests are queued at the start, the replica fills with them and drains.

`offline` makes the estimate of a batch that `offline_batch` describes. `drain` follows the replica over time by a
fluid model, `drain_cell` one cell of its clock, `joint_drains` several batches in one run, and `output_ages` gives the
share of sequences that still run.
"""
