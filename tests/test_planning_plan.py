"""Plans: objectives over a mix, operating points, verdicts, and the answer to whole scenarios."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from hwdb import Infeasible, InputError
from perfmodel import Objective, Slo
from perfmodel.costs import Roofline
from perfmodel.estimates.slo_chances.chance import allowed, chance, chances, keeps, overall, slo_ratio
from search import Exhaustive, FleetInfeasible, OptunaSearcher, Plan, load_scenario, plan, plan_fleet
from search.planning.disaggregation.pools import estimates as pair_estimates
from search.planning.evaluation.scoring import VERDICTS
from search.planning.operating_point.bracket_search import greatest, least_whole
from search.planning.plan_analysis.explained import memory_of, memory_place, terms_of

EXAMPLES = Path(__file__).parents[1] / "examples"
BASE = """
[model]
name = "meta-llama/Llama-3.1-8B-Instruct"
[workload]
input_tokens = [300, 3000]
output_tokens = [200, 100]
share = [0.8, 0.2]
request_rate_rps = 40
[slo]
ttft_ms_p90 = 400
tpot_ms = 15
[hardware]
devices = ["h100-sxm", "l40s"]
usd_per_hour = { h100-sxm = 2.5, l40s = 0.8 }
[search]
tp = [1, 2, 4]
pp = [1]
"""


def answered(folder: Path, text: str = BASE, **changes: str) -> Plan:
    """The plan of a scenario; each change replaces a line `key = ...` of the text."""
    path = folder / "scenario.toml"
    for key, value in changes.items():
        lines = [f"{key} = {value}" if line.split(" =")[0] == key else line for line in text.splitlines()]
        assert lines != text.splitlines(), key
        text = "\n".join(lines)
    path.write_text(text)
    return plan(load_scenario(path), costs=Roofline())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return answered(tmp_path_factory.mktemp("base"))


@dataclass(frozen=True)
class Exponentials:
    """Stands in for estimates: TTFT of class c is `floor[c]` plus an exponential of mean `wait[c]`."""

    floor: np.ndarray
    wait: np.ndarray
    share: np.ndarray
    half: float = 0.3

    @property
    def saturated(self) -> np.ndarray:
        return np.zeros(self.floor.shape[1], dtype=bool)

    def half_width(self, metric: str, statistic: str = "mean") -> np.ndarray:
        return np.full(self.floor.shape[1], self.half)

    def least(self, metric: str, statistic: str = "mean") -> np.ndarray:
        return np.zeros(self.floor.shape[1])

    def __len__(self) -> int:
        return self.floor.shape[1]

    def mean(self, values: np.ndarray) -> np.ndarray:
        return (values * self.share).sum(0)

    def quantile(self, metric: str, statistic: str) -> np.ndarray:
        rank = {"mean": 1 - np.exp(-1), "p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}[statistic]
        return self.floor - self.wait * np.log1p(-rank)


def mixture(share: float, waits: tuple[float, float], floor: float = 0.0) -> Exponentials:
    column = np.array(waits)[:, None]
    return Exponentials(np.full((2, 1), floor), column, np.array([[1 - share], [share]]))


@pytest.mark.parametrize("statistic", ["p50", "p90", "p95", "p99"])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_percentile_of_a_mix_is_that_of_all_requests(share: float, statistic: str) -> None:
    """Exact for constants plus exponentials: at the value, the classes' shares beyond it add up to 1 - rank."""
    rank = float(statistic[1:]) / 100
    found = mixture(share, (0.1, 1.0), 0.05)
    value = overall(found, "ttft", statistic)[0]  # type: ignore[arg-type]
    beyond = (1 - share) * np.exp(-(value - 0.05) / 0.1) + share * np.exp(-(value - 0.05) / 1.0)
    assert beyond == pytest.approx(1 - rank, rel=1e-6)


def test_a_late_class_spoils_the_percentile_that_a_mean_of_percentiles_would_pass() -> None:
    found = Exponentials(np.array([[0.1], [2.0]]), np.full((2, 1), 1e-9), np.array([[0.8], [0.2]]))
    slo = Slo((Objective("ttft", "p90", 1.0),))
    assert found.mean(found.quantile("ttft", "p90"))[0] < 1.0
    assert not keeps(found, slo)[0]  # type: ignore[arg-type]
    assert slo_ratio(found, slo)[0][0] == pytest.approx(2.0, rel=1e-3)  # type: ignore[arg-type]


