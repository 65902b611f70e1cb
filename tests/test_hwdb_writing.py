"""Outputs are written as a whole or not at all, and never over an input of the same run."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import cli
from hwdb import InputError, infile, outfile

CASES = "model,device,isl,osl\n" + "meta-llama/Llama-3.1-8B,h100-sxm,100,10\n" * 3
SCENARIO = """
[model]
name = "meta-llama/Llama-3.1-8B"
[workload]
input_tokens = 100
output_tokens = 10
n_requests = 5
[hardware]
devices = ["h100-sxm"]
[search]
tp = 1
pp = 1
dp = 1
"""
#: Commands that write a file, with `OUT` for its name.
WRITING = {
    "predict": ("predict", "in.csv", "-o", "OUT"),
    "predict json": ("predict", "in.csv", "--json", "-o", "OUT"),
    "report": ("report", "s.toml", "-o", "OUT"),
    "log": ("simulate", "s.toml", "--log", "OUT"),
    "trace": ("simulate", "s.toml", "--trace", "OUT"),
    "import": ("profile", "import", "csv", "rows.csv", "-o", "OUT"),
}
ROWS = """family,device,weight,act,m,n,k,latency_us,software,licence,source
gemm,h100-sxm,bf16,bf16,8,4096,4096,20,own 1,MIT,a page
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in (("in.csv", CASES), ("s.toml", SCENARIO), ("rows.csv", ROWS)):
        (tmp_path / name).write_text(text)
    return tmp_path


def left_over(folder: Path) -> list[str]:
    """Temporary files that were not removed."""
    return [p.name for p in folder.iterdir() if ".part" in p.name]


@pytest.mark.parametrize("command", ["predict", "predict json", "log", "import"])
def test_a_full_disk_leaves_the_old_file(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "out.csv").write_text("OLD")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert cli.main([w.replace("OUT", "out.csv") for w in WRITING[command]]) == 2
    assert (
        "out.csv: cannot be written (No space left on device); what was there is unchanged" in capsys.readouterr().err
    )
    assert (folder / "out.csv").read_text() == "OLD"
    assert not left_over(folder)


@pytest.mark.parametrize("command", sorted(WRITING))
@pytest.mark.parametrize("way", ["same", "link", "hard link"])
def test_an_input_is_not_overwritten(command: str, way: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = WRITING[command]
    source = folder / next(w for w in words if w in ("in.csv", "s.toml", "rows.csv"))
    before = source.read_text()
    if way == "link":
        (folder / "other").symlink_to(source)
    elif way == "hard link":
        os.link(source, folder / "other")
    target = source.name if way == "same" else "other"
    assert cli.main([w.replace("OUT", target) for w in words]) == 2
    assert "is an input of this run" in capsys.readouterr().err
    assert source.read_text() == before


def test_a_file_that_the_scenario_names_is_an_input_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "h.csv").write_text("input_tokens,output_tokens,share\n100,10,1\n")
    text = SCENARIO.replace("input_tokens = 100\noutput_tokens = 10", 'histogram = "h.csv"')
    (folder / "s.toml").write_text(text)
    assert cli.main(["simulate", "s.toml", "--log", "h.csv"]) == 2
    assert "h.csv: is an input of this run" in capsys.readouterr().err
    assert cli.main(["predict", "in.csv", "-o", "h.csv"]) == 0  # a later run has inputs of its own


def test_where_a_file_cannot_be(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for target, says in (("no/where.csv", "no such folder"), (".", "it is a folder"), ("a\0b", "null byte")):
        assert cli.main(["predict", "in.csv", "-o", target]) == 2
        assert says in capsys.readouterr().err


@pytest.mark.parametrize("way", ["pipe", ">>"])
def test_the_standard_output_is_written_to_and_not_replaced(way: str, folder: Path) -> None:
    code = "from hwdb import outfile; outfile.write_text('/dev/stdout', 'new')"
    (folder / "log").write_text("kept ")
    if way == "pipe":
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"new"
    else:
        with (folder / "log").open("ab") as log:
            subprocess.run([sys.executable, "-c", code], stdout=log, check=True)
        assert (folder / "log").read_text() == "kept new"


def test_a_dash_is_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tools print where `-` is given; a file of that name would be hard to find and to remove."""
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match="/dev/stdout"):
        outfile.write_text("-", "x")
    assert not (folder / "-").exists()


def test_mode_links_and_devices_are_kept(folder: Path) -> None:
    (folder / "old.txt").write_text("old")
    (folder / "old.txt").chmod(0o640)
    (folder / "link.txt").symlink_to("old.txt")
    outfile.write_text(folder / "link.txt", "new \udcff")
    assert (folder / "link.txt").is_symlink()
    assert (folder / "old.txt").read_text() == "new \\udcff"
    assert stat.S_IMODE((folder / "old.txt").stat().st_mode) == 0o640
    before = os.umask(0o027)
    try:
        outfile.write_text(folder / "fresh.txt", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "fresh.txt").stat().st_mode) == 0o640
    outfile.write_text(os.devnull, "x")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert not left_over(folder)


def test_an_error_inside_keeps_the_old_file_and_its_own_kind(folder: Path) -> None:
    (folder / "o").write_text("OLD")

    def half() -> None:
        with outfile.replaced(folder / "o") as made:
            made.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        half()
    assert (folder / "o").read_text() == "OLD"
    assert not left_over(folder)


CHILD = """
import os, signal, sys
from hwdb import outfile
with outfile.replaced(sys.argv[1]) as made:
    made.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_the_old_file(folder: Path) -> None:
    (folder / "o").write_text("OLD")
    root = Path(__file__).resolve().parents[1]
    child = [sys.executable, "-c", CHILD, str(folder / "o")]
    done = subprocess.run(child, env={**os.environ, "PYTHONPATH": str(root)}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert (folder / "o").read_text() == "OLD"


def test_a_limit_on_the_size_of_files(folder: Path) -> None:
    """As `ulimit -f` sets it: the write fails half-way."""
    (folder / "o").write_text("OLD")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    heard = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(InputError, match="File too large"):
            outfile.write_text(folder / "o", "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, heard)
    assert (folder / "o").read_text() == "OLD"
    assert not left_over(folder)


def test_files_are_inputs_only_while_a_list_is_kept(folder: Path) -> None:
    infile.read_bytes(folder / "in.csv", "table", 10**6)
    assert not infile.is_input(folder / "in.csv")
    with infile.recorded():
        assert not infile.is_input(folder / "in.csv")
        infile.read_bytes(folder / "in.csv", "table", 10**6)
        assert infile.is_input(folder / "in.csv")
    assert not infile.is_input(folder / "in.csv")
