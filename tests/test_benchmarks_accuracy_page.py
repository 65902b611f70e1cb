"""The accuracy page: its tables say what tiny frames say, and a row without a reason is noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import accuracy, accuracy_reasons, accuracy_tables
from hwdb import InputError, load
from perfmodel.cases.prediction import predict

SETUP = {
    "trust": "A",
    "spec_decode": "",
    "twin_in_train": "0",
    "split": "test",
    "dataset": "lab",
    "isl": "512",
    "osl": "64",
    "mode": "closed",
    "concurrency": "4",
    "batch": "",
    "request_rate_rps": "",
    "n_requests": "",
}
MODEL = {"model": "meta-llama/Llama-3.1-8B", "device": "h100-sxm", "engine": "vllm"}


def scored(*values: tuple[str, str, float, float], **more: str) -> pd.DataFrame:
    """Rows (group, metric, measured, predicted) with an interval of 20 % around the prediction."""
    rows = [
        {
            **SETUP,
            **MODEL,
            **more,
            "case_id": f"{g}-{i}",
            "group": g,
            "metric": m,
            "value": v,
            "predicted": p,
            "low": 0.8 * p,
            "high": 1.2 * p,
            "error": p / v - 1,
        }
        for i, (g, m, v, p) in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_a_line_weighs_rows_and_groups_apart() -> None:
    rows = scored(*[("a", "tpot_ms", 10.0, 11.0)] * 8, ("b", "tpot_ms", 10.0, 60.0))
    found = accuracy_tables.line(rows)
    assert found["median"] == pytest.approx(0.1)
    assert found["mean"] == pytest.approx((8 * 0.1 + 5) / 9)
    assert found["median, groups equal"] == pytest.approx((0.1 + 5) / 2)
    assert found["inside 80 %"] == pytest.approx(8 / 9)


def test_what_is_not_answered_lowers_the_share_and_nothing_else() -> None:
    rows = scored(("a", "tpot_ms", 10.0, 11.0), ("a", "tpot_ms", 10.0, np.nan), ("a", "tpot_ms", 10.0, np.inf))
    found = accuracy_tables.line(rows)
    assert found["answered"] == pytest.approx(1 / 3)
    assert found["median"] == pytest.approx(0.1)


def test_one_group_in_fifty_rules_the_mean_and_the_page_says_so() -> None:
    rows = scored(*[(f"lab|m{i}", "tpot_ms", 10.0, 11.0) for i in range(49)], ("lab|odd", "tpot_ms", 10.0, 510.0))
    found = accuracy_tables.limits(rows)["others, latency"]
    assert found["groups equal"] == pytest.approx((49 * 0.1 + 50) / 50)
    assert found["they give"] == pytest.approx(1.0)
    assert found["without them"] == pytest.approx(0.1)
    assert found["median group"] == pytest.approx(0.1)
    assert found["the worst of them"] == "odd (5,000 %)"


def test_a_handful_of_groups_is_not_trimmed() -> None:
    rows = scored(("a", "tpot_ms", 10.0, 11.0), ("b", "tpot_ms", 10.0, 60.0))
    assert np.isnan(accuracy_tables.line(rows)["without the worst 2 %"])  # type: ignore[call-overload]


def test_peers_are_compared_on_the_same_values_only() -> None:
    rows = scored(
        ("a", "tpot_ms", 10.0, 11.0),
        ("a", "tpot_ms", 10.0, 12.0),
        ("a", "tpot_ms", 10.0, 20.0),
        dataset=accuracy_tables.SILICON,
    )
    peers = {
        "one": pd.DataFrame({"case_id": ["a-0", "a-1"], "tpot_ms": [10.0, 10.0]}),
        "two": pd.DataFrame({"case_id": ["a-1", "a-2"], "tpot_ms": [15.0, 15.0]}),
    }
    found = accuracy_tables.beside(rows, peers)
    ours, theirs = (found[f"silicon tpot_ms; one answers; **{who}**"] for who in ("perfmodel closed form", "one"))
    assert ours["values"] == theirs["values"] == 2
    assert ours["mean"] == pytest.approx(0.15)
    assert theirs["mean"] == pytest.approx(0.0)
    everyone = [k for k in found if "one and two answer" in k]
    assert len(everyone) == 3
    assert {found[k]["values"] for k in everyone} == {1}


def test_intervals_by_mode_count_their_values() -> None:
    rows = pd.concat([scored(("a", "tpot_ms", 10.0, 11.0)), scored(("a", "ttft_ms", 10.0, 90.0), mode="open")])
    found = accuracy_tables.intervals(rows, "mode")
    assert found["closed"]["latency"] == "100 % (1)"
    assert found["open"]["first token"] == "0 % (1)"
    assert found["open"]["latency"] == "-"


def test_a_second_source_of_a_run_shows_the_noise() -> None:
    cases = pd.DataFrame(
        [
            {
                **SETUP,
                **MODEL,
                "case_id": f"{s}{i}",
                "dataset": s,
                "concurrency": str(i),
                "group": s,
                "split": {"lab": "test", "base": "train"}[s],
                "twin_in_train": {"lab": "1", "base": "0"}[s],
            }
            for s in ("lab", "base")
            for i in range(4)
        ]
    )
    truth = pd.DataFrame(
        [{"case_id": f"lab{i}", "metric": "tpot_ms", "value": 10.0, "rel_spread": 0.02} for i in range(4)]
        + [{"case_id": f"base{i}", "metric": "tpot_ms_p50", "value": 11.0} for i in range(4)]
    )
    (line,) = accuracy_tables.twins(cases, truth).values()
    assert line["pairs"] == 4
    assert line["median"] == pytest.approx(0.1)
    (again,) = accuracy_tables.repeats(cases, truth).values()
    assert again["median spread"] == pytest.approx(0.02)
    assert accuracy_tables.repeats(cases, truth.drop(columns="rel_spread")) == {}


def test_cells_hold_names_with_bars() -> None:
    found = accuracy_tables.markdown("who", {"a|b|": {"n": 3, "share": 0.5, "none": float("nan")}})
    assert found.splitlines()[-1] == "| a, b | 3 | 50.0 % | - |"


ENTRY = '[[reason]]\ngroup = "lab|*"\nkind = "overload"\ntext = "Queues."\nevidence = "2 of 5 served."\n'


def reasons(tmp_path: Path, text: str) -> list[accuracy_reasons.Reason]:
    """The reasons of a file with this text."""
    path = tmp_path / "reasons.toml"
    path.write_text(text, encoding="utf-8")
    return accuracy_reasons.read_reasons(path)


def test_a_reason_explains_only_the_rows_it_was_found_for(tmp_path: Path) -> None:
    found = reasons(tmp_path, ENTRY + 'metric = "ttft_ms*"\nwhere = { concurrency = "4" }\n')
    rows = scored(("lab|x", "ttft_ms", 10.0, 90.0), ("lab|x", "tpot_ms", 10.0, 80.0), ("other|x", "ttft_ms", 1.0, 9.0))
    table = accuracy_reasons.worst_table(rows, found, 20)
    assert table.count("Queues. 2 of 5 served.") == 1
    assert table.count("not explained") == 2
    assert accuracy_reasons.unexplained(rows, found, 1) == []
    missing = accuracy_reasons.unexplained(rows, found, 20)
    assert missing == ["not explained: other|x ttft_ms", "not explained: lab|x tpot_ms"]


def test_a_reason_that_matches_nothing_is_noticed(tmp_path: Path) -> None:
    found = reasons(tmp_path, ENTRY)
    assert accuracy_reasons.unexplained(scored(("x", "tpot_ms", 1.0, 1.0)), found, 0) == [
        "matches no scored row: lab|* *"
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (ENTRY.replace("overload", "bad luck"), "kind 'bad luck' is none of"),
        (ENTRY.replace("text", "txt"), "unknown key txt"),
        (ENTRY.replace('"2 of 5 served."', '""'), "evidence missing"),
        ("[[reason]", "reasons.toml"),
    ],
)
def test_a_malformed_reason_is_named(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        reasons(tmp_path, text)


def test_the_worst_rows_are_one_a_group_and_metric() -> None:
    rows = scored(("a", "tpot_ms", 1.0, 9.0), ("a", "tpot_ms", 1.0, 50.0), ("b", "tpot_ms", 90.0, 9.0))
    found = accuracy_reasons.worst_rows(rows, 5)
    assert found.predicted.tolist() == [50.0, 9.0]


def test_the_shipped_reasons_are_well_formed() -> None:
    found = accuracy_reasons.read_reasons(accuracy.REASONS)
    assert len(found) >= 20
    for reason in found:
        assert any(c.isdigit() for c in reason.evidence), f"{reason.group}: evidence without a figure"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two measured cases, their truth and their predictions."""
    folder = tmp_path_factory.mktemp("accuracy")
    cases = pd.DataFrame(
        [
            {
                **SETUP,
                **MODEL,
                "case_id": f"c{n}",
                "group": "lab|8b",
                "concurrency": str(n),
                "tp": "1",
                "n_devices": "1",
                "isl_dist": "fixed",
            }
            for n in (1, 8)
        ]
    )
    cases.to_csv(folder / "cases.csv", index=False)
    answers = predict(cases, hwdb=load())
    answers.to_csv(folder / "predictions.csv", index=False)
    truth = pd.DataFrame({"case_id": ["c1", "c8"], "metric": "tpot_ms", "value": answers.tpot_ms * [1.0, 2.0]})
    truth.to_csv(folder / "truth.csv", index=False)
    return folder


def run(folder: Path, *more: str) -> int:
    """The command on the small folder."""
    files = [str(folder / n) for n in ("cases.csv", "truth.csv")]
    return accuracy.main([*files, "--predictions", str(folder / "predictions.csv"), "-o", str(folder / "a.md"), *more])


def test_the_command_writes_the_page_and_checks_reasons(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (small / "none.toml").write_text("", encoding="utf-8")
    (small / "one.toml").write_text(ENTRY, encoding="utf-8")
    assert run(small, "--reasons", str(small / "none.toml"), "--check-reasons") == 1
    assert "not explained: lab|8b tpot_ms" in capsys.readouterr().err
    assert not (small / "a.md").exists()
    assert run(small, "--reasons", str(small / "one.toml"), "--check-reasons") == 0
    assert run(small, "--reasons", str(small / "one.toml"), "--simulate", str(small / "s.csv"), "--jobs", "1") == 0
    page = (small / "a.md").read_text(encoding="utf-8")
    for title in ("# Accuracy", "## What limits", "## Intervals", "## On exactly the same rows", "## The worst rows"):
        assert title in page
    assert "others, latency; simulator answers; **simulator**" in page
    assert "Queues. 2 of 5 served." in page
