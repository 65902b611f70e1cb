"""One truth through all doors: the same configuration and load give the same figures everywhere."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hwdb
import perfmodel as pm
from benchmarks.door_questions import Question
from benchmarks.doors import (
    Refused,
    ask_again,
    ask_estimate,
    ask_predict,
    ask_python,
    command,
    compare,
    differences,
    questions,
    raised,
)
from hwdb import InputError
from perfmodel.estimates import estimate_load
from perfmodel.workload import histogram, load_of
from search.fleet.solution.from_scenario import fleet_problem
from search.output.value_format import json_value
from search.planning import plan
from search.report.plan_page.page_of_plan import page_of
from search.scenario import load_scenario

CHAT = "meta-llama/Llama-3.1-8B"


def asked(**cells: Any) -> dict[str, Any]:
    """A row of cases on one H100, with the engine's own settings."""
    return {"model": CHAT, "device": "h100-sxm", "engine": "vllm", "tp": 1, "recipe": "default", **cells}


def predicted(*rows: dict[str, Any]) -> pd.DataFrame:
    return pm.predict(pd.DataFrame(list(rows)))


def estimated(*words: str) -> dict[str, Any]:
    base = ("estimate", CHAT, "--device", "h100-sxm", *words, "--json")
    return dict(json.loads(command(*base))[0])


@pytest.mark.parametrize("seed", [11, 12])
def test_random_configurations_give_the_same_figures_through_every_door(seed: int) -> None:
    found = compare(list(questions(12, seed)))
    assert sum(t.answered for t in found.values()) >= 20
    assert not {name: t.examples for name, t in found.items() if t.different}


def _wide_experts() -> list[Question]:
    """Pools whose experts are spread over at most, or over more than, the devices of a prefill worker's layer."""
    dice = random.Random(5)
    found: list[Question] = []
    while len(found) < 20:
        tp, dp, prefill_tp = dice.choice((1, 2, 4)), dice.choice((1, 2)), dice.choice((1, 2, 4, 8))
        base = next(iter(questions(1, dice.randrange(10**6))))
        layout = {"tp": tp, "pp": 1, "ep": tp * dp, "dp": dp, "cp": 1, "replicas": 1}
        pools = {"prefill_workers": 1, "decode_workers": 2, "prefill_tp": prefill_tp}
        place = replace(base, model="Qwen/Qwen3-30B-A3B", device="h100-sxm", engine=dice.choice(("vllm", "sglang")))
        load = {"concurrency": float(dice.choice((6, 64)))}
        lengths = {"isl": 1000, "osl": 200, "isl_dist": ""}
        found.append(
            replace(place, arrival="closed", layout=layout, pools=pools, load=load, lengths=lengths, memory={})
        )
    return found


def test_experts_wider_than_a_layer_are_refused_at_every_door() -> None:
    """Engines spread experts over the devices that share a layer (vLLM: over tp x dp; SGLang: over part of tp)."""
    asked_for = _wide_experts()
    wide = [q.layout["ep"] > q.pools["prefill_tp"] * q.layout["dp"] for q in asked_for]
    answers = ask_predict(asked_for)
    assert [isinstance(row, Refused) for row in answers] == wide
    for q in (q for q, refused in zip(asked_for, wide, strict=True) if refused):
        for ask in (ask_python, ask_estimate):
            with pytest.raises(Refused, match="share a layer"):
                ask(q)
    narrow = wide.index(False)
    assert not differences(raised(answers[narrow]), ask_estimate(asked_for[narrow]))
    with pytest.raises(Refused, match="ep=8 spreads experts"):
        estimated("--tp", "2", "--ep", "8")
    assert "ep 8 spreads experts" in predicted(asked(isl=100, osl=10, n_devices=2, ep=8)).iloc[0]["error"]


def test_a_difference_is_found() -> None:
    question = next(iter(questions(1, 3)))
    row = dict(ask_python(question))
    assert not differences(row, row)
    assert differences(row, {**row, "tpot_ms": row["tpot_ms"] * (1 + 1e-8)})
    assert differences(row, {**row, "fits": not row["fits"]})
    assert not isinstance(ask_predict([question])[0], Refused)


