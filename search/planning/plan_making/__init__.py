"""Make the plan of a scenario.

`planner` sets up target and search space, searches and scores; `Plan` in `ranked_plan` is the answer that everything
after it reads.
"""
