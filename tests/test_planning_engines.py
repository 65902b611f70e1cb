"""Several engines in one scenario: the best is planned with, and the best of each is listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import cli
from hwdb import InputError
from perfmodel.costs import Roofline
from search import Plan, load_scenario, plan
from search.output import headline, print_plan

TEXT = """
[model]
name = "meta-llama/Llama-3.1-8B-Instruct"
[workload]
input_tokens = 500
output_tokens = 100
request_rate_rps = 20
[slo]
tpot_ms = {tpot}
[hardware]
devices = {devices}
[engine]
name = {name}
{more}
[search]
tp = [1]
pp = [1]
weight = "bf16"
"""


def written(folder: Path, name: str, devices: str = '["h100-sxm", "l40s"]', tpot: float = 60, more: str = "") -> Path:
    path = folder / "scenario.toml"
    path.write_text(TEXT.format(name=name, devices=devices, tpot=tpot, more=more), encoding="utf-8")
    return path


def planned(folder: Path, name: str, **changes: str) -> Plan:
    return plan(load_scenario(written(folder, name, **changes)), costs=Roofline())  # type: ignore[arg-type]


def test_the_best_engine_is_planned_with_and_no_engine_makes_it_worse(tmp_path: Path) -> None:
    names = ("vllm", "sglang")
    alone = {name: planned(tmp_path, f'"{name}"') for name in names}
    costs = {name: float(one.columns["usd_per_hour"][one.best]) for name, one in alone.items() if one.feasible}
    found = planned(tmp_path, str(list(names)).replace("'", '"'))
    assert found.columns["usd_per_hour"][found.best] == min(costs.values())
    rows = found.best_by_engine()
    assert {row["engine"]: row["usd_per_hour"] for row in rows} == costs
    assert rows[0]["candidate"] == found.row(found.best)["candidate"]
    assert " with " in headline(found).split(":")[0]
    assert " with " not in headline(alone["vllm"]).split(":")[0]


def test_rows_and_tables_name_the_engines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(written(tmp_path, '["vllm", "sglang"]', devices='["h100-sxm"]'))
    found = plan(load_scenario(path), costs=Roofline())
    print_plan(found, found.rows())
    assert "The best of each engine" in capsys.readouterr().out
    monkeypatch.setattr("search.commands.plan.planned", lambda *_, **__: found)
    assert cli.main(["plan", path, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["engine"] for row in rows if row["qualifies"]} == {"vllm", "sglang"}


def test_an_engine_of_one_vendor_is_planned_on_its_devices_only(tmp_path: Path) -> None:
    mixed = planned(tmp_path, '"trtllm"', devices='["h100-sxm", "mi300x"]')
    assert {mixed.layouts.devices[d].name for d in mixed.layouts.device.tolist()} == {"h100-sxm"}
    with pytest.raises(InputError, match="runs on NVIDIA devices only, not on mi300x"):
        planned(tmp_path, '"trtllm"', devices='["mi300x"]')
    found = planned(tmp_path, '["trtllm", "vllm"]', devices='["mi300x"]')
    assert [row["engine"] for row in found.best_by_engine()] == ["vllm"]


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ('["vllm", "sglang"]', 'version = "0.14"', "of which of 2 engines"),
        ("[]", "", "not a list of texts"),
        ('["vllm", "sglangg"]', "", "unknown engine 'sglangg'"),
        ('["vllm", "sglang"]', "max_running_requests = 9", "max_running_requests"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, name: str, more: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_scenario(written(tmp_path, name, more=more))


def test_nothing_qualifies_with_any_engine(tmp_path: Path) -> None:
    found = planned(tmp_path, '["vllm", "sglang"]', tpot="0.1")
    assert not found.feasible
    assert "nothing meets the request" in found.message