@pytest.mark.parametrize("spread", ["", "fixed", "uniform:0.8-1.0", "uniform:0.5-1.5", "trace"])
@pytest.mark.parametrize(
    ("load", "flag"),
    [
        ({"concurrency": 24}, "--concurrency"),
        ({"request_rate_rps": 3}, "--request-rate-rps"),
        ({"batch": 8}, "--batch"),
    ],
)
def test_isl_dist_means_the_same_in_a_table_on_the_command_line_and_in_python(
    spread: str, load: dict[str, float], flag: str
) -> None:
    row = predicted(asked(isl=1500, osl=90, isl_dist=spread, **load)).iloc[0]
    words = ["--isl-dist", spread] if spread else []
    line = estimated("--isl", "1500", "--osl", "90", flag, str(next(iter(load.values()))), *words)
    arrivals: Any = {{"request_rate_rps": "rate", "batch": "concurrency"}.get(k, k): v for k, v in load.items()}
    arrivals |= {"arrival": "static"} if "batch" in load else {}
    work = pm.Workload.from_lengths(1500, 90, isl_dist=spread, **arrivals)
    direct = pm.estimate(pm.model(CHAT), work, pm.deployments([hwdb.device("h100-sxm")])).columns()
    for name in ("ttft_ms", "ttft_ms_p99", "tpot_ms", "e2e_ms_p99", "output_tok_s"):
        assert row[name] == pytest.approx(line[name], rel=1e-9)
        assert row[name] == pytest.approx(direct[name][0], rel=1e-9)


def test_a_blank_spread_is_not_fixed_lengths_in_step() -> None:
    blank, fixed = predicted(*(asked(isl=3000, osl=200, concurrency=32, isl_dist=d) for d in ("", "fixed")))["ttft_ms"]
    assert blank != pytest.approx(fixed, rel=0.01)


@pytest.mark.parametrize("spread", ["Fixed!", "uniform:1.0-0.5", "uniform:0.8", "sharegpt", "0.5"])
def test_an_unknown_spread_is_refused_with_the_known_ones(spread: str) -> None:
    row = predicted(asked(isl=100, osl=10, concurrency=4, isl_dist=spread)).iloc[0]
    assert "uniform:LOW-HIGH" in row["error"]
    with pytest.raises(InputError, match="uniform:LOW-HIGH"):
        pm.Workload.from_lengths(100, 10, isl_dist=spread)
    with pytest.raises(Refused, match="uniform:LOW-HIGH"):
        estimated("--isl-dist", spread)


@pytest.mark.parametrize("name", ["sharegpt", "openorca", "azure-conv-2023", "mooncake-conversation"])
def test_a_data_set_has_one_meaning(name: str) -> None:
    row = predicted(asked(trace=name, concurrency=16)).iloc[0]
    line = estimated("--dataset", name, "--concurrency", "16")
    work = pm.Workload.from_histogram(histogram(name), concurrency=16)
    direct = pm.estimate(pm.model(CHAT), work, pm.deployments([hwdb.device("h100-sxm")])).columns()
    for column in ("ttft_ms_p90", "tpot_ms", "output_tok_s", "memory_gb_per_device"):
        assert row[column] == pytest.approx(line[column], rel=1e-9) == pytest.approx(direct[column][0], rel=1e-9)


# -- plans ----------------------------------------------------------------------------------------------------------

SCENARIO = """\
[model]
name = "{model}"
[workload]
input_tokens = {isl}
output_tokens = {osl}
request_rate_rps = {rate}
[slo]
ttft_ms_p90 = 3000
tpot_ms = 80
[hardware]
devices = ["h100-sxm", "{other}"]
[engine]
name = "{engine}"
[search]
modes = {modes}
tp = [1, 2, 4]
pp = [1, 2]
weight = ["fp8", "bf16"]
kv = ["bf16", "fp8"]
max_num_seqs = [64, 256]
"""
PLANS: list[dict[str, Any]] = [
    {"model": CHAT, "isl": 900, "osl": 150, "rate": 8, "other": "l40s", "engine": "vllm"},
    {"model": "Qwen/Qwen3-32B", "isl": 2500, "osl": 300, "rate": 3, "other": "a100-sxm-80gb", "engine": "sglang"},
    {"model": "Qwen/Qwen3-30B-A3B", "isl": 600, "osl": 400, "rate": 12, "other": "h200-sxm", "engine": "trtllm"},
]


@pytest.mark.parametrize("modes", ["colocated", "disaggregated"])
@pytest.mark.parametrize("values", PLANS)
def test_a_row_of_a_plan_is_enough_to_estimate_it_again(values: dict[str, Any], modes: str, tmp_path: Path) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(SCENARIO.format(**values, modes=json.dumps([modes])), encoding="utf-8")
    rows = [{k: json_value(v) for k, v in row.items()} for row in plan(load_scenario(path)).rows(8, 3)]
    assert len(rows) >= 8
    question = ["estimate", values["model"], "--engine", values["engine"]]
    question += ["--isl", str(values["isl"]), "--osl", str(values["osl"]), "--request-rate-rps", str(values["rate"])]
    question += ["--slo", "ttft_ms_p90=3000", "--slo", "tpot_ms=80"]
    for row in rows:
        again = ask_again(row, question)
        assert not differences({k: v for k, v in row.items() if k not in OF_THE_PLAN}, again), row["candidate"]


