"""Find the least-cost fleet of a problem, of a scenario, and of each hour of a day.

`plan` solves a problem, whole or by parts, with its ties and the limits that cost money; `from_scenario` models the
options of a scenario and plans it; `replan_by_simulation` repeats that until a simulation keeps every SLO.
"""
