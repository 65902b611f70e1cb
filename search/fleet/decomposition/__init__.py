"""Solve a large elastic fleet by its parts, by column generation with Benders cuts.

`split` is the algorithm and says its steps. `coupling` finds the rows that join the parts, `columns` and `knapsack`
find fleets of a part, `master` prices the rows, `cost_bounds` and `benders_cuts` bound and tighten each part.
"""