#: Columns of a plan that `estimate` uses for something else, or that follow from the rounding of the row itself.
OF_THE_PLAN = ("replicas",)


def test_figures_of_a_report_are_those_of_the_plan(tmp_path: Path) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(SCENARIO.format(**PLANS[0], modes='["colocated"]'), encoding="utf-8")
    made = plan(load_scenario(path))
    rows = made.rows(60, 5)
    page = page_of(made)
    tables = {table.id: table for section in page.sections for table in section.tables}
    shown = tables["table"].rows
    assert len(shown) == len(rows)
    for row, told in zip(rows, shown, strict=True):
        for name in tables["table"].columns:
            known = row[name] if name in row else row[name.replace("_kw", "_w")] / 1e3
            same = known == told[name] or math.isclose(known, told[name], rel_tol=1e-9)
            assert same or (known != known and told[name] != told[name]), name


@pytest.mark.parametrize("model", [CHAT, "Qwen/Qwen3-30B-A3B"])
@pytest.mark.parametrize("slo", ["ttft_ms_p95 = 500", "tpot_ms = 12", "e2e_ms_p90 = 6000"])
def test_the_throughput_of_a_fleet_option_is_what_a_plan_finds(model: str, slo: str, tmp_path: Path) -> None:
    fleet = (
        f'[hardware]\ndevices = ["h100-sxm"]\n[[fleet.class]]\nname = "a"\nmodel = "{model}"\ninput_tokens = 1000\n'
        f"output_tokens = 200\nrequest_rate_rps = 20\nslo = {{ {slo} }}\n"
        '[[fleet.option]]\nname = "h"\ndevice = "h100-sxm"\ntp = 1\npp = 1\nep = 1\ndp = 1\n'
    )
    path = tmp_path / "fleet.toml"
    path.write_text(fleet, encoding="utf-8")
    problem, _ = fleet_problem(load_scenario(path))
    most = float(problem.throughput[0, 0])
    assert most > 0

    def replicas(rate: float) -> int:
        text = (
            f'[model]\nname = "{model}"\n[workload]\ninput_tokens = 1000\noutput_tokens = 200\n'
            f'request_rate_rps = {rate}\n[slo]\n{slo}\n[hardware]\ndevices = ["h100-sxm"]\n'
            "[search]\ntp = 1\npp = 1\nep = 1\ndp = 1\n"
        )
        path.write_text(text, encoding="utf-8")
        return int(plan(load_scenario(path)).rows(1)[0]["replicas"])

    assert replicas(most * 0.999) == 1
    assert replicas(most * 1.002) == 2
    assert replicas(most * 1.999) == 2


# -- fleets without a price -----------------------------------------------------------------------------------------


def fleet_of(tmp_path: Path, options: str, hardware: str = "") -> str:
    text = (
        '[hardware]\ndevices = ["h100-sxm"]\n' + hardware + '[[fleet.class]]\nname = "a"\n'
        f'model = "{CHAT}"\ninput_tokens = 1000\noutput_tokens = 200\nrequest_rate_rps = 20\n'
        "slo = { ttft_ms_p95 = 500 }\n" + options
    )
    path = tmp_path / "fleet.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def unpriced() -> list[str]:
    """Accelerators without any price that serve the model, of three makers: the claim is about prices alone."""
    found = hwdb.load()
    return [n for n in ("max-1550", "mi100", "h20-3e") if not found.prices(n)]


PRICED_OPTION = '[[fleet.option]]\nname = "h"\ndevice = "h100-sxm"\ntp = 1\n'


@pytest.mark.parametrize("device", unpriced())
def test_an_option_without_a_price_is_named_and_can_be_given_one(device: str, tmp_path: Path) -> None:
    option = f'[[fleet.option]]\nname = "m"\ndevice = "{device}"\ntp = 1\n'
    row = json.loads(command("fleet", fleet_of(tmp_path, option + PRICED_OPTION), "--json"))[0]
    assert row["device"] == "h100-sxm"
    assert f"no price is known for {device}" in row["remark"]
    assert "usd_per_hour" in row["remark"]
    alone = json.loads(command("fleet", fleet_of(tmp_path, option), "--json"))[0]
    assert f"no price is known for {device}" in alone["remark"]
    assert "fewest devices" in alone["remark"]
    assert alone["usd_per_hour"] is None
    cheap = option + "usd_per_hour = 0.01\n"
    rows = json.loads(command("fleet", fleet_of(tmp_path, cheap + PRICED_OPTION), "--json"))
    assert "remark" not in rows[0] or "no price" not in rows[0]["remark"]
    offered = f'usd_per_hour = {{ "{device}" = 0.01 }}\n'
    rows = json.loads(command("fleet", fleet_of(tmp_path, option + PRICED_OPTION, offered), "--json"))
    assert "remark" not in rows[0] or "no price" not in rows[0]["remark"]


