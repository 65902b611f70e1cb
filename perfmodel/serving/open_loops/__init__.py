"""Open loops: requests arrive at random at a given rate, without end or in a run of a given length.

`open_loop` makes the estimate, `open_waits` its waits for a step and for admission, `prompt_delays` the delay of
tokens by prompts that arrive meanwhile, and `finite_run` what a run of a given length meets.
"""
