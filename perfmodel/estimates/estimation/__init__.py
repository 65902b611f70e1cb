"""Make estimates of deployments whose replicas do both prefill and decode.

`estimator` takes a model, a workload and deployments; `replicas` divides the load among replicas; `assembly` makes
the columns from what one replica does; `shared_step_cache` keeps costs of steps between calls.
"""
