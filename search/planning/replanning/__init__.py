"""Answer questions that need the scenario planned again with something changed.

A narrower format (`formats`), the greatest confidence that still has a plan (`surest`), the benchmark run that is worth
most (`runs`, `next_run`). `concurrent_plans` makes several plans in common batches.
"""
