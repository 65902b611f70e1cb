"""Numbers with which the page ranks candidates again as its reader moves SLOs, load, prices and PUE.

`live_data` gathers them for candidates, `live_pools` for pairs of pools, from estimates of one replica over its load
(`replica_loads`); `packed` writes columns of numbers as text. The scripts that read them are in `templates`.
"""
