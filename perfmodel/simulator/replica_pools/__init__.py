"""Pools of replicas: times of their steps, their scheduling policy, their KV cache.

`policy` defines `Policy` and `Pool`, `build` makes a pool of a model on a deployment, `table` holds the times of steps,
`step_power` says how the watts of steps are asked for, and `reservation` what requests reserve at admission.
"""
