"""Find the operating points of many candidates at once: least replicas, or greatest load per replica.

`bracket_search` narrows a bracket for each candidate, `sizing` asks with it whether an SLO is kept, and
`replica_limits` counts the replicas that stock, budget and power allow.
"""
