"""Formats that a scenario leaves to the search: which devices run them, and which need a quantised checkpoint."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

import cli
import hwdb
from hwdb import InputError
from perfmodel import deployments, engine, model
from perfmodel.costs import Roofline
from perfmodel.dtypes import FORMAT_NAMES, storage
from perfmodel.engines import keeps_cache_in
from perfmodel.estimates import configuration_remarks
from perfmodel.models import aliases
from search import Plan, load_scenario, plan
from search.planning import checkpoint_offer, format_offer, plan_and_narrower
from search.planning.configuration.quantised import KERNELS, needs_checkpoint, published, weights_on

TEXT = """
[model]
name = "{model}"
[workload]
input_tokens = 500
output_tokens = 100
request_rate_rps = 2
[slo]
tpot_ms = 60
[hardware]
devices = ["a100-sxm-80gb", "h100-sxm", "b200-sxm", "mi300x", "mi355x", "tpu-v6e"]
[engine]
name = "{engine}"
[search]
tp = [1]
pp = [1]
{search}
"""


def planned(folder: Path, search: str, spec: str = "meta-llama/Llama-3.1-8B-Instruct", name: str = "vllm") -> Plan:
    path = folder / "scenario.toml"
    path.write_text(TEXT.format(model=spec, engine=name, search=search), encoding="utf-8")
    return plan(load_scenario(path), costs=Roofline())


def tried(found: Plan, axis: str) -> dict[str, set[str]]:
    """Formats by device; "own" for the model's."""
    layouts = found.layouts
    codes = getattr(layouts, axis).tolist()
    out: dict[str, set[str]] = {}
    for device, code in zip(layouts.device.tolist(), codes, strict=True):
        name = FORMAT_NAMES[code] if code >= 0 else "own"
        out.setdefault(layouts.devices[device].name, set()).add(name)
    return out


def test_auto_tries_what_each_device_runs(tmp_path: Path) -> None:
    found = planned(tmp_path, 'weight = "auto"\nkv = "auto"')
    assert tried(found, "weight") == {
        "a100-sxm-80gb": {"own", "int8", "int4"},
        "h100-sxm": {"own", "fp8", "int4"},
        "b200-sxm": {"own", "fp8", "fp4", "int4"},
        "mi300x": {"own", "fp8"},
        "mi355x": {"own", "fp8", "mxfp4"},
        "tpu-v6e": {"own"},
    }
    assert tried(found, "kv")["h100-sxm"] == {"own", "fp8"}
    assert tried(found, "kv")["a100-sxm-80gb"] == {"own"}


@pytest.mark.parametrize("name", ["vllm", "sglang", "trtllm", "llamacpp", "mindie"])
@pytest.mark.parametrize("spec", ["meta-llama/Llama-3.1-8B", "deepseek-ai/DeepSeek-V3", "openai/gpt-oss-120b"])
def test_formats_are_narrower_than_the_models_own_and_have_kernels(name: str, spec: str) -> None:
    chosen, shape = engine(name), model(spec)
    bits = np.floor(storage(shape.weight_format).bits)
    for device in hwdb.devices():
        codes = weights_on(shape, chosen, device)
        assert -1 in codes
        for code in codes - {-1}:
            assert np.floor(storage(FORMAT_NAMES[code]).bits) < bits  # scales beside the numbers do not count
            kernel = next(k for k in KERNELS if k.format == FORMAT_NAMES[code])
            assert chosen.family in kernel.engines
            if FORMAT_NAMES[code] == "fp4":
                assert device.vendor == "NVIDIA"
                assert np.isfinite(device.peak("fp4"))


def test_more_formats_never_make_a_plan_dearer_and_rows_say_that_a_checkpoint_must_exist(tmp_path: Path) -> None:
    own, wide = planned(tmp_path, ""), planned(tmp_path, 'weight = "auto"')
    assert wide.columns["usd_per_hour"][wide.best] <= own.columns["usd_per_hour"][own.best]
    rows = wide.rows(None)
    narrow = [row for row in rows if row["weight"] in ("int4", "fp4", "int8")]
    assert narrow
    for row in rows:
        stored = row["weight"] in ("int4", "fp4", "int8", "mxfp4")
        assert f"{row['weight']} checkpoint" in row["candidate"] if stored else "checkpoint" not in row["candidate"]
        assert ("need a checkpoint" in row.get("remark", "")) is stored
    assert any("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16" in row["remark"] for row in narrow)


def test_formats_that_are_listed_are_tried_everywhere_besides(tmp_path: Path) -> None:
    found = tried(planned(tmp_path, 'weight = ["auto", "int8"]'), "weight")
    assert all({"own", "int8"} <= formats for formats in found.values())
    assert tried(planned(tmp_path, 'weight = ["bf16", "int4"]'), "weight")["mi300x"] == {"bf16", "int4"}


