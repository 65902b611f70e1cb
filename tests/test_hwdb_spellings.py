"""Spellings of devices, and types of cloud instances, in every door."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

import cli
import hwdb
from hwdb import InputError, SeveralDevices, UnknownName
from hwdb.instances import instances
from hwdb.spelling import taken_apart
from search.fleet import plan_fleet
from search.planning import plan
from search.report.plan_page.sections import provenance_section
from search.scenario import load_scenario

#: "RTX 4090" as Chinese and Japanese keyboards write it.
FULL_WIDTH = "".join(chr(ord(c) + 0xFEE0) if c != " " else "\u3000" for c in "RTX 4090")

SPELLINGS = {
    "h100-sxm": ("H100", "h100sxm", "H100-SXM5-80GB", "H100 80GB HBM3", "NVIDIA H100 80GB HBM3"),
    "h100-pcie": ("NVIDIA H100 PCIe", "H100_PCIE", "h100 pcie 80gb"),
    "h100-nvl": ("NVIDIA H100 NVL", "H100 94GB"),
    "h200-sxm": ("H200", "NVIDIA H200", "H200 141GB"),
    "a100-sxm-80gb": ("A100-80", "A100-SXM4-80GB", "NVIDIA A100-SXM4-80GB", "A100 80GB", "A100-80G"),
    "a100-sxm-40gb": ("A100-SXM4-40GB", "A100 40GB"),
    "a100-pcie-80gb": ("NVIDIA A100 80GB PCIe",),
    "a100-pcie-40gb": ("NVIDIA A100-PCIE-40GB",),
    "l40s": ("L40S", "NVIDIA L40S", "l40-s"),
    "l4": ("NVIDIA L4",),
    "t4": ("Tesla T4", "NVIDIA T4"),
    "a10g": ("NVIDIA A10G", "A10G"),
    "rtx-4090": ("4090", "rtx4090", "RTX 4090", "NVIDIA GeForce RTX 4090", "RTX_4090 24GB", FULL_WIDTH),
    "rtx-4090d": ("RTX 4090 D", "4090D"),
    "rtx-3090-ti": ("NVIDIA GeForce RTX 3090 Ti", "3090ti"),
    "rtx-a6000": ("NVIDIA RTX A6000", "A6000"),
    "rtx-6000-ada": ("NVIDIA RTX 6000 Ada Generation",),
    "rtx-pro-6000-server": ("NVIDIA RTX PRO 6000 Blackwell Server Edition",),
    "rtx-pro-6000-ws": ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition",),
    "b200-sxm": ("B200", "NVIDIA B200"),
    "gh200-96gb": ("NVIDIA GH200 480GB", "GH200 96GB"),
    "gb10": ("NVIDIA GB10", "DGX Spark"),
    "v100-sxm2-16gb": ("Tesla V100-SXM2-16GB", "V100 16GB"),
    "v100-sxm2-32gb": ("V100 32GB",),
    "mi300x": ("MI300X", "AMD Instinct MI300X VF", "AMD Instinct MI300X OAM", "MI300X 192GB"),
    "rx-7900-xtx": ("AMD Radeon RX 7900 XTX", "7900 XTX"),
    "tpu-v5e": ("TPU v5e", "v5e", "TPU v5 lite"),
    "tpu-v6e": ("TPU v6e", "Trillium"),
    "ascend-910b3": ("Ascend910B3", "910B3", "Huawei Ascend 910B3"),
    "ascend-910c": ("Ascend 910C", "910C", "Ascend910_9392"),
    "gaudi3": ("Intel Gaudi 3", "Gaudi3", "HL-325L"),
    "epyc-9654": ("AMD EPYC 9654 96-Core Processor", "EPYC9654"),
    "xeon-8480p": ("Intel(R) Xeon(R) Platinum 8480+",),
    "trainium2": ("Trainium2", "trn2"),
    "m3-max": ("Apple M3 Max",),
    "b300-sxm": ("NVIDIA B300 SXM6 AC",),
    "mi250x": ("AMD Instinct MI250X",),
    "ryzen-ai-max-395": ("AMD RYZEN AI MAX+ 395 w/ Radeon 8060S", "Radeon 8060S Graphics"),
    "raspberry-pi-5": ("Raspberry Pi 5 Model B Rev 1.0",),
    "mi100": ("gfx908",),
    "jetson-orin-nano-8gb": ("Jetson Orin Nano", "NVIDIA Jetson Orin Nano Super"),
    "rtx-3060": ("RTX 3060 12GB", "NVIDIA GeForce RTX 3060", "3060"),
    "m4-pro": ("Apple M4 Pro",),
    "m2-max": ("Apple M2 Max",),
    "groq-lpu": ("Groq",),
    "m4-max": ("MacBook Pro M4 Max", "Apple MacBook Pro M4 Max 128GB"),
    "m3-ultra": ("Mac Studio M3 Ultra",),
    "m3": ("MacBook Air M3",),
    "rtx-4090-laptop": ("RTX 4090 Mobile",),
    "max-1550": ("Ponte Vecchio",),
    "xeon-8380": ("Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz",),
    "xeon-gold-6138": ("Intel(R) Xeon(R) Gold 6138 CPU @ 2.00GHz",),
    "core-i9-14900k": ("13th Gen Intel(R) Core(TM) i9-14900K",),
    "m1-max": ("M1 Max (10-core CPU, 32-core GPU)", "M1 Max 10-core CPU 32-core GPU"),
    "mi355x": ("MI355", "AMD MI355 OAM"),
    "mi325x": ("MI325",),
    "jetson-agx-thor": ("NVIDIA Thor",),
    "cloud-ai-100-ultra": ("Qualcomm AI100 Ultra",),
}
PAIRS = [(text, name) for name, texts in SPELLINGS.items() for text in texts]


@pytest.mark.parametrize(("text", "name"), PAIRS)
def test_clear_spellings_mean_one_device_and_say_so(text: str, name: str) -> None:
    found = hwdb.device(text)
    assert found == hwdb.device(name)
    assert found.reading == f"{text}: {name}"
    assert hwdb.device(name).reading == ""


@pytest.mark.parametrize("name", hwdb.load().names())
def test_case_and_separators_do_not_matter(name: str) -> None:
    rng = random.Random(name)
    text = "".join(rng.choice("-_ ") if c == "-" else c.upper() if rng.random() < 0.5 else c for c in name)
    assert hwdb.device(text).name == name


@pytest.mark.parametrize(
    ("text", "several"),
    [
        ("A100", "a100-pcie-40gb, a100-pcie-80gb, a100-sxm-40gb, a100-sxm-80gb"),
        ("NVIDIA A100 PCIe", "a100-pcie-40gb, a100-pcie-80gb"),
        ("V100", "v100-pcie-32gb, v100-sxm2-16gb, v100-sxm2-32gb"),
        ("GH200", "gh200-144gb, gh200-96gb"),
        ("NVIDIA RTX PRO 6000", "rtx-pro-6000-server, rtx-pro-6000-ws"),
        ("Mac mini", "m4, m4-pro"),
        ("DGX A100", "a100-sxm-40gb, a100-sxm-80gb, or the whole nodes dgx-a100-40gb, dgx-a100-80gb"),
        ("Trainium", "trainium1, trainium2, trainium3"),
        ("Grace Hopper", "gh200-144gb, gh200-96gb"),
        ("DGX GH200", "gh200-144gb, gh200-96gb"),
        ("Grace Blackwell", "gb200, gb300"),
        ("NVIDIA Grace", "gb200, gb300, gh200-144gb, gh200-96gb"),
        ("RTX PRO 6000 Blackwell 96GB", "rtx-pro-6000-server, rtx-pro-6000-ws"),
        ("MI300", "mi300a, mi300x"),
    ],
)
def test_a_name_of_several_devices_is_refused_with_them(text: str, several: str) -> None:
    with pytest.raises(hwdb.InputError, match=f"{text!r} may mean {several}; give one of these names"):
        hwdb.device(text)


@pytest.mark.parametrize(
    "text",
    [
        *("H100 96GB", "RTX 4090 48GB", "RTX 3080 12GB", "RTX 4065", "RTX 6000", "A100X", "B150"),
        *("H100 SXM6", "TPU v3", "MI300Y", "GTX 4090 Ti", "100", "250", "gpu", "NVIDIA", "L40X", "910B9", "", "m5 max"),
    ],
)
def test_what_means_no_device_is_refused(text: str) -> None:
    with pytest.raises(hwdb.UnknownName, match="unknown device"):
        hwdb.device(text)


def test_a_name_is_taken_apart() -> None:
    parts = taken_apart("NVIDIA H100 PCIe 80GB HBM2e")
    assert (parts.core, parts.forms, parts.memory, parts.memory_type) == ("h100", {"pcie"}, 80, "hbm2e")


@pytest.mark.parametrize(
    "text",
    [
        "8x NVIDIA H100 80GB HBM3",
        "8xH100",
        "H100 x8",
        "8 x h100-sxm",
        "H100*8",
        "h100:8",
        "8×H100",
        "HGX H100 8-GPU",
        "H100, 8 GPUs",
        "8 H100s",
        "H100 (8x)",
        "H100 (x8)",
        "h100-8x",
        "2x 4xH100",
        "2 nodes of 4x H100",
        "DGX H100 x1",
        "1x p5.48xlarge",
    ],
)
def test_a_number_of_devices_is_told_apart_from_the_device(text: str) -> None:
    with pytest.raises(InputError, match="is 8 of h100-sxm; give h100-sxm"):
        hwdb.device(text)


@pytest.mark.parametrize(
    ("text", "device", "count", "machine"),
    [
        ("2x DGX H100", "h100-sxm", 16, "dgx h100"),
        ("4 DGX H100", "h100-sxm", 32, "dgx h100"),
        ("2x GB200 NVL72", "gb200", 144, "gb200 nvl72"),
        ("3x g5.12xlarge", "a10g", 12, "g5.12xlarge"),
        ("2x HGX B200 8-GPU", "b200-sxm", 16, ""),
        ("2x DGX Spark", "gb10", 2, ""),
        ("2 L40S", "l40s", 2, ""),
        ("2x 8xH100", "h100-sxm", 16, ""),
        ("8x NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000-server", 8, ""),
    ],
)
def test_a_number_of_machines_is_one_of_all_their_devices(text: str, device: str, count: int, machine: str) -> None:
    with pytest.raises(SeveralDevices) as raised:
        hwdb.device(text)
    assert (raised.value.device, raised.value.count, raised.value.machine) == (device, count, machine)


@pytest.mark.parametrize("text", ["2x HGX H100", "2 boxes of H100", "2 nodes H100"])
def test_machines_of_an_unknown_number_of_devices_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=rf"{text}.* how many h100-sxm each machine holds"):
        hwdb.device(text)


@pytest.mark.parametrize("text", ["H100 3g.40gb", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "MIG-1g.5gb"])
def test_a_slice_of_a_device_says_how_it_is_described(text: str) -> None:
    with pytest.raises(UnknownName, match='MIG slice is described in a file of your own: like = "h100-sxm"'):
        hwdb.device(text)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("gfx90a", "mi210, mi250, mi250x"),
        ("gfx942", "mi300x, mi325x"),
        ("gfx950", "mi350x, mi355x"),
        ("AMD Instinct MI250X / MI250", "mi250, mi250x"),
    ],
)
def test_what_drivers_print_for_several_devices_offers_these(text: str, names: str) -> None:
    with pytest.raises(InputError, match=f"may mean {names}"):
        hwdb.device(text)


@pytest.mark.parametrize("text", ["x8", "8x", "8x8", "x", "*", "0x", "8xH999", "NVIDIA H100 80GB HBM3 MIG 1g.10gb"])
def test_what_is_no_device_is_not_known(text: str) -> None:
    with pytest.raises(UnknownName):
        hwdb.device(text)


# ---------------------------------------------------------------- cloud instances


@pytest.mark.parametrize(
    ("instance", "device", "count"),
    [
        ("p5.48xlarge", "h100-sxm", 8),
        ("g5.12xlarge", "a10g", 4),
        ("g6e.48xlarge", "l40s", 8),
        ("p4d.24xlarge", "a100-sxm-40gb", 8),
        ("a3-highgpu-8g", "h100-sxm", 8),
        ("g2-standard-48", "l4", 4),
        ("Standard_ND96isr_H100_v5", "h100-sxm", 8),
        ("standard_nc40ads_h100_v5", "h100-nvl", 1),
        ("BM.GPU.MI300X.8", "mi300x", 8),
        ("BM.GPU.MI355X-v1.8", "mi355x", 8),
        ("BM.GPU.GB300.4", "gb300", 4),
        ("gpu_8x_h100_sxm5", "h100-sxm", 8),
        ("gpu_1x_gh200", "gh200-96gb", 1),
        ("ct6e-standard-8t", "tpu-v6e", 8),
        ("v5litepod-4", "tpu-v5e", 4),
        ("p6e-gb200.36xlarge", "gb200", 4),
        ("gx3d-160x1792x8gaudi3", "gaudi3", 8),
        ("ml.p5.48xlarge", "h100-sxm", 8),
        ("ND96isr_MI300X_v5", "mi300x", 8),
        ("ND H100 v5", "h100-sxm", 8),
        ("p4d", "a100-sxm-40gb", 8),
        ("g7e.12xlarge", "rtx-pro-6000-server", 2),
    ],
)
def test_an_instance_is_a_node_of_its_devices(instance: str, device: str, count: int) -> None:
    node = hwdb.node(instance)
    assert (node.device, node.count) == (device, count)
    assert hwdb.device(instance).name == device
    assert hwdb.device(instance).reading == f"{instance}: {count} x {device}"


@pytest.mark.parametrize(
    ("instance", "device", "count", "gib"),
    [
        ("c7i.48xlarge", "xeon-8480p", 2, 192),
        ("r7i.24xlarge", "xeon-8480p", 1, 768),
        ("m7g.16xlarge", "graviton3", 1, 256),
        ("r8g.48xlarge", "graviton4", 2, 768),
        ("c3-standard-176", "xeon-8480p", 2, 352),
        ("D192s_v6", "xeon-8592p", 2, 384),
    ],
)
def test_a_processor_of_an_instance_has_its_share_of_the_memory(
    instance: str, device: str, count: int, gib: int
) -> None:
    found, node = hwdb.device(instance), hwdb.node(instance)
    assert (found.name, node.device, node.count) == (device, device, count)
    assert found.memory == gib * 2.0**30
    assert found.reading == f"{instance}: {count} x {device} with {gib} GiB each"
    assert found.bandwidth == hwdb.device(device).bandwidth
    assert hwdb.device("p5.48xlarge").memory == hwdb.device("h100-sxm").memory, "that of a card is its own"


def test_every_instance_names_a_known_device_and_a_source() -> None:
    names = hwdb.load().names()
    for one in instances().values():
        node = hwdb.node(one.name)
        assert one.device in names, one.name
        assert one.source
        assert (node.device, node.count) == (one.device, one.count), one.name


def test_the_network_of_an_instance_is_shared_by_its_devices() -> None:
    assert hwdb.node("p5.48xlarge").net.bandwidth == pytest.approx(3200e9 / 8 / 8)
    assert hwdb.node("p5.48xlarge").host_power == hwdb.node("dgx-h100").host_power


# ---------------------------------------------------------------- doors

SCENARIO = """
[model]
name = "RedHatAI/Llama-3.2-3B-Instruct-FP8"
[workload]
input_tokens = 500
output_tokens = 100
request_rate_rps = 1
[hardware]
devices = ["RTX 4090"]
nodes = ["p5.48xlarge"]
stock = { "4090" = 2, H100 = 8 }
usd_per_hour = { "NVIDIA L40S" = 1.5 }
[search]
tp = [1]
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "scenario.toml"
    path.write_text(SCENARIO, encoding="utf-8")
    return path


