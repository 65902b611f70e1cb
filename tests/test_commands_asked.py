"""`plan` with the name of a model in place of a file: the same answers as from a file, saved ones included."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

import cli
from hwdb import InputError, load
from search.commands.shared.asked_scenario import asked_scenario
from search.options import AskedWorkloadOptions, OfferOptions, SloOptions
from search.planning import plan
from search.scenario import Scenario, load_scenario

SMALL = ["--on", "rtx-4090=4", "--isl", "512", "--osl", "64", "--request-rate-rps", "2", "--slo", "ttft_ms_p90=900"]
FILE = """
[model]
name = "meta-llama/Llama-3.1-8B"
[workload]
input_tokens = 512
output_tokens = 64
request_rate_rps = 2
[slo]
ttft_ms_p90 = 900
[hardware]
devices = ["rtx-4090"]
stock = { rtx-4090 = 4 }
"""


def told(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, object]]:
    """Return the rows that a plan prints as JSON."""
    assert cli.main(["plan", *words, "--json"]) == 0
    rows: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return rows


def asked(written: str, *, workload: dict[str, object] | None = None, **offer: object) -> Scenario:
    """Return the scenario of a command line without bounds."""
    return asked_scenario(
        written,
        AskedWorkloadOptions(**workload or {}),
        SloOptions(),
        OfferOptions(**offer),
        (),
        {},  # type: ignore[arg-type]
    )


def test_a_model_and_options_plan_as_the_file_that_says_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options, the file that they save, and the same file by hand: one answer."""
    by_hand, saved = tmp_path / "by-hand.toml", tmp_path / "saved.toml"
    by_hand.write_text(FILE, encoding="utf-8")
    expected = told(capsys, str(by_hand))
    assert told(capsys, "meta-llama/Llama-3.1-8B", *SMALL, "--save", str(saved)) == expected
    assert told(capsys, str(saved)) == expected


def test_options_take_the_place_of_what_a_file_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A load and a bound replace the file's; lengths and hardware that no option states stay."""
    path, other = tmp_path / "one.toml", tmp_path / "other.toml"
    path.write_text(FILE, encoding="utf-8")
    changed = FILE.replace("request_rate_rps = 2", "concurrency = 8").replace("ttft_ms_p90 = 900", "ttft_ms_p90 = 700")
    other.write_text(changed, encoding="utf-8")
    options = ["--concurrency", "8", "--slo", "ttft_ms_p90=700"]
    assert told(capsys, str(path), *options) == told(capsys, str(other))
    assert told(capsys, str(path), *options) != told(capsys, str(path))


def test_lengths_replace_a_data_set_and_a_load_replaces_a_load(tmp_path: Path) -> None:
    """What says the same thing in another way goes, so that the two do not contradict each other."""
    path = tmp_path / "set.toml"
    lengths = 'dataset = "azure-conv-2023"\nrequest_rate_rps = 3'
    path.write_text(FILE.replace("input_tokens = 512\noutput_tokens = 64\nrequest_rate_rps = 2", lengths), "utf-8")
    work = asked(str(path), workload={"isl": 100.0, "batch": 4.0}).workload
    assert (work.mean_input, work.arrival, work.concurrency) == (100.0, "static", 4.0)
    assert asked(str(path)).workload.mean_input == load_scenario(path).workload.mean_input


def test_hardware_that_no_option_names_is_all_that_has_a_price() -> None:
    """Every device with a known price is on offer, and no other."""
    database, offered = load(), asked("meta-llama/Llama-3.1-8B").offer.devices
    priced = {price.device for price in database.prices()}
    assert {"h100-sxm", "mi300x", "l4"} <= set(offered)
    assert {d for d in offered if database.device(d).name not in priced} == set()


def test_without_a_load_plans_are_compared_by_the_token(tmp_path: Path) -> None:
    """A load, the rate of a data set or a stated ranking leave the ranking by $ per hour, and so does a file."""
    small = {"on": ["l4"]}
    assert asked("meta-llama/Llama-3.1-8B", **small).minimise == "usd_per_million_tokens"
    for workload in ({"request_rate_rps": 2.0}, {"batch": 2.0}, {"dataset": "azure-conv-2023"}):
        assert asked("meta-llama/Llama-3.1-8B", workload=workload, **small).minimise == "usd_per_hour"
    assert asked("meta-llama/Llama-3.1-8B", set_=["objective.rank_by=power"], **small).minimise == "power_w"
    path = tmp_path / "one.toml"
    path.write_text(FILE.replace("request_rate_rps = 2", ""), encoding="utf-8")
    assert asked(str(path)).minimise == "usd_per_hour"


