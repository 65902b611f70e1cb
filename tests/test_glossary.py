"""The glossary names exactly what the program says: flags, columns, scenario keys, case columns, former names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import cli
import hwdb
import perfmodel as pm
from hwdb import InputError, UnknownName
from perfmodel import glossary
from perfmodel.cases import columns
from perfmodel.estimates import explain
from perfmodel.vocabulary import BASES, BOUNDS, FORMER_NAMES
from perfmodel.workload import ARRIVALS, METRICS, SLO_KEYS
from search.commands import command_tree
from search.commands.explain import entries_of
from search.scenario import load_scenario

ROOT = Path(__file__).resolve().parents[1]
#: A use of a name: the name as it is written, without dashes, and where it appears ("flag", "column", "[limits]", …).
Use = tuple[str, str]

ESTIMATE = ("estimate", "meta-llama/Llama-3.1-8B", "--device", "h100-sxm", "--concurrency", "8")
SMALL = str(ROOT / "examples" / "small-4090.toml")
#: Every setting of a study that is not varied unless it is asked for.
VARIED = tuple(
    word
    for text in (
        "more_prefill_workers=0",
        "min_match_share=0.3",
        "uneven_requests=64",
        "uneven_ratio=1.5",
        "chunked_prefill=true",
        "admission_watermark=0",
        "admission_headroom=0",
        "router=random",
    )
    for word in ("--vary", text)
)
#: Calls whose JSON has, all together, every column of the commands that print rows.
CALLS = (
    (*ESTIMATE, "--ttft-ms", "500", "--speculation", "ngram"),
    (*ESTIMATE, "--prefill-workers", "1", "--decode-workers", "1"),
    (*ESTIMATE, "--explain"),
    ("estimate", "--from", "vllm serve meta-llama/Llama-3.1-8B", "--device", "h100-sxm"),
    ("export", SMALL, "--to", "vllm"),
    ("plan", SMALL, "--misses", "2"),
    ("plan", SMALL, "--explain"),
    ("plan", str(ROOT / "examples" / "moe-h200.toml"), "--top", "1"),
    ("fleet", str(ROOT / "examples" / "melange-fleet.toml")),
    ("plan", str(ROOT / "examples" / "day.toml"), "--top", "1"),
    ("fleet", str(ROOT / "examples" / "day.toml")),
    ("fleet", str(ROOT / "examples" / "day.toml"), "--rows", "latency"),
    ("fleet", str(ROOT / "examples" / "melange-fleet.toml"), "--rows", "alternatives"),
    ("simulate", str(ROOT / "examples" / "chat-70b-h100.toml"), "--requests", "50", "--capacity"),
    ("tune", SMALL, "--trials", "1", "--requests", "20", "--vary", "prefill_first=false", *VARIED),
    ("cost", SMALL),
    ("whatif", SMALL, "--grid", "site.pue=1.2", "--grid", "limits.confidence=0.5"),
    ("op", "gemm", "64", "64", "64", "--device", "h100-sxm"),
    ("op", "attention", "1", "8", "0", "--device", "h100-sxm"),
    ("op", "all-reduce", "1000", "--device", "h100-sxm"),
    ("hw", "list", "--grids"),
    ("power", SMALL, "--row-budget-kw", "5", "--requests", "20", "--caps", "0.9"),
    ("hw", "list"),
    ("hw", "list", "--nodes"),
    ("hw", "show", "h100-sxm"),
    ("models", "list", "--like", "llama-3.1-8b"),
    ("profile", "list"),
    ("profile", "show", "h100-sxm"),
    ("explain",),
)
CASES = "model,device,mode,concurrency,isl,osl\nmeta-llama/Llama-3.1-8B,h100-sxm,closed,4,200,20\n"

#: A fleet that is the same in two periods, for a growing demand.
PERIODS = """\
[growth]
monthly = 1.5
months = 2
[fleet]
hours = [8, 16]
[[fleet.class]]
name = "chat"
request_rate_rps = [1, 3]
[[fleet.option]]
device = "h100-sxm"
throughput_rps = [1]
"""

#: A fleet whose replicas are simulated.
SIMULATED = """\
[fleet]
[[fleet.class]]
name = "chat"
request_rate_rps = 1
model = "meta-llama/Llama-3.1-8B-Instruct"
input_tokens = 100
output_tokens = 10
slo = { tpot_ms = 50 }
[[fleet.option]]
device = "h100-sxm"
tp = 1
"""

#: A trace with a failed request, and a scenario that names it.
TRACE = "arrival_s,input_tokens,output_tokens\n0,100,10\n1,100,0\n2,100,10\n"
TRACED = """\
[model]
name = "meta-llama/Llama-3.1-8B-Instruct"
[workload]
trace = "trace.csv"
[hardware]
devices = ["h100-sxm"]
[search]
tp = [1]
"""

#: A scenario with every table. An unknown key in any of them is refused with the list of the known ones.
SCENARIO = """\
[model]
name = "meta-llama/Llama-3.1-8B-Instruct"
[workload]
input_tokens = 100
output_tokens = 100
[slo]
ttft_ms = 1000
[hardware]
devices = ["h100-sxm"]
[engine]
name = "generic"
[search]
tp = 1
[objective]
rank_by = "usd_per_hour"
[limits]
power_kw = 10
[site]
pue = 1.2
[money]
utilisation = 0.5
[adapters]
rank = 16
[experts]
redundant = 0
[offload]
weights = 0
host = "epyc-9755"
[pools]
kv_link = "node"
[speculation]
method = "mtp"
[fleet]
[[fleet.class]]
name = "chat"
request_rate_rps = 1
model = "meta-llama/Llama-3.1-8B-Instruct"
dataset = "sharegpt"
slo = { ttft_ms = 1000 }
[[fleet.option]]
device = "h100-sxm"
throughput_rps = [1]
[[fleet.supply]]
device = "h100-sxm"
price_kind = "on_demand"
[[fleet.region]]
name = "east"
[[fleet.case]]
name = "long outputs"
output_factor = 8
[growth]
monthly = 1.05
"""
HEADERS = re.findall(r"^\[+([\w.]+)\]+$", SCENARIO, re.M)
#: Similar to no key, so that the message lists the known ones instead of the nearest.
UNKNOWN_KEY = "qqqqqqqq"


def flags() -> set[Use]:
    """Every option of every command and group."""

    def visit(node: Any) -> Iterator[str]:
        for parameter in node.params:
            if parameter.param_type_name == "option":
                yield from (name for name in parameter.opts if name.startswith("--"))
        for child in getattr(node, "commands", {}).values():
            yield from visit(child)

    found = visit(typer.main.get_command(command_tree()))
    return {(name.removeprefix("--").replace("-", "_"), "flag") for name in found} - {("help", "flag")}


def known_keys(header: str, tmp_path: Path) -> list[str]:
    """Keys of a table of a scenario, as the error about an unknown key lists them. header: "" for the top level."""
    line = f"{UNKNOWN_KEY} = 1\n"
    text = re.sub(rf"^\[+{header}\]+$", lambda found: f"{found[0]}\n{line}", SCENARIO, count=1, flags=re.M)
    path = tmp_path / "scenario.toml"
    path.write_text(text if header else line + SCENARIO, encoding="utf-8")
    with pytest.raises(InputError, match="known keys: ") as refused:
        load_scenario(path)
    return str(refused.value).split("known keys: ")[1].split(", ")


def scenario_keys(tmp_path: Path) -> set[Use]:
    """Every key of every table of a scenario."""
    readable = [h for h in HEADERS if h != "slo"]
    found = {(key, f"[{header}]") for header in readable for key in known_keys(header, tmp_path)}
    top = {(key, "scenario") for key in known_keys("", tmp_path)}
    return found | top | {(key, "[slo]") for key in SLO_KEYS}


def printed_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> set[Use]:
    """Every key of the JSON that the calls print."""
    cases = tmp_path / "cases.csv"
    cases.write_text(CASES, encoding="utf-8")
    periods = tmp_path / "periods.toml"
    periods.write_text(PERIODS, encoding="utf-8")
    simulated = tmp_path / "simulated.toml"
    simulated.write_text(SIMULATED, encoding="utf-8")
    traced = tmp_path / "traced.toml"
    traced.write_text(TRACED, encoding="utf-8")
    (tmp_path / "trace.csv").write_text(TRACE, encoding="utf-8")
    assert cli.main(["plan", SMALL, "--top", "1", "--json"]) == 0
    written = tmp_path / "plan.json"
    written.write_text(capsys.readouterr().out, encoding="utf-8")
    found: set[Use] = set()
    for call in (
        *CALLS,
        ("predict", str(cases)),
        *(("fleet", str(periods), "--rows", table) for table in ("options", "shares", "routing", "limits", "growth")),
        ("fleet", str(simulated), "--verify"),
        ("plan", str(traced), "--top", "1"),
        ("plan", SMALL, "--set", "limits.rack_kw=40", "--top", "1"),
        ("compare", str(written), str(written)),
    ):
        assert cli.main([*call, "--json"]) == 0, call
        found |= {(column, "column") for row in json.loads(capsys.readouterr().out) for column in row}
    return found


def case_columns() -> set[Use]:
    """Every input column of `predict`."""
    return {(name, "case") for name, _, _ in columns()}


def without_entry(uses: set[Use], entries: tuple[glossary.Entry, ...]) -> set[Use]:
    """The uses that no entry covers, by its exact name or by the rules for suffixes and prefixes."""
    known = {e.name for e in entries}
    covered = {(e.name, place) for e in entries for place in e.places}
    return {(name, place) for name, place in uses if (entry_of(name, known), place) not in covered}


def entry_of(name: str, known: set[str]) -> str:
    """The entry that a name belongs to, "" where there is none."""
    found = glossary.parts(name, known)
    return found[0] if found else ""


@pytest.fixture
def uses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> set[Use]:
    """Every use of a name in the program."""
    return flags() | scenario_keys(tmp_path) | case_columns() | printed_columns(tmp_path, capsys)


def test_glossary_has_every_name_and_no_other(uses: set[Use]) -> None:
    entries = glossary.entries()
    assert not without_entry(uses, entries), "add these to perfmodel/glossary.toml"
    known = {e.name for e in entries}
    used = {(entry_of(name, known), place) for name, place in uses}
    stated = {(e.name, place) for e in entries for place in e.places if place != "word"}
    assert sorted(stated - used) == [], "these are used nowhere; remove them from perfmodel/glossary.toml"


def test_a_missing_name_is_found() -> None:
    planted = flags() | {("planted_flag", "flag"), ("tp", "[planted]")}
    assert without_entry(planted, glossary.entries()) == {("planted_flag", "flag"), ("tp", "[planted]")}
    thinned = tuple(e for e in glossary.entries() if e.name != "tp")
    assert without_entry(flags(), thinned) == {("tp", "flag"), ("prefill_tp", "flag")}


def test_a_name_means_one_thing_in_one_place() -> None:
    places = [(e.name, place) for e in glossary.entries() for place in e.places]
    assert len(places) == len(set(places))


def test_columns_of_a_verified_plan_are_known() -> None:
    from search.planning.simulation.verify import FIGURES

    simulated = {(f"simulated_{name}", "column") for name in (*FIGURES, "meets")}
    assert not without_entry(simulated, glossary.entries())


def test_former_names_are_those_that_are_read() -> None:
    former = {old: e.name for e in glossary.entries() for old in e.former}
    assert former == FORMER_NAMES


@pytest.mark.parametrize(
    ("kind", "values"), [("basis", BASES), ("load", ARRIVALS), ("operator", BOUNDS), ("latency", METRICS)]
)
def test_values_are_explained(kind: str, values: tuple[str, ...]) -> None:
    words = {e.name.lower() for e in glossary.entries() if e.kind == kind and "word" in e.places}
    assert set(values) <= words
    if kind == "basis":
        assert set(values) == words


def test_every_entry_is_one_sentence() -> None:
    for entry in glossary.entries():
        assert entry.kind in glossary.kinds()
        assert entry.meaning[0].isupper(), entry.name
        assert entry.meaning.endswith("."), entry.name
        assert ". " not in entry.meaning, entry.name
        assert bool(entry.unit) == (entry.places != ("word",)), entry.name


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("--TTFT-ms", "ttft_ms"),
        ("sp", "cp"),
        ("kv cache", "KV cache"),
        ("KV_capacity", "KV capacity"),
        ("max-batched-tokens", "max_num_batched_tokens"),
    ],
)
def test_spelling_does_not_matter(word: str, name: str) -> None:
    assert [e.name for e in glossary.explain(word)] == [name]


def test_suffixes_add_to_the_meaning() -> None:
    (entry,) = glossary.explain("ttft_ms_p99_lo")
    assert entry.name == "ttft_ms_p99_lo"
    assert "99th percentile" in entry.meaning
    assert "lower end" in entry.meaning


def test_a_word_with_two_meanings_has_two_entries() -> None:
    assert {e.kind for e in glossary.explain("rank")} == {"adapters", "search"}


def test_an_unknown_word_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="ttft"):
        glossary.explain("ttfft")


def explained(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What `perfmodel explain` prints."""
    assert cli.main(["explain", *arguments]) == 0
    return capsys.readouterr().out


