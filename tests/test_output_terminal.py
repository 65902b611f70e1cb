"""What a terminal of 60, 80 or 100 columns shows of every command: whole words, whole rows, numbers for people."""

from __future__ import annotations

import io
import itertools
import random
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import cli
import hwdb
import search
from hwdb import Infeasible, UnknownName
from search.commands.explain import entries_of
from search.output import error_lines, headings, print_fleet, print_plan, row_printer, table_fit
from search.planning import Plan

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted(p for p in (ROOT / "examples").glob("*.toml"))
WIDTHS = (60, 80, 100)
#: Signs that no output for people may have: e-notation, and unknown values in Python's spelling.
UNREADABLE = (r"\d[eE][+-]?\d{2}\b", r"\b(None|nan|NaN|inf)\b")

RAG = """
title = "RAG"
[model]
name = "Qwen/Qwen3-32B"
[workload]
input_tokens = 6000
output_tokens = 400
request_rate_rps = 5
[slo]
ttft_ms_p95 = {ttft}
tpot_ms_p95 = 40
[hardware]
devices = ["l40s", "h100-sxm", "h200-sxm", "mi300x"]
"""
#: Questions that people have asked, by what is hard to print about them.
ASKED = {
    "several devices": RAG.format(ttft=2000),
    "formats": RAG.format(ttft=2000) + '[search]\nweight = ["bf16", "fp8"]\nkv = ["bf16", "fp8"]\n',
    "infeasible": RAG.format(ttft=30),
    "pools": """
[model]
name = "deepseek-ai/DeepSeek-R1"
[workload]
input_tokens = 4000
output_tokens = 1000
request_rate_rps = 20
[slo]
ttft_ms_p95 = 3000
tpot_ms_p95 = 50
[hardware]
devices = ["h200-sxm", "b200-sxm"]
[engine]
name = "sglang"
[search]
modes = ["colocated", "disaggregated"]
[limits]
spare_nodes = 1
""",
    "engine settings": """
[model]
name = "meta-llama/Llama-2-70b-hf"
[workload]
dataset = "sharegpt"
request_rate_rps = 10
[slo]
ttft_ms_p90 = 2000
itl_ms_p99 = 200
[hardware]
devices = ["a100-sxm-80gb", "h100-sxm"]
[search]
tp = [2, 4]
pp = [1]
max_num_batched_tokens = [512, 2048]
max_num_seqs = [128, 256]
""",
    "no rate": """
[model]
name = "openai/gpt-oss-120b"
[workload]
input_tokens = 2000
output_tokens = 500
[slo]
ttft_ms_p95 = 1000
tpot_ms_p95 = 30
[hardware]
nodes = ["dgx-b200"]
stock = { b200-sxm = 8 }
[objective]
rank_by = "request_rate"
""",
    "site": """
[model]
name = "Qwen/Qwen3-30B-A3B"
[workload]
input_tokens = 1000
output_tokens = 300
request_rate_rps = 3
[slo]
tpot_ms_p95 = 40
[hardware]
nodes = ["dgx-h100", "dgx-a100-80gb"]
stock = { h100-sxm = 8, a100-sxm-80gb = 16 }
[site]
usd_per_kwh = 0.12
gco2_per_kwh = 300
""",
}
FLEET = """
[hardware]
devices = ["a100-sxm-80gb", "h100-sxm"]
stock = { a100-sxm-80gb = 16, h100-sxm = 8 }
[fleet]
[[fleet.class]]
name = "chat on the 70B"
model = "meta-llama/Llama-3.1-70B-Instruct"
dataset = "azure-conv-2023"
request_rate_rps = 8
slo = { ttft_ms_p95 = 1000, tpot_ms_p95 = 60 }
[[fleet.class]]
name = "8B"
model = "meta-llama/Llama-3.1-8B-Instruct"
dataset = "sharegpt"
request_rate_rps = 40
slo = { ttft_ms_p95 = 500, tpot_ms_p95 = 30 }
[[fleet.option]]
name = "H100"
device = "h100-sxm"
weight = ["bf16", "fp8"]
[[fleet.option]]
name = "A100"
device = "a100-sxm-80gb"
"""


