"""Figures of a simulation, all taken over one window of time.

`window` says which part of a run is measured, `metrics` gives latencies and rates, `distributions` their percentiles,
`tokens` when each token was made, `device_power` and `power_use` watts, `verdict` whether objectives are kept.
`export` writes a run to files.
"""
