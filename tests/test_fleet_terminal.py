"""Tables of fleets in a terminal of 80 columns: what a table is asked for stays in it."""

from __future__ import annotations

from pathlib import Path

import pytest

import cli

SCENARIO = """\
[fleet]
hours = [8, 16]
elastic = true
[[fleet.class]]
name = "questions about long documents"
request_rate_rps = [2, 9]
[[fleet.option]]
name = "an option whose name takes up most of the line of a terminal"
device = "h100-sxm"
throughput_rps = [3]
usd_per_hour = 3
power_w = 900
[[fleet.option]]
name = "another option whose name takes up most of the line of a terminal"
device = "l4"
throughput_rps = [1]
usd_per_hour = 1.2
power_w = 100
"""


def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *command: str) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(list(command)) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    return " ".join(out.split())


@pytest.mark.parametrize(
    ("table", "shown"),
    [
        ("hours", ["$ per", "Devices", "x an option", "9.00"]),
        ("shares", ["Share", "Period"]),
        ("routing", ["Share", "Period"]),
    ],
)
def test_a_table_of_a_fleet_keeps_what_it_says(
    table: str, shown: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(SCENARIO, encoding="utf-8")
    out = printed(monkeypatch, capsys, "fleet", str(path), "--rows", table)
    for words in shown:
        assert words in out.partition("Not shown")[0], out


def test_a_what_if_of_a_fleet_shows_what_it_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(SCENARIO, encoding="utf-8")
    out = printed(monkeypatch, capsys, "whatif", str(path), "--set", "fleet.class.*.request_rate_rps*=3")
    assert "$ per hour" in out.partition("as planned")[0]
    assert "request_rate_rps: [2, 9] -> [6, 27]" in out
