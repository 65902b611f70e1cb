"""Replay the load of a scenario on candidates of its plan, in the simulator.

`verify` compares simulation and estimates, `hourly` reports a simulated day by hour, and `row_power` says how many
servers fit a power budget.
"""
