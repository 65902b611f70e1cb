"""Evaluate candidates: size each, estimate and price it, and judge it against SLO and limits.

`scoring` has the `Scorer` that all searches of a plan ask; `columns` computes throughput, latencies, cost, power and
margins to the SLO from estimates, one value per candidate. `internal_columns` lists the columns that no row shows.
"""
