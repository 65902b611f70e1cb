"""Simulate a deployment under a load.

`api` has `simulate`, `rate_search` finds the highest rate that keeps objectives (`capacity`), `sequential` lengthens a
run until its figures are known well enough, and `options` has the options that they share.
"""
