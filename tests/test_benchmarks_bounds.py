"""What limits the error of latencies: constant levels are taken out, contradicting inputs are found by rule."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.bounds import bound_lines, drawn_lengths, error, levelled, levelled_by_others, replicas

RUN = {"dataset": "aiconfigurator_silicon", "model": "m", "device": "b200-sxm", "engine": "trtllm", "ep": "1"}


def rows(*ratios: float, group: str = "a") -> pd.DataFrame:
    """Measured values of one group, with log ratios of their predictions."""
    return pd.DataFrame(
        {"group": group, "metric": "tpot_ms", "isl": "1", "osl": "1", "ratio": ratios, "n_repeats": 1, "rel_spread": 0}
    )


def case(**cells: object) -> dict[str, str]:
    given = {**RUN, "engine_version": "1.3", "n_devices": 2, "isl": 100, "osl": 50, "tp": 2, "isl_dist": "fixed"}
    return {k: str(v) for k, v in {**given, **cells}.items()}


def test_a_group_that_is_off_by_one_factor_has_no_error_of_shape() -> None:
    off = pd.concat([rows(*[0.4] * 5), rows(*[-0.7] * 4, group="b")], ignore_index=True)
    for judged in (levelled(off, ["group"]), levelled_by_others(off, ["group"])):
        np.testing.assert_allclose(judged, 0.0, atol=1e-12)
    assert error(off.ratio) == pytest.approx((np.expm1(0.4), (5 * np.expm1(0.4) + 4 * (1 - np.exp(-0.7))) / 9))


def test_the_level_of_other_rows_does_not_know_the_row_itself() -> None:
    assert levelled_by_others(rows(0.1, 0.5), ["group"]).tolist() == pytest.approx([-0.4, 0.4])
    assert levelled(rows(0.1, 0.5), ["group"]).tolist() == pytest.approx([-0.2, 0.2])
    assert levelled_by_others(rows(0.3), ["group"]).tolist() == [0.3]  # alone: nothing to learn from
    assert levelled(rows(0.3), ["group"]).tolist() == [0.0]


def test_the_table_has_every_bound_and_the_noise() -> None:
    measured = rows(0.1, 0.2, 0.6).assign(n_repeats=[1, 3, 3], rel_spread=[0.0, 0.02, 0.06])
    found = bound_lines(measured).set_index("bound")
    assert found.loc["spread of repeated runs", ["values", "mean"]].tolist() == pytest.approx([2, 0.04])
    assert found.loc["own level per group", "mean"] < found.loc["as predicted", "mean"]


def test_clients_beyond_the_sources_batches_are_of_further_replicas() -> None:
    source = pd.DataFrame(
        {
            "mode": "agg",
            "silicon_data_source": [f"silicon_concurrency={c}" for c in (64, 32, 16)],
            "model_path": "m",
            "system": "b200_sxm",
            "backend": "trtllm",
            "backend_version": "1.3",
            "isl": 100,
            "osl": 50,
            "batch_size": [16.0, 16.0, 16.0],
            "attention_dp_size": [np.nan, 2.0, 0.0],
            "tp_size": 2.0,
        }
    )
    cases = pd.DataFrame([case(case_id=str(c), concurrency=c) for c in (64, 32, 16)])
    found = replicas(cases, source)
    assert found[["case_id", "n_devices"]].to_numpy().tolist() == [["64", 8.0]]  # 32 clients are two ranks of 16
    assert replicas(cases.assign(n_devices="8"), source).empty  # all replicas are counted already


def test_one_run_under_two_lengths_is_the_one_of_drawn_lengths() -> None:
    drawn = {"isl": 90, "osl": 45, "isl_dist": "uniform:0.8-1.0"}
    cases = pd.DataFrame(
        [case(case_id=i, concurrency=c, **more) for i, c, more in (("a", 4, {}), ("b", 4, drawn), ("c", 8, {}))]
    )
    truth = pd.DataFrame(
        [
            {"case_id": i, "metric": m, "value": v}
            for i, values in (("a", (5.0, 70.0)), ("b", (5.0, 70.0)), ("c", (6.0, 80.0)))
            for m, v in zip(("tpot_ms", "ttft_ms"), values, strict=True)
        ]
    )
    found = drawn_lengths(cases, truth)
    assert found[["case_id", "isl", "osl", "isl_dist"]].to_numpy().tolist() == [["a", 90.0, 45.0, "uniform:0.8-1.0"]]
    assert drawn_lengths(cases, truth.assign(value=truth.value * (1 + truth.index / 9))).empty
