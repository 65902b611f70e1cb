"""Texts of other people's files: no escape sequences on a terminal, no formulas in a spreadsheet, numbers unchanged."""

from __future__ import annotations

import csv
import io
import random
from pathlib import Path

import pytest

import cli
from search.output.clean_text import cell, printable
from search.output.row_export import write_csv

SEQUENCES = (
    *("\x1b[31m", "\x1b[0;1;38;5;9m", "\x1b[2J", "\x1b[?25l", "\x9b31m", "\x1b]0;title\x07", "\x1bc", "\x1b(B"),
    *("\x1b]8;;http://x\x1b\\", "\x1bP1$r\x1b\\", "\x07", "\x08", "\r", "\x7f", "\x85", "\u202e", "\u2066", "\x1b"),
)


@pytest.mark.parametrize("seed", range(20))
def test_sequences_vanish_and_text_stays(seed: int) -> None:
    draw = random.Random(seed)
    words = ["H100 80GB", "ü 漢 🎉", "a\tb", "[bold]x[/bold]", "line\nline"]
    parts = [draw.choice(words) for _ in range(5)]
    mixed = "".join(part + draw.choice(SEQUENCES[:-1]) for part in parts)
    assert printable(mixed) == "".join(parts)
    assert printable("".join(parts)) == "".join(parts)
    assert "\x1b" not in printable(mixed + "\x1b")


TITLE = 'type = "device"\nlike = "h100-sxm"\ntitle = "card \\u001b[31mred\\u001b]0;t\\u0007 = 1"\n'


@pytest.mark.parametrize("command", ["hw show mine", "hw list", "hw compare mine h100-sxm", "hw show mine --wide"])
def test_a_title_cannot_drive_the_terminal(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.toml").write_text(TITLE)
    assert cli.main([*command.split(), "--hwdb", str(tmp_path)]) == 0
    assert "\x1b" not in capsys.readouterr().out


FORMULAS = (
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "=HYPERLINK(1)",
    "\t=1",
    "\r=1",
    "-",
    "+",
    "=",
    "@",
    "--5",
)
NUMBERS = (-3.5, 0, 7, -1e-9, "-3.5", "+4", "-1e5", "-inf")


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_become_text(text: str) -> None:
    shown = text.replace("\r", "\n")
    assert cell(text) == f"'{shown}"
    stream = io.StringIO()
    write_csv([{"title": text, "value": -3.5}], stream)
    row = next(csv.DictReader(io.StringIO(stream.getvalue(), newline="")))
    assert row == {"title": f"'{shown}", "value": "-3.5"}


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_stay_numbers(number: object) -> None:
    assert cell(number) is number


def test_predictions_keep_numbers_and_disarm_texts(tmp_path: Path) -> None:
    cases = "model,device,isl,osl,note,shift\nmeta-llama/Llama-3.1-8B,h100-sxm,100,10,=cmd(),-4\n"
    (tmp_path / "c.csv").write_text(cases)
    assert cli.main(["predict", str(tmp_path / "c.csv"), "-o", str(tmp_path / "p.csv")]) == 0
    row = next(csv.DictReader((tmp_path / "p.csv").read_text().splitlines()))
    assert (row["note"], row["shift"]) == ("'=cmd()", "-4")
    assert float(row["ttft_ms"]) > 0