def test_a_device_without_a_price_is_planned_and_the_way_to_give_one_is_an_option(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The note names `--set`, which then is the price; a file's note names its key alone."""
    words = ["plan", "meta-llama/Llama-3.1-8B", "--on", "gaudi3", "--request-rate-rps", "2"]
    assert cli.main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "No price is known for gaudi3" in said
    assert "--set hardware.usd_per_hour.DEVICE=USD" in said
    assert "nan" not in said
    assert cli.main([*words, "--set", "hardware.usd_per_hour.gaudi3=2.5"]) == 0
    assert "$2.50 per hour" in capsys.readouterr().out


def test_a_saved_scenario_names_the_folders_of_the_command_line(tmp_path: Path) -> None:
    """Devices of one's own are found again from the saved file alone."""
    own, saved = tmp_path / "hw", tmp_path / "saved.toml"
    (own / "prices").mkdir(parents=True)
    asked_scenario(
        "meta-llama/Llama-3.1-8B", AskedWorkloadOptions(), SloOptions(), OfferOptions(on=["l4"], save=saved), [own], {}
    )
    assert load_scenario(saved).offer.folders == (str(own),)


def test_nodes_and_numbers_on_hand_are_read() -> None:
    """A node is offered as a node; `=N` states the devices on hand."""
    offer = asked("meta-llama/Llama-3.1-8B", on=["dgx-h100, l40s=4"]).offer
    assert offer.nodes == ("dgx-h100",)
    assert set(offer.devices) == {"l40s", "h100-sxm"}
    assert dict(offer.stock) == {"l40s": 4.0}


def test_a_checkpoint_is_named_by_its_folder_or_its_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The saved scenario names the file by its whole path, wherever the command was given."""
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 512, "num_hidden_layers": 4}
    config |= {"num_attention_heads": 8, "num_key_value_heads": 8, "intermediate_size": 1024, "vocab_size": 1000}
    folder, saved = tmp_path / "mine", tmp_path / "saved.toml"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "mine/config.json"):
        assert asked(name, on=["l4"], save=saved).model == str(folder / "config.json")
        assert load_scenario(saved).model == str(folder / "config.json")


def test_a_checkpoint_in_a_folder_is_planned_and_launched_by_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first line has its name, and the launch command its folder, which the engine can load."""
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 512, "num_hidden_layers": 4}
    config |= {"num_attention_heads": 8, "num_key_value_heads": 8, "intermediate_size": 1024, "vocab_size": 1000}
    folder, saved = tmp_path / "mine", tmp_path / "saved.toml"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert cli.main(["plan", str(folder), "--on", "l4", "--request-rate-rps", "1", "--save", str(saved)]) == 0
    assert capsys.readouterr().out.startswith("mine, 1 request/s")
    assert cli.main(["export", str(saved)]) == 0
    assert f"vllm serve {folder}" in " ".join(capsys.readouterr().out.split())


def test_a_mapping_states_what_a_file_does(tmp_path: Path) -> None:
    """The tables of a file, given as a mapping, have the same plan; a mistake names the table and the key."""
    path = tmp_path / "one.toml"
    path.write_text(FILE, encoding="utf-8")
    values = tomllib.loads(FILE)
    of_mapping, of_file = (repr(plan(load_scenario(given)).rows()) for given in (values, path))  # NaN is not NaN
    assert of_mapping == of_file
    with pytest.raises(InputError, match=r"scenario, \[slo\].*tftt_ms"):
        load_scenario({**values, "slo": {"tftt_ms": 3}})
    assert values == tomllib.loads(FILE)