@pytest.mark.parametrize("statistic", ["mean", "p90", "p99"])
def test_keeping_with_confidence_is_having_that_chance(statistic: str) -> None:
    """`keeps`, `slo_ratio` and `chances` are three views of one thing: they switch over at the same limit."""
    found = mixture(0.3, (0.2, 0.8))
    for limit in np.geomspace(0.1, 20, 25):
        slo = Slo((Objective("ttft", statistic, float(limit)),))
        for sure in (0.5, 0.8, 0.95):
            kept = bool(keeps(found, slo, sure)[0])  # type: ignore[arg-type]
            assert kept == (chances(found, slo)[0, 0] >= sure)  # type: ignore[arg-type]
            assert kept == (slo_ratio(found, slo, sure)[0][0] <= 1)  # type: ignore[arg-type]


def test_chance_is_the_log_normal_one() -> None:
    """Of 10^5 draws around 0.4 with an 80 % interval of +-0.3 in the log, so many stay below 0.5."""
    draws = 0.4 * np.exp(np.random.default_rng(1).normal(0, 0.3 / 1.28155, 100_000))
    assert chance(np.array([0.4]), 0.5, np.array([0.3]))[0] == pytest.approx((draws <= 0.5).mean(), abs=0.005)
    assert chance(np.array([0.4]), 0.5, np.array([0.0]))[0] == 1.0
    assert allowed(Objective("ttft", "mean", 0.5), mixture(0.5, (1, 1)), 0.5)[0] == pytest.approx(0.5)  # type: ignore[arg-type]


def test_least_whole_agrees_with_counting_up() -> None:
    rng = np.random.default_rng(3)
    need, cap = rng.integers(1, 400, 300), rng.integers(0, 400, 300).astype(float)
    found = least_whole(lambda rows, n: n >= need[rows], cap)
    assert np.array_equal(found, np.where(need <= cap, need, np.nan), equal_nan=True)


def test_sizes_are_found_where_too_little_load_is_bad_too() -> None:
    """True between 10 and 300 only: the first turn is found from below, the last from above."""
    cap = np.array([1000.0])
    assert least_whole(lambda rows, n: (n >= 10) & (n <= 300), cap).tolist() == [10.0]
    found = greatest(lambda rows, v: np.where((v >= 10) & (v <= 300), -1.0, 1.0), np.array([1.0]), cap)
    assert found[0] == pytest.approx(300, rel=1e-3)


def test_certainty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="confidence 1: no estimate is certain"):
        answered(tmp_path, BASE + "\n[limits]\nconfidence = 1\n")


def test_greatest_agrees_with_the_threshold() -> None:
    threshold = np.geomspace(1e-4, 1e4, 50)
    found = greatest(lambda rows, v: v / threshold[rows] - 1.0, np.full(50, 1e-2), np.full(50, 1e2))
    expected = np.where(threshold < 1e-2, np.nan, np.minimum(threshold, 1e2))
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_sizes_are_the_least_that_keep_the_objectives(base: Plan) -> None:
    """Counting replicas up from one by plain estimates gives the same number, layout by layout."""
    target = base.scorer.raised.target  # a fifth of the capacity stays free
    for number in np.nonzero(base.qualifies)[0][:4].tolist():
        layout, found = base.layouts.take(np.array([number])), base.columns["replicas"][number]
        counts = np.arange(1.0, found + 1)
        tried = replace(layout.take(np.zeros(len(counts), dtype=np.intp)), replicas=counts)
        assert target.met_by(target.estimates(tried)).tolist() == [False] * (len(counts) - 1) + [True]


def test_the_best_of_each_device_is_listed_and_named(base: Plan) -> None:
    """By plain minima over the candidates of a device, however short the list is."""
    rows = base.rows(1)
    named = {word: row for row in rows for word in row["best_of"].split("; ")}
    device = np.array([d.name for d in base.scorer.tariff.devices])[base.layouts.device]
    for name in np.unique(device[base.qualifies]):
        least = base.columns["usd_per_hour"][(device == name) & base.qualifies].min()
        assert named[name]["device"] == name
        assert named[name]["usd_per_hour"] == pytest.approx(least)
    assert named["colocated"]["rank"] == 1


