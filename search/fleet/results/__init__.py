"""Answer questions about a solved fleet; most plan it again with one thing changed.

The next best fleets (`alternatives`), what a little more of each limit is worth (`marginal_values`), when demand
outgrows the fleet (`growth`), and the routes that a gateway reads (`routing`).
"""