def test_any_key_is_set(tmp_path: Path) -> None:
    """`--set` reaches every table; a text that looks like a number stays a text, and nothing takes a key out."""
    path = tmp_path / "one.toml"
    path.write_text(FILE, encoding="utf-8")
    keys = ["search.tp=1,2", "limits.power_kw=3", "engine.version=0.8", "slo.ttft_ms_p90="]
    found = asked(str(path), set_=keys)
    assert found.choices.tp == (1, 2)
    assert found.limits.power == 3e3
    path.write_text(FILE + '[engine]\nversion = "0.8"\n', encoding="utf-8")
    assert found.engine == load_scenario(path).engine
    assert not found.slo.objectives


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["no-such-model"], ["no-such-model", "scenario file", "unknown model"]),
        (["nowhere.toml"], ["nowhere.toml", "no such scenario"]),
        (["Qwen3-32B", "--on", "h10"], ["h10", "h20"]),
        (["Qwen3-32B", "--on", "h100-sxm=some"], ["h100-sxm=some", "number of devices"]),
        (["Qwen3-32B", "--on", "h100-sxm=3", "--on", "h100-sxm=4"], ["h100-sxm=4", "3 of h100-sxm"]),
        (["qwen3.6", "--on", "l4"], ["Qwen/Qwen3.6-27B", "models list"]),
        (["Qwen3-32B", "--on", "h100-sxm", "--set", "power=3"], ["power=3", "TABLE.KEY=VALUE"]),
        (["Qwen3-32B", "--on", "h100-sxm", "--set", "limits.power=3"], ["command line", "power_kw"]),
        (["Qwen3-32B", "--on", "h100-sxm", "--set", "model.name.x=3"], ["name has no keys"]),
        (["Qwen3-32B", "--on", "h100-sxm", "--slo", "tftt=3"], ["tftt", "ttft_ms"]),
        (["Qwen3-32B", "--on", "h100-sxm", "--slo", "itl<60"], ["itl<60", "with its unit", "ttft_ms_p90=500"]),
        (["Qwen3-32B", "--on", "h100-sxm", "--slo", "latency < 3 s"], ["no bound on one latency", "ttft, tpot"]),
        (["Qwen3-32B", "--on", "h100-sxm", "--confidence", "95"], ["--confidence 95", "such as 0.95"]),
        (["Qwen3-32B", "--on", "h100-sxm", "--request-rate-rps", "600rpm"], ["write 10, in requests per second"]),
        (["Qwen3-32B", "--on", "h100-sxm", "--request-rate-rps", "5xyz"], ["'xyz' is no unit", "requests per second"]),
        (["Qwen/Qwen3-8B,Qwen/Qwen3-32B", "--on", "h100-sxm"], ["is 2 names", "give one model"]),
        (["Qwen3-8B, Qwen3-32B", "--on", "h100-sxm"], ["is 2 names", "give one model"]),
        (["Qwen3-32B", "--concurrency", "4", "--batch", "3"], ["--concurrency and --batch exclude each other"]),
        (["Qwen3-32B", "--on", "h100-sxm", "--save", "no/folder/x.toml"], ["no such folder"]),
    ],
)
def test_what_is_asked_wrongly_is_refused_with_the_way_out(
    words: list[str], names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 2, and one line names the option or the value."""
    assert cli.main(["plan", *words]) == 2
    message = capsys.readouterr().err
    assert all(name in message for name in names), message


def test_a_scenario_that_is_refused_is_not_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No file is left that the other commands would refuse."""
    saved = tmp_path / "saved.toml"
    assert cli.main(["plan", "Qwen3-32B", "--on", "l4", "--set", "search.modes=pools", "--save", str(saved)]) == 2
    assert "colocated, disaggregated" in capsys.readouterr().err
    assert not saved.exists()


def test_a_scenario_is_not_saved_over_itself_nor_away_from_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """File names in a scenario are relative to its folder."""
    path, elsewhere = tmp_path / "one.toml", tmp_path / "sub"
    path.write_text(FILE, encoding="utf-8")
    elsewhere.mkdir()
    for target in (path, elsewhere / "one.toml"):
        assert cli.main(["plan", str(path), "--save", str(target)]) == 2
    assert "relative to its folder" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == FILE


@pytest.mark.parametrize("text", ["8xH100", "H100 x8", "h100-sxm = 8"])
def test_a_number_before_or_behind_a_device_is_what_is_on_hand(text: str, tmp_path: Path) -> None:
    saved = tmp_path / "asked.toml"
    words = ["plan", "meta-llama/Llama-3.1-8B", "--on", text, "--request-rate-rps", "1", "--set", "search.tp=1"]
    assert cli.main([*words, "--save", str(saved)]) == 0
    assert "stock = {h100-sxm = 8}" in saved.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "node"), [("2x DGX H100", "dgx-h100"), ("dgx-h100=2", "dgx-h100"), ("p5.48xlarge=2", "p5.48xlarge")]
)
def test_machines_are_offered_as_whole_nodes_with_all_their_devices(
    text: str, node: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "asked.toml"
    words = ["plan", "meta-llama/Llama-3.1-8B", "--on", text, "--request-rate-rps", "1", "--set", "search.tp=1"]
    assert cli.main([*words, "--save", str(saved)]) == 0
    written = saved.read_text(encoding="utf-8")
    assert f'nodes = ["{node}"]' in written
    assert "stock = {h100-sxm = 16}" in written
    assert "on offer: h100-sxm (16 on hand)" in " ".join(capsys.readouterr().out.split())


def test_a_node_is_found_in_any_spelling(tmp_path: Path) -> None:
    saved = tmp_path / "asked.toml"
    words = ["plan", "meta-llama/Llama-3.1-8B", "--on", "NVIDIA GB200 NVL72", "--request-rate-rps", "1"]
    assert cli.main([*words, "--set", "search.tp=1", "--save", str(saved)]) == 0
    assert 'nodes = ["gb200-nvl72"]' in saved.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["estimate", "meta-llama/Llama-3.1-8B", "--device", "h100", "--power-cap-w", "10"], "draws idle"),
        (["plan", "meta-llama/Llama-3.1-8B", "--on", "h100", "--set", "search.power_cap_w=10"], "draws idle"),
        (["op", "gemm", "1", "64", "64", "--device", "h100", "--power-cap-w", "10"], "draws idle"),
        (["power", "examples/row-power.toml", "--row-budget-kw", "400", "--caps", "0.05"], "draws idle"),
        (["estimate", "meta-llama/Llama-3.1-8B", "--device", "h100", "--max-num-seqs", "0"], "at least 1"),
        (["estimate", "meta-llama/Llama-3.1-8B", "--device", "h100", "--max-num-batched-tokens", "nan"], "at least 1"),
        (["plan", "meta-llama/Llama-3.1-8B", "--on", "h100", "--set", "workload.isl=5"], "isl"),
        (["plan", "meta-llama/Llama-3.1-8B", "--on", "2x DGX H100=3"], "is 16 of h100-sxm, not 3"),
    ],
)
def test_limits_that_cannot_hold_are_refused(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_a_limit_above_the_devices_own_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["estimate", "meta-llama/Llama-3.1-8B", "--device", "h100", "--power-cap-w", "5000", "--json"]
    assert cli.main(words) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert "5000 W is above the 700 W of h100-sxm" in row["remark"]
    assert cli.main([*words[:-2], "700", "--json"]) == 0
    assert "above the" not in json.loads(capsys.readouterr().out)[0]["remark"]
    assert cli.main(["op", "gemm", "64", "64", "64", "--device", "h100", "--power-cap-w", "5000"]) == 0
    assert "5000 W is above the 700 W of h100-sxm" in " ".join(capsys.readouterr().out.split())


def test_loads_are_written_without_exponents(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["estimate", "meta-llama/Llama-3.1-8B", "--device", "h100", "--json"]
    for option, told in (
        (["--batch", "1000000"], "1,000,000 requests in a batch"),
        (["--concurrency", "1234567"], "1,234,567 requests at once"),
        (["--request-rate-rps", "0.00001"], "0.00001 requests/s"),
    ):
        assert cli.main([*words, *option]) == 0
        assert json.loads(capsys.readouterr().out)[0]["load"] == told


def test_a_scenario_without_a_rate_is_named_by_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", "examples/small-4090.toml", "--capacity"]) == 2
    assert "examples/small-4090.toml: its requests do not come at a rate" in " ".join(capsys.readouterr().err.split())
