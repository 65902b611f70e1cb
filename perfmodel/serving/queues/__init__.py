"""Queueing laws of one replica: waits for a step, for KV cache and for a sequence slot.

`queueing` has the equilibrium of prefill and decode, `run_waits` the waits of a run that starts with an empty queue,
`admission` the wait for KV-cache blocks and sequence slots, `variation` how much arrivals and lengths vary. All of
it works on arrays of rates and times; nothing here prices a step.
"""