def test_a_scenario_takes_spellings_for_devices_nodes_stock_and_prices(scenario: Path) -> None:
    offer = load_scenario(scenario).offer
    assert offer.devices == ("rtx-4090", "h100-sxm")
    assert offer.stock == {"rtx-4090": 2, "h100-sxm": 8}
    assert offer.usd_per_hour == {"l40s": 1.5}


def test_a_number_of_machines_is_one_of_their_devices_and_a_price_is_shared(scenario: Path) -> None:
    text = SCENARIO.replace("H100 = 8", '"p5.48xlarge" = 2').replace('"NVIDIA L40S" = 1.5', '"p5.48xlarge" = 55.0')
    scenario.write_text(text, encoding="utf-8")
    offer = load_scenario(scenario).offer
    assert offer.stock == {"rtx-4090": 2, "h100-sxm": 16}
    assert offer.usd_per_hour == pytest.approx({"h100-sxm": 55 / 8})


def test_two_spellings_of_one_device_are_no_two_entries(scenario: Path) -> None:
    scenario.write_text(SCENARIO.replace("H100 = 8", "rtx-4090 = 8"), encoding="utf-8")
    with pytest.raises(hwdb.InputError, match="rtx-4090 is given twice"):
        load_scenario(scenario)


def test_plans_fleets_and_reports_say_what_names_were_taken_for(scenario: Path) -> None:
    scenario.write_text(SCENARIO + "pp = [1]\nmax_num_seqs = 64\nmax_num_batched_tokens = 8192\n", encoding="utf-8")
    asked = load_scenario(scenario)
    wanted = ("RedHatAI/Llama-3.2-3B-Instruct-FP8: ", "RTX 4090: rtx-4090")
    found = plan(asked)
    remarks = {row["device"]: row["remark"] for row in found.rows(None)}
    assert all(text in remarks["rtx-4090"] for text in wanted)
    assert "p5.48xlarge: 8 x h100-sxm" in remarks["h100-sxm"]
    sentence = "; ".join([*provenance_section(found).notes, *plan_fleet(asked).problem.remarks])
    assert all(sentence.count(text) >= 2 for text in (*wanted, "p5.48xlarge: 8 x h100-sxm"))


