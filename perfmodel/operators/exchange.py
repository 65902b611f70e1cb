"""Name the exchanges of context parallelism; a step runs those of one way (`perfmodel.deployment.CP_METHODS`)."""

from __future__ import annotations

RING_KV, RING_Q, GATHER_KV, RETURN = "sequence_ring_kv", "sequence_ring_q", "sequence_gather", "sequence_return"
MERGE = "sequence_merge"
DECODE_RING_Q, DECODE_RETURN, COMBINE = "sequence_decode_ring_q", "sequence_decode_return", "sequence_combine"
#: All of them.
ALL = (RING_KV, RING_Q, GATHER_KV, RETURN, MERGE, DECODE_RING_Q, DECODE_RETURN, COMBINE)
