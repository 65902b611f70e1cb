"""Several models on one replica: memory, turns of their steps, loads of their own, from the scenario to the routes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwdb import InputError, load
from perfmodel import Slo, Workload, deployments, engine, model
from perfmodel.costs import Roofline
from perfmodel.estimates import overall
from perfmodel.workload import load_of
from search import FleetPlan, FleetProblem, Option, fleet_plan, load_scenario, plan_fleet
from search.fleet import greatest_growth, routing_rows, verified
from search.fleet.replicas.shared_replicas import Tenant, beside, held, reserves, shared_rates
from search.planning import Target

LLAMA, QWEN = "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen2.5-7B-Instruct"
TWO = f"""\
[hardware]
usd_per_hour = {{ h100-sxm = 3.0, l4 = 0.5 }}
[[fleet.class]]
name = "chat"
model = "{LLAMA}"
input_tokens = 500
output_tokens = 150
request_rate_rps = 2
slo = {{ ttft_ms = 600, tpot_ms = 60 }}
[[fleet.class]]
name = "code"
model = "{QWEN}"
input_tokens = 1500
output_tokens = 60
request_rate_rps = 1
slo = {{ ttft_ms = 900, tpot_ms = 60 }}
[[fleet.option]]
device = "h100-sxm"
tp = 1
[[fleet.option]]
name = "both"
device = "h100-sxm"
tp = 1
together = ["{LLAMA}", "{QWEN}"]
"""


def planned(folder: Path, text: str = TWO) -> FleetPlan:
    path = folder / "two.toml"
    path.write_text(text, encoding="utf-8")
    return plan_fleet(load_scenario(path))


def tenant(name: str, **bounds: float) -> Tenant:
    """A model on one H100 under one class of short requests."""
    work = Workload.from_lengths(500, 100, rate=1.0)
    one = deployments([load().device("h100-sxm")], tp=[1])
    return Tenant(name, one, (Target(model(name), work, Slo.of(**bounds), engine("vllm"), costs=Roofline()),))


def test_two_small_models_share_one_device(tmp_path: Path) -> None:
    found = planned(tmp_path)
    used = [(o.model, int(n[0])) for o, n in zip(found.problem.options, found.replicas, strict=True) if n[0]]
    assert used == [(f"{LLAMA} + {QWEN}", 1)]
    assert found.devices == {"h100-sxm": 1.0}
    alone = {o.model: s for o, s in zip(found.problem.options, found.problem.throughput, strict=True)}
    shared = found.problem.throughput[[bool(o.together) for o in found.problem.options]]
    assert (shared[:, 0] < alone[LLAMA][0]).all()
    assert (shared[:, 1] < alone[QWEN][1]).all()
    rows = verified(found)
    assert {(r["model"], r["kept"]) for r in rows} == {(LLAMA, True), (QWEN, True)}
    assert {(r["class"], r["model"]) for r in routing_rows(found)} == {("chat", LLAMA), ("code", QWEN)}
    assert len({r["backend"] for r in routing_rows(found)}) == 2
    assert found.slo_chance is not None
    assert np.nanmax(found.slo_chance) > 0.5


def test_models_that_do_not_fit_together_are_left_out(tmp_path: Path) -> None:
    found = planned(tmp_path, TWO.replace('name = "both"\ndevice = "h100-sxm"', 'name = "both"\ndevice = "l4"'))
    assert any("option 'both' is left out" in text for text in found.problem.remarks)
    assert found.devices == {"h100-sxm": 2.0}


def test_memory_is_split_to_the_last_byte() -> None:
    """What each engine holds and leaves to the others adds up to what may be used."""
    both = [tenant(LLAMA, tpot_ms=50), tenant(QWEN, tpot_ms=50)]
    left = reserves(both, (0.25, 0.75))
    assert left is not None
    fixed, usable = np.array([held(t) for t in both]).T
    kv = usable - fixed - np.array(left)  # of each engine, as its own memory rule has it
    assert kv / kv.sum() == pytest.approx([0.25, 0.75])
    assert float((fixed + kv).sum()) == pytest.approx(usable.min(), rel=1e-9)
    assert reserves([both[0]] * 6, (1 / 6,) * 6) is None


def test_every_step_waits_for_one_step_of_the_other() -> None:
    """With waits w, tokens of an almost idle model come w later, and no model outruns what the others wait for."""
    one = tenant(LLAMA, tpot_ms=50)
    task = one.targets[0]
    slow = replace(task, engine=beside(task.engine, 0.0, 0.02))
    idle = [_gap(t, one, 0.01) for t in (task, slow)]
    assert idle[1] - idle[0] == pytest.approx(0.02, abs=0.002)
    found = shared_rates([one, tenant(QWEN, tpot_ms=50)], (0.5, 0.5), 0.8)
    assert found is not None
    waits = [t.targets[0].engine.step_host_time - task.engine.step_host_time for t in found.tenants]
    steps = [_gap(t.targets[0], t, r[0]) - w for t, r, w in zip(found.tenants, found.rates, waits, strict=True)]
    assert steps[0] <= waits[1] * 1.002
    assert steps[1] <= waits[0] * 1.002
    assert shared_rates([one, tenant(QWEN, tpot_ms=4)], (0.5, 0.5), 0.8) is None


def _gap(task: Target, one: Tenant, rate: float) -> float:
    """Seconds from token to token of a model at a rate, the mean over requests."""
    work = task.workload.at(rate=float(rate), arrival="open")
    return float(overall(task.estimates_of(load_of(work, 1), one.layout), "tpot", "mean")[0])


def test_loads_of_the_models_do_not_add_up_and_those_of_one_model_do() -> None:
    option = Option("both", "a", 1, 1.0, model="m + n", together=("m", "n"))
    problem = FleetProblem(
        (option,), ("x", "y", "z"), np.array([[1.5, 0.7, 1.5]]), np.full((1, 3), 2.0), class_models=("m", "n", "m")
    )
    found = fleet_plan(problem)
    assert found.replicas[0, 0] == 2  # 0.75 + 0.75 of m; 0.35 of n beside them
    assert found.utilisation()[0, 0] == pytest.approx(0.75)
    assert greatest_growth(problem, np.array([3])) == pytest.approx(2.0)


def test_stated_throughputs_of_two_models_hold_beside_each_other(tmp_path: Path) -> None:
    """3 requests/s of 2 per replica, and 1 of 1: two replicas of both, not three; lengths are not needed."""
    option = '[[fleet.option]]\nname = "both"\ndevice = "l4"\nusd_per_hour = 1\nthroughput_rps = [2, 1]\n'
    option += f'together = ["{LLAMA}", "{QWEN}"]\n'
    classes = "".join(
        f'[[fleet.class]]\nname = "{n}"\nmodel = "{m}"\nrequest_rate_rps = {r}\n'
        for n, m, r in (("chat", LLAMA, 3), ("code", QWEN, 1))
    )
    found = planned(tmp_path, classes + option)
    assert found.replicas.tolist() == [[2]]
    assert found.utilisation()[0, 0] == pytest.approx(0.75)
    assert [r["backend"] for r in routing_rows(found)] == ["llama-3-1-8b-instruct-both", "qwen2-5-7b-instruct-both"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (f', "{QWEN}"]', "]", "are not several models"),
        (f'"{QWEN}"]', '"meta-llama/Llama-3.1-70B-Instruct"]', "no class asks for"),
        ("together =", f'models = ["{QWEN}"]\ntogether =', "it goes without models"),
    ],
)
def test_contradictions_are_refused(old: str, new: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        planned(tmp_path, TWO.replace(old, new))
