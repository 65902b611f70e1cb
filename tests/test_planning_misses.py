"""Near misses where no number of replicas keeps the SLO: more replicas hardly help, and fewer are worse."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perfmodel.costs import Roofline
from perfmodel.estimates import slo_ratio
from search import load_scenario, plan

#: More replicas than this many times those shown are not tried.
TIMES = 4.0

RAG = ("Qwen/Qwen3-32B", 6000, 400, 5.0, 30, ["l40s", "h100-sxm", "h200-sxm", "mi300x"])


def relative(seed: int) -> tuple[str, int, int, float, int, list[str]]:
    """A question that no hardware can meet, drawn at random."""
    draw = random.Random(seed)
    name = draw.choice(["meta-llama/Llama-3.1-8B", "Qwen/Qwen3-32B"])
    return name, draw.choice((3000, 8000)), draw.choice((50, 300)), draw.choice((1.0, 8.0, 40.0)), 4, ["h100-sxm"]


@pytest.mark.parametrize("asked", [RAG, *map(relative, range(20))], ids=lambda a: f"{a[0]} {a[3]}")
def test_the_nearest_miss_needs_no_more_replicas_and_has_no_cheaper_equal(
    asked: tuple[str, int, int, float, int, list[str]], tmp_path: Path
) -> None:
    name, inputs, outputs, rate, ttft, devices = asked
    path = tmp_path / "scenario.toml"
    path.write_text(
        f'[model]\nname = "{name}"\n[workload]\ninput_tokens = {inputs}\noutput_tokens = {outputs}\n'
        f"request_rate_rps = {rate}\n[slo]\nttft_ms_p95 = {ttft}\n[hardware]\ndevices = {devices}\n"
        "[search]\npp = [1]\n".replace("'", '"'),
        encoding="utf-8",
    )
    found = plan(load_scenario(path))
    assert not found.feasible
    nearest, ratio = int(found.order[0]), found.columns["slo_ratio"]
    assert ratio[nearest] <= 1.06 * np.nanmin(ratio[found.columns["fits"] > 0])
    one, target = found.deployment(nearest), found.scorer.target
    more = replace(one, replicas=one.replicas * TIMES)
    assert slo_ratio(target.estimates(more), target.slo, 0.5)[0][0] >= 0.85 * ratio[nearest]
    alike = np.abs(np.log(ratio / ratio[nearest])) < 1e-9
    assert found.columns["usd_per_hour"][nearest] <= np.nanmin(found.columns["usd_per_hour"][alike])


def test_the_best_of_each_device_is_shown_whatever_its_rank(tmp_path: Path) -> None:
    """A reader who has ten rows of one device still sees what the others would cost."""
    path = tmp_path / "s.toml"
    path.write_text(
        """
[model]
name = "Qwen/Qwen3-30B-A3B"
[workload]
input_tokens = 1000
output_tokens = 300
request_rate_rps = 20
[slo]
tpot_ms_p95 = 60
[hardware]
devices = ["h200-sxm", "h100-sxm", "l40s"]
"""
    )
    found = plan(load_scenario(path), costs=Roofline())
    rows = found.rows(3)
    every = found.rows(None)
    assert [r["rank"] for r in rows] == sorted(r["rank"] for r in rows)
    assert rows[:3] == every[:3]
    for device in ("h200-sxm", "h100-sxm", "l40s"):
        best = next(r for r in every if r["device"] == device)
        assert best in rows
    assert len(rows) <= 5
