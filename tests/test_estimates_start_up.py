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
