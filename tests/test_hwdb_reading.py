"""Files that people hand over: devices, silent pipes, bombs, ragged tables, huge numbers are refused in a sentence."""

from __future__ import annotations

import gzip
import json
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hwdb import InputError, csvfile, infile, jsonfile, tomlfile
from hwdb.devicefile import read_device
from hwdb.figures import read_hardware_file
from perfmodel import read_config
from perfmodel.cases.read import read_cases
from perfmodel.profiles.importers import plain
from perfmodel.user_calibration.readers import read_results
from perfmodel.workload import read_histogram, read_trace
from search.deploy import read_plan
from search.whatif.written_plans import read_plan_rows

READERS: dict[str, Callable[[Path], object]] = {
    "toml": tomlfile.read_toml,
    "hardware": read_hardware_file,
    "config": read_config,
    "trace": read_trace,
    "histogram": read_histogram,
    "cases": read_cases,
    "result": read_results,
    "measured rows": plain.read,
    "plan": read_plan_rows,
    "plan to launch": read_plan,
}


@pytest.mark.parametrize("reader", sorted(READERS))
def test_what_never_ends_or_never_begins_is_refused(
    reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(infile, "MOST_SILENCE", 0.05)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, says in (("pipe", "nothing was written"), ("zero", "is a device"), ("a\0b", "null byte")):
        with pytest.raises(InputError, match=says):
            READERS[reader](tmp_path / name)


@pytest.mark.parametrize("reader", sorted(READERS))
def test_an_absent_file_a_folder_and_bytes_are_refused_alike(reader: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for name, says in (("absent", "no such"), ("folder", "is a folder, not a"), ("bytes", "byte 0 is not UTF-8")):
        if (reader, name) == ("config", "folder"):
            says = "no such config.json"  # a folder stands for the config.json in it
        with pytest.raises(InputError, match=says) as refused:
            READERS[reader](tmp_path / name)
        assert str(tmp_path / name) in str(refused.value)
        assert ";" in str(refused.value), "the sentence ends in what to do"


@pytest.mark.parametrize("reader", sorted(READERS))
def test_the_limit_on_size_is_in_the_message(reader: str, tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as stream:
        stream.truncate(infile.MOST_TABLE + 1)  # takes no room on the disk
    with pytest.raises(InputError, match=r"larger than the [\d,]+ MiB"):
        READERS[reader](path)


def test_a_bomb_is_not_unpacked_whole(tmp_path: Path) -> None:
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(b"0" * 8_000_000))
    with pytest.raises(InputError, match="unpacked larger than the 1 MiB that a trace may have"):
        infile.read_table_text(path, "trace", most=2**20)


def test_gzip_of_several_members_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "t.gz"
    whole, first = gzip.compress(b"a,b\n") + gzip.compress(b"1,2\n"), len(gzip.compress(b"a,b\n"))
    path.write_bytes(whole)
    assert infile.read_table_text(path, "table") == "a,b\n1,2\n"
    draw = random.Random(0)
    for _ in range(20):
        path.write_bytes(whole[: draw.choice([n for n in range(3, len(whole)) if n != first])])
        with pytest.raises(InputError, match="damaged or cut short"):
            infile.read_table_text(path, "table")


def test_the_pipe_of_a_shell_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=('title = "x"\n',))
    writer.start()
    assert tomlfile.read_toml(path).values == {"title": "x"}
    writer.join()


HEADER = "arrival_s,input_tokens,output_tokens"


def ragged(seed: int) -> tuple[str, int]:
    """A table in which one line has more fields than the header, and the number of that line."""
    draw = random.Random(seed)
    lines = [HEADER, *(f"{i},{100 + i},{draw.randrange(1, 99)}" for i in range(draw.randrange(2, 30)))]
    at = draw.randrange(1, len(lines))
    lines[at] += "," * draw.randrange(1, 3) + draw.choice(("", "7", '"a,b"'))
    every = draw.random() < 0.3
    if every:  # as a trailing comma on every line, which readers take for an index
        lines[1:] = [line if i == at else line + ",7" for i, line in enumerate(lines[1:], 1)]
    return "\n".join(lines) + "\n", 2 if every else at + 1


@pytest.mark.parametrize("seed", range(20))
def test_a_field_beyond_the_header_is_refused_with_its_line(seed: int, tmp_path: Path) -> None:
    text, line = ragged(seed)
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"line {line}: .*: \d+ fields in line \d+ where the header has 3"):
        read_trace(path)
    path.write_text(text.replace(HEADER, "model,device,isl"))
    with pytest.raises(InputError, match=rf"line {line}: .*: \d+ fields in line \d+ where the header has 3"):
        read_cases(path)