def test_command_explains_a_flag_as_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Tensor parallelism" in " ".join(explained(capsys, "--tp", "--csv").split())
    assert json.loads(explained(capsys, "--tp", "--json"))[0]["name"] == "tp"
    assert explained(capsys, "tp", "--csv").startswith("name,kind,unit,meaning,appears_in,")


def test_command_lists_all_names_by_kind(capsys: pytest.CaptureFixture[str]) -> None:
    text = explained(capsys)
    assert all(kind.capitalize() in text for kind in glossary.kinds())
    assert len(json.loads(explained(capsys, "--json"))) == len(glossary.entries())


def test_command_refuses_an_unknown_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "ttfft"]) == 2
    assert "did you mean" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["meta-llama/Llama-3.1-8B", "deepseek-ai/DeepSeek-V3.2-Exp", "google/gemma-3-27b-it"])
def test_every_operator_of_a_breakdown_is_explained(model: str) -> None:
    work, placed = pm.Workload.from_lengths(2000, 100, concurrency=8), pm.deployments([hwdb.device("h200-sxm")], tp=8)
    names = {term.operator for term in explain(pm.model(model), work, placed, engine=pm.engine("vllm"))}
    assert all(glossary.explain(name) for name in names)


@pytest.mark.parametrize(
    "word",
    [
        *("Used", "Free", "Engine", "Elementwise", "In flight", "interp.", "EP2", "TP4"),
        *("checkpoint", "ckpt", "seqs", "tok", "near misses", "legal", "qualify", "pool", "worker", "mean draw"),
        *("rated power", "on demand", "reserved", "spot", "p95", "queue", "front end", "prefills of other requests"),
    ],
)
def test_words_on_the_screen_are_explained_without_their_unit(word: str) -> None:
    assert entries_of(word)
