"""What-ifs: changes are read, found in the scenario and planned; prices alone need no new plan and give the same."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cli
import search
from hwdb import InputError
from perfmodel.costs import Roofline
from search.planning import Plan, repriced
from search.planning import plan as plan_of
from search.whatif.edits import read_edit, read_grid
from search.whatif.scenario_file import ScenarioFile

#: The roofline prices steps fastest, and nothing here depends on how good it is.
plan = partial(plan_of, costs=Roofline())

TEXT = """
title = "Small"
[model]
name = "meta-llama/Llama-3.1-8B-Instruct"
[workload]
{lengths}
request_rate_rps = {rate}
[slo]
ttft_ms_p90 = 500
tpot_ms = 30
[hardware]
devices = ["h100-sxm", "l40s"]
usd_per_hour = {{ l40s = 0.8 }}
[search]
tp = [1, 2]
pp = 1
modes = {modes}
[limits]
{limits}
[objective]
rank_by = "{rank_by}"
"""


DEFAULTS = {
    "rate": 20,
    "lengths": "input_tokens = 1000\noutput_tokens = 200",
    "modes": '["colocated"]',
    "limits": "",
    "rank_by": "usd_per_hour",
}


def written(folder: Path, **changed: Any) -> Path:
    path = folder / "small.toml"
    path.write_text(TEXT.format(**(DEFAULTS | changed)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("whatif"))


@pytest.fixture(scope="module")
def planned(path: Path) -> Plan:
    return plan(search.load_scenario(path))


def changed(path: Path, *texts: str) -> list[str]:
    return ScenarioFile(path).changed([read_edit(t) for t in texts])[1]


# -- prices ------------------------------------------------------------------------------------------------------------


def priced_otherwise(found: Plan, seed: int) -> search.Scenario:
    """The scenario of a plan with other prices of devices and electricity, and with devices bought every third time."""
    rng, s = np.random.default_rng(seed), found.scenario
    names = [d.name for d in found.scorer.tariff.devices]
    usd = {name: float(v) for name, v in zip(names, rng.uniform(0.3, 6.0, len(names)), strict=True)}
    site = replace(s.site, pue=float(rng.uniform(1.0, 2.0)), usd_per_kwh=float(rng.uniform(0.0, 0.4)))
    if seed % 3 == 0:
        bought = {names[seed % len(names)]: float(rng.uniform(5e3, 4e4))}
        kept = {n: v for n, v in usd.items() if n not in bought}
        money = replace(s.money, bought=bought, utilisation=float(rng.uniform(0.2, 1.0)))
        return replace(s, offer=replace(s.offer, usd_per_hour=kept), site=site, money=money)
    return replace(s, offer=replace(s.offer, usd_per_hour=usd), site=site)


def same_plan(one: Plan, other: Plan) -> None:
    assert set(one.columns) == set(other.columns)
    for name in one.columns:
        np.testing.assert_allclose(one.columns[name], other.columns[name], rtol=1e-12, err_msg=name)
    assert one.order.tolist() == other.order.tolist()
    assert one.manifest.prices == other.manifest.prices


@pytest.mark.parametrize("seed", range(20))
def test_prices_rank_the_candidates_again_as_a_new_plan_does(planned: Plan, seed: int) -> None:
    scenario = priced_otherwise(planned, seed)
    found = repriced(planned, scenario)
    assert found is not None
    same_plan(found, plan(scenario, before=planned.scorer.target))


@pytest.mark.parametrize(
    ("limits", "rank_by", "modes", "exact"),
    [
        ("devices = 3", "usd_per_hour", '["colocated"]', True),
        ("spare_nodes = 1", "gco2_per_million_tokens", '["colocated"]', True),
        ("usd_per_hour = 9", "usd_per_hour", '["colocated"]', False),
        ("power_kw = 9", "usd_per_hour", '["colocated"]', False),
        ("", "usd_per_hour", '["colocated", "disaggregated"]', False),
        pytest.param("", "ttft_ms", '["colocated", "disaggregated"]', True, marks=pytest.mark.slow),
    ],
)
def test_where_prices_decide_more_than_cost_a_new_plan_is_made(
    limits: str, rank_by: str, modes: str, exact: bool, tmp_path: Path
) -> None:
    more = "\n[site]\ngco2_per_kwh = 300" if "gco2" in rank_by else ""
    asked = written(tmp_path, limits=limits, rank_by=rank_by, modes=modes)
    asked.write_text(asked.read_text() + more, encoding="utf-8")
    first = plan(search.load_scenario(asked))
    scenario = priced_otherwise(first, 1)
    found = repriced(first, scenario)
    assert (found is not None) is exact
    if found is not None:
        same_plan(found, plan(scenario, before=first.scorer.target))


def test_changes_of_prices_on_the_command_line_make_no_new_plan(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Plan:
        raise AssertionError("planned again")

    monkeypatch.setattr("search.whatif.replanning.plan", refuse)
    found = search.try_changes(
        path, ["hardware.usd_per_hour.**=0.5", "site.pue=1.3", "site.usd_per_kwh=0.1"], "money.utilisation=0.5,0.7"
    )
    rows = found.rows()
    assert [row["change_percent"] for row in rows[1:]] == pytest.approx([-50.0, -50.0])
    assert rows[1]["usd_per_million_tokens"] == pytest.approx(1.4 * rows[2]["usd_per_million_tokens"])


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("slo.ttft_ms_p95=300", "slo.ttft_ms_p95: not given -> 300"),
        ("slo.tpot_ms/=2", "slo.tpot_ms: 30 -> 15"),
        ("workload.rate_rps+=5", "workload.request_rate_rps: 20 -> 25"),
        ("search.tp=2,4", "search.tp: [1, 2] -> [2, 4]"),
        ("search.tp*=2", "search.tp: [1, 2] -> [2, 4]"),
        ("limits.confidence*=1.2", "limits.confidence: 0.5 -> 0.6"),
        ("site.pue*=1.5", "site.pue: 1 -> 1.5"),
        ("hardware.usd_per_hour.l4*=0.5", None),
        ("hardware.usd_per_hour.l40s*=0.5", "hardware.usd_per_hour.l40s: 0.8 -> 0.4"),
        ("hardware.usd_per_hour.l4* =0.5", "hardware.usd_per_hour.l40s: 0.8 -> 0.5"),
        ("objective.rank_by=energy", "objective.rank_by: usd_per_hour -> energy"),
        ("engine.version=0.8", "engine.version: not given -> 0.8"),
        ("workload.output_tokens*=2", "workload.output_tokens: 200 -> 400"),
        ("hardware.usd_per_hour=", "hardware.usd_per_hour: {'l40s': 0.8} -> not given"),
        ("device.l40s.power.tdp=300", "device.l40s.power.tdp: 350 W -> 300 W"),
        ("device.h100-sxm.memory.bandwidth*=2", "device.h100-sxm.memory.bandwidth: 3350 GB/s -> 6700 GB/s"),
        ("device.h100-sxm.memory.bandwidth=4 TB/s", "device.h100-sxm.memory.bandwidth: 3350 GB/s -> 4 TB/s"),
    ],
)
def test_a_change_says_what_it_changes(path: Path, text: str, told: str | None) -> None:
    if told is None:  # a pattern without a space before the equals sign multiplies the key in front of it
        assert "usd_per_hour.l4:" in changed(path, text)[0]
        return
    assert changed(path, text) == [told]


def test_lengths_and_rate_of_data_may_be_computed_with(tmp_path: Path) -> None:
    asked = ScenarioFile(written(tmp_path, lengths='dataset = "azure-conv-2023"'))
    found, told = asked.changed([read_edit("workload.output_tokens*=2"), read_edit("workload.input_tokens+=10")])
    assert told == ["workload.output_tokens: those of the data * 2", "workload.input_tokens: those of the data + 10"]
    assert found.workload.mean_output == pytest.approx(2 * asked.scenario.workload.mean_output)
    assert found.workload.mean_input == pytest.approx(10 + asked.scenario.workload.mean_input)


def test_a_pattern_changes_every_key_that_it_matches(path: Path) -> None:
    assert changed(path, "slo.**=0.5") == ["slo.ttft_ms_p90: 500 -> 250", "slo.tpot_ms: 30 -> 15"]
    assert len(changed(path, "device.*.memory.capacity*=1.1")) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slo.ttft_p95=300", "did you mean 'ttft_ms_p95'"),
        ("slos.ttft_ms=300", "did you mean 'slo'"),
        ("request_rate_rps=3", "workload.request_rate_rps"),
        ("limits.confidence=1.5", "1.5 is out of range; it must be at most 1"),
        ("workload.request_rate_rps=-1", "must be above 0"),
        ("workload.request_rate_rps=many", "'many' is not a number"),
        ("workload.concurrency=5", "KEY= without a value takes a key out"),
        ("limits.power_kw*=2", "set it with limits.power_kw=VALUE"),
        ("slo.itl*  =2", "nothing in [slo] matches"),
        ("title.x=3", "title is Small and has no keys"),
        ("hardware.usd_per_hour.zz=2", "unknown device 'zz'"),
        ("device.h100-sxm.memory.bandwith*=2", "memory.bandwidth"),
        ("device.b200-sxm.memory.bandwidth*=2", "no device on offer"),
        ("device.nothing.memory.bandwidth*=2", "unknown device"),
        ("device.l40s.peak.fp4*=2", "states no such figure"),
        ("device.l40s.power.tdp=300 GB", "does not measure watts"),
        ("device.l40s.power.tdp=-300", "must be above 0"),
        ("device.l40s.power.tdp=1e400", "must be above 0 and finite"),
        ("device.l40s.power.idle=9000", "device.l40s.power.idle=9000: [power] tdp: 350 W is no power limit"),
        ("device.L40S.memory.capacity=1e-30", "device.L40S.memory.capacity=1e-30: [memory.capacity] value"),
        ("device.l40s.memory.capacity=1e30", "device.l40s.memory.capacity=1e30: value 1e+30"),
        ("device.l40s", "is no change"),
        ("=3", "is no change"),
        ("a..b=3", "is no key"),
        ("slo.tpot_ms*=x", "'x' is not a number"),
        ("slo.tpot_ms/=0", "divided by 0"),
        ("search.tp.5=1", "count the entries from 0 to 1"),
    ],
)
def test_a_wrong_change_is_named_with_a_way_out(path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        changed(path, text)
    assert said in str(refused.value)
    assert "perfmodel-whatif-" not in str(refused.value)
    assert text.split("=")[0].strip("*/ ").replace("rate_rps", "") in str(refused.value)


@pytest.mark.parametrize("text", ["a", "a=", "a=1:2", "a=1:2:x", "a=1:2:3:4", "a=1:2:0", "a=1:2:99999", "a=0:2:3:log"])
def test_a_wrong_grid_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        read_grid(text)


def test_grids_are_evenly_spaced_or_listed() -> None:
    assert read_grid("a.b=5:80:16").levels == tuple(range(5, 81, 5))
    assert read_grid("a.b*=0.5:2:3:log").levels == (0.5, 1, 2)
    assert read_grid("a.b=bf16,fp8").levels == ("bf16", "fp8")
    assert read_grid("a.b=3:3:1").levels == (3,)


@pytest.mark.parametrize("seed", range(20))
def test_texts_of_all_kinds_end_in_a_sentence(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(15):
        text = "".join(rng.choice(list("slo.ttft_ms=*/+-[]{}\"' 09,:?\n\\"), int(rng.integers(1, 25))))
        for read in (partial(changed, path), read_grid):
            with suppress(InputError):
                read(text)


@pytest.fixture
def _known(path: Path, planned: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan of the file as it is, which is made once."""
    monkeypatch.setattr("search.whatif.tried.plan", lambda s: planned if s.path == str(path) else plan(s))


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_known")
def test_a_changed_plan_is_that_of_a_file_that_says_so(path: Path, tmp_path: Path) -> None:
    found = search.try_changes(path, {"workload.request_rate_rps": 35, "slo.tpot_ms": 25})
    there = tmp_path / "there.toml"
    there.write_text(path.read_text().replace("_rps = 20", "_rps = 35").replace("tpot_ms = 30", "tpot_ms = 25"))
    expected = plan(search.load_scenario(there))
    assert found.trials[0].plan is not None
    same_plan(found.trials[0].plan, expected)


