"""Hold the input of the integer program as plain data, and the arrays that follow from it.

`problem` defines and checks it: options, request classes, demand and limits. `limits`, `cases` and `quantities` compute
prices, bounds, failures and coefficients; nothing here knows the solver.
"""
