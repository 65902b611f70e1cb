"""Scenario files: the examples load, what is written is what is read, and mistakes are named with line and way out."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

import hwdb
from hwdb import InputError
from hwdb.tomlfile import Table, parse_toml
from perfmodel.vocabulary import FORMER_NAMES
from search.fleet.solution.from_scenario import fleet_problem
from search.scenario.engine import ENGINE_KEYS
from search.scenario.rankings import FORMER_RANKINGS, RANKINGS
from search.scenario.scenario import Scenario, load_scenario
from search.scenario.workload import WORKLOAD_KEYS

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

GOOD = """\
title = "A test"

[model]
name = "meta-llama/Llama-3.1-8B-Instruct"

[workload]
input_tokens = [500, 2000]
output_tokens = [100, 50]
share = [0.75, 0.25]
request_rate_rps = 3.5

[slo]
ttft_ms_p90 = 500
tpot_ms = 50

[hardware]
devices = ["h100-sxm", "l40s"]
stock = { h100-sxm = 8 }
usd_per_hour = { l40s = 0.9 }

[engine]
name = "vllm"
version = "0.6"

[search]
tp = [1, 2, 4]
ep = [1, "all"]
weight = ["bf16", "fp8"]
seed = 7

[objective]
rank_by = "devices"

[limits]
power_kw = 12.5
spare_nodes = 1

