"""Change the price of an operator by what serving engines do: kernels of their own, factors, launches.

`engine_factors` multiplies times by factors fitted on serving runs (`corrections.toml`), `engine_kernels` has rates of
kernels that only one engine has (`own_kernels.toml`), `expert_exchange` those of all-to-alls made for routed experts,
and `launch_floor` is the least time of an operator that the host launches by itself.
"""
