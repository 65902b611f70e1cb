"""80 % ranges of estimates from the causes that they depend on.

`causes` says how much each metric changes with each part of the system that may be misjudged, `intervals` how far these
parts are misjudged and what is left. `weight_read_bound` is the least time of a decode step, where ranges end.
"""
