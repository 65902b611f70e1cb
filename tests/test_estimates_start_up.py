"""Start-up times: each part follows what drives it, other engines are not known, the command line prints them."""

from __future__ import annotations

import json

import numpy as np
import pytest

import cli
import hwdb
from perfmodel import model
from perfmodel.deployment import deployments
from perfmodel.engines import engine
from perfmodel.estimates import start_up

H100 = hwdb.device("h100-sxm")


def test_parts_follow_bytes_and_layers() -> None:
    spec, layouts = model("meta-llama/Llama-3.1-70B"), deployments([H100], tp=[4, 8, 8], weight=["bf16", "bf16", "fp8"])
    found = start_up(spec, layouts, engine("vllm"))
    # one host hands out the same bytes to four or eight devices; half the bytes take half the time
    assert found.load[1] == pytest.approx(found.load[0], rel=0.02)
    assert found.load[2] == pytest.approx(found.load[1] / 2, rel=0.05)
    assert np.ptp(found.compile) == np.ptp(found.capture) == 0.0
    small = start_up(model("meta-llama/Llama-3.1-8B"), layouts, engine("vllm"))
    assert found.compile[0] / small.compile[0] == pytest.approx(80 / 32)
    assert np.all(found.wake < found.load)
    assert np.all(found.load < found.warm)
    assert np.all(found.warm < found.cold)


@pytest.mark.parametrize(
    ("name", "device", "tp", "weight", "seconds"),
    [
        ("Qwen/Qwen3-235B-A22B", "a100-sxm-80gb", 4, "fp8", 5.5),
        ("Qwen/Qwen3-30B-A3B", "a100-sxm-80gb", 1, "bf16", 2.9),
        ("Qwen/Qwen3-0.6B", "a100-sxm-80gb", 1, "bf16", 0.26),
        ("Qwen/Qwen3-32B", "h100-sxm", 1, "bf16", 2.67),
    ],
)
def test_waking_takes_what_was_published(name: str, device: str, tp: int, weight: str, seconds: float) -> None:
    """Four published times from 1 to 236 GB: by the link of each device alone two of them take less than half."""
    found = start_up(model(name), deployments([hwdb.device(device)], tp=[tp], weight=[weight]), engine("vllm"))
    assert found.wake[0] == pytest.approx(seconds, rel=0.2)


def test_compiling_again_from_the_cache_does_not_grow_with_layers() -> None:
    small, large = (
        start_up(model(name), deployments([H100], tp=[8]), engine("vllm"))
        for name in ("meta-llama/Llama-3.1-8B", "Qwen/Qwen3-235B-A22B")
    )
    assert small.compile_cached[0] == large.compile_cached[0] == pytest.approx(7.5, abs=2.0)
    assert large.compile[0] == pytest.approx(111.0, rel=0.35)
    assert small.compile[0] == pytest.approx(19.4, rel=0.5)


def test_eager_engines_capture_nothing_and_other_engines_are_not_known() -> None:
    spec, one = model("meta-llama/Llama-3.1-8B"), deployments([H100])
    eager = start_up(spec, one, engine("vllm").configured(graph_capture=False))
    assert eager.compile[0] == eager.capture[0] == 0.0
    other = start_up(spec, one, engine("trtllm"))
    assert np.isnan(other.cold[0])
    assert np.isfinite(other.load[0])


def test_estimate_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["estimate", "meta-llama/Llama-3.1-8B", "--device", "h100-sxm", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)[0]
    assert row["start_up_s"] > row["start_up_warm_s"] > row["weights_load_s"] > row["wake_s"] > 0
