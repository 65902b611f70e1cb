"""Near misses where no number of replicas keeps the SLO: more replicas hardly help, and fewer are worse."""

from __future__ import annotations

import csv
import io
import json
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cli
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


OFFER = """
[model]
name = "openai/gpt-oss-120b"
[workload]
input_tokens = 1000
output_tokens = 300
request_rate_rps = 1
[slo]
tpot_ms = {tpot}
[hardware]
devices = ["{devices}"]
{more}
"""


@pytest.mark.parametrize(
    ("devices", "more", "told"),
    [
        (("h100-sxm",), "", ""),
        (("h100-sxm", "l40s"), "stock = {l40s = 1}", r"on l40s: 1 x 1 l40s: does not fit: .*exceed the .* usable"),
        (("ascend-910b2", "h100-sxm"), '[engine]\nname = "mindie"', "on h100-sxm: the engine runs on Huawei devices"),
        (("h100-sxm", "graviton4"), "[search]\ntp = [1]\npp = [1]", r"on graviton4: .*tpot_ms is .* against 20 ms"),
        (
            ("h100-sxm", "l40s", "rtx-4090", "a10", "graviton4"),
            "stock = {l40s = 1, rtx-4090 = 1, a10 = 1}\n[search]\ntp = [1]\npp = [1]",
            r"on 4 of the devices on offer: the model does not fit \(l40s, rtx-4090, a10\); the SLO is missed \(grav",
        ),
    ],
)
def test_a_device_on_offer_without_an_answer_is_named_with_the_reason(
    devices: tuple[str, ...], more: str, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "s.toml"
    path.write_text(
        OFFER.format(devices='", "'.join(devices), more=more, tpot=60 if "mindie" in more else 20), encoding="utf-8"
    )
    found = plan(load_scenario(path))
    assert found.feasible
    notes = [note for note in found.notes if note.startswith("Nothing qualifies")]
    assert len(notes) == bool(told)
    assert not told or re.search(told, notes[0])


def test_of_what_does_not_fit_the_least_lacking_comes_first(tmp_path: Path) -> None:
    """811 GB of weights on four cards of 12 GB: the layout that splits them over all four is the nearest."""
    path = tmp_path / "s.toml"
    text = OFFER.format(devices="rtx-3060", more="stock = {rtx-3060 = 4}", tpot=100)
    path.write_text(text.replace("openai/gpt-oss-120b", "meta-llama/Llama-3.1-405B"), encoding="utf-8")
    found = plan(load_scenario(path))
    assert not found.feasible
    beyond = -found.columns["memory_free_gb_per_device"]
    assert beyond[found.order[0]] == pytest.approx(beyond.min(), rel=0.05)
    assert beyond.max() > 3.0 * beyond.min()


def test_a_candidate_without_a_price_does_not_cost_the_same(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    text = OFFER.format(devices='h100-sxm", "rtx-5080', more="[search]\ntp = [1, 2, 4]\npp = [1]", tpot=30)
    path.write_text(text.replace("openai/gpt-oss-120b", "Qwen/Qwen3-8B"), encoding="utf-8")
    found = plan(load_scenario(path))
    unknown = np.isnan(found.columns["usd_per_hour"]) & found.qualifies
    assert unknown.any()
    safer = found.safer(0.0, 1e9)
    assert safer is not None
    for chance in np.linspace(0.0, 0.99, 12):
        named = found.safer(float(chance), 1e9)
        assert named is None or np.isfinite(found.columns["usd_per_hour"][named[1]])


def test_rows_beyond_the_list_stand_by_rank(tmp_path: Path) -> None:
    """The best of each mode and of each device follow the list in the order of their ranks."""
    path = tmp_path / "s.toml"
    more = '[search]\nmodes = ["colocated", "disaggregated"]\npp = [1]'
    text = OFFER.format(devices='h100-sxm", "h200-sxm", "a100-sxm-80gb', more=more, tpot=100)
    path.write_text(text.replace("openai/gpt-oss-120b", "Qwen/Qwen3-8B"), encoding="utf-8")
    found = plan(load_scenario(path), costs=Roofline())
    for most in (1, 2, 5):
        ranks = [row["rank"] for row in found.rows(most)]
        assert ranks == sorted(ranks)
    assert len(found.rows(1)) > 2


@pytest.mark.parametrize("form", ["json", "csv"])
@pytest.mark.parametrize("extra", [[], ["--explain"], ["--verify"]], ids=["plain", "explain", "verify"])
def test_where_nothing_qualifies_data_forms_have_the_near_misses_with_what_to_relax(
    form: str, extra: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["Qwen/Qwen3-8B", "--on", "l4=1", "--request-rate-rps", "30", "--slo", "ttft_ms_p90=50"]
    assert cli.main(["plan", *asked, f"--{form}", *extra]) == 1
    out, said = capsys.readouterr()
    rows = json.loads(out) if form == "json" else list(csv.DictReader(io.StringIO(out)))
    assert rows
    assert all(row["rank"] in (None, "") and row["reason"] for row in rows)
    assert rows[0]["reason"] in " ".join(said.split())


def test_no_near_misses_asked_for_are_no_rows(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["Qwen/Qwen3-8B", "--on", "l4=1", "--request-rate-rps", "30", "--misses", "0"]
    assert cli.main(["plan", *asked, "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == []
