"""Tables as spreadsheets write them: signs between fields, decimal commas, and files that are no text."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwdb import InputError, infile
from hwdb.csvfile import with_commas
from perfmodel.workload import read_histogram


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("a,b\n1,2\n", "a,b\n1,2\n"),
        ("a;b\n1,5;x,y\n", 'a,b\n1.5,"x,y"\n'),
        ("a;b\n-1,5e-3;1.024,5\n", "a,b\n-1.5e-3,1024.5\n"),
        ("a;b\n1.5;2.25\n", "a,b\n1.5,2.25\n"),  # no decimal comma: a point is a decimal point
        ('a;b\n"x;y";1\n', "a,b\nx;y,1\n"),
        ("a\tb\n1,5\t2\n", "a,b\n1.5,2\n"),
        ("sep=;\na;b\n1;2\n", "\na,b\n1,2\n"),  # the header keeps its line
        ("SEP=,\na,b;c\n1,2\n", "\na,b;c\n1,2\n"),
        ("a;b\r\n1;2\r\n", "a,b\n1,2\n"),
        ('{"a;b": 1}', '{"a;b": 1}'),
        ("", ""),
    ],
)
def test_fields_and_decimals_become_those_of_csv(text: str, plain: str) -> None:
    assert with_commas(text, "t.csv") == plain


@pytest.mark.parametrize("text", ["a;b\n1,5;1.024\n", "a\tb\n1,024\t2\n"])
def test_a_number_of_two_meanings_is_refused_at_its_line(text: str) -> None:
    with pytest.raises(InputError, match=r"t\.csv, line 2: '1.024' may mean 1024 or a decimal; write 1024"):
        with_commas(text, "t.csv")


def test_a_histogram_keeps_its_notes_and_takes_decimal_commas(tmp_path: Path) -> None:
    path = tmp_path / "lengths.csv"
    path.write_text("# name: a, b; c\ninput_tokens;output_tokens;share\n100;10;0,25\n200;20;0,75\n", encoding="utf-8")
    found = read_histogram(path)
    assert found.name == "a, b; c"
    assert list(found.share) == [0.25, 0.75]


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_text_is_read_with_and_without_a_mark(coding: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("a,b\n1,2\n".encode(coding))
    assert infile.read_table_text(path, "table") == "a,b\n1,2\n"


@pytest.mark.parametrize(("name", "what", "told"), [("t.csv", "trace", True), ("t.toml", "scenario", False)])
def test_only_a_table_is_told_what_to_choose_in_excel(name: str, what: str, told: bool, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes("a,b\nf\xfcr,2\n".encode("latin-1"))
    with pytest.raises(InputError, match=f"byte 5 is not UTF-8; save the {what} as UTF-8 text") as found:
        infile.read_table_text(path, what)
    assert ("in Excel" in str(found.value)) is told


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"PK\x03\x04rest", "spreadsheet"),
        (b"\xd0\xcf\x11\xe0rest", r"\.xls"),
        (b"PAR1rest", "Parquet"),
        (b"%PDF-1.7", "PDF"),
    ],
)
def test_a_spreadsheet_is_told_how_to_be_saved(content: bytes, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"t\.csv: is a.*{kind}.*, not a table; save it as CSV in UTF-8"):
        infile.read_table_text(path, "table")