@pytest.mark.slow
@pytest.mark.usefixtures("_known")
def test_a_faster_memory_is_that_of_a_device_of_ones_own(path: Path, tmp_path: Path) -> None:
    found = search.try_changes(path, ["device.*.memory.bandwidth*=1.5"])
    for name in ("h100-sxm", "l40s"):
        value = 1.5 * search.load_scenario(path).hardware().device(name).records["memory.bandwidth"].number
        figure = f'{{ value = {value!r}, unit = "GB/s", kind = "assumed", source = "x y" }}'
        (tmp_path / f"{name}.toml").write_text(f'type = "device"\nlike = "{name}"\n[memory]\nbandwidth = {figure}')
    own = plan(search.load_scenario(path, [tmp_path]))
    best = found.trials[0].plan
    assert best is not None
    assert best.columns["tpot_ms"] == pytest.approx(own.columns["tpot_ms"], rel=1e-9)
    assert best.columns["tpot_ms"].min() < found.before.columns["tpot_ms"].min()


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Any:
    """A function that runs a command line and returns (exit code, stdout, stderr)."""

    def run(*words: object) -> tuple[int, str, str]:
        code = cli.main([str(w) for w in words])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


@pytest.mark.usefixtures("_known")
def test_the_command_prints_before_and_after(path: Path, said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = said("whatif", path, "--set", "hardware.usd_per_hour.**=2", "--set", "slo.tpot_ms=29")
    assert code == 0
    assert "slo.tpot_ms: 30 -> 29" in out
    assert "100 % more than $" in " ".join(out.split())
    assert "As planned" in out
    assert not [line for line in out.splitlines() if len(line) > 80]


@pytest.mark.usefixtures("_known")
def test_the_exit_code_says_that_nothing_meets_the_changed_request(path: Path, said: Any) -> None:
    code, _, err = said("whatif", path, "--set", "slo.tpot_ms=0.1")
    assert code == 1
    assert "nothing meets the request" in err
    code, out, _ = said("whatif", path, "--grid", "slo.tpot_ms=0.1", "--csv")
    assert code == 1
    assert len(out.splitlines()) == 3
    assert said("whatif", path)[0] == 2
    assert said("whatif", path, "--grid", "a.b=1", "--grid", "a.c=1", "--grid", "a.d=1")[0] == 2


@pytest.mark.usefixtures("_known")
def test_a_grid_names_the_values_that_cannot_be_planned(path: Path, said: Any) -> None:
    code, out, _ = said("whatif", path, "--grid", "limits.confidence=0.5,1.5", "--json")
    rows = json.loads(out)
    assert code == 0
    assert rows[1]["answer"] == "the same"
    assert "1.5 is out of range" in rows[2]["answer"]


@pytest.mark.usefixtures("_known")
def test_a_plan_without_an_answer_may_get_one(tmp_path: Path, said: Any) -> None:
    none = written(tmp_path, limits="devices = 1", rate=200)
    code, out, _ = said("whatif", none, "--set", "limits.devices=")
    assert code == 0
    assert "As planned" in out
    assert "Take " in out


# -- two plans ---------------------------------------------------------------------------------------------------------


def test_two_plans_are_compared(path: Path, tmp_path: Path, said: Any) -> None:
    one, other = tmp_path / "a.json", tmp_path / "b.json"
    one.write_text(said("plan", path, "--json")[1])
    rows = json.loads(one.read_text())
    for row in rows:  # as another version would write them: a column is missing, one is new, the best costs more
        row |= {"usd_per_hour": row["usd_per_hour"] * 2, "new_column": 1}
        del row["tpot_ms"]
    other.write_text(json.dumps(rows))
    code, out, _ = said("compare", one, other)
    assert code == 0
    assert "+100 %" in out
    assert "tpot_ms, new_column" in out
    assert [row["plan"] for row in search.compared(one, other)] == [str(one), str(other)]
    assert len(json.loads(said("compare", one, other, "--json")[1])) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty, as where nothing qualifies"),
        ("{}", "no list of candidates"),
        ("[1]", "no list of candidates"),
        ("[]", "nothing qualifies"),
        ('[{"rank": 1}]', "candidate and qualifies missing"),
        ('[{"rank": null, "candidate": "x", "qualifies": false, "reason": "too slow"}]', "nearest is x: too slow"),
        ('[{"rank": 1, "candidate": "x", "qualifies": true, "tp": [1]}]', "tp is a list"),
        ('[{"rank": 1, "candidate": "x", "qualifies": true, "tp": NaN}]', "not JSON"),
        ("[" * 100000, "not JSON"),
    ],
)
def test_a_file_that_is_no_plan_is_named(content: str, message: str, tmp_path: Path, said: Any) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text(content)
    code, _, err = said("compare", wrong, wrong)
    assert code == 2
    assert message in err
    assert "wrong.json" in err
    assert said("compare", tmp_path / "absent.json", wrong)[0] == 2
    assert said("compare", tmp_path, wrong)[0] == 2