def relative(seed: int) -> str:
    """A scenario that resembles those above, drawn at random."""
    draw = random.Random(seed)
    model = draw.choice(["meta-llama/Llama-3.1-8B", "Qwen/Qwen3-30B-A3B", "meta-llama/Llama-3.1-70B", "Qwen/Qwen3-32B"])
    devices = draw.sample(["h100-sxm", "l40s", "mi300x", "a100-sxm-80gb", "b200-sxm"], 1)
    bounds = draw.sample([f"ttft_ms_p{draw.choice((50, 90, 99))} = {draw.choice((5, 400, 3000))}", "tpot_ms = 45"], 2)
    modes = ["colocated", "disaggregated"] if draw.random() < 0.2 else ["colocated"]
    rate = f"request_rate_rps = {draw.choice((0.3, 2, 12, 100))}" if draw.random() < 0.8 else ""
    formats = draw.choice(([], ["weight"], ["kv"]))
    return f"""
[model]
name = "{model}"
[workload]
input_tokens = {draw.choice((200, 1000, 7000))}
output_tokens = {draw.choice((20, 300))}
{rate}
[slo]
{chr(10).join(bounds[: draw.choice((1, 2))])}
[hardware]
devices = {devices}
[search]
tp = [{draw.choice((2, 4, 8))}]
pp = [1]
ep = [1]
dp = [1]
modes = {modes}
weight = {["bf16", "fp8"] if "weight" in formats else ["bf16"]}
kv = {["bf16", "fp8"] if "kv" in formats else ["bf16"]}
max_num_seqs = {draw.choice(([256], [64, 256]))}
"""