def test_costs_power_and_energy_follow_from_devices_and_rates(base: Plan) -> None:
    c, price = base.columns, np.array([2.5, 0.8])[base.layouts.device]
    np.testing.assert_allclose(c["usd_per_hour"], c["devices"] * price)
    served = c["verdict"] == 0
    np.testing.assert_allclose(c["request_rate_rps"][served], 40.0)
    np.testing.assert_allclose(c["output_tok_s"][served], 40.0 * 180)
    np.testing.assert_allclose(c["usd_per_million_tokens"], c["usd_per_hour"] / (c["output_tok_s"] * 3600) * 1e6)
    np.testing.assert_allclose(c["site_energy_j_per_output_token"], c["power_w"] / c["output_tok_s"])
    assert (c["power_w"] <= c["devices"] * 700).all()


def test_ranking_and_front(base: Plan) -> None:
    ranks = base.columns["usd_per_hour"][base.order[: int(base.qualifies.sum())]]
    assert (np.diff(ranks) >= 0).all()
    assert base.front[base.best]
    assert not base.front[~base.qualifies].any()
    cheapest = answered_by(base, "usd_per_hour")
    assert cheapest == base.columns["usd_per_hour"][base.qualifies].min()


def answered_by(found: Plan, column: str) -> float:
    return float(found.columns[column][found.best])


def test_rows_are_flat_json_with_units_and_ranges(base: Plan) -> None:
    rows = base.rows(5, 3)
    assert [r["rank"] for r in rows[:2]] == [1, 2]
    assert all(isinstance(v, str | int | float | bool) for r in rows for k, v in r.items() if k != "rank")
    assert [r["rank"] is None for r in rows] == [not r["qualifies"] for r in rows]
    assert json.loads(json.dumps(rows, default=float))[0]["candidate"] == base.name(base.best)
    best = rows[0]
    assert best["ttft_ms_lo"] < best["ttft_ms"] < best["ttft_ms_hi"]
    assert best["ttft_ms_p90"] <= 400
    assert best["ttft_ms_p50"] < best["ttft_ms_p90"] < best["ttft_ms_p99"]
    first, second = best["ttft_ms_p90_chance"], best["tpot_ms_chance"]
    assert first * second < best["slo_chance"] < min(first, second)
    assert best["slo_chance"] >= 0.5
    assert best["price"] == "given in the scenario"


def test_where_time_and_memory_go(base: Plan) -> None:
    terms = terms_of(base)
    for phase in ("prefill", "decode"):
        assert sum(t["share_percent"] for t in terms if t["phase"] == phase) == pytest.approx(100.0, rel=1e-6)
    parts = memory_of(base)
    device = base.layouts.devices[int(base.layouts.device[base.best])]
    assert sum(parts.values()) == pytest.approx(device.memory / 1e9)
    assert min(parts.values()) >= 0


def test_more_confidence_never_takes_less(base: Plan, tmp_path: Path) -> None:
    sure = answered(tmp_path, BASE + "\n[limits]\nconfidence = 0.6\n")
    both = base.qualifies & sure.qualifies
    assert both.any()
    assert (sure.columns["replicas"][both] >= base.columns["replicas"][both]).all()
    assert sure.columns["usd_per_hour"][sure.best] >= base.columns["usd_per_hour"][base.best]
    assert sure.columns["slo_chance"][sure.best] >= 0.6


@pytest.mark.parametrize(
    ("limit", "verdict", "words"),
    [
        ("usd_per_hour = 1", "budget", r"USD/h budget, allowed are 1: [\d,.]+ % too much; raise the limit"),
        ("power_kw = 0.1", "power", r"kW mean power, allowed are 0.1: [\d,.]+ % too much; raise the limit"),
        ("devices = 1", "devices", r"devices, allowed are 1"),
    ],
)
def test_a_limit_that_nothing_keeps_is_named_with_what_is_needed(
    tmp_path: Path, limit: str, verdict: str, words: str
) -> None:
    found = answered(tmp_path, BASE + f"\n[limits]\n{limit}\n")
    assert not found.feasible
    assert VERDICTS.index(verdict) in found.columns["verdict"]
    with pytest.raises(Infeasible, match=words):
        assert found.best


