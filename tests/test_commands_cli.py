"""The command line: what each command prints, in each form, and with which exit code."""

from __future__ import annotations

import csv
import inspect
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer

import cli
from perfmodel import __version__, deployments, estimate, model
from perfmodel.dtypes import FORMAT_CODE
from perfmodel.workload.workload import Workload
from search.commands import command_tree
from search.commands.shared.option_groups import grouped
from search.options import DeploymentOptions, SloOptions

ROOT = Path(__file__).resolve().parents[1]
MODEL = "meta-llama/Llama-3.1-70B"
H100 = ["--device", "h100-sxm", "--tp", "4", "--weights", "fp8"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command prints; it must succeed and keep stderr empty."""
    code = cli.main(list(arguments))
    said = capsys.readouterr()
    assert (code, said.err) == (0, ""), said.err
    return said.out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "version").strip() == __version__


def test_version_is_a_flag_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version").strip() == __version__


def every_command() -> list[tuple[str, ...]]:
    """The words of every command and of every group, the root included."""
    found: list[tuple[str, ...]] = []

    def visit(node: object, words: tuple[str, ...]) -> None:
        found.append(words)
        for name, child in getattr(node, "commands", {}).items():
            visit(child, (*words, name))

    visit(typer.main.get_command(command_tree()), ())
    return found


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_help_fits_80_columns_and_ends_with_two_examples(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = run(capsys, *words, "--help")
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "default: nan" not in text
    examples = text.split("Examples:\n")[1].strip().splitlines()
    assert len(examples) == 2
    assert examples[0].strip().startswith(" ".join(("perfmodel", *words)))
    assert all(example.strip().startswith("perfmodel ") for example in examples)


def test_options_of_an_estimate_stand_in_sections(capsys: pytest.CaptureFixture[str]) -> None:
    sections = dict(re.findall(r"^(\w[^\n]*):\n((?:  .*\n)+)", run(capsys, "estimate", "--help"), re.M))
    assert "--tp N" in sections["Deployment"]
    assert "--max-num-seqs N" in sections["Engine"]
    assert "--lora-rank N" in sections["LoRA adapters"]
    assert sum("--" in text for text in sections.values()) >= 8


@pytest.mark.parametrize(
    ("former", "current"),
    [
        (("--max-batched-tokens", "2048"), ("--max-num-batched-tokens", "2048")),
        (("--max-seqs=8", "--concurrency", "64"), ("--max-num-seqs=8", "--concurrency", "64")),
        (("--rate-rps", "2"), ("--request-rate-rps", "2")),
        (("--sp", "2"), ("--cp", "2")),
    ],
)
def test_former_spellings_still_work_but_are_not_advertised(
    capsys: pytest.CaptureFixture[str], former: tuple[str, ...], current: tuple[str, ...]
) -> None:
    asked = ("estimate", "meta-llama/Llama-3.1-8B", "--device", "h100-sxm", "--json")
    assert run(capsys, *asked, *former) == run(capsys, *asked, *current) != run(capsys, *asked)
    assert not re.search(rf"{former[0].split('=')[0]}\b", run(capsys, "estimate", "--help"))


def test_a_plan_names_a_deployment_as_an_estimate_does(capsys: pytest.CaptureFixture[str]) -> None:
    row = json.loads(run(capsys, "estimate", MODEL, *H100, "--concurrency", "8", "--json"))[0]
    assert row["layout"] == "1 x 4 h100-sxm, TP4, fp8"


@dataclass(frozen=True)
class RequiredOptions:
    """A group with an option that has no default."""

    to: Annotated[str, typer.Option()]


def test_options_reach_a_command_as_groups() -> None:
    @grouped
    def command(own: RequiredOptions, deployment: DeploymentOptions, slo: SloOptions) -> tuple[int, float | None]:
        return deployment.tp, slo.ttft_ms

    parameters = inspect.signature(command).parameters
    assert {"model", "device", "tp", "ttft_ms"} <= set(parameters)
    assert parameters["tp"].default == 1
    assert parameters["to"].default is inspect.Parameter.empty
    given = {name: p.default for name, p in parameters.items()} | {"to": "vllm", "model": "m", "device": "d", "tp": 4}
    assert command(**given) == (4, None)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "--help")
    for command in ("plan", "estimate", "predict", "fleet", "report", "hw", "models", "version"):
        assert command in text


def test_hw_list_is_one_flat_object_a_device(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(run(capsys, "hw", "list", "--json"))
    by_name = {row["name"]: row for row in rows}
    assert len(rows) >= 75
    assert by_name["h100-sxm"]["bf16_tflops"] == pytest.approx(989, rel=1e-3)  # NVIDIA H100 datasheet, dense
    assert not any(isinstance(value, dict | list) for row in rows for value in row.values())


def test_hw_list_selects(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(run(capsys, "hw", "list", "--kind", "cpu", "--json"))
    assert rows
    assert {row["kind"] for row in rows} == {"cpu"}


def test_hw_list_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(run(capsys, "hw", "list", "--nodes", "--json"))
    assert all(row["count"] >= 1 and row["device"] for row in rows)


def test_hw_show_gives_every_figure_a_source(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(run(capsys, "hw", "show", "h100-sxm", "--csv"))))
    assert all(row["source"] and row["unit"] and row["kind"] for row in rows)
    ridge = next(row for row in rows if row["figure"] == "ridge.bf16")
    assert float(ridge["value"]) == pytest.approx(989e12 / 3.35e12, rel=1e-2)  # Williams et al. 2009


def test_hw_compare_sets_devices_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "hw", "compare", "h100-sxm", "h200-sxm")
    assert "h100-sxm" in text
    assert "4,800" in text  # GB/s, NVIDIA H200 datasheet
    rows = json.loads(run(capsys, "hw", "compare", "h100-sxm", "h200-sxm", "--json"))
    assert [row["name"] for row in rows] == ["h100-sxm", "h200-sxm"]


def test_prices_are_shown_of_a_device_in_any_spelling(capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = json.loads(run(capsys, "hw", "compare", "H100", "--json"))
    assert row == json.loads(run(capsys, "hw", "compare", "h100-sxm", "--json"))[0]
    assert row["cheapest_usd_per_hour"] > 0
    assert run(capsys, "hw", "show", "H100", "--json") == run(capsys, "hw", "show", "h100-sxm", "--json")


def test_own_folder_adds_a_device(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "my-card.toml").write_text('type = "device"\nlike = "h100-sxm"\ntitle = "Mine"\n', encoding="utf-8")
    rows = json.loads(run(capsys, "hw", "compare", "my-card", "--hwdb", str(tmp_path), "--json"))
    assert rows[0]["title"] == "Mine"


def test_models_show_agrees_with_the_published_count(capsys: pytest.CaptureFixture[str]) -> None:
    row = json.loads(run(capsys, "models", "show", MODEL, "--json"))[0]
    assert row["parameters_billion"] == pytest.approx(70.55, rel=1e-2)  # Llama 3 model card
    assert row["kv_kb_per_token"] == pytest.approx(2 * 80 * 8 * 128 * 2 / 1e3)  # K and V, 80 layers, 8 heads of 128


def test_models_list_selects(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(run(capsys, "models", "list", "--like", "llama-3.1", "--json"))
    assert json.loads(run(capsys, "models", "list", "llama-3.1", "--json")) == rows
    assert rows
    assert all("llama-3.1" in row["name"].lower() for row in rows)


def test_estimate_prints_what_the_library_computes(capsys: pytest.CaptureFixture[str]) -> None:
    row = json.loads(run(capsys, "estimate", MODEL, *H100, "--concurrency", "32", "--json"))[0]
    from hwdb import device

    rows = deployments([device("h100-sxm")], tp=4, weight=FORMAT_CODE["fp8"])
    same = estimate(model(MODEL), Workload.from_lengths(1024, 256, concurrency=32), rows)
    assert row["ttft_ms"] == pytest.approx(float(same.ttft[0, 0]) * 1e3)
    assert row["output_tok_s"] == pytest.approx(float(same.output_rate[0]))
    assert row["ttft_ms_lo"] < row["ttft_ms"] < row["ttft_ms_hi"]
    assert row["usd_per_million_tokens"] == pytest.approx(row["usd_per_hour"] / 3600 / row["output_tok_s"] * 1e6)


def test_estimate_takes_what_a_published_recipe_sets_and_flags_win(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("estimate", "meta-llama/Llama-3.3-70B-Instruct", "--device", "b200-sxm", "--tp", "2", "--weights", "fp8")
    found = [json.loads(run(capsys, *asked, *more, "--json"))[0] for more in ((), ("--recipe",))]
    assert [f["kv"] for f in found] == ["bf16", "fp8"]
    assert found[1]["max_running"] > found[0]["max_running"]
    own = json.loads(run(capsys, *asked, "--recipe", "--kv", "bf16", "--json"))[0]
    assert own["kv"] == "bf16"
    assert cli.main([*asked[:-1], "bf16", "--recipe"]) == 2
    assert "none is published for meta-llama/Llama-3.3-70B-Instruct with bf16 weights" in capsys.readouterr().err


def test_estimate_of_pools_over_an_unknown_network_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("estimate", "llama-3.1-8b", "--device", "tpu-v7x", "--prefill-workers", "1", "--decode-workers", "1")
    (found,) = json.loads(run(capsys, *asked, "--n-requests", "100", "--kv-link", "network", "--json"))
    assert found["output_tok_s"] is None
    assert "not known" in found["remark"]


def test_estimate_shows_figures_with_units(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "estimate", MODEL, *H100, "--concurrency", "32", "--ttft-ms", "500", "--tpot-ms", "50")
    for label in (
        "TTFT ms",
        "TPOT ms",
        "Output tok/s",
        "Memory GB per device",
        "Power W per device",
        "Sure %",
        "Basis",
    ):
        assert label in text


def test_bounds_on_what_does_not_fit_end_with_one_and_estimates_without_bounds_do_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    big = ("estimate", "meta-llama/Llama-3.1-70B", "--device", "h100-sxm", "--json")
    for bounds, code in (((), 0), (("--tpot-ms", "1e6"), 1), (("--tpot-ms", "1e6", "--tp", "4"), 0)):
        assert cli.main([*big, *bounds]) == code
        assert json.loads(capsys.readouterr().out)[0]["fits"] == ("--tp" in bounds)


def test_a_looser_bound_is_likelier_kept(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("estimate", MODEL, *H100, "--concurrency", "32", "--json", "--tpot-ms")
    codes, values = [], []
    for bound in ("1", "15", "1000"):
        codes.append(cli.main([*asked, bound]))
        values.append(json.loads(capsys.readouterr().out)[0]["slo_chance"])
    assert codes == [0 if chance >= 0.5 else 1 for chance in values]
    assert (codes[0], codes[-1]) == (1, 0)
    assert values[0] < 0.01
    assert values[0] < values[1] < values[2]
    assert values[2] > 0.99


@pytest.mark.parametrize(
    "load",
    [
        "--concurrency 32",
        "",
        "--request-rate-rps 2",
        "--n-requests 100",
        "--batch 8",
        "--concurrency 8 --isl 20000",
        "--prefill-workers 1 --decode-workers 1 --batch 16",
    ],
)
def test_explain_sums_to_ttft_and_tpot(capsys: pytest.CaptureFixture[str], load: str) -> None:
    """Queue, front end and the prefills of other requests are named besides the operators."""
    asked = ["estimate", MODEL, *H100, *load.split(), "--json"]
    row, terms = json.loads(run(capsys, *asked))[0], json.loads(run(capsys, *asked, "--explain"))
    for phase, column in (("prefill", "ttft_ms"), ("decode", "tpot_ms")):
        mine = [t for t in terms if t["phase"] == phase]
        assert sum(t["time_us"] for t in mine) == pytest.approx(1e3 * row[column], rel=1e-5)
        assert sum(t["share_percent"] for t in mine) == pytest.approx(100.0)
    assert "front end" in [t["operator"] for t in terms]


def test_explain_says_what_its_times_sum_to(capsys: pytest.CaptureFixture[str]) -> None:
    assert "sum to the mean TTFT" in run(capsys, "estimate", MODEL, *H100, "--explain")


def test_what_does_not_fit_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    row = json.loads(run(capsys, "estimate", MODEL, "--device", "h100-sxm", "--json"))[0]
    assert row["fits"] is False
    assert "GB" in row["reason"]


def test_overload_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    row = json.loads(run(capsys, "estimate", MODEL, *H100, "--request-rate-rps", "5000", "--json"))[0]
    assert "exceeds" in row["remark"]


def test_clients_stay_clients_where_their_requests_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["estimate", "Qwen/Qwen3-8B", "--device", "h100-sxm", "--isl", "1024", "--osl", "256", "--json"]
    few, many, all_at_once = (
        json.loads(run(capsys, *asked, *load))[0]
        for load in (
            ["--concurrency", "4", "--n-requests", "20"],
            ["--concurrency", "4", "--n-requests", "20000"],
            ["--n-requests", "20"],
        )
    )
    assert few["load"] == many["load"] == "4 requests at once"
    assert few["running"] == pytest.approx(4.0)
    # the opening burst is a fifth of twenty requests and a drop in twenty thousand
    assert few["ttft_ms"] > many["ttft_ms"]
    assert all_at_once["running"] > 2 * few["running"]


@pytest.mark.parametrize("load", [["--batch", "8"], ["--n-requests", "100"], ["--request-rate-rps", "2"], []])
def test_every_kind_of_load_is_answered(capsys: pytest.CaptureFixture[str], load: list[str]) -> None:
    row = json.loads(run(capsys, "estimate", MODEL, *H100, *load, "--json"))[0]
    assert row["ttft_ms"] > 0
    assert row["tpot_ms"] > 0


def process(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "cli.py"), *arguments]
    return subprocess.run(command, text=True, env=environment, capture_output=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


def test_an_error_keeps_its_exit_code_where_nobody_reads_it() -> None:
    read, write = os.pipe()
    os.close(read)
    for words in (["hw"], ["frobnicate"]):  # a page of help, a sentence
        done = subprocess.run([sys.executable, "-m", "cli", *words], stdout=write, stderr=write, check=False)
        assert done.returncode == 2
    os.close(write)


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} {ROOT / 'cli.py'} hw list --csv | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        text=True,
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout.startswith("name,")


@pytest.mark.parametrize(
    ("closed", "code", "said"),
    [
        (">&-", 2, "error: standard output: closed, so the answer cannot be printed; redirect it to a file\n"),
        (">&- 2>&-", 2, ""),
        ("2>&- >/dev/null", 0, ""),
        ("<&- >/dev/null", 0, ""),
        (">/dev/full", 2, "error: output: No space left on device\n"),
    ],
)
def test_closed_and_full_streams_end_in_a_sentence(closed: str, code: int, said: str, tmp_path: Path) -> None:
    command = f"{sys.executable} {ROOT / 'cli.py'} hw list {closed}; exit $?"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", command], text=True, capture_output=True, check=False, env=environment, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (code, said)


def test_a_terminal_without_unicode_gets_replacements() -> None:
    command = [sys.executable, str(ROOT / "cli.py"), "hw", "compare", "h100-sxm"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert done.returncode == 0
    assert done.stderr == b""
    assert done.stdout.isascii()


def test_interruption_ends_quietly(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("search.output.device_rows", interrupted)
    assert cli.main(["hw", "list"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_no_command_shows_the_help() -> None:
    done = process()
    assert done.returncode == 2
    assert "Usage:" in done.stdout + done.stderr


def test_the_help_of_the_program_is_the_same_without_loading_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    quick = capsys.readouterr().out
    command_tree()(args=["--help"], prog_name="perfmodel", standalone_mode=False)
    assert sorted(quick.splitlines()) == sorted(capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--kv", "fp8"], "--kv fp8: state-spaces/mamba-2.8b-hf keeps no KV cache"),
        (["--kvp", "2"], "keeps none; leave it out"),
    ],
)
def test_flags_of_a_cache_are_refused_for_models_without_one(
    flags: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment = ["state-spaces/mamba-2.8b-hf", "--device", "h100-sxm", "--tp", "2", "--concurrency", "4"]
    assert cli.main(["estimate", *deployment, *flags]) == 2
    assert told in capsys.readouterr().err
    assert cli.main(["estimate", *deployment]) == 0
