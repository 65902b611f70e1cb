"""Write the table of a plan: one row per candidate, with ranges of cost, headroom and modes of serving.

`rows` makes the rows, whose keys carry units; `cost_range` and `headroom` find how far its cost may be off and how
much more it serves, and `modes` compares colocated candidates with pairs of pools.
"""