[site]
pue = 1.2
"""


def put(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "s.toml"
    path.write_text(text, encoding="utf-8")
    return path


def read(tmp_path: Path, text: str) -> Scenario:
    return load_scenario(put(tmp_path, text))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda p: p.stem)
def test_every_example_loads(path: Path) -> None:
    scenario = load_scenario(path)
    assert scenario.title
    assert (scenario.request is not None) or scenario.fleet


def test_what_is_written_is_what_is_read_in_si(tmp_path: Path) -> None:
    s = read(tmp_path, GOOD)
    assert s.workload.mean_input == pytest.approx(875)
    assert (s.workload.arrival, s.workload.rate) == ("open", 3.5)
    assert s.slo.limit("ttft", "p90") == 0.5
    assert s.slo.limit("tpot") == 0.05
    assert s.offer.devices == ("h100-sxm", "l40s")
    assert s.offer.usd_per_hour == {"l40s": 0.9}
    assert s.engine.name == "vllm-v0"
    assert s.choices.tp == (1, 2, 4)
    assert s.choices.ep == (1.0, math.inf)
    assert s.choices.seed == 7
    assert s.minimise == "devices"
    assert s.limits.power == 12500.0
    assert s.inventory().stock == {"h100-sxm": 8.0}
    assert s.inventory().spare_nodes == 1
    assert s.site.pue == 1.2


def test_everything_that_may_be_left_out_has_a_default(tmp_path: Path) -> None:
    s = read(
        tmp_path,
        '[model]\nname = "Llama-3.1-8B-Instruct"\n[workload]\ninput_tokens = 9\noutput_tokens = 9\n'
        '[hardware]\ndevices = "l4"\n',
    )
    assert (s.title, s.minimise, s.engine.name) == ("s", "usd_per_hour", "vllm")
    assert s.workload.arrival == "closed"
    assert math.isnan(s.workload.concurrency)
    assert s.inventory().power == math.inf
    assert s.choices.tp == ()


def test_a_data_set_brings_its_classes_and_rate(tmp_path: Path) -> None:
    lengths = 'dataset = "azure-conv-2023"\n'
    text = GOOD.replace(GOOD[GOOD.index("input_tokens") : GOOD.index("request_rate_rps")], lengths)
    assert read(tmp_path, text).workload.rate == 3.5
    own = read(tmp_path, text.replace("request_rate_rps = 3.5\n", "")).workload
    assert own.classes == 32
    assert own.rate == pytest.approx(19365 / 3501.72, rel=1e-3)


def test_a_trace_is_cut_into_classes_and_can_be_replayed_at_the_rate(tmp_path: Path) -> None:
    rows = "".join(f"{i},{100 + i},{10 + i % 7}\n" for i in range(50))
    (tmp_path / "t.csv").write_text("arrival_s,input_tokens,output_tokens\n" + rows, encoding="utf-8")
    text = GOOD.replace(
        GOOD[GOOD.index("input_tokens") : GOOD.index("request_rate_rps")], 'trace = "t.csv"\nclasses = [4, 2]\n'
    )
    s = read(tmp_path, text)
    assert s.workload.classes <= 8
    assert s.workload.mean_input == pytest.approx(124.5)
    assert s.request is not None
    assert s.request.read_trace().rate == pytest.approx(3.5)
    plain = read(tmp_path, text.replace("request_rate_rps = 3.5\n", "")).workload
    assert plain.rate == pytest.approx(1.0)
    assert plain.cv == pytest.approx(0.0)


def test_prefix_hits_are_the_sources_own_unless_switched_off(tmp_path: Path) -> None:
    base = GOOD.replace(
        GOOD[GOOD.index("input_tokens") : GOOD.index("request_rate_rps")], 'dataset = "mooncake-conversation"\n'
    )
    assert read(tmp_path, base).workload.mean_new_input == pytest.approx(7538, rel=1e-3)
    off = read(tmp_path, base.replace("request_rate_rps", "prefix_cache = false\nrate_rps")).workload
    assert off.mean_new_input == pytest.approx(off.mean_input)
    half = read(tmp_path, base.replace("request_rate_rps", "prefix_hit = 0.5\nrate_rps")).workload
    assert half.mean_new_input == pytest.approx(off.mean_input / 2)


def test_melange_table_keeps_its_numbers() -> None:
    """Shares [[0.2, 0.1], [0.5, 0.2]] of 30 requests/s; melange-release, its example input."""
    s = load_scenario(EXAMPLES / "melange-fleet.toml")
    problem, _ = fleet_problem(s)
    assert problem.rate.tolist() == [[6, 3, 15, 6]]
    assert problem.throughput.tolist() == [[2, 1, 5, 2], [20, 20, 40, 20]]
    assert [o.usd_per_hour for o in problem.options] == [1.01, 3.67]
    with pytest.raises(InputError, match=r"\[model\] and \[workload\] are missing; add them, or use the fleet command"):
        _ = s.workload


def test_modelled_options_are_told_from_tables() -> None:
    s = load_scenario(EXAMPLES / "fleet-mix.toml")
    assert s.fleet is not None
    assert len(s.fleet.modelled) == 4
    assert s.fleet.classes[0].rate == (2, 12, 8)
    assert s.fleet.classes[1].slo.limit("tpot") == 0.04


def test_throughput_may_be_named_by_class(tmp_path: Path) -> None:
    s = read(
        tmp_path,
        '[fleet]\nhours = [8, 16]\n[[fleet.class]]\nname = "a"\nrate_rps = [1, 2]\n[[fleet.class]]\nname = "b"\n'
        'request_rate_rps = 3\n[[fleet.option]]\nname = "o"\ndevice = "own card"\nusd_per_hour = 1\n'
        "[fleet.option.throughput_rps]\nb = 4\n",
    )
    problem, _ = fleet_problem(s)
    assert problem.rate.tolist() == [[1, 3], [2, 3]]
    assert problem.throughput.tolist() == [[0, 4]]


# (text to replace, replacement, message)
WRONG = [
    ("tpot_ms = 50", "tpot = 50", r"s.toml, line 14, \[slo\] tpot: unknown SLO 'tpot'; did you mean 'tpot_ms"),
    ("tpot_ms = 50", "tpot_ms_p85 = 50", r"line 14, \[slo\] tpot_ms_p85: unknown SLO.*did you mean 'tpot_ms_p9"),
    (
        "tpot_ms = 50",
        'tpot_ms = "50"',
        r"line 14, \[slo\] tpot_ms: '50' is not a number; write a plain number of milli",
    ),
    ("tpot_ms = 50", "tpot_ms = -50", r"\[slo\] tpot_ms: -50 is too small; it must be above 0"),
    ("tpot_ms = 50", "tpot_ms = inf", r"\[slo\] tpot_ms: inf is not finite; leave the key out for no limit"),
    ("tpot_ms = 50", "tpot_ms = true", r"\[slo\] tpot_ms: True is not a number"),
    (
        "request_rate_rps",
        "rate_rpm",
        r"line 10, \[workload\] rate_rpm: unknown key 'rate_rpm'; did you mean 'request_rate_rps'",
    ),
    (
        "request_rate_rps = 3.5",
        "request_rate_rps = 0",
        r"line 10, \[workload\] request_rate_rps: 0 is too small; it must be above 0",
    ),
    (
        "request_rate_rps = 3.5",
        "request_rate_rps = 3.5\nconcurrency = 4",
        r"line 11.*request_rate_rps and concurrency contradict each other",
    ),
    (
        "request_rate_rps = 3.5",
        'arrival = "open"',
        r"line 10, \[workload\] arrival: arrival = \"open\" needs request_rate_rps; add it",
    ),
    ("request_rate_rps = 3.5", 'arrival = "opne"\nrate_rps = 1', r"unknown value 'opne'; did you mean 'open'\?"),
    ("request_rate_rps = 3.5", 'arrival = "offline"', r"arrival = \"offline\" needs n_requests"),
    (
        "request_rate_rps = 3.5",
        "classes = [8, 4]",
        r"\[workload\] classes: only a trace is cut into classes; leave it out",
    ),
    ("request_rate_rps = 3.5", "prefix_hit = 40", r"\[workload\] prefix_hit: 40 is not a share; give the cached share"),
    (
        "input_tokens = [500, 2000]",
        "",
        r"line 6, \[workload\]: nothing says how long requests are; give exactly one of",
    ),
    ("input_tokens", 'dataset = "gpqa"\ninput_tokens', r"dataset and input_tokens are given; give exactly one"),
    ("input_tokens = [500, 2000]", "input_tokens = [0, 2]", r"line 7, \[workload\] input_tokens: 0 is out of range"),
    ("output_tokens = [100, 50]", "output_tokens = [1, 2, 3]", r"line 7.*2 lengths beside 3; give one for all classes"),
    ("input_tokens = [500, 2000]", 'dataset = "gpqa"', r"line 8.*output_tokens: only goes with input_tokens"),
    ("output_tokens = [100, 50]", "", r"line 6, \[workload\]: 'output_tokens' is missing; add it"),
    ("share = [0.75, 0.25]", "share = [0.75, 0.5]", r"line 9, \[workload\] share: the shares sum to 1.25"),
    ("share = [0.75, 0.25]", "share = [1.0]", r"line 9, \[workload\] share: 1 shares for 2 classes; give one each"),
    (
        '"meta-llama/Llama-3.1-8B-Instruct"',
        '"Llama-3.1-9B"',
        r"line 4, \[model\] name: unknown model '(?i:llama-3.1-9b)'; did you",
    ),
    ('"meta-llama/Llama-3.1-8B-Instruct"', "8", r"line 4, \[model\] name: 8 is not a text; write it in quotes"),
    ('name = "meta-llama/Llama-3.1-8B-Instruct"', 'config = "no.json"', r"line 4, \[model\] config: no file .*no.json"),
    (
        '"h100-sxm", "l40s"]',
        '"h100-sxn"]',
        r"line 17, \[hardware\] devices: unknown device 'h100-sxn'; did you mean 'h1",
    ),
    ('devices = ["h100-sxm", "l40s"]', "", r"line 16, \[hardware\]: nothing is on offer; give devices"),
    ('devices = ["h100-sxm", "l40s"]', "devices = []", r"\[hardware\] devices: \[\] is not a list of texts"),
    ('devices = ["h100-sxm", "l40s"]', 'nodes = ["dgx-x"]', r"line 17, \[hardware\] nodes: unknown node 'dgx-x'"),
    (
        "stock = { h100-sxm = 8 }",
        "stock = { h100-smx = 8 }",
        r"line 18, \[hardware.stock\] h100-smx: unknown device 'h100-smx'; did",
    ),
    ("stock = { h100-sxm = 8 }", "stock = 8", r"line 18, \[hardware\] stock: 8 is not a table"),
    ("stock = { h100-sxm = 8 }", "stock = { h100-sxm = -8 }", r"line 18.*-8 is out of range; it must be at least 0"),
    (
        "stock =",
        'prices = "spott"\nstock =',
        r"line 18, \[hardware\] prices: unknown value 'spott'; did you mean 'spot'",
    ),
    ("stock =", 'folders = "nowhere"\nstock =', r"line 18, \[hardware\] folders: hardware folder .*nowhere' does not"),
    ('name = "vllm"', 'name = "vlm"', r"line 22, \[engine\] name: unknown engine 'vlm'; did you mean 'vllm'"),
    ('version = "0.6"', "version = 0.6", r"line 23, \[engine\] version: 0.6 is not a text; write it in quotes"),
    (
        'version = "0.6"',
        "gpu_memory_utilization = 90",
        r"\[engine\] gpu_memory_utilization: 90 is out of range; it must be at most 1",
    ),
    ("tp = [1, 2, 4]", "tp = [1, 2.5]", r"line 26, \[search\] tp: 2.5 is not a whole number"),
    ("tp = [1, 2, 4]", "tp = [0]", r"line 26, \[search\] tp: 0 is out of range; it must be at least 1"),
    (
        "tp = [1, 2, 4]",
        'tp = "all"',
        r"line 26, \[search\] tp: 'all' is not a number or a list of numbers; write a plain number, or a list",
    ),
    ('ep = [1, "all"]', 'ep = ["some"]', r"line 27, \[search\] ep: 'some' is no degree"),
    ('weight = ["bf16", "fp8"]', 'weight = "fp9"', r"line 28, \[search\] weight: unknown number format 'fp9'; did you"),
    ("seed = 7", "seed = 7.5", r"line 29, \[search\] seed: 7.5 is not a whole number; write it without a decimal"),
    ("seed = 7", 'modes = ["disagg"]', r"line 29, \[search\] modes: unknown value 'disagg'; choose from colocated"),
    ("seed = 7", 'searcher = "optna"', r"line 29.*unknown value 'optna'; did you mean 'optuna'"),
    ('"devices"\n', '"cheapness"\n', r"line 32, \[objective\] rank_by: unknown value 'cheapness'"),
    (
        "power_kw = 12.5",
        "power_w = 12.5",
        r"line 35, \[limits\] power_w: unknown key 'power_w'; did you mean 'power_kw'",
    ),
    ("spare_nodes = 1", "confidence = 80", r"\[limits\] confidence: 80 is out of range; it must be at most 1"),
    ("pue = 1.2", "pue = 0.2", r"line 39, \[site\] pue: 0.2 is out of range; it must be at least 1"),
    ("[limits]\n", "[limits]\nusd_per_month = 9\n", r"unknown key 'usd_per_month'.* belongs in \[fleet\]"),
    ("[site]", "[sites]", r"line 38, .*sites: unknown key 'sites'; did you mean 'site'"),
    ("[slo]", "[slo", r"s.toml: not TOML: .*line 12"),
    ("[slo]\n", "slo = 3\n[slos]\n", r"slo.*unknown key 'slo'"),
    (
        'title = "A test"',
        "title = \u201cA test\u201d",
        "not TOML: .*line 1.*; write straight quotation marks in 'title = ",
    ),
    ('title = "A test"', '{"title": "A test"}', "not TOML: .*; JSON and YAML are not read; write TOML"),
    ('title = "A test"', "title:", "not TOML: .*; JSON and YAML are not read; write TOML"),
    ('title = "A test"', "title = 3", r"line 1, title: 3 is not a text"),
]


@pytest.mark.parametrize(("before", "after", "message"), WRONG, ids=[w[1] or w[0] for w in WRONG])
def test_mistakes_are_named_with_line_and_way_out(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in GOOD
    with pytest.raises(InputError, match=message):
        read(tmp_path, GOOD.replace(before, after, 1))


FLEET = """\
[fleet]
hours = [8, 16]