def test_commands_say_what_names_were_taken_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["estimate", "Qwen3-8B", "--device", "NVIDIA L40S", "--usd-per-hour", "L40S=2", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["device"], row["usd_per_hour"]) == ("l40s", 2.0)
    assert "NVIDIA L40S: l40s" in row["remark"]
    assert cli.main(["models", "show", "unsloth/Qwen3-8B-bnb-4bit", "--json"]) == 0
    assert "Qwen/Qwen3-8B, int4" in capsys.readouterr().out


def test_a_fleet_takes_spellings(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(
        """
[[fleet.class]]
name = "chat"
request_rate_rps = 1
model = "Llama-3.1-8B-Instruct-AWQ"
input_tokens = 100
output_tokens = 10
[[fleet.option]]
device = "NVIDIA A100-SXM4-80GB"
[[fleet.option]]
name = "a card of our own"
device = "home-made"
throughput_rps = [3]
usd_per_hour = 1
""",
        encoding="utf-8",
    )
    found = load_scenario(path)
    assert found.fleet is not None
    assert [o.device for o in found.fleet.options] == ["a100-sxm-80gb", "home-made"]
    assert any("int4 (AWQ)" in text for text in found.readings)
    assert "NVIDIA A100-SXM4-80GB: a100-sxm-80gb" in found.readings


@pytest.mark.parametrize(
    ("family", "types"),
    [("g6e", "g6e.xlarge, g6e.12xlarge, g6e.48xlarge"), ("NC H100 v5", "NC40ads_H100_v5, Standard_NC80adis_H100_v5")],
)
def test_a_family_of_instances_of_several_sizes_is_refused_with_them(family: str, types: str) -> None:
    for look_up in (hwdb.device, hwdb.node):
        with pytest.raises(InputError, match=f"{family!r} may mean .*{types}.*; give one type"):
            look_up(family)


@pytest.mark.parametrize(
    ("text", "device", "count"),
    [
        *(("v5e-4", "tpu-v5e", 4), ("v5p-8", "tpu-v5p", 4), ("v4-8", "tpu-v4", 4), ("tpu-v4-8", "tpu-v4", 4)),
        *(("tpu7x-4", "tpu-v7x", 4), ("v5litepod-16", "tpu-v5e", 16)),
        ("2x3090", "rtx-3090", 2),
    ],
)
def test_slices_and_bare_numbers_say_how_many_devices_they_are(text: str, device: str, count: int) -> None:
    with pytest.raises(InputError, match=f"is {count} of {device}; give {device}"):
        hwdb.device(text)


@pytest.mark.parametrize(("text", "device"), [("v5p-1", "tpu-v5p"), ("v4-3", "tpu-v4"), ("h100:0", "h100-sxm")])
def test_no_device_or_a_part_of_one_is_refused(text: str, device: str) -> None:
    with pytest.raises(InputError, match=f"{text!r} is no whole number of {device} above 0; give {device}$"):
        hwdb.device(text)


@pytest.mark.parametrize(
    ("family", "device"),
    [
        *(("ND A100 v4", "a100-sxm-40gb"), ("ND96asr_v4", "a100-sxm-40gb"), ("ND v4", "a100-sxm-40gb")),
        *(("NDm A100 v4", "a100-sxm-80gb"), ("ND96amsr_A100_v4", "a100-sxm-80gb"), ("ND H100 v5", "h100-sxm")),
    ],
)
def test_families_of_azure_tell_the_memory_of_their_devices(family: str, device: str) -> None:
    assert hwdb.device(family).name == hwdb.node(family).device == device


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("B200 192GB", ["b200-sxm"]),  # of another size
        ("4090 48GB", ["rtx-4090"]),
        ("MLU370", ["mlu370-x8"]),  # the word with a digit
        ("RTX 6000", ["rtx-6000-ada", "rtx-pro-6000-ws", "rtx-pro-6000-max-q", "rtx-pro-6000-server"]),  # all words
        ("6000 Pro", ["rtx-pro-6000-max-q", "rtx-pro-6000-server", "rtx-pro-6000-ws", "rtx-pro-6000-8way-pcie"]),
        ("NVL72", ["gb300-nvl72", "gb200-nvl72"]),  # nodes too
        ("MacBook Pro M5", ["m4", "m4-max", "m4-pro", "m3"]),  # the nearest generation
        ("M5 Max", ["m4-max", "m4", "m4-pro", "m3-max"]),
        ("H300", ["h200-nvl", "h200-sxm", "h100-nvl", "h100-sxm"]),
        ("Trainium4", ["trainium3", "trainium2", "trainium1"]),
    ],
)
def test_a_name_of_no_device_is_offered_those_with_its_telling_words(typed: str, offered: list[str]) -> None:
    with pytest.raises(UnknownName) as told:
        hwdb.device(typed)
    assert told.value.nearest == offered


def test_a_family_without_a_known_number_is_offered_its_own_members() -> None:
    with pytest.raises(UnknownName) as told:
        hwdb.device("EPYC Turin")
    assert told.value.nearest
    assert all(name.startswith("epyc-") for name in told.value.nearest)


@pytest.mark.parametrize(
    ("typed", "device"),
    [("Moore Threads S4000", "mtt-s4000"), ("Biren BR100", "br100"), ("AMD EPYC 7763 64-Core Processor", "epyc-7763")],
)
def test_makers_go_without_saying(typed: str, device: str) -> None:
    assert hwdb.device(typed).name == device