@dataclass
class Seen:
    """What was printed: headings, rows of cells of tables, and sentences."""

    headings: set[str] = field(default_factory=set)
    rows: list[list[str]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """What goes to the terminal, as the printer gets it."""
    found = Seen()
    line, wrapped, heading = row_printer._line, row_printer.wrapped, headings.heading

    def recorded_line(cells: list[str], *more: object) -> str:
        found.rows.append(list(cells))
        return line(cells, *more)  # type: ignore[arg-type]

    def recorded_text(text: str, width: int, indent: str = "") -> list[str]:
        found.texts.append(text)
        return wrapped(text, width, indent)

    def recorded_heading(column: str) -> str:
        found.headings.add(heading(column))
        return heading(column)

    monkeypatch.setattr(row_printer, "_line", recorded_line)
    for module in ("row_printer", "terminal", "word_list"):
        monkeypatch.setattr(f"search.output.{module}.wrapped", recorded_text)
    for module in ("row_printer", "table_fit"):
        monkeypatch.setattr(f"search.output.{module}.heading", recorded_heading)
    return found


def check_readable(text: str, width: int, seen: Seen) -> None:
    """Lines fit, words and rows are whole, and numbers are for people."""
    lines = text.splitlines()
    assert not [line for line in lines if len(line) > width]
    for sign in UNREADABLE:
        assert not re.search(sign, text), re.search(sign, text)
    words = set(text.split())
    printed = [cell for row in seen.rows for cell in row] + seen.texts
    broken = {w for cell in printed for w in cell.replace("\u00a0", " ").split() if len(w) <= width - 6} - words
    assert not broken
    for row in seen.rows:
        assert any(holds(line, row) for line in lines), row


def holds(line: str, cells: list[str]) -> bool:
    """Whether a line has all cells, in order."""
    at = 0
    for cell in cells:
        at = line.find(cell.strip(), at)
        if at < 0:
            return False
        at += len(cell.strip())
    return True


def plan_of(text: str, tmp_path: Path) -> Plan | None:
    """The plan of a scenario; None where no layout is legal at all."""
    path = tmp_path / "scenario.toml"
    path.write_text(text, encoding="utf-8")
    try:
        return search.plan(search.load_scenario(path))
    except Infeasible:
        return None


def check_plan(plan: Plan, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seen: Seen) -> None:
    """A plan is readable at each width, with one line per candidate and names that differ."""
    rows = plan.rows(10, 3)
    names = [row["candidate"] for row in rows if row["rank"]]
    assert len(set(names)) == len(names)
    for width in WIDTHS:
        seen.rows.clear()
        seen.texts.clear()
        monkeypatch.setenv("COLUMNS", str(width))
        print_plan(plan, rows)
        text = capsys.readouterr().out
        check_readable(text, width, seen)
        ranked = [line for line in text.splitlines() if re.match(r" +(\d+)  +\S", line)]
        assert len(ranked) >= len(names)
        assert all(any(name in line for line in flat(text)) or short(name) in text for name in names)


def short(name: str) -> str:
    """The short form of a name."""
    return search.planning.short_name(name)


def flat(text: str) -> list[str]:
    """The whole text on one line, so that a name may go over the end of a line."""
    return [" ".join(text.split())]


@pytest.mark.parametrize("asked", ASKED)
def test_a_plan_fits_the_terminal(
    asked: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seen: Seen
) -> None:
    plan = plan_of(ASKED[asked], tmp_path)
    assert plan is not None
    check_plan(plan, capsys, monkeypatch, seen)


@pytest.mark.parametrize("seed", range(20))
def test_plans_like_these_fit_the_terminal(
    seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seen: Seen
) -> None:
    plan = plan_of(relative(seed), tmp_path)
    if plan is not None:
        check_plan(plan, capsys, monkeypatch, seen)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples_fit_the_terminal(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seen: Seen
) -> None:
    scenario = search.load_scenario(path)
    if scenario.fleet is None:
        check_plan(search.plan(scenario), capsys, monkeypatch, seen)
        return
    from search.fleet import plan_fleet

    fleet = plan_fleet(scenario)
    for width in WIDTHS:
        monkeypatch.setenv("COLUMNS", str(width))
        seen.rows.clear()
        seen.texts.clear()
        print_fleet(fleet)
        check_readable(capsys.readouterr().out, width, seen)


def calls(tmp_path: Path) -> list[tuple[str, ...]]:
    """Calls of every command that prints tables or sheets."""
    files = {name: tmp_path / f"{name}.toml" for name in ("fleet", "formats")}
    for name, path in files.items():
        path.write_text(FLEET if name == "fleet" else ASKED[name], encoding="utf-8")
    fleet, formats = (str(files[name]) for name in files)
    small = str(ROOT / "examples" / "small-4090.toml")
    estimate = ("estimate", "meta-llama/Llama-3.1-70B", "--device", "h100-sxm", "--tp", "4", "--weights", "fp8")
    return [
        ("plan", formats, "--explain"),
        ("plan", small, "--verify", "--explain"),
        ("fleet", fleet),
        ("simulate", small, "--requests", "60"),
        (*estimate, "--concurrency", "32", "--ttft-ms", "500"),
        (*estimate, "--request-rate-rps", "900"),
        (*estimate, "--prefill-workers", "2", "--decode-workers", "3", "--batch", "8"),
        (*estimate, "--concurrency", "32", "--explain"),
        ("hw", "list"),
        ("hw", "list", "--nodes"),
        ("hw", "show", "h100-sxm"),
        ("hw", "show", "gb300"),
        ("hw", "compare", "h100-sxm", "l40s", "mi300x"),
        ("models", "list"),
        ("models", "show", "meta-llama/Llama-3.1-8B"),
        ("profile", "list"),
        ("profile", "show", "h100-sxm"),
        ("explain",),
        ("explain", "ttft_ms_p99"),
        ("explain", "Sure %"),
    ]


@pytest.mark.parametrize("width", [60, 80])
def test_every_command_fits_the_terminal_and_explains_its_headings(
    width: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seen: Seen
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for call in calls(tmp_path):
        if width != 80 and call[0] in ("plan", "fleet", "simulate"):
            continue  # printed at every width above
        seen.rows.clear()
        seen.texts.clear()
        assert cli.main(list(call)) in (0, 1), call
        said = capsys.readouterr()
        assert said.out, call
        check_readable(said.out, width, seen)
    assert len(seen.headings) > 50  # those of columns that the table names as left out, too
    assert not [text for text in seen.headings if not explained(text) or not explained(text.lower())]


def explained(heading: str) -> bool:
    """Whether `perfmodel explain` knows a heading."""
    try:
        return bool(entries_of(heading))
    except UnknownName:
        return False


@pytest.mark.parametrize("word", ["Sure %", "$ per hour", "ttft p90 ms", "GEMM %", "fluidity index", "Used %", "qoe"])
def test_the_command_explains_headings_as_they_are_printed(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", word]) == 0
    assert "Kind: " in capsys.readouterr().out


@pytest.mark.parametrize("seed", range(7))
def test_devices_keep_their_names_and_years(
    seed: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    devices = random.Random(seed).sample(hwdb.load().devices(), 3)
    names = [d.name for d in devices]
    assert cli.main(["hw", "compare", *names]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    heads = [line.split()[1:] for line in text.splitlines() if line.strip().startswith("Figure ")]
    assert [name for head in heads for name in head] == names
    years = [line.split()[1:] for line in text.splitlines() if line.strip().startswith("Year ")]
    assert [int(y) for line in years for y in line] == [d.year for d in devices]


def test_wide_prints_every_column_and_its_range(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(ASKED["formats"], encoding="utf-8")
    assert cli.main(["plan", str(path), "--wide"]) == 0
    text = capsys.readouterr().out
    assert "Not shown" not in text
    assert "Basis" in text
    assert re.search(r"\d \(\d[\d.,]*–[\d.,]+\)", text)


def test_infeasible_prints_the_near_misses_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(ASKED["infeasible"], encoding="utf-8")
    assert cli.main(["plan", str(path)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert "nothing meets the request" in said.err
    assert "Near misses" in said.err
    assert "Rank" not in said.err


def test_an_explanation_comes_with_the_ranking(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", str(ROOT / "examples" / "small-4090.toml"), "--explain"]) == 0
    text = capsys.readouterr().out
    assert text.index("Rank") < text.index("Operator")


class Screen(io.StringIO):
    """A terminal that keeps what is written to it."""

    def isatty(self) -> bool:
        return True


def test_error_messages_are_wrapped_for_people_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    whole = "error: unknown device 'no-such-device-anywhere'; did you mean 'h100-sxm' or 'h200-sxm'?"
    assert error_lines(whole, io.StringIO()) == whole
    narrow = error_lines(whole, Screen())
    assert max(map(len, narrow.splitlines())) <= 40
    assert narrow.split() == whole.split()


@pytest.mark.parametrize("width", range(20, 120, 7))
def test_any_table_fits_or_says_what_it_leaves_out(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seen: Seen
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    draw = random.Random(width)
    for count in range(1, 9):
        columns = [f"{c}_{unit}" for c, unit in itertools.islice(itertools.product("abc", ("ms", "gb", "w")), count)]
        rows = [
            {
                "name": "n" * draw.randint(1, width - 12),
                **{c: draw.uniform(0, 10 ** draw.randint(-5, 9)) for c in columns},
            }
            for _ in range(4)
        ]
        seen.rows.clear()
        seen.texts.clear()
        row_printer.print_rows(rows)
        text = capsys.readouterr().out
        check_readable(text, width, seen)
        assert "Not shown" in text or all(headings.heading(c).split()[0] in text for c in columns)


def test_a_column_that_is_the_same_everywhere_becomes_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"name": n, "source": "one book", "note": f"page {n}"} for n in "ab"]
    row_printer.print_rows(rows, layout=table_fit.Layout(footnotes=("source", "note")))
    text = capsys.readouterr().out
    assert "Source: one book" in text
    assert "[1] page a" in text
    assert "[2] page b" in text
