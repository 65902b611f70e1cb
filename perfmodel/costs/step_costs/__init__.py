"""Price steps: sum the prices of their operators, with waits, overlap and drafts, each distinct step once.

`steps` is the sum. `host_waits` adds waits for weights and cache in host memory, `context_parallel` hides exchanges
behind attention, `overlap` hides communication behind computation, and `drafting` adds the passes of the model that
drafts. `batched_pricing`, `unique_rows`, `distinct_steps` and `step_cache` price and keep what is equal once.
"""
