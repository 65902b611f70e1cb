"""The size of a page that holds the state of any recurrent layer."""

from __future__ import annotations

import hwdb
from perfmodel.deployment import deployments, shard
from perfmodel.dtypes import storage
from perfmodel.engines import engine
from perfmodel.equations import SIXTEEN_BIT
from perfmodel.memory.pages import Layers, _page
from perfmodel.models import Mixer, model

VLLM = engine("vllm", "0.19")


def test_a_page_holds_the_largest_state_in_whole_blocks() -> None:
    full = Layers(Mixer("full", heads=8, kv_heads=4, head_dim=32, value_dim=32), 1)
    small, large = (
        Layers(Mixer("ssm", heads=heads, kv_heads=1, head_dim=64, value_dim=64, conv=4), 2) for heads in (16, 48)
    )
    placed = shard(model("Qwen/Qwen3-0.6B"), deployments([hwdb.device("h100-sxm")]))

    def page(*kinds: Layers) -> float:
        found = _page(placed, VLLM, [full, *kinds])
        assert found is not None
        return float(found[0])

    block = 4 * (32 + 32) * 2 * VLLM.kv_block
    assert page(small, large) == page(large, small) == page(large) > page(small)
    for one in (small, large):
        state = (
            one.mixer.recurrent_values * storage(placed.model.state_format).bytes + one.mixer.conv_values * SIXTEEN_BIT
        )
        assert page(one) % block == 0.0
        assert page(one) - block < state <= page(one)
    assert _page(placed, VLLM, [full]) is None
