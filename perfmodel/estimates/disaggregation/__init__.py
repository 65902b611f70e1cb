"""Estimates of disaggregated serving: a pool of prefill workers and a pool of decode workers.

`kv_transfer` has the link between the pools, `tandem` their equilibrium, `disaggregated` the estimate, and
`pool_parts` what it owes to each pool and to the link.
"""