[[fleet.class]]
name = "a"
request_rate_rps = [1, 2]

[[fleet.class]]
name = "b"
request_rate_rps = 3

[[fleet.option]]
name = "o"
device = "a10g"
usd_per_hour = 1
throughput_rps = [4, 5]
"""

WRONG_FLEETS = [
    ("hours = [8, 16]", "hours = [8, 0]", r"line 2, \[fleet\] hours: 0 h is no period; give hours above 0"),
    (
        "request_rate_rps = [1, 2]",
        "request_rate_rps = [1, 2, 3]",
        r"line 6, \[fleet.class\] #1 request_rate_rps: 3 rates for 2 periods",
    ),
    (
        "request_rate_rps = 3",
        "request_rate_rps = -3",
        r"line 10, \[fleet.class\] #2 request_rate_rps: -3 is out of range",
    ),
    ('name = "b"', 'name = "a"', r"two of \[\[fleet.class\]\] are called 'a'; give each its own name"),
    ('name = "b"', "nam = 3", r"line 8, \[fleet.class\] #2: 'name' is missing; add it; is 'nam' meant"),
    (
        "throughput_rps = [4, 5]",
        "throughput_rps = [4]",
        r"line 16, \[fleet.option\] #1 throughput_rps: 1 rates for 2 cl",
    ),
    ("throughput_rps = [4, 5]", "throughput_rps = { c = 4 }", r"throughput_rps\].* c: unknown key 'c'"),
    ("throughput_rps = [4, 5]", "", r"class 'a' lacks model and dataset or input_tokens, which option 'o' needs"),
    ('device = "a10g"\nusd_per_hour = 1', 'device = "mine"', r"\[fleet.option\] #1: no price for 'mine', which hwdb"),
    ("throughput_rps = [4, 5]", "tp = 2.5", r"line 16, \[fleet.option\] #1 tp: 2.5 is not a whole number"),
    (
        'device = "a10g"\nusd_per_hour = 1\nthroughput_rps = [4, 5]',
        'device = "a10h"',
        r"unknown device 'a10h'; did you",
    ),
    (
        "request_rate_rps = 3",
        "request_rate_rps = 3\nslo = { ttft = 3 }",
        r"\[fleet.class.slo\] #2 ttft: unknown SLO 'ttft'",
    ),
    (
        "request_rate_rps = 3",
        'request_rate_rps = 3\nmodel = "nonesuch"',
        r"line 11, \[fleet.class\] #2 model: unknown model 'nonesuch'",
    ),
    ("[[fleet.class]]", "[[fleet.clas]]", r"line 4, \[fleet\] clas: unknown key 'clas'; did you mean 'class'|class"),
]


@pytest.mark.parametrize(("before", "after", "message"), WRONG_FLEETS, ids=[w[1] or w[0] for w in WRONG_FLEETS])
def test_mistakes_in_fleets_are_named(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in FLEET
    with pytest.raises(InputError, match=message):
        read(tmp_path, FLEET.replace(before, after, 1))


def test_a_plan_needs_its_three_parts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\[model\], \[workload\], \[hardware\] missing; a plan needs"):
        read(tmp_path, 'title = "empty"\n')


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone.toml: no such scenario; give the path of an existing TOML file"):
        load_scenario(tmp_path / "gone.toml")
    with pytest.raises(InputError, match="is a folder, not a scenario"):
        load_scenario(tmp_path)
    (tmp_path / "raw.toml").write_bytes(b"title = '\xff'")
    with pytest.raises(InputError, match="byte 9 is not UTF-8"):
        load_scenario(tmp_path / "raw.toml")
    (tmp_path / "trace.csv").write_text("arrival_s,input_tokens,output_tokens\n5,1,1\n1,1,1\n", encoding="utf-8")
    lengths = GOOD[GOOD.index("input_tokens") : GOOD.index("request_rate_rps")]
    with pytest.raises(InputError, match=r"line 7, \[workload\] trace: no file .*trase.csv'; did you mean 'trace.csv'"):
        read(tmp_path, GOOD.replace(lengths, 'trace = "trase.csv"\n'))
    with pytest.raises(InputError, match=r"line 7, \[workload\] trace: .*trace.csv, line 3: arrives 4 s before"):
        read(tmp_path, GOOD.replace(lengths, 'trace = "trace.csv"\n'))
    assert read(tmp_path, GOOD.replace(lengths, 'trace = "trace.csv"\nsort = true\n')).workload.classes == 1


def test_lines_are_found_in_lists_of_tables() -> None:
    top = parse_toml('a = 1\n[[x]]\nk = 1\n[x.y]\nm = 2\n[[x]]\n"k" = 3\n', "f")
    first, second = top.tables("x")
    assert (first.line("k"), second.line("k"), first.table("y").line("m")) == (3, 7, 5)
    assert second.place("k") == "f, line 7, [x] #2 k"


def test_rankings_know_their_direction(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD).lower_is_better
    assert not RANKINGS["output_tok_s_per_device"]


#: Keys of what a fleet may hold besides have a section of their own.
DOCUMENTED = "".join(
    (EXAMPLES.parent / "docs" / name).read_text(encoding="utf-8") for name in ("scenarios.md", "fleet.md")
)


def test_every_example_and_ranking_is_documented() -> None:
    assert all(f"`examples/{path.name}`" in DOCUMENTED for path in EXAMPLES.glob("*.toml"))
    assert all(f"`{name}`" in DOCUMENTED for name in RANKINGS)


def test_every_key_that_is_read_is_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [put(tmp_path, GOOD), EXAMPLES / "fleet-mix.toml", EXAMPLES / "melange-fleet.toml"]
    files = {str(p) for p in paths}
    asked = {*WORKLOAD_KEYS, *ENGINE_KEYS}
    plain = Table.get

    def listening(self: Table, key: str, *default: object) -> object:
        if self.file in files:
            asked.add(key)
        return plain(self, key, *default)

    monkeypatch.setattr(Table, "get", listening)
    for path in paths:
        load_scenario(path)
    assert "spare_nodes" in asked
    named = set(hwdb.load().names())
    assert not [k for k in sorted(asked - named) if not re.search(rf"\b{re.escape(k)}\b", DOCUMENTED)]


FORMER = """\
[model]
name = "Llama-3.1-8B-Instruct"
[workload]
input_tokens = 500
output_tokens = 100
rate_rps = 3
[hardware]
devices = "h100-sxm"
[engine]
memory_fraction = 0.8
[search]
sp = [1, 2]
max_batched_tokens = 4096
max_seqs = 64
[objective]
rank_by = "usd_per_hour"
"""


def test_former_spellings_of_keys_are_still_read(tmp_path: Path) -> None:
    s = read(tmp_path, FORMER)
    assert s.workload.rate == 3
    assert s.engine.gpu_memory_utilization == 0.8
    assert s.choices.cp == (1, 2)
    assert s.choices.max_num_batched_tokens == (4096,)
    assert s.choices.max_num_seqs == (64,)
    for former in ("max_tokens", "token_budget"):
        assert read(tmp_path, FORMER.replace("max_batched_tokens", former)).choices.max_num_batched_tokens == (4096,)


def test_every_former_spelling_is_tried_here() -> None:
    read_above = {"rate_rps", "memory_fraction", "sp", "max_batched_tokens", "max_seqs", "max_tokens", "token_budget"}
    assert read_above == set(FORMER_NAMES)


@pytest.mark.parametrize("former", FORMER_NAMES)
def test_both_spellings_of_a_key_are_refused(tmp_path: Path, former: str) -> None:
    present = FORMER_NAMES[former]
    text = FORMER.replace("max_batched_tokens", former) if former in ("max_tokens", "token_budget") else FORMER
    line = next(line for line in text.splitlines() if line.startswith(f"{former} ="))
    with pytest.raises(InputError, match=f"{present}: '{former}' is its former name; give one of the two"):
        read(tmp_path, text.replace(line, f"{line}\n{line.replace(former, present, 1)}"))


@pytest.mark.parametrize("former", FORMER_RANKINGS)
def test_former_spellings_of_rankings_are_still_read(tmp_path: Path, former: str) -> None:
    s = read(tmp_path, FORMER.replace('"usd_per_hour"', f'"{former}"'))
    assert s.minimise == FORMER_RANKINGS[former]
    assert s.minimise in RANKINGS


FLEET_WITHOUT_OPTIONS = """
[hardware]
{offer}
[[fleet.class]]
name = "chat"
model = "meta-llama/Llama-3.1-8B"
input_tokens = 1000
output_tokens = 200
request_rate_rps = 2
slo = {{ ttft_ms = 500 }}
"""


@pytest.mark.parametrize(
    ("offer", "devices"),
    [
        ('devices = ["l40s", "H100"]', ["l40s", "h100-sxm"]),
        ("stock = { h100-sxm = 8, a100-sxm-80gb = 16 }", ["h100-sxm", "a100-sxm-80gb"]),
        ('nodes = ["dgx-h100"]', ["h100-sxm"]),
        ('devices = ["h100-sxm"]\nstock = { h100-sxm = 8 }', ["h100-sxm"]),
    ],
)
def test_a_fleet_without_options_may_use_what_is_offered(tmp_path: Path, offer: str, devices: list[str]) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(FLEET_WITHOUT_OPTIONS.format(offer=offer), encoding="utf-8")
    found = load_scenario(path).fleet
    assert found is not None
    assert [option.name for option in found.options] == devices
    path.write_text(FLEET_WITHOUT_OPTIONS.format(offer=""), encoding="utf-8")
    with pytest.raises(
        InputError, match=r"nothing may serve; offer devices in \[hardware\], or give \[\[fleet.option\]"
    ):
        load_scenario(path)
