"""The command `calibrate`, and what a calibration changes in the other commands."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import cli
from perfmodel.engines import Adjustment
from perfmodel.engines import engine as engine_of
from search.commands.calibrate import with_runs
from tests.test_user_calibration_readers import VLLM

SCENARIO = """\
[model]
name = "meta-llama/Llama-3.1-8B"
[workload]
input_tokens = 1000
output_tokens = 250
concurrency = 16
[hardware]
devices = ["h100-sxm"]
[search]
tp = [1]
weight = ["bf16"]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibration")
    (folder / "result.json").write_text(json.dumps(VLLM), encoding="utf-8")
    out = str(folder / "mine.toml")
    assert cli.main(["calibrate", str(folder / "result.json"), "--device", "h100-sxm", "-o", out]) == 0
    return folder


def test_it_prints_parts_values_and_the_error(
    made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(["calibrate", str(made / "mine.toml")]) == 0
    told = capsys.readouterr().out
    for text in ("memory", "front_end", "Measured and estimated", "Median error"):
        assert text in told
    assert all(len(line) <= 80 for line in told.splitlines())


def test_json_has_a_row_per_value(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["calibrate", str(made / "mine.toml"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    tpot = next(row for row in rows if row["metric"] == "tpot_ms")
    assert tpot["measured"] == 12.0
    assert abs(tpot["calibrated"] / 12.0 - 1) < abs(tpot["before"] / 12.0 - 1)


def test_estimate_and_plan_follow_the_calibration(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["estimate", "meta-llama/Llama-3.1-8B", "--device", "h100-sxm", "--isl", "1000", "--osl", "250"]
    asked += ["--concurrency", "16", "--json"]
    own = ["--calibration", str(made / "mine.toml")]
    plain, calibrated = (_rows([*asked, *more], capsys)[0] for more in ([], own))
    assert abs(calibrated["tpot_ms"] - 12.0) < abs(plain["tpot_ms"] - 12.0)
    (made / "own.toml").write_text(SCENARIO + '[calibration]\nfile = "mine.toml"\n', encoding="utf-8")
    (made / "plain.toml").write_text(SCENARIO, encoding="utf-8")
    planned = {name: _rows(["plan", str(made / f"{name}.toml"), "--json"], capsys)[0] for name in ("own", "plain")}
    assert planned["own"]["tpot_ms"] == pytest.approx(calibrated["tpot_ms"], rel=0.05)
    assert planned["plain"]["tpot_ms"] == pytest.approx(plain["tpot_ms"], rel=0.05)


def test_a_scenario_is_planned_before_and_after(
    made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of the two plans are those of `plan` without and with the calibration; repeated runs count once."""
    (made / "plain.toml").write_text(SCENARIO, encoding="utf-8")
    asked = ["calibrate", str(made / "mine.toml"), str(made / "mine.toml"), "--scenario", str(made / "plain.toml")]
    before, after = _rows([*asked, "--json"], capsys)
    assert (before["plan"], after["plan"]) == ("before", "after")
    assert abs(after["tpot_ms"] - 12.0) < abs(before["tpot_ms"] - 12.0)
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(asked) == 0
    told = capsys.readouterr().out
    assert "one run says" in told
    assert "The plan before and after" in told
    assert "candidate" in told
    assert all(len(line) <= 80 for line in told.splitlines())


def test_factors_of_other_devices_are_pulled_towards_1_once() -> None:
    """Factors of another model hold in part; those that a scenario brings were pulled when it was read."""
    brought = [Adjustment(name, "vllm", (("memory", 1.5),), models=("another",)) for name in ("l4", "h100-sxm")]
    engine = engine_of("vllm").adjusted_by(brought, "served")
    own = Adjustment("h100-sxm", "vllm", (("memory", 1.2),), models=("served",))
    assert with_runs(engine, [own], "served").adjustments == (engine.adjustments[0], own)


def test_watts_come_from_a_log_or_a_figure(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = made / "power.csv"
    lines = [f"2025/08/01 11:59:{n:02d}.000, 0, {90 if n < 20 else 500}.00 W" for n in range(60)]
    log.write_text("timestamp, index, power.draw [W]\n" + "\n".join(lines) + "\n", encoding="utf-8")
    asked = ["calibrate", str(made / "result.json"), "--device", "h100-sxm", "--json"]
    for more, watts in (([str(log)], 500.0), (["--watts", "480"], 480.0)):
        rows = _rows([*asked, *more], capsys)
        assert [row["measured"] for row in rows if row["metric"] == "power_w_per_device"] == [watts]
    assert cli.main(["calibrate", str(log)]) == 2
    assert "watts alone" in capsys.readouterr().err


def test_a_result_may_come_through_a_pipe(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a pipe brings is there once, so that a result is read once, whatever it turns out to be."""
    ends = os.pipe()
    os.write(ends[1], (made / "result.json").read_bytes())
    os.close(ends[1])
    asked = ["--device", "h100-sxm", "--json"]
    piped, read = (
        [row["calibrated"] for row in _rows(["calibrate", path, *asked], capsys)]
        for path in (f"/dev/fd/{ends[0]}", str(made / "result.json"))
    )
    os.close(ends[0])
    assert piped == read


def _rows(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[dict[str, float]]:
    assert cli.main(words) == 0
    return list(json.loads(capsys.readouterr().out))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["calibrate", "absent.json"], "no such result"),
        (["calibrate", "{folder}/result.json"], "give --device"),
        (["calibrate", "{folder}/result.json", "--device", "h100-sxm", "--column", "tp"], "NAME=VALUE"),
        (["calibrate", "{folder}/result.json", "--device", "h100-sxm", "--column", "tpp=2"], "did you mean tp?"),
        (["calibrate", "{folder}/result.json", "--device", "h100-sxm", "-o", "{folder}/result.json"], "is an input"),
        (["calibrate", "{folder}/mine.toml", "-o", "{folder}/mine.toml"], "is an input"),
    ],
)
def test_bad_input_is_told(made: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([word.format(folder=made) for word in words]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_a_model_may_stand_for_a_path_in_the_result(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = json.loads((made / "result.json").read_text(encoding="utf-8"))
    path = made / "served.json"
    path.write_text(json.dumps({**result, "model_id": "/data/checkpoints/ours"}), encoding="utf-8")
    asked = ["calibrate", str(path), "--device", "h100-sxm"]
    assert cli.main(asked) == 2
    assert "--model says what a path or a served name stands for" in " ".join(capsys.readouterr().err.split())
    assert cli.main([*asked, "--model", "meta-llama/Llama-3.1-8B", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


def test_a_table_without_rows_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "empty.csv"
    path.write_text("model,device,isl,osl,concurrency,ttft_ms\n", encoding="utf-8")
    assert cli.main(["calibrate", str(path)]) == 2
    assert "there is no run in it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[system]]\ndevice = 'h100-sxm'\nengine = 'vllm'\nruns = 1\n[system.factors]\nmemry = 2\n", "memry"),
        ("[[system]]\ndevice = 'h100-sxm'\nengine = 'vllm'\nruns = 1\n[system.factors]\nmemory = -2\n", "memory"),
        ("[[system]]\nengine = 'vllm'\n[system.factors]\n[system.spreads]\n", "'device'"),
    ],
)
def test_a_damaged_calibration_is_told(
    tmp_path: Path, text: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    asked = ["estimate", "meta-llama/Llama-3.1-8B", "--device", "h100-sxm", "--calibration", str(path)]
    assert cli.main(asked) == 2
    assert told in capsys.readouterr().err


ROWS = "concurrency,isl,osl,ttft_ms,tpot_ms{more}\n1,1024,256,60,7.2{cell}\n8,1024,256,90,8.4{cell}\n"
OWN = ["--model", "meta-llama/Llama-3.1-8B", "--device", "h100-sxm"]


def test_a_result_without_an_engine_is_of_the_engine_in_its_heading(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "own.csv"
    table.write_text(ROWS.format(more="", cell=""), encoding="utf-8")
    blank, stated = (
        _rows(["calibrate", str(table), *OWN, *more, "--json"], capsys) for more in ([], ["--engine", "vllm"])
    )
    assert blank == stated
    assert any(row["calibrated"] != row["before"] for row in blank)


def test_columns_that_are_not_read_are_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "own.csv"
    table.write_text(ROWS.format(more=",itl_s,weights,ngl", cell=",0.007,fp8,99"), encoding="utf-8")
    assert cli.main(["calibrate", str(table), *OWN]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert text.count("column 'itl_s' is not read") == 1
    assert text.count("column 'weights' is read as weight_dtype") == 1
    assert text.count("column 'ngl' is not read; its input is called host_weights") == 1


@pytest.mark.parametrize(
    ("ttft", "tpot"), [("TTFT (ms)", "mean TPOT [ms]"), ("TTFT_ms", "Average tpot ms"), (" ttft_ms ", "TPOT-ms")]
)
def test_measured_values_are_read_as_people_spell_them(
    ttft: str, tpot: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def table(first: str, second: str) -> str:
        path = tmp_path / "own.csv"
        heading = f"model,device,isl,osl,concurrency,power_cap_w,decode_note,{first},{second}"
        path.write_text(f"{heading}\nmeta-llama/Llama-3.1-8B,h100-sxm,512,128,8,500,,40,8\n", encoding="utf-8")
        return str(path)

    wanted = _rows(["calibrate", table("ttft_ms", "tpot_ms"), "--json"], capsys)
    assert _rows(["calibrate", table(ttft, tpot), "--json"], capsys) == wanted
    assert cli.main(["calibrate", table(ttft, tpot)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"column {tpot!r} is read as tpot_ms" in text
    assert "'power_cap_w' is not read" not in text
    assert cli.main(["calibrate", table("TTFT (ms)", "TPOT (s)")]) == 0
    assert "column 'TPOT (s)' is not read; measured values are ttft_ms" in " ".join(capsys.readouterr().out.split())


def test_a_result_of_another_tool_says_which_table_to_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "locust.csv"
    path.write_text("Type,Name,Request Count,Average Response Time\nPOST,/v1,200,1134\n", encoding="utf-8")
    assert cli.main(["calibrate", str(path), *OWN]) == 2
    assert "CSV table with the columns model, device, isl, osl, concurrency, and measured" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["calibrate", "{table}", *OWN], ["predict", "{table}"]])
def test_a_table_as_a_spreadsheet_with_decimal_commas_writes_it_is_read_as_its_csv(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, plain = (
        tmp_path / "own.csv",
        "model,device,isl,osl,concurrency,ttft_ms\nmeta-llama/Llama-3.1-8B,l4,512,64,1,260.5\n",
    )
    found = []
    for text in (plain, "sep=;\n" + plain.replace(",", ";").replace(".5\n", ",5\n"), plain.replace(",", "\t")):
        table.write_text(text, encoding="utf-16")
        assert cli.main([word.format(table=table) for word in command]) == 0
        found.append(capsys.readouterr().out)
    assert found[0] == found[1] == found[2]
    assert found[0]
