"""Find the best pairs of a prefill pool and a decode pool.

`pool_roles` sizes each layout in each role, `pool_bounds` bounds what a pair can reach, and `disaggregated` estimates
pairs (`pools`) in the order of their bounds until no better pair is possible.
"""
