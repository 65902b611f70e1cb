"""Numerical limits that the estimators of this package share, each with its reason."""

from __future__ import annotations

#: Highest utilisation at which an equilibrium is evaluated: the share of time that prefill takes from decode, or the
#: utilisation of a queue. At 1 no equilibrium exists. Chosen: at 0.98 TPOT is 50 times the bare decode step, beyond any
#: SLO, and all quantities stay finite.
MAX_UTILISATION = 0.98
#: A replica that runs this share of its sequence limit, or serves less than this share of its demand, is saturated.
#: Chosen: fixed points approach a bound from below and stop within 0.1 % of it.
SATURATED_SHARE = 0.999
#: Sequences a replica or a decode worker runs where neither KV capacity nor max_num_seqs says less. Chosen: far above
#: the default of every engine in the catalogue. It bounds deployments that do not fit in memory (their KV capacity
#: counts as infinite) and engines without a sequence limit. The simulator has a lower limit of its own, the width of
#: its step table.
MAX_RUNNING = 16384.0
#: Least divisor: keeps ratios finite where a time, a rate or a count is zero.
TINY = 1e-12
#: Fewest requests, clients or sequences per replica that a load is divided into (counts may be fractions).
TINY_COUNT = 1e-9
