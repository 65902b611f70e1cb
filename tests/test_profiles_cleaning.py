"""Tables put right by physics: what is dropped, what comes off, and that sound rows stay as they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel.profiles.build.cleaning import floor, host_bound, misrouted, padded, without_extra
from perfmodel.profiles.importers.rows import Rows, rows_of


def gemms(m: list[float], time: list[float], software: str = "vllm 1.0", weight: str = "fp8", n: float = 512.0) -> Rows:
    return rows_of(
        len(m),
        family="gemm",
        m=np.array(m),
        n=n,
        k=512.0,
        weight=weight,
        act=weight,
        software=software,
        time=np.array(time),
    )


def joined(*parts: Rows) -> Rows:
    return Rows({c: np.concatenate([p[c] for p in parts]) for c in parts[0].columns})


def test_balanced_routing_over_ranks_is_left_out() -> None:
    table = rows_of(3, family="grouped_gemm", ep=[1.0, 8.0, 8.0], skew=[0.0, 0.0, 1.2], time=1e-4)
    assert misrouted(table).tolist() == [False, True, False]


def test_formats_whose_smallest_kernels_time_the_host_are_found() -> None:
    table = joined(gemms([1, 8, 64], [6e-5, 6e-5, 7e-5]), gemms([1, 8, 64], [4e-6, 4e-6, 9e-6], weight="bf16"))
    assert host_bound(table).tolist() == [True] * 3 + [False] * 3


def test_a_gemm_takes_at_most_what_one_of_more_rows_takes() -> None:
    table = padded(gemms([8, 1, 4, 2, 16], [5e-6, 20e-6, 30e-6, 4e-6, 8e-6]))
    assert table["time"].tolist() == pytest.approx([5e-6, 4e-6, 5e-6, 4e-6, 8e-6])


def test_padding_stays_within_a_matrix_a_format_and_a_framework() -> None:
    slow = gemms([1, 2], [9e-6, 9e-6])
    others = [gemms([4], [1e-6], "sglang 1.0"), gemms([4], [1e-6], weight="bf16"), gemms([4], [1e-6], n=1024.0)]
    assert padded(joined(slow, *others))["time"][:2].tolist() == pytest.approx([9e-6, 9e-6])


@given(st.lists(st.floats(1e-6, 1e-2), min_size=1, max_size=30))
def test_padded_times_never_fall_with_rows_and_never_rise_above_the_measured(times: list[float]) -> None:
    measured = gemms([float(2**i) for i in range(len(times))], times)
    found = padded(measured)["time"]
    assert np.all(np.diff(found) >= -1e-12)
    assert np.all(found <= measured["time"] * (1 + 1e-9))


def test_what_a_table_holds_beyond_the_kernel_comes_off_by_format() -> None:
    table = joined(
        gemms([1, 4096], [13e-6, 113e-6], "trtllm 1.3"),
        gemms([1, 4096], [5e-6, 100e-6], "sglang 0.5"),
        gemms([1], [3e-6], "trtllm 1.3", "bf16"),
    )
    found = without_extra(table)["time"]
    assert found.tolist() == pytest.approx([5e-6, 105e-6, 5e-6, 100e-6, 3e-6])


def test_a_table_alone_keeps_its_times() -> None:
    table = gemms([1, 64], [13e-6, 20e-6])
    assert without_extra(table)["time"].tolist() == table["time"].tolist()


def test_the_floor_is_unknown_without_small_gemms() -> None:
    table = gemms([4096], [1e-4])
    assert np.isnan(floor(table, np.ones(1, bool)))
