"""Loads with a fixed number of requests in flight: clients of a closed loop, and static batches.

`closed_loop` estimates a loop and `static` a batch. `closed_admission` has the wait of a closed loop for a place in the
batch, and `shared_steps` its waits for a step where prompts share steps with decodes.
"""