def test_the_shifted_trace_that_was_read_before(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"{HEADER}\n0,1000,50,7\n1,2000,60,8\n2,3000,70,9\n")
    with pytest.raises(InputError, match=r"line 2: .*: 4 fields in line 2 where the header has 3"):
        read_trace(path)


@pytest.mark.parametrize("twice", ["input_tokens", " input_tokens", '"input_tokens"'])
def test_a_name_that_stands_twice_is_refused(twice: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"arrival_s,input_tokens,output_tokens,{twice}\n0,1,2,3\n")
    for read in (read_trace, read_cases):
        with pytest.raises(InputError, match="'input_tokens' appears twice"):
            read(path)
    path.write_text("input_tokens,output_tokens,share,share\n1,2,1,1\n")
    with pytest.raises(InputError, match="'share' appears twice"):
        read_histogram(path)


def test_quoted_fields_hold_commas_and_lines() -> None:
    csvfile.check_fields('a,b\n"1,2","x\ny"\n3,4\n', "t.csv")
    with pytest.raises(InputError, match=r"line 3: .*: 3 fields"):
        csvfile.check_fields('a,b\n"1,2",x\n3,4,5\n', "t.csv")


@pytest.mark.parametrize("digits", [20, 300, 4299, 5000, 40_000])
@pytest.mark.parametrize("place", ["a = {}", "[t]\na = [1, {}]", "[[t]]\nb = {{ c = {} }}", "a = -{}", "a = 0x{}"])
def test_whole_numbers_of_any_length_are_refused_with_their_line(digits: int, place: str) -> None:
    with pytest.raises(InputError, match=r"f\.toml, line [12].*more than 64 bits"):
        tomlfile.parse_values(place.format("9" * digits), "f.toml")


@pytest.mark.parametrize("number", ["9" * 300, "9" * 5000, "1e400", "NaN", "-Infinity", str(2**63)])
def test_json_numbers_beyond_64_bits_and_not_finite(number: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"large|no number"):
        jsonfile.parse(f'{{"a": [1, {number}]}}')
    path = tmp_path / "config.json"
    path.write_text(f'{{"model_type": "llama", "hidden_size": {number}}}')
    with pytest.raises(InputError, match=r"config\.json"):
        read_config(path)
    lines = json.dumps({"timestamp": 1, "input_length": 5, "output_length": 5})
    (tmp_path / "t.jsonl").write_text(lines.replace("5,", f"{number},"))
    with pytest.raises(InputError, match=r"t\.jsonl, line 1"):
        read_trace(tmp_path / "t.jsonl")


def test_json_keeps_the_numbers_that_fit() -> None:
    assert jsonfile.parse(f'[{2**63 - 1}, {-(2**63)}, 1e300, "NaN"]') == [2**63 - 1, -(2**63), 1e300, "NaN"]


NOTED = ("ten", "", "1e400", "-3", "inf", "9" * 5000, "0x10", "--", "1 000")


@pytest.mark.parametrize("key", ["requests", "request_rate_rps"])
@pytest.mark.parametrize("text", NOTED)
def test_comments_of_histograms_are_numbers(key: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    path.write_text(f"# {key}: {text}\ninput_tokens,output_tokens,share\n100,20,1\n")
    with pytest.raises(InputError, match=rf"h\.csv: the comment {key} says"):
        read_histogram(path)


DEVICE = """type = "device"
title = "x"
vendor = "v"
arch = "a"
kind = "gpu"
memory.capacity = {{ value = {}, unit = "GB", kind = "rated", source = "a page" }}
memory.bandwidth = {{ value = {}, unit = "GB/s", kind = "rated", source = "a page" }}
peak.bf16 = {{ value = {}, unit = "TFLOP/s", kind = "rated", source = "a page" }}
"""


@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("value", ["0", "0.0", "1e-300", "5e-324", "1e30", "1e300", "-1", "nan", "inf"])
def test_impossible_figures_of_a_device_are_refused(at: int, value: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    values = ["80", "3350", "989"]
    path.write_text(DEVICE.format(*values))
    assert read_device("mine", read_hardware_file(path)).bandwidth == 3.35e12
    values[at] = value
    path.write_text(DEVICE.format(*values))
    with pytest.raises(InputError):
        read_device("mine", read_hardware_file(path))
