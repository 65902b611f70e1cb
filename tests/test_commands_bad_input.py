"""What people get wrong, and the sentence they get: place, value, way out; never a traceback."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import cli
from benchmarks.llama_config import LLAMA_SHAPE

GOOD = """
[model]
name = "meta-llama/Llama-3.1-8B"
[workload]
input_tokens = 500
output_tokens = 100
request_rate_rps = 2
[slo]
ttft_ms = 2000
[hardware]
devices = ["h100-sxm"]
[search]
tp = [1]
pp = [1]
"""
CONFIG = LLAMA_SHAPE
MOE_OF_GATES = '"mistralai/Mixtral-8x7B-v0.1"\n[adapters]\nrank = 8\ntargets = ["gate", "up"]'
DEVICE = 'type = "device"\nlike = "h100-sxm"\ntitle = "x"\n'
ESTIMATE = ("estimate", "meta-llama/Llama-3.1-8B", "--device", "h100-sxm")
TUNED = ("estimate", "meta-llama/Llama-3.1-70B", "--recipe", "--device")
POOLS = ("--prefill-workers", "1", "--decode-workers", "1")
PLAN = ("plan", "bad.toml")
MINE = ("hw", "show", "mine", "--hwdb", ".")
SHAPE = ("models", "show", "config.json")


@dataclass(frozen=True)
class Bad:
    """A command in a folder with `files`, the parts its one error line must have, and the exit code."""

    name: str
    command: tuple[str, ...]
    says: tuple[str, ...]
    files: dict[str, str] = field(default_factory=dict)
    code: int = 2


def scenario(name: str, old: str, new: str, *says: str, code: int = 2, **files: str) -> Bad:
    """A scenario with one thing changed."""
    assert old in GOOD
    extra = {key.replace("_", "."): text for key, text in files.items()}
    return Bad(f"scenario {name}", PLAN, says, {"bad.toml": GOOD.replace(old, new), **extra}, code)


def config(name: str, change: dict[str, object], *says: str) -> Bad:
    """A config.json with fields changed; None removes one."""
    fields = {k: v for k, v in {**CONFIG, **change}.items() if v is not None}
    return Bad(f"config {name}", SHAPE, says, {"config.json": json.dumps(fields)})


def device(name: str, text: str, *says: str) -> Bad:
    """A device file."""
    return Bad(f"device {name}", MINE, ("mine.toml", *says), {"mine.toml": text})


def trace(name: str, text: str, *says: str, file: str = "t.csv") -> Bad:
    """A scenario that replays the trace `text`."""
    lengths = "input_tokens = 500\noutput_tokens = 100\n"
    changed = GOOD.replace(lengths, f'trace = "{file}"\n')
    return Bad(f"trace {name}", PLAN, (file, *says), {"bad.toml": changed, file: text})


HEAD = "arrival_s,input_tokens,output_tokens\n"
TABLE = [
    # flags
    Bad("flags unknown command", ("plann",), ("plann",)),
    Bad("flags unknown option", (*ESTIMATE, "--tpp", "2"), ("--tpp", "--tp")),
    Bad("flags missing device", ("estimate", "meta-llama/Llama-3.1-8B"), ("--device",)),
    Bad("flags no number", (*ESTIMATE, "--tp", "four"), ("--tp", "whole number")),
    Bad("flags a latency in seconds", (*ESTIMATE, "--ttft-ms", "0.5s"), ("--ttft-ms", "'0.5s'", "write 500, in ms")),
    Bad("flags a share in percent", (*ESTIMATE, "--prefix-hit", "50%"), ("--prefix-hit", "write 0.5 for a share")),
    Bad("flags a rate per minute", (*ESTIMATE, "--request-rate-rps", "90/min"), ("write 1.5, in requests per second",)),
    Bad("flags a fraction of a device", (*ESTIMATE, "--tp", "2.5"), ("--tp", "give a whole number")),
    Bad("flags a bound without its unit", (*ESTIMATE, "--slo", "ttft=500"), ("'ttft'", "ttft_ms")),
    Bad("flags no scenario", ("plan",), ("SCENARIO.toml|MODEL", "perfmodel plan --help")),
    Bad("flags no device to show", ("hw", "show"), ("NAME", "perfmodel hw show --help")),
    Bad("flags no such command", ("frobnicate",), ("'frobnicate'", "perfmodel --help")),
    Bad("flags tp of zero", (*ESTIMATE, "--tp", "0"), ("tp=0", "whole number")),
    Bad("flags more stages than layers", (*ESTIMATE, "--pp", "100"), ("pp 100 exceeds the 32 layers",)),
    Bad("flags heads not split", (*ESTIMATE, "--tp", "3"), ("tp 3 does not divide the 32 attention", "8, 16, 32")),
    Bad(
        "flags key heads not split",
        ("estimate", "Qwen/Qwen2.5-14B", "--device", "h100-sxm", "--tp", "5"),
        ("8 key/value heads", "tp 5"),
    ),
    Bad("flags stages of a pool", (*ESTIMATE, *POOLS, "--prefill-pp", "100"), ("prefill-pp 100 exceeds the 32",)),
    Bad("flags heads of a pool", (*ESTIMATE, *POOLS, "--prefill-tp", "3"), ("prefill-tp 3 does not divide",)),
    Bad(
        "flags unknown device", ("estimate", "gpt2", "--device", "h100-smx"), ("'h100-smx'", "did you mean 'h100-sxm'")
    ),
    Bad("flags unknown model", ("estimate", "llama-3.1-80b", "--device", "h100-sxm"), ("llama-3.1-80b", "mean")),
    Bad("flags unknown format", (*ESTIMATE, "--weights", "fp9"), ("number format 'fp9'", "'fp8'")),
    Bad("flags unknown arithmetic", (*ESTIMATE, "--activations", "fp7"), ("'fp7'", "fp8")),
    Bad("flags unknown engine", (*ESTIMATE, "--engine", "vlm"), ("engine 'vlm'", "'vllm'")),
    Bad("flags two loads", (*ESTIMATE, "--batch", "2", "--concurrency", "3"), ("--batch", "--concurrency", "one load")),
    Bad("flags negative rate", (*ESTIMATE, "--request-rate-rps", "-1"), ("rate", "-1")),
    Bad("flags no tokens", (*ESTIMATE, "--isl", "0"), ("--isl 0", "give 1 or more")),
    Bad("flags not a number", (*ESTIMATE, "--isl", "nan"), ("--isl nan", "give 1 or more")),
    Bad("flags prefix above one", (*ESTIMATE, "--prefix-hit", "1.5"), ("--prefix-hit 1.5", "give 0 to 1")),
    Bad("flags bound of zero", (*ESTIMATE, "--ttft-ms", "0"), ("--ttft-ms 0", "above 0")),
    Bad("flags statistic", (*ESTIMATE, "--ttft-ms", "9", "--slo-at", "p42"), ("'p42'", "p90")),
    Bad("flags two forms", ("hw", "list", "--json", "--csv"), ("--json and --csv",)),
    Bad("flags unknown kind", ("hw", "list", "--kind", "gpuu"), ("kind 'gpuu'", "'gpu'")),
    Bad("flags missing folder", ("hw", "list", "--hwdb", "nowhere"), ("nowhere", "does not exist")),
    Bad("recipe unknown format", (*TUNED, "b200-sxm", "--weights", "nope"), ("number format 'nope'",)),
    Bad("recipe other weights", (*TUNED, "b200-sxm", "--weights", "bf16"), ("vllm has them for fp8 on Hopper",)),
    Bad("recipe other engine", (*TUNED, "h100-sxm", "--engine", "sglang"), ("sglang has none for", "vllm and trtllm")),
    Bad("recipe no engine", (*TUNED, "h100-sxm", "--engine", "llamacpp"), ("llamacpp has none", "vllm and trtllm do")),
    Bad("recipe other model", (*ESTIMATE, "--recipe"), ("there is none for this model", "openai/gpt-oss-120b")),
    Bad(
        "recipe of one pool",
        (*TUNED, "b200-sxm", "--weights", "fp8", *POOLS, "--prefill-device", "h100-sxm"),
        ("--recipe and --prefill-device h100-sxm", "published for Blackwell", "by flags"),
    ),
    # scenarios
    Bad("scenario absent", ("plan", "absent.toml"), ("absent.toml", "no such scenario")),
    Bad("scenario a folder", ("plan", "."), ("is a folder",)),
    Bad("scenario not toml", PLAN, ("bad.toml", "line 2"), {"bad.toml": "[model]\nname = \n"}),
    Bad("scenario not text", PLAN, ("bad.toml",), {"bad.toml": "\udcff\udcfe"}),
    Bad("scenario empty", PLAN, ("bad.toml", "model"), {"bad.toml": ""}),
    scenario("unknown table", "[slo]", "[slos]", "line", "slos", "did you mean 'slo'"),
    scenario("unknown key", "request_rate_rps", "rate_rpz", "line 7", "rate_rpz", "request_rate_rps"),
    scenario("unknown device", "h100-sxm", "h100-sxn", "line 11", "'h100-sxn'", "did you mean 'h100-sxm'"),
    scenario("unknown model", "Llama-3.1-8B", "Llama-3.1-9B", "line 3", "did you mean", "config.json"),
    scenario("text for number", "request_rate_rps = 2", 'request_rate_rps = "two"', "line 7", "two"),
    scenario("negative tokens", "= 500", "= -500", "line 5", "-500"),
    scenario("missing output", "output_tokens = 100", "", "output_tokens"),
    scenario("two lengths", "request_rate_rps", 'dataset = "azure-conv-2023"\nrate_rps', "exactly one"),
    scenario("no trace file", "input_tokens = 500\noutput_tokens = 100", 'trace = "t.csv"', "line 5", "t.csv"),
    scenario("unknown metric", "ttft_ms = 2000", "tfft_ms = 2000", "tfft_ms", "ttft_ms"),
    scenario("bound of zero", "ttft_ms = 2000", "ttft_ms = 0", "line 9", "ttft_ms"),
    scenario("fraction of a device", "tp = [1]", "tp = [1.5]", "tp", "1.5", "whole number"),
    scenario("no hardware", '["h100-sxm"]', "[]", "devices"),
    scenario("impossible bound", "ttft_ms = 2000", "ttft_ms = 0.001", "ttft", code=1),
    scenario("rank beyond", "[slo]", "[adapters]\nrank = 5000\n[slo]", "line 9", "[adapters] rank", "width 4096"),
    scenario("idle targets", '"meta-llama/Llama-3.1-8B"', MOE_OF_GATES, "line 6", "[adapters] targets", "q, k, v, o"),
    scenario(
        "unknown host",
        "[slo]",
        '[offload]\nweights = 0.5\nwhere = "compute"\n[slo]',
        "line 10",
        "[offload] where",
        "h100-sxm: the",
        "of its host is not known",
    ),
    scenario("experts of none", "[slo]", "[offload]\nexperts = [0, 0.5]\n[slo]", "line 9", "no routed experts"),
    scenario(
        "idle share",
        "[slo]",
        "[engine]\noverlap_share = 0.5\n[slo]",
        "line 9",
        "[engine] overlap_share",
        "nothing overlaps",
        "dual_batch",
    ),
    # traces
    trace("empty", "", "empty"),
    trace("without columns", "a,b\n1,2\n", "line 1", "input_tokens"),
    trace("unsorted", HEAD + "5,10,10\n1,10,10\n", "line 3"),
    trace("negative", HEAD + "1,-10,10\n2,10,10\n", "line 2", "-10"),
    trace("text", HEAD + "1,ten,10\n", "line 2", "ten"),
    trace("monster prompt", HEAD + "1,1000000000,10\n2,10,10\n", "line 2"),
    trace("broken line", '{"timestamp": 1, "input_length": 5, "output_length": 5}\n{"ti', "line 2", file="t.jsonl"),
    # config.json
    Bad("config absent", SHAPE, ("config.json",)),
    Bad("config not json", SHAPE, ("config.json", "line 1"), {"config.json": "{"}),
    Bad("config a list", SHAPE, ("config.json", "object"), {"config.json": "[]"}),
    config(
        "unknown architecture without a fact",
        {"architectures": ["LhamaForCausalLM"], "model_type": "lhama", "num_key_value_heads": None},
        "LhamaForCausalLM",
        "num_key_value_heads",
    ),
    config(
        "unknown recurrent architecture",
        {"architectures": ["LhamaForCausalLM"], "model_type": "lhama", "mamba_d_state": 16},
        "LhamaForCausalLM",
        "mamba_d_state",
    ),
    config("absurd width", {"intermediate_size": 90_000_000}, "intermediate_size", "90000000"),
    config("missing field", {"hidden_size": None}, "hidden_size"),
    config("negative layers", {"num_hidden_layers": -1}, "num_hidden_layers", "-1"),
    config("text for number", {"vocab_size": "many"}, "vocab_size", "many"),
    # device files
    device("not toml", 'type = "device"\ntitle = ]', "line 2"),
    device("unknown key", DEVICE + "colour = 3\n", "colour"),
    device("unlike anything", DEVICE.replace("h100-sxm", "h100-smx"), "h100-smx", "h100-sxm"),
    device(
        "wrong unit",
        DEVICE + '[power]\ntdp = { value = 3, unit = "GB", kind = "rated", source = "a page" }\n',
        "power.tdp",
        "GB",
    ),
    device("no source", DEVICE + '[memory]\nbandwidth = { value = 3, unit = "TB/s", kind = "rated" }\n', "source"),
    device("bare number", DEVICE + "[power]\ntdp = 700\n", "[power] tdp", "states no source"),
    device(
        "negative",
        DEVICE + '[power]\ntdp = { value = -7, unit = "W", kind = "rated", source = "page 1" }\n',
        "tdp",
        "-7",
    ),
    # tables of cases
    Bad("cases absent", ("predict", "absent.csv"), ("absent.csv", "no such CSV table")),
    Bad("cases without model", ("predict", "c.csv"), ("c.csv", "model"), {"c.csv": "device,isl\nh100-sxm,5\n"}),
    Bad(
        "cases unwritable",
        ("predict", "c.csv", "-o", "no/where.csv"),
        ("no/where.csv", "cannot be written"),
        {"c.csv": "model,device,isl,osl\nmeta-llama/Llama-3.1-8B,h100-sxm,5,5\n"},
    ),
]


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: bad.name)
def test_bad_input_gets_one_sentence(
    bad: Bad, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in bad.files.items():
        (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    code = cli.main(list(bad.command))
    said = capsys.readouterr()
    assert code == bad.code, said.err
    assert said.err.startswith("error: ")
    assert said.out == ""
    assert "Traceback" not in said.err
    for part in bad.says:
        assert part in said.err


def test_the_table_is_long_enough() -> None:
    assert len(TABLE) >= 60
    assert len({bad.name for bad in TABLE}) == len(TABLE)


def test_a_bad_case_does_not_stop_the_others(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = "meta-llama/Llama-3.1-8B"
    cells = [
        f"{model},h100-sxm,100,10,",
        "nobody/nothing,h100-sxm,100,10,",
        f"{model},h100-smx,100,10,",
        f"{model},h100-sxm,many,10,",
        f"{model},h100-sxm,100,-1,",
        f"{model},h100-sxm,100,10,x",
    ]
    path = tmp_path / "cases.csv"
    path.write_text("model,device,isl,osl,tp\n" + "\n".join(cells) + "\n", encoding="utf-8")
    assert cli.main(["predict", str(path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [bool(row["error"]) for row in rows] == [False, True, True, True, True, True]
    assert math.isfinite(rows[0]["ttft_ms"])
    for row, part in zip(rows[1:], ("nobody/nothing", "h100-smx", "many", "-1", "x"), strict=True):
        assert part in row["error"]


def test_predict_names_the_first_case_that_failed_and_ends_with_2_where_all_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, head = tmp_path / "cases.csv", "model,device,isl,osl,concurrency\n"
    good, bad = "meta-llama/Llama-3.1-8B,l4,64,8,1\n", "meta-llama/Llama-3.1-8B,l4,64,-8,1\n"
    for text, code in ((head + good + bad, 0), (head + bad, 2)):
        table.write_text(text, encoding="utf-8")
        assert cli.main(["predict", str(table)]) == code
        out, err = capsys.readouterr()
        assert "case 2: osl -8" in err if code == 0 else "case 1: osl -8" in err
        assert len(out.splitlines()) == len(text.splitlines())  # what is known is written all the same


def test_a_number_before_a_device_is_no_hindrance_to_show_it(capsys: pytest.CaptureFixture[str]) -> None:
    shown = []
    for name in ("h100-sxm", "8xH100"):
        assert cli.main(["hw", "show", name]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert cli.main(["hw", "compare", "8xH100", "h200-sxm", "--csv"]) == 0


def test_a_report_for_paper_is_a_page_to_print(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "examples/small-4090.toml", "-o", "report.pdf"]) == 2
    assert "for paper, write .html and print it from a browser" in capsys.readouterr().err