def test_a_quantised_model_is_offered_no_format_of_its_own_bits(tmp_path: Path) -> None:
    """DeepSeek-V3 is stored as fp8 in blocks, gpt-oss as mxfp4: other scales of as many bits are not narrower."""
    search = "[limits]\ndevices = 64"
    assert "fp8" not in checkpoint_offer(planned(tmp_path, search, spec="deepseek-ai/DeepSeek-V3"))
    assert checkpoint_offer(planned(tmp_path, search, spec="openai/gpt-oss-20b")) == ""


def test_narrower_weights_are_offered_only_where_they_can_be_compared(tmp_path: Path) -> None:
    """Without any price the ranking by cost compares nothing; with one, the sentence states both costs."""
    bare = TEXT.replace('["a100-sxm-80gb", "h100-sxm", "b200-sxm", "mi300x", "mi355x", "tpu-v6e"]', '["gaudi3"]')
    path = tmp_path / "bare.toml"
    path.write_text(bare.format(model="meta-llama/Llama-3.1-8B", engine="vllm", search=""), encoding="utf-8")
    assert format_offer(plan(load_scenario(path), costs=Roofline())) == ""
    priced = bare.replace("[engine]", "usd_per_hour = {{ gaudi3 = 2.5 }}\n[engine]").replace("_rps = 2", "_rps = 900")
    path.write_text(priced.format(model="meta-llama/Llama-3.1-8B", engine="vllm", search=""), encoding="utf-8")
    assert "in place of $" in format_offer(plan(load_scenario(path), costs=Roofline()))


def test_what_is_not_tried_is_offered(tmp_path: Path) -> None:
    said = checkpoint_offer(planned(tmp_path, ""))
    assert "int8, fp4, mxfp4 or int4" in said
    assert 'weight = "auto"' in said
    assert checkpoint_offer(planned(tmp_path, 'weight = ["bf16"]')) == ""
    assert "fp8" in checkpoint_offer(planned(tmp_path, "", name="trtllm"))  # which quantises nothing as it loads


def test_an_engine_needs_no_checkpoint_of_what_it_quantises_or_the_model_is_stored_in() -> None:
    def needed(spec: str, name: str) -> set[str]:
        return {FORMAT_NAMES[code] for code in needs_checkpoint(model(spec), engine(name))}

    assert "fp8" not in needed("meta-llama/Llama-3.1-8B", "vllm")
    assert "fp8" in needed("meta-llama/Llama-3.1-8B", "trtllm")
    assert "mxfp4" not in needed("openai/gpt-oss-120b", "vllm")
    assert "int4" in needed("openai/gpt-oss-120b", "vllm")
    assert needed("meta-llama/Llama-3.1-8B", "llamacpp") == set()


def test_published_checkpoints_are_of_the_model_and_not_of_one_of_its_shape() -> None:
    assert published("meta-llama/Llama-3.1-8B-Instruct")["fp8"].endswith("Llama-3.1-8B-Instruct-FP8")
    assert "fp8" not in published("meta-llama/Llama-3.1-8B")  # the copies are of the instruct model
    assert not published("deepseek-ai/DeepSeek-R1-Distill-Llama-8B")
    for name in aliases():
        for stored, copy in published(name).items():
            assert model(copy).weight_format == stored
            assert storage(stored).bits < 16
            assert model(copy).parameters() == pytest.approx(model(name).parameters(), rel=1e-3)


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown number format 'automatic'"):
        planned(tmp_path, 'weight = "automatic"')


BUSY = re.sub(r"devices = .*", 'devices = ["h100-sxm"]', TEXT).replace("rps = 2", "rps = 300")
POOLS = BUSY.replace("request_rate_rps = 300", 'arrival = "closed"').replace(
    "{search}", 'modes = ["colocated", "disaggregated"]\n[objective]\nrank_by = "output_tok_s_per_device"'
)


@pytest.mark.parametrize("text", [BUSY, POOLS])
def test_a_plan_made_with_the_narrower_one_is_the_same_and_so_is_the_sentence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(text.format(model="meta-llama/Llama-3.1-8B-Instruct", engine="vllm", search=""), encoding="utf-8")
    scenario = load_scenario(path)
    alone = plan(scenario)
    shown: list[Plan] = []
    found, narrower = plan_and_narrower(scenario, shown.append)
    assert shown == [found]
    assert narrower is not None
    assert set(narrower.layouts.weight.tolist()) == {FORMAT_NAMES.index("fp8")}
    for name, column in alone.columns.items():
        np.testing.assert_allclose(found.columns[name], column, rtol=1e-9, err_msg=name)
    told = format_offer(found, found=narrower)
    assert told.startswith("fp8 weights")
    assert told == format_offer(alone)
    names = [[row["candidate"] for row in each.rows(3, 2)] for each in (found, alone)]  # asked when both are made
    assert names[0] == names[1]


