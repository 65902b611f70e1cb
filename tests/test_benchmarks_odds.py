"""Tables of docs/odds.md: they count what they say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks import odds_tables as tables
from perfmodel.estimates import CAUSES


def rows(count: int = 600, metric: str = "tpot_ms") -> pd.DataFrame:
    """Values that err exactly as the shipped spreads say, two devices and layouts under each of many loads."""
    random = np.random.default_rng(0)
    out = pd.DataFrame(0.0, index=range(count), columns=list(CAUSES))
    out["memory"], out["power_doubt"], out["doubt"] = 1.0, 1.0, 1.0
    kind = "tpot" if metric.startswith("tpot") else "throughput"
    out["kind"], out["figure"], out["class"] = kind, f"{kind}_mean" if kind == "tpot" else kind, "table"
    out["metric"], out["mode"], out["basis"], out["arrival"], out["load"] = (
        metric,
        "closed",
        "interpolated",
        "closed",
        0.0,
    )
    out["device"] = np.array(["h100-sxm", "mi300x"])[np.arange(count) % 2]
    out["group"] = out["case_id"] = [f"g{n}" for n in range(count)]
    out["dataset"], out["model"], out["engine"], out["n_devices"] = "lab", "m", "vllm", "1"
    for column in ("isl", "osl", "concurrency", "batch", "rate_rps", "n_requests"):
        out[column] = [str(n // 4) for n in range(count)]
    out["ratio"] = tables.deviations(out)[2] * random.normal(size=count)
    out["predicted"] = np.exp(random.normal(0.0, 0.3, count))
    return out


def numbers(text: str, label: str) -> list[float]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {label}"))
    return [float(cell.strip(" %")) for cell in line.split("|")[2:-1]]


def test_coverage_counts_values_inside_and_money_has_the_range_of_throughput() -> None:
    text = tables.coverage(rows(), {})
    values, groups, inside, _ = numbers(text, "tpot_ms, closed, interpolated")
    assert (values, groups) == (600, 600)
    assert inside == pytest.approx(80.0, abs=5.0)
    text = tables.coverage(rows(metric="output_tok_s"), {"h100-sxm": 2.0})
    assert numbers(text, tables.MONEY)[0] == 300
    assert numbers(text, tables.MONEY)[3] == numbers(text, "output_tok_s")[3]


def test_chances_that_are_true_are_met() -> None:
    text = tables.reliability(rows())
    for label in ("one limit, 5 to 20 %", "one limit, 40 to 60 %", "one limit, 80 to 95 %"):
        _, said, was = numbers(text, label)
        assert was == pytest.approx(said, abs=7.0), label


def test_odds_of_pairs_that_are_true_are_met() -> None:
    text = tables.pairs(rows(), {})
    pairs, said, was, strangers = numbers(text, "TPOT, other device, 70 to 80 %")
    assert pairs >= 30
    assert was == pytest.approx(said, abs=14.0)
    assert strangers <= said + 0.1


@pytest.mark.parametrize("together", [0.0, 0.5, 0.9])
def test_two_limits_hold_together_as_drawn(together: float) -> None:
    random = np.random.default_rng(1)
    common, rest = random.normal(size=200_000), random.normal(size=(2, 200_000))
    drawn = np.sqrt(together) * common + np.sqrt(1 - together) * rest
    kept = ((drawn[0] <= 0.3) & (drawn[1] <= -0.2)).mean()
    said = tables._both(np.array([0.3]), np.array([-0.2]), np.array([together]))[0]
    assert said == pytest.approx(kept, abs=0.005)


@pytest.mark.parametrize("seed", range(20))
def test_few_groups_that_err_alike_are_often_outside_what_counts_as_held(seed: int) -> None:
    """Many small groups nearly always hold 75 to 86 %; where each group errs as one, that is chance."""
    draw = np.random.default_rng(seed)
    ratio = draw.normal(size=600)
    alone = pd.DataFrame({"ratio": ratio, "width": 1.0, "group": np.arange(600)})
    alike = alone.assign(ratio=np.repeat(ratio[:6], 100), group=np.repeat(np.arange(6), 100))
    assert tables.exactly_held(alone) > 0.95 > 0.6 > tables.exactly_held(alike)
