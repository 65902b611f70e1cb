"""What hides behind what when two micro-batches take turns, by hand."""

from __future__ import annotations

import pytest

from benchmarks.overlap_stages import ATTENTION, PROJECTIONS, SHARED, hidden


def test_transfers_hide_behind_the_stages_that_run_meanwhile() -> None:
    times = {name: 0.0 for stage in (ATTENTION, PROJECTIONS, SHARED) for name in stage}
    times |= {"mla_decode": 10.0, "q_up": 3.0, "shared_up": 2.0}
    assert hidden({**times, "expert_dispatch": 9.0, "expert_combine": 0.0}) == pytest.approx(2.0 + 3.0 + 2.0)
    assert hidden({**times, "expert_dispatch": 0.0, "expert_combine": 20.0}) == pytest.approx(10.0 + 3.0)
    assert hidden({**times, "expert_dispatch": 1.0, "expert_combine": 1.0}) == pytest.approx(4.0)  # all of it
