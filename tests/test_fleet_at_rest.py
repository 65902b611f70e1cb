"""What a fleet draws where replicas or devices have nothing to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import hwdb
from perfmodel.costs import Roofline
from perfmodel.deployment.columns import deployments
from search import FleetPlan, FleetProblem, Inventory, Option, load_scenario
from search.fleet.accounting.idle import idle_devices
from search.fleet.checks.operating import IDLE_RATE, _at_the_wall, mixes
from search.fleet.replicas.layout_set import Layouts, layout_names, models_named
from search.fleet.solution.from_scenario import prepare
from tests.test_fleet_by_hand import MODELLED


def test_replicas_without_requests_draw_what_they_draw_at_rest(tmp_path: Path) -> None:
    (tmp_path / "rest.toml").write_text(MODELLED.format(hardware="", rate=30, option=""), encoding="utf-8")
    made = prepare(load_scenario(tmp_path / "rest.toml"), Roofline())
    problem, built = made.problem, made.modelled
    replicas, shares = np.zeros((2, len(problem.options), 3), dtype=int)
    replicas[0], shares[0] = [1, 3, 1], 1

    def watts(rate: float, replicas: np.ndarray) -> np.ndarray:
        """Per device of the first option at `rate` in each of three periods."""
        day = replace(problem, rate=np.full((3, 1), rate), hours=np.ones(3))
        (served,) = mixes(FleetPlan(day, replicas, shares[:, None], 0.0, 0.0, 0.0, (), "highs"), built)
        return served.batch.estimates(np.arange(3), served.batch.load.rate).power

    rest = watts(0.0, replicas)
    assert rest == pytest.approx(np.full(3, watts(IDLE_RATE, replicas)[2]), rel=1e-5)
    busy = watts(5.0, np.minimum(replicas, 1))
    assert (rest < busy).all()
    assert (rest > 0.0).all()


@pytest.mark.parametrize("standing", [5, 8, 13])
def test_hosts_are_whole_and_carry_the_devices_that_nothing_uses(
    standing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = MODELLED.format(hardware='nodes = ["dgx-h100"]', rate=30, option="")
    (tmp_path / "hosts.toml").write_text(text, encoding="utf-8")
    made = prepare(load_scenario(tmp_path / "hosts.toml"), Roofline())
    problem, built = made.problem, made.modelled
    replicas = np.zeros((len(problem.options), 1), dtype=int)
    replicas[0] = standing
    found = FleetPlan(problem, replicas, np.zeros((len(problem.options), 1, 1)), 0.0, 0.0, 0.0, (), "highs")
    tariff, drawn, first = built.tariff, np.array([500.0 * standing]), np.array([0])
    nodes = -(-standing // 8)
    idle = (8 * nodes - standing) * float(tariff.device_idle[0])
    hosts = tariff.host_columns(first, np.array([float(nodes)]))
    expected = tariff.wall(drawn + idle, hosts)
    assert expected[0] > drawn[0] + idle
    assert _at_the_wall(found, tariff, 0, first, drawn) == pytest.approx(expected)
    # where nothing stands idle, what an idle device draws need not be known
    monkeypatch.setitem(vars(tariff), "device_idle", np.array([np.nan]))
    assert np.isfinite(_at_the_wall(found, tariff, 0, first, drawn)[0]) == (standing == 8)


def test_a_single_device_that_nothing_uses_is_idle_too() -> None:
    stock = Inventory(stock={"h100-sxm": 8, "l4": 3, "mine": 2})
    found = idle_devices({"h100-sxm": 7.0, "l4": 3.0, "mine": 2.5}, stock, hwdb.load(), {})
    assert [(one.device, one.devices) for one in found] == [("h100-sxm", 1.0)]


def test_an_option_serves_no_class_that_sends_nothing() -> None:
    options = (Option("one", "a", 1.0, 1.0, 100.0),)
    problem = FleetProblem(
        options=options,
        classes=("chat", "code"),
        rate=np.array([[4.0, 2.0], [8.0, 0.0]]),
        throughput=np.array([[20.0, 20.0]]),
        hours=np.array([12.0, 12.0]),
    )
    found = FleetPlan(problem, np.ones((1, 2), int), np.ones((1, 2, 2)), 1.0, 1.0, 0.0, (), "highs")
    assert [found._serves(0, t) for t in (0, 1)] == ["chat, code", "chat"]


def test_layouts_of_the_same_words_are_told_apart_by_their_limits() -> None:
    device = hwdb.device("h100-sxm")

    def one(**columns: float) -> Any:
        return deployments([device], **columns)

    option: Any = SimpleNamespace(name="mine", device="h100-sxm")
    alone = layout_names(option, (one(tp=1), one(tp=2)))
    assert not [name for name in alone if " tok, " in name]
    alike = layout_names(option, (one(tp=1, max_num_seqs=8.0), one(tp=1, max_num_seqs=16.0), one(tp=2)))
    assert [" tok, " in name for name in alike] == [True, True, False]
    assert len(set(alike)) == 3


def test_options_of_one_name_that_run_different_models_are_told_apart() -> None:
    """Rows and charts go by name: two of one name would be taken for one."""
    one, two, alone = (Option(name, "l4", 1.0, model=m) for name, m in (("a", "x/M1"), ("a", "x/M2"), ("b", "x/M1")))
    parts = [Layouts((one, alone), np.ones((2, 1))), Layouts((two,), np.ones((1, 1)))]
    found = [[o.name for o in part.options] for part in models_named(parts)]
    assert found == [["a (M1)", "b"], ["a (M2)"]]
