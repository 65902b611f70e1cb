"""Check a solved fleet at its own load: by estimates of its mixes of classes, and by simulation.

`operating` estimates power and the chance of the SLOs, `mix` lowers a throughput that a mix of classes does not reach,
`busiest` writes latencies of the busiest period, and `verify` replays it in the simulator.
"""