# -- python ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["concurrency", "rate", "n_requests", "cv", "output_max"])
@pytest.mark.parametrize("wrong", [[1, 2, 4], np.array([1.0, 2.0]), (1, 2), "many", {"a": 1}, object()])
def test_a_number_of_a_workload_that_is_none_is_refused_by_name(name: str, wrong: Any) -> None:
    with pytest.raises(InputError, match=name):
        pm.Workload.from_lengths(100, 10, **{name: wrong})
    with pytest.raises(InputError, match=name):
        pm.Workload.from_lengths(100, 10, concurrency=4).at(**{name: wrong})


@pytest.mark.parametrize("name", ["input_tokens", "output_tokens", "share", "prefix_hit"])
@pytest.mark.parametrize("wrong", ["long", ["a", "b"], [[1, 2], [3]], object(), {"a": 1}])
def test_a_column_of_classes_that_is_none_is_refused_by_name(name: str, wrong: Any) -> None:
    given: dict[str, Any] = {"input_tokens": 100, "output_tokens": 10, "concurrency": 2, name: wrong}
    with pytest.raises(InputError, match=name):
        pm.Workload.from_lengths(**given)


def test_numbers_that_are_not_given_may_be_none() -> None:
    work = pm.Workload.from_lengths(100, 10, concurrency=4, rate=None, n_requests=None)  # type: ignore[arg-type]
    assert work.arrival == "closed"
    assert work.rate != work.rate
    assert pm.Workload.from_lengths(100, 10, concurrency=np.array([4])).concurrency == 4.0


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"tp": "two"}, "tp"),
        ({"tp": [1, 2], "pp": [1, 2, 4]}, "tp has 2"),
        ({"weight": "fp9"}, "weight"),
        ({"kv": {}}, "kv"),
    ],
)
def test_columns_of_deployments_that_are_none_are_refused_by_name(columns: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        pm.deployments([hwdb.device("h100-sxm")], **columns)


@pytest.mark.parametrize("load", [{"rate": 8}, {"concurrency": 20}, {"n_requests": 200}])
def test_an_estimate_does_not_depend_on_the_others_beside_it(load: dict[str, Any]) -> None:
    devices = [hwdb.device(name) for name in ("l40s", "h100-sxm", "rtx-4090")]
    columns: dict[str, Any] = {
        "device": [0, 1, 2, 0, 1],
        "tp": [1, 1, 1, 2, 2],
        "weight": ["fp8", "fp8", "bf16", "bf16", "int4"],
    }
    placed = pm.deployments(devices, **columns)
    work = pm.Workload.from_lengths(900, 150, **load)
    together = pm.estimate(pm.model(CHAT), work, placed)
    for row in range(len(placed)):
        alone = pm.estimate(pm.model(CHAT), work, placed.take(np.array([row])))
        for one, all_of_them in ((alone.ttft, together.ttft), (alone.tpot, together.tpot), (alone.e2e, together.e2e)):
            assert one[0, 0] == pytest.approx(all_of_them[0, row], rel=1e-12)


def test_a_frame_says_which_row_is_which() -> None:
    model, work = pm.model("meta-llama/Llama-3.1-70B"), pm.Workload.from_lengths(1024, 256, concurrency=32)
    devices = [hwdb.device("h100-sxm"), hwdb.device("h200-sxm")]
    placed = pm.deployments(devices, device=[0, 0, 1], tp=[2, 4, 4], weight=["fp8", -1, -1], replicas=[1, 1, 2])
    frame = pm.estimate(model, work, placed).frame()
    assert frame["device"].tolist() == ["h100-sxm", "h100-sxm", "h200-sxm"]
    assert frame["tp"].tolist() == [2, 4, 4]
    assert frame["weight"].tolist() == ["fp8", "bf16", "bf16"]
    assert frame["replicas"].tolist() == [1, 1, 2]
    assert frame["devices"].tolist() == [2, 4, 8]
    taken = pm.estimate(model, work, placed).take(np.array([2, 0])).frame()
    assert taken["device"].tolist() == ["h200-sxm", "h100-sxm"]
    one = pm.deployments(devices[:1], tp=4)
    pools = pm.estimate_disaggregated(model, work, one, one, prefill_workers=2, decode_workers=1).frame()
    assert pools.iloc[0][["prefill_device", "prefill_tp", "prefill_workers", "decode_workers"]].tolist() == [
        "h100-sxm",
        4,
        2,
        1,
    ]
    load = load_of(work, len(placed))
    assert "device" not in estimate_load(model, load, placed, engine=pm.engine("vllm")).frame()
