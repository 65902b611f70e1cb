"""Small layers that several tests count by hand."""

from perfmodel.models import Mixer

#: Latent attention: 12 heads, a latent of 16 and 3 rotary values.
MLA = Mixer("mla", heads=12, kv_heads=12, head_dim=9, value_dim=7, q_rank=20, kv_rank=16, rope_dim=3)
#: The same with an indexer of 5 heads of 6 that picks 8 tokens.
INDEXED_MLA = Mixer(
    "mla",
    heads=12,
    kv_heads=12,
    head_dim=9,
    value_dim=7,
    q_rank=20,
    kv_rank=16,
    rope_dim=3,
    index_heads=5,
    index_dim=6,
    index_topk=8,
)
