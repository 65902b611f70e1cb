"""Loads with a fixed number of requests in flight: clients of a closed loop, and static batches.

`closed_loop` estimates a loop and `static` a batch. `client_batch` has the batch that clients keep full,
`closed_admission` the wait of a closed loop for a place in it, and `shared_steps` the waits for a step where prompts
share steps with decodes.
"""