def test_short_stock_names_the_devices_needed_and_raising_it_as_told_is_enough(base: Plan, tmp_path: Path) -> None:
    short = answered(tmp_path, BASE.replace("[search]", "stock = { h100-sxm = 1, l40s = 1 }\n[search]"), tp="[1]")
    assert not short.feasible
    assert "more than on hand; raise the stock" in short.message
    needed = int(short.message.split("would keep it and need ")[1].split(" devices")[0])
    enough = f"stock = {{ h100-sxm = {needed}, l40s = {needed} }}\n[search]"
    assert answered(tmp_path, BASE.replace("[search]", enough), tp="[1]").feasible


def test_an_objective_out_of_reach_is_named_and_relaxing_it_as_told_is_enough(tmp_path: Path) -> None:
    found = answered(tmp_path, tpot_ms="0.9")
    assert not found.feasible
    assert "tpot_ms is" in found.message
    assert re.search(r"against 0.9 ms, [\d,.]+ % too much; relax it to", found.message)
    relaxed = float(found.message.split("relax it to ")[1].split(" ms")[0]) * 1.001
    assert answered(tmp_path, tpot_ms=f"{relaxed:.6f}").feasible


def test_what_does_not_fit_says_so_in_gb(tmp_path: Path) -> None:
    text = BASE.replace("Llama-3.1-8B-Instruct", "Llama-3.1-70B-Instruct").replace("tp = [1, 2, 4]", "tp = [1]")
    found = answered(tmp_path, text)
    assert "does not fit: weights" in found.message
    assert "GB" in found.message


def test_pinned_parallelism_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tp = 3, pp = 1 is possible: tp 3 does not divide the 32 attention heads"):
        answered(tmp_path, tp="[3]")


def test_spare_nodes_add_what_a_failing_node_takes(base: Plan, tmp_path: Path) -> None:
    spare = answered(tmp_path, BASE + "\n[limits]\nspare_nodes = 1\n")
    kept = base.qualifies
    np.testing.assert_array_equal(spare.columns["replicas"][kept], base.columns["replicas"][kept] + 1)
    nodes = BASE.replace('devices = ["h100-sxm", "l40s"]', 'nodes = ["dgx-h100"]').replace(", l40s = 0.8", "")
    whole = answered(tmp_path, nodes + "\n[limits]\nspare_nodes = 1\n")
    single = whole.layouts.tp == 1
    assert (whole.columns["replicas"][single] > 8).all()  # eight replicas of one device go with their node
    np.testing.assert_allclose(whole.columns["usd_per_hour"], whole.columns["nodes"] * 8 * 2.5)


def test_without_a_demand_one_replica_is_loaded_as_far_as_objectives_allow(tmp_path: Path) -> None:
    found = answered(tmp_path, BASE.replace("request_rate_rps = 40\n", ""))
    target, number = found.scorer.target, found.best
    most = float(found.columns["request_rate_rps"][number])
    layout = found.layouts.take(np.array([number]))
    at = replace(target, workload=target.workload.at(arrival="open", rate=most))
    over = replace(target, workload=target.workload.at(arrival="open", rate=most * 1.002))
    assert target.met_by(at.estimates(layout))[0]
    assert not target.met_by(over.estimates(layout))[0]
    listed = answered(tmp_path, BASE.replace("request_rate_rps = 40\n", "") + "concurrency = [4, 8, 2000]\n")
    assert set(listed.columns["concurrency_per_replica"][listed.qualifies]) <= {4.0, 8.0, 2000.0}


def test_without_a_demand_and_a_bound_on_queues_the_concurrency_is_chosen(tmp_path: Path) -> None:
    """A bound on TPOT alone ends no queue, and a closed loop may be asked for by name."""
    no_rate = BASE.replace("request_rate_rps = 40\n", "")
    named = BASE.replace("request_rate_rps = 40\n", 'arrival = "closed"\n')
    for text in (no_rate.replace("ttft_ms_p90 = 400\n", ""), named):
        found = answered(tmp_path, text)
        target, number = found.scorer.target, found.best
        most = found.columns["concurrency_per_replica"][number]
        layout = found.layouts.take(np.array([number]))
        at = replace(target, workload=target.workload.at(concurrency=float(most)))
        over = replace(target, workload=target.workload.at(concurrency=float(most) * 1.02 + 1))
        assert target.met_by(at.estimates(layout))[0]
        assert not target.met_by(over.estimates(layout))[0]


