"""Price operators from tables measured on the device itself, with the spread of such times.

`lookup` reads a table at a demand and `profiled` is the cost model of it. `table_validity` says which tables hold on a
device, `shortest_calls` what launches take, `device_remarks` what a reader should know of it, and `intervals` how far a
time may be off.
"""
