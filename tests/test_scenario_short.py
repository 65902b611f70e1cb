"""Tables of a scenario that hold one thing may be written as that thing."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import main
from search import load_scenario

SHORT = 'model = "Qwen3-8B"\nengine = "sglang"\nhardware = ["h100-sxm", "l40s"]\n[workload]\ndataset = "sharegpt"\n'
FULL = (
    '[model]\nname = "Qwen3-8B"\n[engine]\nname = "sglang"\n[hardware]\ndevices = ["h100-sxm", "l40s"]\n'
    '[workload]\ndataset = "sharegpt"\n'
)


def test_short_tables_are_those_in_full(tmp_path: Path) -> None:
    short, full = tmp_path / "short.toml", tmp_path / "full.toml"
    short.write_text(SHORT)
    full.write_text(FULL)
    one, other = load_scenario(short), load_scenario(full)
    assert (one.model, one.engine, one.offer) == (other.model, other.engine, other.offer)


def test_an_unknown_name_in_a_short_table_is_told_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "short.toml"
    path.write_text(SHORT.replace("sglang", "sglangg"))
    assert main(["plan", str(path)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "[engine] name" in said
    assert "'sglang'" in said


@pytest.mark.parametrize("value", ["3", "true", "{ devices = 3 }"])
def test_what_is_neither_is_refused(tmp_path: Path, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "short.toml"
    path.write_text(SHORT.replace('["h100-sxm", "l40s"]', value))
    assert main(["plan", str(path)]) == 2
    assert "hardware" in capsys.readouterr().err


def test_a_model_in_place_of_a_scenario_is_told_how_to_write_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "Qwen3-8B"]) == 2
    assert "perfmodel plan Qwen3-8B --save FILE.toml" in " ".join(capsys.readouterr().err.split())


def test_what_ifs_change_keys_of_short_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "short.toml"
    path.write_text(SHORT)
    assert main(["whatif", str(path), "--set", "hardware.devices=l40s", "--json"]) == 0
    assert "hardware.devices" in capsys.readouterr().out