def test_pools_are_no_larger_than_they_must_be(tmp_path: Path) -> None:
    found = answered(tmp_path, BASE + 'modes = ["disaggregated"]\n')
    assert found.feasible
    number = found.best
    assert found.disaggregated(number)
    pair, scorer = found.pair(number), found.scorer.raised
    sizes = [found.columns[c][[number]] for c in ("prefill_workers", "decode_workers")]
    assert scorer.target.met_by(pair_estimates(scorer, pair, (sizes[0], sizes[1])))[0]
    for pool in (0, 1):
        fewer = [s - (i == pool) for i, s in enumerate(sizes)]
        if min(float(f[0]) for f in fewer) >= 1:
            assert not scorer.target.met_by(pair_estimates(scorer, pair, (fewer[0], fewer[1])))[0]
    row = found.row(number)
    assert row["devices"] == row["prefill_workers"] * row["prefill_tp"] + row["decode_workers"] * row["tp"]
    assert {t["phase"] for t in terms_of(found)} == {"prefill", "decode"}
    for at in (number, *found.order[1:4].tolist()):  # the decode step at the sequences on a decode worker
        decode = sum(t["time_us"] for t in terms_of(found, at) if t["phase"] == "decode")
        assert decode * 1e-6 == pytest.approx(float(found.estimates(at).latency.step[0, 0]), rel=1e-6)
        assert memory_of(found, at)["kv_gb"] > 0
        assert memory_place(found, at) == "one device of the decode pool"


def test_optuna_finds_the_exhaustive_winner_of_a_scenario(base: Plan) -> None:
    scenario = base.scenario
    sampled = plan(scenario, searcher=OptunaSearcher(trials=60, batch=20, seed=1), costs=Roofline())
    assert sampled.complete
    whole = plan(scenario, searcher=Exhaustive(), costs=Roofline())
    assert answered_by(sampled, "usd_per_hour") == answered_by(whole, "usd_per_hour")


def test_the_same_scenario_gives_the_same_plan_and_another_file_another_hash(base: Plan, tmp_path: Path) -> None:
    again = answered(tmp_path)
    for name, column in base.columns.items():
        np.testing.assert_array_equal(column, again.columns[name], err_msg=name)
    assert again.manifest.scenario_sha256 == base.manifest.scenario_sha256
    assert answered(tmp_path, tpot_ms="16").manifest.scenario_sha256 != base.manifest.scenario_sha256
    told = base.manifest.row()
    assert told["searcher"] == "exhaustive"
    assert len({told[k] for k in ("hardware_sha256", "models_sha256", "engines_sha256")}) == 3


@pytest.mark.parametrize("path", sorted(p.name for p in EXAMPLES.glob("*.toml") if "fleet" not in p.name))
def test_every_example_has_an_answer(path: str) -> None:
    found = plan(load_scenario(EXAMPLES / path))
    assert found.feasible, found.message
    assert found.rows(3, 1)[0]["qualifies"]


def test_fleet_of_an_example_with_modelled_throughputs() -> None:
    found = plan_fleet(load_scenario(EXAMPLES / "fleet-mix.toml"))
    assert found.gap <= 1e-5
    assert found.power <= 60e3
    assert found.manifest is not None
    assert found.manifest.solver in ("highs", "cbc")
    for o, option in enumerate(found.problem.options):
        served = found.problem.throughput[o] > 0
        assert served.any(), option.name
        assert ("70B" in option.name) == bool(served[0])


def test_fleet_and_plan_agree_on_one_class_and_one_device(base: Plan, tmp_path: Path) -> None:
    """The plan counts replicas that share the rate evenly; the program divides the rate by what one carries."""
    path = tmp_path / "one.toml"
    path.write_text(BASE.replace('"h100-sxm", "l40s"', '"h100-sxm"').replace(", l40s = 0.8", ""))
    fleet, single = plan_fleet(load_scenario(path)), plan(load_scenario(path))
    assert fleet.usd_per_hour == pytest.approx(answered_by(single, "usd_per_hour"))


def test_fleet_short_of_stock_says_what_to_raise(tmp_path: Path) -> None:
    path = tmp_path / "short.toml"
    path.write_text(BASE.replace("[search]", "stock = { h100-sxm = 1, l40s = 1 }\n[search]"))
    with pytest.raises(FleetInfeasible, match="raise the stock of h100-sxm from 1 to"):
        plan_fleet(load_scenario(path))
