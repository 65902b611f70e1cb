"""Formulate a fleet as an integer program and solve it. This is the one place that uses PuLP.

`program` has the formulation and builds it from `variables` and the modules of constraints; `levels` tightens it.
`solve` runs HiGHS or CBC within a `deadline`, and `relax` says what to change where no fleet is possible.
"""
