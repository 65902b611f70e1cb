"""What nobody foresaw ends in a sentence and exit code 70; no home folder, no writable folder, huge numbers."""

from __future__ import annotations

import atexit
import gc
import os
import pwd
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import cli
import hwdb

ESTIMATE = ["estimate", "meta-llama/Llama-3.1-8B", "--device", "h100-sxm"]


def failing(error: BaseException) -> Callable[..., object]:
    """A function that raises `error`."""

    def fail(*_arguments: object, **_options: object) -> object:
        raise error

    return fail


@pytest.mark.parametrize(
    "error", [ValueError("odd\nlines"), IndexError(), ZeroDivisionError("x"), RecursionError("deep"), KeyError("k")]
)
def test_a_defect_says_so_with_its_place(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hwdb.Hwdb, "devices", failing(error))
    monkeypatch.delenv(cli.TRACEBACK_VARIABLE, raising=False)
    assert cli.main(["hw", "list"]) == 70
    said = capsys.readouterr().err
    assert said.startswith(f"error: {type(error).__name__} at search/output/catalogue_rows.py:")
    assert "This is a defect of perfmodel" in said
    assert "report" in said
    assert said.count("\n") == 1
    for words, variable in (
        (["hw", "list", "--traceback"], ""),
        (["--traceback", "hw", "list"], ""),
        (["hw", "list"], "1"),
    ):
        monkeypatch.setenv(cli.TRACEBACK_VARIABLE, variable)
        assert cli.main(words) == 70
        assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 2, "memory of this machine does not suffice"),
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (BrokenPipeError(), 0, ""),
    ],
)
def test_ends_that_are_no_defects(
    error: BaseException, code: int, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hwdb.Hwdb, "devices", failing(error))
    assert cli.main(["hw", "list"]) == code
    said = capsys.readouterr().err
    assert says in said
    assert bool(said) == bool(says)


def test_a_message_of_a_megabyte_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["hw", "show", "x" * 1_000_000]) == 2
    assert len(capsys.readouterr().err) < 2 * cli.LONGEST_MESSAGE


def test_escape_sequences_of_a_message_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["hw", "show", "a\x1b[31mb\x1b]0;title\x07c"]) == 2
    assert "\x1b" not in capsys.readouterr().err


FLAGS = ("--tp", "--pp", "--dp", "--ep", "--isl", "--osl", "--batch", "--concurrency", "--max-num-seqs", "--ttft-ms")


@pytest.mark.parametrize("seed", range(20))
def test_numbers_of_any_length_on_the_command_line(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    draw = random.Random(seed)
    flag, digits = draw.choice(FLAGS), draw.choice((17, 20, 100, 300, 400, 4000, 5000))
    number = draw.choice(("", "-")) + str(draw.randrange(1, 10)) * digits
    assert cli.main([*ESTIMATE, flag, number]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert flag in said


SCENARIO = """
[model]
name = "meta-llama/Llama-3.1-8B"
[workload]
input_tokens = 500
output_tokens = 100
request_rate_rps = 2
[hardware]
devices = ["h100-sxm"]
[search]
tp = [1]
pp = [1]
dp = [1]
"""


@pytest.mark.parametrize("rate", ["1e16", "1e18", "1e20", "1e300", "9" * 18, "1e-19", "5e-324"])
def test_rates_beyond_belief_are_refused(rate: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.toml"
    path.write_text(SCENARIO.replace("rps = 2", f"rps = {rate}"))
    assert cli.main(["plan", str(path)]) == 2
    assert "line 7, [workload] request_rate_rps" in capsys.readouterr().err


def test_the_largest_rate_is_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.toml"
    path.write_text(SCENARIO.replace("rps = 2", "rps = 1e15"))
    assert cli.main(["plan", str(path), "--json"]) == 0
    assert '"replicas": ' in capsys.readouterr().out


@pytest.mark.parametrize("axis", ["tp", "pp", "dp"])
def test_a_value_given_often_is_tried_once(axis: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = []
    for values in ("[1]", f"[{', '.join(['1'] * 3000)}]"):
        path = tmp_path / "s.toml"
        path.write_text(SCENARIO.replace(f"{axis} = [1]", f"{axis} = {values}"))
        assert cli.main(["plan", str(path), "--json"]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]


def test_too_many_combinations_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.toml"
    many = f"[{', '.join(map(str, range(1, 2101)))}]"
    path.write_text(SCENARIO.replace("tp = [1]", f"tp = {many}").replace("pp = [1]", f"pp = {many}"))
    assert cli.main(["plan", str(path)]) == 2
    assert "give fewer values per axis" in capsys.readouterr().err


@pytest.mark.parametrize("classes", ["[1e15, 4]", "[4, 1e9]", "[1e18, 4]", "[100, 100]", "[0, 4]", "[4]", "[1, 2, 3]"])
def test_impossible_numbers_of_classes(classes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text("arrival_s,input_tokens,output_tokens\n0,10,5\n1,20,5\n")
    lengths = "input_tokens = 500\noutput_tokens = 100\n"
    path = tmp_path / "s.toml"
    path.write_text(SCENARIO.replace(lengths, f'trace = "t.csv"\nclasses = {classes}\n'))
    assert cli.main(["plan", str(path)]) == 2
    assert "[workload] classes" in capsys.readouterr().err


@pytest.mark.parametrize("rate", ["2e9", "1e12", "1e15", "1e18", "1e20"])
def test_a_fleet_beyond_counting_is_refused(rate: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[1] / "examples" / "fleet-mix.toml").read_text(encoding="utf-8")
    path = tmp_path / "f.toml"
    path.write_text(text.replace("[2, 12, 8]", f"[2, 12, {rate}]"))
    assert cli.main(["fleet", str(path)]) == 2
    assert "request_rate_rps" in capsys.readouterr().err


COMMANDS = ("hw list", "models list", "profile list", "version", "explain ttft", " ".join([*ESTIMATE, "--isl", "100"]))


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run_without_a_home_folder(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "USER", "LOGNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", failing(KeyError("uid not found")))
    with pytest.raises(RuntimeError):
        Path.home()
    assert cli.main(command.split()) == 0, capsys.readouterr().err
    assert cli.main(["plan", "~nobody/s.toml"]) == 2


def test_output_that_was_replaced_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed pipe must not send the stdout of a host program (a notebook, a test) to nowhere."""
    monkeypatch.setattr(hwdb.Hwdb, "devices", failing(BrokenPipeError()))
    assert sys.stdout is not sys.__stdout__
    with monkeypatch.context() as patched:
        patched.setattr(os, "dup2", failing(AssertionError()))
        assert cli.main(["hw", "list"]) == 0


def test_only_a_process_that_ends_with_the_command_skips_the_search_for_cycles(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at_exit: list[object] = []
    monkeypatch.setattr(atexit, "register", at_exit.append)
    assert cli.main(["--version"]) == 0
    assert gc.freeze not in at_exit
    monkeypatch.setattr(sys, "argv", ["perfmodel", "--version"])
    assert cli.main() == 0
    assert at_exit.count(gc.freeze) == 1
    assert capsys.readouterr().out
