"""Published figures beside estimates: every row can be asked, and the score is that of the rows that count."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.anchors import Anchor, Compared, anchors, estimated, first_score, score, words

ROWS = anchors()


def test_every_row_names_its_source_setup_and_trust() -> None:
    assert len({a.id for a in ROWS}) == len(ROWS)
    for row in ROWS:
        assert row.trust in "ABC"
        assert row.source
        assert row.setup
        assert row.value > 0
        assert row.options["model"]


def test_options_become_a_command_line() -> None:
    asked = words({"model": "a/b", "tp": 8, "allow_long_context": True, "recipe": False, "cp_method": "ring"})
    assert asked[:6] == ["estimate", "a/b", "--tp", "8", "--allow-long-context", "--cp-method"]
    assert "--recipe" not in asked


@pytest.mark.parametrize("name", ["full-prefill-128k-cp16", "full-prefill-1m-cp16", "pipeline-1m-pp8", "tp16-over-cp2"])
def test_a_published_figure_is_met_within_thirty_per_cent(name: str) -> None:
    row = next(a for a in ROWS if a.id == name)
    assert estimated(row) == pytest.approx(row.value, rel=0.3)


def test_rows_of_headlines_are_not_scored() -> None:
    a = Anchor("x", "s", "A", "setup", "source", "ttft_ms", 10.0, {"model": "m"})
    c = Anchor("y", "s", "C", "setup", "source", "ttft_ms", 10.0, {"model": "m"})
    middle, near = score([Compared(a, 20.0), Compared(c, 10.0)])
    assert middle == pytest.approx(math.log(2.0))
    assert near == 0.0
    assert all(map(math.isnan, score([Compared(c, 10.0)])))


def test_the_first_score_is_that_of_rows_which_kept_it() -> None:
    plain = Anchor("x", "s", "A", "setup", "source", "ttft_ms", 10.0, {"model": "m"})
    kept = Anchor("y", "s", "A", "setup", "source", "ttft_ms", 10.0, {"model": "m"}, first_ratio=4.0)
    headline = Anchor("z", "s", "C", "setup", "source", "ttft_ms", 10.0, {"model": "m"}, first_ratio=9.0)
    middle, near = first_score([Compared(a, 10.0) for a in (plain, kept, headline)])
    assert (middle, near) == (pytest.approx(math.log(4.0)), 0.0)  # today's ratios are all 1


@pytest.mark.parametrize(
    "name", ["xeon-deepseek-r1-ttft", "deepseek-amx-2048", "k2-l20-prefill", "m2-layerwise-1x5090-32768"]
)
def test_figures_that_no_constant_rests_on_are_met(name: str) -> None:
    row = next(a for a in ROWS if a.id == name)
    assert estimated(row) == pytest.approx(row.value, rel=0.25)


def test_what_an_estimate_refuses_or_lacks_is_said(tmp_path: Path) -> None:
    row = ROWS[0]
    for change, said in (({"cp_method": "nothing"}, "nothing"), ({}, "no such_ms")):
        metric = row.metric if change else "such_ms"
        wrong = Anchor(row.id, row.section, row.trust, row.setup, row.source, metric, 1.0, {**row.options, **change})
        with pytest.raises(ValueError, match=said):
            estimated(wrong)
