"""Count two-batch overlap of decodes by the order of SGLang's stages, beside the rule of `perfmodel.engines.overlap`.

    python -m benchmarks.overlap_stages

DeepSeek-V3 on 9 nodes of 8 H100, as in the anchors `overlap-decode-32` and `overlap-decode-256`. SGLang starts the
second micro-batch two stages behind the first (sgl-project/sglang @dec8155,
python/sglang/srt/batch_overlap/operations_strategy.py). So while a transfer is under way, these are computed:

- dispatch of the first: its shared experts, the projections of the second
- dispatch of the second: its shared experts
- combine of the first: attention of the second
- combine of the second: projections of the first
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping

import cli

DEVICES, SEQUENCES = 72, (32, 256)
SETUP = (
    "deepseek-ai/DeepSeek-V3 --device h100-sxm --engine sglang --ep 72 --dp-attention 72 --max-num-seqs 18432 "
    "--isl 2000 --osl 100 --redundant-experts 32"
)
#: What a stage computes: operator -> the share of its calls; norm, absorb and routing are called twice in a layer.
PROJECTIONS = {"norm": 0.5, "mla_down": 1.0, "q_up": 1.0, "absorb": 0.5, "rope_mla": 1.0}
ATTENTION = {"mla_decode": 1.0, "absorb": 0.5, "o": 1.0, "norm": 0.5, "router": 1.0, "routing": 0.5}
SHARED = {"shared_up": 1.0, "shared_down": 1.0}


def hidden(times: Mapping[str, float]) -> float:
    """Return the time of transfers that hides behind computation, of both micro-batches.

    times: of the operators of a step of one micro-batch, in any unit.
    """

    def taken(stage: Mapping[str, float]) -> float:
        return sum(times[name] * share for name, share in stage.items())

    dispatch, combine = times["expert_dispatch"], times["expert_combine"]
    shared, projections = taken(SHARED), taken(PROJECTIONS)
    first = min(dispatch, shared + projections) + min(combine, taken(ATTENTION))
    return first + min(dispatch, shared) + min(combine, projections)


def step_us(sequences: int) -> dict[str, float]:
    """Return operator -> microseconds of a decode step with so many sequences per device."""
    out = io.StringIO()
    words = [*SETUP.split(), "--batch", str(DEVICES * sequences), "--two-batch-overlap", "off", "--explain", "--json"]
    with contextlib.redirect_stdout(out):
        cli.main(["estimate", *words])
    return {row["operator"]: row["time_us"] for row in json.loads(out.getvalue()) if row["phase"] == "decode"}


def main() -> None:
    """Print by how much overlap speeds steps up, by the order of stages."""
    print("sequences per device | step without overlap ms | with overlap, by stages, ms | gain")
    for sequences in SEQUENCES:
        whole, micro = step_us(sequences), step_us(sequences // 2)
        alone, both = sum(whole.values()), 2 * sum(micro.values()) - hidden(micro)
        print(f"{sequences} | {alone / 1e3:.1f} | {both / 1e3:.1f} | {100 * (alone / both - 1):+.0f} %")


if __name__ == "__main__":
    main()