def test_no_narrower_plan_is_made_where_the_format_was_decided(tmp_path: Path) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(
        TEXT.format(model="meta-llama/Llama-3.1-8B-Instruct", engine="vllm", search='weight = ["bf16"]'),
        encoding="utf-8",
    )
    assert plan_and_narrower(load_scenario(path), lambda _: None)[1] is None


def test_a_plan_stands_where_nothing_is_legal_in_the_narrower_format(tmp_path: Path) -> None:
    """H100 alone multiplies fp8 here, and one is too few for a replica."""
    text = TEXT.replace(
        '["a100-sxm-80gb", "h100-sxm", "b200-sxm", "mi300x", "mi355x", "tpu-v6e"]', '["a100-sxm-80gb", "h100-sxm"]'
    )
    text = text.replace("tp = [1]", "tp = [2]").replace("[engine]", "stock = {{ h100-sxm = 1 }}\n[engine]")
    path = tmp_path / "scenario.toml"
    path.write_text(text.format(model="meta-llama/Llama-3.1-8B", engine="vllm", search=""), encoding="utf-8")
    found, narrower = plan_and_narrower(load_scenario(path), lambda _: None)
    assert found.feasible
    assert narrower is None
    assert format_offer(found) == ""


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("moonshotai/Kimi-K2-Thinking", "int4_g32"),  # native INT4 experts, 16 bits elsewhere
        ("meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8", "fp8"),
        ("amd/DeepSeek-R1-MXFP4-Preview", "mxfp4"),
        ("Qwen/Qwen3-8B", "bf16"),
    ],
)
def test_weights_are_called_by_the_format_of_most_of_them(
    name: str, stored: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = model(name)
    held = {part: size for part, size in spec.weight_bytes().items() if spec.format_of(part).name == stored}
    assert spec.weight_format == stored
    assert sum(held.values()) > 0.5 * sum(spec.weight_bytes().values())
    assert cli.main(["estimate", name, "--device", "h200-sxm", "--tp", "8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["weights"] == stored
    assert cli.main(["models", "show", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["weight_format"] == stored


def test_where_a_narrower_format_saves_no_money_the_wider_one_comes_first(tmp_path: Path) -> None:
    """One device of a kind serves the load in any format: equal cost, equally sure, and the own format answers best."""
    listed = 'weight = ["bf16", "fp8", "int4"]\nkv = ["bf16", "fp8"]\n'
    found = planned(tmp_path, listed)
    rows = [row for row in found.rows() if row["qualifies"]]
    bits = [storage(row["weight"]).bits + storage(row["kv"]).bits for row in rows]
    alike: dict[tuple[object, ...], list[float]] = {}
    for row, width in zip(rows, bits, strict=True):
        if row["slo_chance"] >= 0.8:
            alike.setdefault((row["usd_per_hour"], row["devices"]), []).append(width)
    assert any(len(set(widths)) > 1 for widths in alike.values())
    for widths in alike.values():
        assert widths == sorted(widths, reverse=True)


def test_a_cache_in_a_format_that_the_engine_does_not_have_is_refused(tmp_path: Path) -> None:
    """vLLM has no llama.cpp formats, SGLang no int4: such candidates are left out, with the reason."""
    found = planned(tmp_path, 'kv = ["bf16", "q4_0"]')
    assert set().union(*tried(found, "kv").values()) == {"bf16"}
    assert any(row["rule"] == "formats" and row["removed"] for row in found.removed)
    with pytest.raises(InputError, match="int4 KV cache"):
        planned(tmp_path, 'kv = ["int4"]', name="sglang")


def test_estimates_say_that_an_engine_cannot_keep_its_cache_in_a_format() -> None:
    row = deployments([hwdb.built_in().device("h100-sxm")], kv=["q4_0", "fp8", "int4"])
    remarks = configuration_remarks(model("llama-3.1-8b"), row, engine("vllm"), 100.0)
    assert "keeps no KV cache in q4_0" in remarks[0]
    assert all("KV cache" not in text for text in remarks[1:])


def test_what_export_writes_of_a_cache_the_engine_has() -> None:
    text = (Path(cli.__file__).parent / "search/deploy/engine_settings/templates.toml").read_text(encoding="utf-8")
    known = tomllib.loads(text)
    for family in ("vllm", "sglang", "trtllm", "llamacpp"):
        stated = known["engine"][family]["flags"]["kv"]
        named = {*stated["values"], *stated.get("also", {}).values()} - {"own"}
        assert named
        assert all(keeps_cache_in(family, name) for name in named), family
