"""Values of options: what is converted without pydantic is what Typer makes of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer._adapters import try_build_adapter
from typer.models import OptionInfo

from search.commands.application import command_tree
from search.commands.shared.plain_values import OTHER, converted

VALUES: list[Any] = [
    *(
        "",
        "a b",
        "0",
        "-0",
        "7",
        "-12",
        "007",
        "+3",
        "1_000",
        " 4 ",
        "1e3",
        "-2.50",
        "0.1",
        ".5",
        "5.",
        "nan",
        "inf",
        "1e999",
    ),
    *("999999999999999", "12345678901234567890", "0x10", "true", "ja", "\u0663"),
    *(3, -4, 2.5, float("nan"), True, False, ("1", "2"), ["x"], ()),
]


@pytest.mark.parametrize("kind", [str, bool, int, float, list[str], list[float], list[int]])
@pytest.mark.parametrize(("low", "high"), [(None, None), (0, None), (1, 3)])
def test_converted_values_are_those_of_typer(kind: Any, low: float | None, high: float | None) -> None:
    info = OptionInfo(min=low, max=high)
    adapter, done = try_build_adapter(kind, info), 0
    assert adapter is not None
    for value in VALUES:
        found = converted(kind, value, info)
        if found is OTHER:
            continue
        expected = adapter.validate_python(value, context={})
        assert (type(found), repr(found)) == (type(expected), repr(expected)), value
        done += 1
    assert done >= 1


@pytest.mark.parametrize("more", [{"parser": str}, {"clamp": True, "min": 3}])
def test_options_that_convert_in_their_own_way_are_left_to_typer(more: dict[str, Any]) -> None:
    assert converted(int, "2", OptionInfo(**more)) is OTHER


def test_numbers_out_of_range_are_left_to_typer() -> None:
    info = SimpleNamespace(parser=None, clamp=False, min=1, max=3)
    assert [converted(int, text, info) is OTHER for text in ("0", "1", "3", "4")] == [True, False, False, True]


def test_options_keep_their_types_and_messages(capsys: pytest.CaptureFixture[str]) -> None:
    from cli import main

    assert main(["plan", "x.toml", "--top", "none"]) == 2
    assert "'none' is no number in the usual spelling; give a whole number in digits" in capsys.readouterr().err
    assert main(["plan", "x.toml", "--top", "0"]) == 2
    assert "greater than or equal to 1" in capsys.readouterr().err


def test_a_command_line_of_plain_values_does_not_load_pydantic_or_rich() -> None:
    code = (
        "import sys, cli; cli.main(['estimate', 'Qwen/Qwen3-8B', '--device', 'h100-sxm', '--tp', '2', "
        "'--concurrency', '8']); print(sorted({m.partition('.')[0] for m in sys.modules} & {'pydantic', 'rich'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_conversion_replaces_typers() -> None:
    command: Any = typer.main.get_command(command_tree("plan"))
    made = command.commands["plan"]
    context = made.make_context("plan", ["x.toml", "--top", "3"])
    assert context.params["top"] == 3
    assert all("get_runtime_param" in vars(parameter) for parameter in made.params)


@pytest.mark.parametrize(
    "more",
    [{}, {"exists": True}, {"dir_okay": False}, {"file_okay": False}, {"resolve_path": True}, {"writable": True}],
)
def test_converted_paths_are_those_of_typer(more: dict[str, Any], tmp_path: Path) -> None:
    info = OptionInfo(**more)
    adapter = try_build_adapter(Path, info)
    assert adapter is not None
    there = tmp_path / "there.csv"
    there.write_text("x")
    values = [
        "",
        "a b.csv",
        "-",
        "./x/../y.toml",
        str(tmp_path),
        str(there),
        str(tmp_path / "absent"),
        "x" * 5000,
        "a\0b",
        3,
    ]
    found = [converted(Path, value, info) for value in values]
    plain = [value for value, path in zip(values, found, strict=True) if path is not OTHER]
    assert plain == ([] if more else values[:-2])
    for value, path in zip(values, found, strict=True):
        assert path is OTHER or path == adapter.validate_python(value, context={})


def test_a_file_that_may_not_be_read_is_left_to_typer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("x")
    monkeypatch.setattr("os.access", lambda *_: False)
    assert converted(Path, str(path), OptionInfo()) is OTHER
    assert converted(Path, str(path), OptionInfo(readable=False)) == path
