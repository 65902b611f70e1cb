"""The hardware database: units, provenance after loading, what it must contain, and what malformed files are told."""

from __future__ import annotations

import dataclasses
import math
import pickle
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hwdb
from hwdb import store
from hwdb.devicefile import FIGURES
from hwdb.record import KINDS
from hwdb.units import UNITS, dimension, from_si, to_si

#: Devices that published LLM serving measurements name.
WANTED = [
    "a100-pcie-80gb", "a100-sxm-40gb", "a100-sxm-80gb", "a10g", "a40", "a800-sxm-80gb", "arc-pro-b60",
    "ascend-310p3", "ascend-910b", "ascend-910b2", "ascend-910b3", "ascend-910c", "b200-sxm", "b300-sxm",
    "epyc-9355", "epyc-9965", "gaudi2", "gb200", "gb300", "gh200-144gb", "gh200-96gb", "h100-nvl",
    "h100-pcie", "h100-sxm", "h20", "h20-3e", "h200-nvl", "h200-sxm", "h800-sxm", "inferentia2",
    "jetson-agx-orin-64gb", "l4", "l40s", "m1", "m1-max", "m2-max-cpu", "m2-ultra", "m3-max", "max-1550",
    "mi250", "mi300x", "mi325x", "mi355x", "rtx-3070", "rtx-3080", "rtx-3080-ti", "rtx-3090",
    "rtx-3090-ti", "rtx-4000-ada", "rtx-4070-ti", "rtx-4080", "rtx-4090", "rtx-4090d", "rtx-5000-ada",
    "rtx-5090", "rtx-6000-ada", "rtx-a6000", "rtx-pro-6000-server", "rx-7900-xtx", "ryzen-9-7950x",
    "sn40l", "t4", "tpu-v5e", "tpu-v6e", "trainium1", "v100-pcie-32gb", "v100s-pcie-32gb", "xeon-6787p",
    "xeon-6980p", "xeon-gold-6138",
]  # fmt: skip

DEVICE = """
title = "My card"
vendor = "Me"
arch = "Mine"
kind = "gpu"

[sources]
page = "Product page of my card"

[peak]
bf16 = { value = 100, unit = "TFLOP/s", kind = "rated", source = "page" }

[memory]
capacity = { value = 24, unit = "GiB", kind = "rated", source = "page" }
bandwidth = { value = 900, unit = "GB/s", kind = "rated", source = "page" }

[link]
topology = "pcie"
peers = 8
bandwidth = { value = 32, unit = "GB/s", kind = "rated", source = "page" }
"""

NODE = """
title = "My server"
device = "my-card"
count = 4

[link]
topology = "pcie"
peers = 4
bandwidth = { value = 32, unit = "GB/s", kind = "rated", source = "Handbook of my server" }
"""

PRICES = """
provider = "Me"

[[price]]
device = "my-card"
usd_per_hour = 8
per = 4
kind = "on_demand"
date = "2026-05"
source = "Invoice of May"
"""


def folder(tmp_path: Path, device: str = DEVICE, node: str = NODE, prices: str = PRICES) -> Path:
    for part, name, text in (("devices", "my-card", device), ("nodes", "my-server", node), ("prices", "mine", prices)):
        (tmp_path / part).mkdir(exist_ok=True)
        (tmp_path / part / f"{name}.toml").write_text(text)
    return tmp_path


# ---------------------------------------------------------------- units

_value = st.floats(min_value=1e-6, max_value=1e9, allow_nan=False)


@given(_value, st.sampled_from(sorted(UNITS)))
def test_a_value_survives_the_way_to_si_and_back(value: float, unit: str) -> None:
    assert from_si(to_si(value, unit), unit) == pytest.approx(value, rel=1e-12)


@given(_value, st.sampled_from(sorted(UNITS)), st.sampled_from(sorted(UNITS)))
def test_the_same_quantity_in_another_unit_is_the_same_in_si(value: float, first: str, second: str) -> None:
    if dimension(first) == dimension(second):
        assert to_si(from_si(to_si(value, first), second), second) == pytest.approx(to_si(value, first), rel=1e-12)


def test_prefixes_are_decimal_and_bits_are_eighths_of_bytes() -> None:
    assert to_si(1, "GB/s") == 1e9
    assert to_si(1, "GiB") == 2**30
    assert to_si(800, "Gb/s") == 100e9
    assert to_si(1, "TOP/s") == to_si(1, "TFLOP/s") == 1e12
    assert to_si(3600, "USD/h") == 1.0


def test_an_unknown_unit_names_the_nearest() -> None:
    with pytest.raises(hwdb.InputError, match=r"unknown unit 'GBps'.*'GB/s'"):
        to_si(1, "GBps")


# ---------------------------------------------------------------- what the database holds


@pytest.fixture(scope="module")
def built_in() -> store.Hwdb:
    return store._load((Path(store.__file__).parent,))


def test_there_are_75_devices_and_every_wanted_one(built_in: store.Hwdb) -> None:
    assert len(built_in.names()) >= 75
    assert sorted(set(WANTED) - set(built_in.names())) == []


def _records(built_in: store.Hwdb) -> list[tuple[str, str, hwdb.Record]]:
    owners = [*built_in.devices(), *built_in.nodes()]
    found = [(o.name, key, record) for o in owners for key, record in o.records.items()]
    return [*found, *((name, key, other) for name, key, record in found for other in record.alternatives)]


def test_every_figure_carries_its_provenance_after_loading(built_in: store.Hwdb) -> None:
    records = _records(built_in)
    assert len(records) > 1500
    for name, key, record in records:
        assert len(record.source) > 6, f"{name} {key}: {record.source!r} is no publication"
        assert record.kind in KINDS
        assert math.isfinite(record.si)
        assert "/work" not in record.source + record.note, f"{name} {key}"


def test_assumed_and_derived_figures_say_how(built_in: store.Hwdb) -> None:
    silent = [f"{n} {k}" for n, k, r in _records(built_in) if r.kind in ("assumed", "derived") and not r.note]
    assert [s for s in silent if not s.endswith(("host.idle", "host.memory"))] == []


def test_every_device_can_be_estimated(built_in: store.Hwdb) -> None:
    for device in built_in.devices():
        assert device.memory > 0, device.name
        assert device.bandwidth > 0, device.name
        assert any(device.peak(t) > 0 for t in ("bf16", "fp16", "fp32")), device.name
        assert device.link.peers == 1 or device.link.topology != "none", device.name


def test_peaks_are_dense_and_ceilings_are_below_them(built_in: store.Hwdb) -> None:
    assert [remark for device in built_in.devices() for remark in device.remarks()] == []


def test_a_rate_with_sparsity_and_a_ceiling_above_the_peak_are_remarked(built_in: store.Hwdb) -> None:
    h100 = built_in.device("h100-sxm")
    sparse = hwdb.Record(3958, "TFLOP/s", "rated", "the headline")
    fast = hwdb.Record(2000, "TFLOP/s", "measured", "a wrong clock")
    changed = dataclasses.replace(h100, records={**h100.records, "peak.fp8": sparse, "measured.gemm.bf16": fast})
    assert [r.split(":")[1].split(" is ")[0] for r in changed.remarks()] == [" peak.fp8", " measured.gemm.bf16"]


@pytest.mark.parametrize(
    ("name", "dtype", "tera"),
    [
        ("a100-sxm-80gb", "bf16", 312),
        ("h100-sxm", "bf16", 989),
        ("h100-sxm", "fp8", 1979),
        ("b200-sxm", "fp4", 9000),
        ("mi300x", "bf16", 1307),
        ("rtx-4090", "bf16", 165.2),
        ("rtx-5090", "bf16", 209.5),
        ("rtx-3090", "fp16", 71),
        ("l4", "fp8", 242),
        ("tpu-v6e", "bf16", 918),
    ],
)
def test_published_dense_peaks(built_in: store.Hwdb, name: str, dtype: str, tera: float) -> None:
    assert built_in.device(name).peak(dtype) == pytest.approx(tera * 1e12, rel=1e-6)


def test_geforce_keeps_the_fp16_accumulate_rate_as_the_refused_alternative(built_in: store.Hwdb) -> None:
    record = built_in.device("rtx-4090").records["peak.bf16"]
    assert [other.number for other in record.alternatives] == [330.3]
    assert "fp16" in record.alternatives[0].note


def test_what_is_not_known_is_nan(built_in: store.Hwdb) -> None:
    assert math.isnan(built_in.device("a100-sxm-80gb").peak("fp8"))
    assert math.isnan(built_in.device("tpu-v5e").tdp)
    assert math.isnan(built_in.device("tpu-v5e").ridge("fp4"))
    assert math.isnan(built_in.device("m1").tdp)
    assert math.isnan(built_in.device("mi355x").measured("gemm.fp8"))


def test_ridge_points_fall_with_precision_and_match_the_closed_form(built_in: store.Hwdb) -> None:
    h100 = built_in.device("h100-sxm")
    assert h100.ridge("bf16") == pytest.approx(989e12 / 3350e9, rel=1e-12)
    assert h100.ridge("fp8") == pytest.approx(2 * h100.ridge("bf16"), rel=1e-3)


def test_asking_for_a_type_or_ceiling_that_does_not_exist(built_in: store.Hwdb) -> None:
    with pytest.raises(hwdb.UnknownName, match=r"'bf61'.*'bf16'"):
        built_in.device("h100-sxm").peak("bf61")
    with pytest.raises(hwdb.UnknownName, match=r"gemm\.bf16"):
        built_in.device("h100-sxm").measured("gemm.bf61")


def test_links_are_counted_in_one_direction(built_in: store.Hwdb) -> None:
    assert built_in.device("h100-sxm").link.bandwidth == 450e9
    assert built_in.device("gb200").link.peers == 72
    mesh = built_in.device("mi300x").link
    assert mesh.topology == "mesh"
    assert mesh.bandwidth / (mesh.peers - 1) == pytest.approx(64e9)


def test_nodes_hold_known_devices_and_agree_with_their_links(built_in: store.Hwdb) -> None:
    nodes = built_in.nodes()
    assert {"dgx-a100-80gb", "dgx-h100", "dgx-h200", "dgx-b200", "gb200-nvl72", "mi300x-8way", "mi355x-8way",
            "atlas-800-a2", "atlas-800-a3", "l40s-8way-pcie", "rtx-4090-8way-pcie", "xeon-6980p-1s", "xeon-6980p-2s",
            "desktop-rtx-4090"} <= {node.name for node in nodes}  # fmt: skip
    for node in nodes:
        device = built_in.device(node.device)
        assert node.host_power > 0, node.name
        if node.count > 1:
            assert node.link.bandwidth == pytest.approx(device.link.bandwidth, rel=1e-3), node.name
            assert node.link.peers == node.count, node.name


def test_host_power_is_what_the_devices_leave(built_in: store.Hwdb) -> None:
    for name in ("dgx-a100-80gb", "dgx-h100", "dgx-b200", "gb200-nvl72"):
        node = built_in.node(name)
        tdp = built_in.device(node.device).tdp
        assert node.host_power == pytest.approx(node.total_power - node.count * tdp), name


def test_nodes_of_a_device(built_in: store.Hwdb) -> None:
    assert [node.name for node in built_in.nodes("h100-sxm")] == ["dgx-h100"]


def test_prices_are_dated_sourced_and_per_device(built_in: store.Hwdb) -> None:
    prices = built_in.prices()
    assert len({price.device for price in prices}) >= 35
    for price in prices:
        assert 0.05 < price.usd_per_hour < 20, price
        assert price.usd_per_hour == pytest.approx(price.printed / price.per)
        assert price.source
        assert price.note or not price.assumed, price
    main = "a100-sxm-80gb h100-sxm h200-sxm b200-sxm b300-sxm gb200 l40s l4 mi300x mi325x gaudi2 tpu-v6e trainium1"
    assert [name for name in main.split() if not built_in.prices(name)] == []


# ---------------------------------------------------------------- loading


def test_one_device_reads_one_file_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    original = store.parse
    monkeypatch.setattr(store, "parse", lambda path: read.append(path) or original(path))
    took = []
    for _ in range(5):
        database = store.Hwdb((Path(store.__file__).parent,))
        start = time.perf_counter()
        database.device("h100-sxm")
        took.append(time.perf_counter() - start)
    assert {path.name for path in read} == {"h100-sxm.toml"}
    assert len(read) == 5
    assert sorted(took)[2] < 0.01


def test_devices_are_frozen_hashable_by_content_and_travel_between_processes(built_in: store.Hwdb) -> None:
    device = built_in.device("h100-sxm")
    copy = pickle.loads(pickle.dumps(device))
    assert copy == device
    assert hash(copy) == hash(device)
    assert copy.records == device.records
    slower = dataclasses.replace(
        device, records={**device.records, "memory.bandwidth": hwdb.Record(3, "TB/s", "assumed", "what if")}
    )
    assert slower != device
    assert slower.bandwidth == 3e12
    with pytest.raises(dataclasses.FrozenInstanceError):
        device.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        device.records["peak.bf16"] = None  # type: ignore[index]


def test_loading_is_cached_by_folders(tmp_path: Path) -> None:
    assert hwdb.load() is hwdb.load()
    assert hwdb.load([folder(tmp_path)]) is hwdb.load([tmp_path])


def test_a_folder_adds_device_node_and_price(tmp_path: Path) -> None:
    database = hwdb.load([folder(tmp_path)])
    assert database.device("my-card").memory == 24 * 2**30
    assert database.node("my-server").link.bandwidth == 32e9
    assert [price.usd_per_hour for price in database.prices("my-card")] == [2.0]
    assert "h100-sxm" in database.names()


def test_plain_files_are_told_apart_by_type(tmp_path: Path) -> None:
    (tmp_path / "my-card.toml").write_text('type = "device"\n' + DEVICE)
    (tmp_path / "my-server.toml").write_text('type = "node"\n' + NODE)
    (tmp_path / "mine.toml").write_text('type = "prices"\n' + PRICES)
    database = hwdb.load([tmp_path])
    assert database.node("my-server").device == "my-card"
    assert len(database.prices("my-card")) == 1


def test_a_later_folder_wins_and_like_changes_only_what_is_given(tmp_path: Path) -> None:
    capped = 'like = "h100-sxm"\n[power]\ntdp = { value = 500, unit = "W", kind = "assumed", source = "our cap" }\n'
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "h100-sxm.toml").write_text(capped)
    (tmp_path / "devices" / "h100-500w.toml").write_text('like = "h100-sxm"\ntitle = "H100 at 500 W"\n')
    database = hwdb.load([tmp_path])
    assert database.device("h100-sxm").tdp == 500
    assert database.device("h100-sxm").peak("bf16") == 989e12
    assert database.device("h100-500w").tdp == 500
    assert database.device("h100-500w").title == "H100 at 500 W"
    assert hwdb.device("h100-sxm").tdp == 700


def test_the_users_own_folder_is_honoured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    own = tmp_path / "perfmodel" / "hwdb"
    own.mkdir(parents=True)
    folder(own)
    assert hwdb.user_folder() == own
    assert hwdb.device("my-card").title == "My card"


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(hwdb.UnknownName, match="unknown device 'h100'; did you mean 'h100-sxm'"):
        hwdb.device("h100")
    with pytest.raises(hwdb.UnknownName, match="unknown node 'dgx-h10'; did you mean 'dgx-h100'"):
        hwdb.node("dgx-h10")


# ---------------------------------------------------------------- malformed files

BANDWIDTH = 'bandwidth = { value = 900, unit = "GB/s", kind = "rated", source = "page" }'
MALFORMED_DEVICES = {
    "negative": (BANDWIDTH, BANDWIDTH.replace("900", "-900"), r"memory\.bandwidth\.value = -900: .*>= 0"),
    "nan": (BANDWIDTH, BANDWIDTH.replace("900", "nan"), r"memory\.bandwidth\.value = nan: not a finite number"),
    "infinite": (BANDWIDTH, BANDWIDTH.replace("900", "inf"), r"memory\.bandwidth\.value = inf: not a finite number"),
    "wrong unit": (BANDWIDTH, BANDWIDTH.replace("GB/s", "GB"), r"bandwidth\.unit = 'GB': must measure bytes/s.*'GB/s'"),
    "unknown unit": (BANDWIDTH, BANDWIDTH.replace("GB/s", "GBps"), r"unit = 'GBps'.*did you mean 'GB/s'"),
    "no source": (BANDWIDTH, BANDWIDTH.replace(', source = "page"', ""), r"bandwidth\.source is missing"),
    "no unit": (BANDWIDTH, BANDWIDTH.replace('unit = "GB/s", ', ""), r"bandwidth\.unit is missing"),
    "no value": (BANDWIDTH, BANDWIDTH.replace("value = 900, ", ""), r"bandwidth\.value is missing"),
    "unnamed source": (BANDWIDTH, BANDWIDTH.replace('"page"', '"pagee"'), r"source = 'pagee': no such name.*'page'"),
    "wrong kind": (BANDWIDTH, BANDWIDTH.replace("rated", "rate"), r"kind = 'rate': not one of.*did you mean 'rated'"),
    "unknown field": (
        BANDWIDTH,
        BANDWIDTH.replace("source =", "sources ="),
        r"unknown key .*sources; did you mean 'source'",
    ),
    "unknown figure": ("bf16 =", "bf61 =", r"unknown key peak\.bf61; did you mean 'bf16'"),
    "unknown table": ("[memory]", "[memoria]", r"unknown key memoria; did you mean 'memory'"),
    "bare number": (BANDWIDTH, "bandwidth = 900", r"memory\.bandwidth = 900: a figure needs its provenance; write"),
    "text without choice": (BANDWIDTH, BANDWIDTH.replace("900", '"800-900"'), r"add chosen = <the number to use>"),
    "missing memory": (BANDWIDTH, "", r"memory\.bandwidth.*is missing"),
    "missing title": ('title = "My card"', "", r"title is missing; write title"),
    "wrong topology": ('topology = "pcie"', 'topology = "pci"', r"link\.topology = 'pci'.*did you mean 'pcie'"),
    "peers": ("peers = 8", "peers = 1.5", r"link\.peers = 1.5: not a whole number"),
    "device kind": ('kind = "gpu"', 'kind = "gpus"', r"kind = 'gpus': not one of.*did you mean 'gpu'"),
    "not toml": ("[peak]", "[peak", r"not valid TOML.*line 10"),
    "sparse": (
        'kind = "rated", source = "page" }\n\n[memory]',
        'kind = "rated", source = "page", note = "with sparsity" }\n\n[memory]',
        r"peaks are dense",
    ),
    "year": ('kind = "gpu"', 'kind = "gpu"\nyear = 20222', r"year = 20222: not a year"),
    "wrong type": ('kind = "gpu"', 'kind = "gpu"\ntype = "node"', r"type = 'node': not one of device"),
    "like nothing": ('kind = "gpu"', 'kind = "gpu"\nlike = "h100-smx"', r"like: unknown device 'h100-smx'.*'h100-sxm'"),
    "like itself": ('kind = "gpu"', 'kind = "gpu"\nlike = "my-card"', r"like: unknown device 'my-card'.*like itself"),
    "sources": ('page = "Product page of my card"', "page = 5", r"sources = .*write a table of short name"),
    "notes": ('kind = "gpu"', 'kind = "gpu"\nnotes = "one"', r"notes = 'one': not a list of texts"),
    "alternatives": (BANDWIDTH, BANDWIDTH.replace(" }", ", alternatives = 5 }"), r"alternatives = 5: not a list"),
}


@pytest.mark.parametrize("case", MALFORMED_DEVICES)
def test_a_malformed_device_file_gets_file_key_and_reason(case: str, tmp_path: Path) -> None:
    old, new, message = MALFORMED_DEVICES[case]
    assert old in DEVICE
    database = hwdb.load([folder(tmp_path, device=DEVICE.replace(old, new))])
    with pytest.raises(hwdb.InputError, match=message) as caught:
        database.device("my-card")
    assert "my-card.toml" in str(caught.value)


MALFORMED_NODES = {
    "unknown device": ('device = "my-card"', 'device = "my-cart"', r"device: unknown device 'my-cart'.*'my-card'"),
    "count": ("count = 4", "count = 0", r"count = 0: not a finite number > 0"),
    "unknown key": ("count = 4", "counts = 4", r"count is missing"),
    "link without topology": ('topology = "pcie"\n', "", r"link\.topology is missing"),
    "host": ("count = 4", "count = 4\nhost = 5", r"host: 5 is not a table"),
}


@pytest.mark.parametrize("case", MALFORMED_NODES)
def test_a_malformed_node_file_gets_file_key_and_reason(case: str, tmp_path: Path) -> None:
    old, new, message = MALFORMED_NODES[case]
    assert old in NODE
    with pytest.raises(hwdb.InputError, match=message) as caught:
        hwdb.load([folder(tmp_path, node=NODE.replace(old, new))]).node("my-server")
    assert "my-server.toml" in str(caught.value)


MALFORMED_PRICES = {
    "negative": ("usd_per_hour = 8", "usd_per_hour = -8", r"price\[0\]\.usd_per_hour = -8: not a finite number > 0"),
    "text": ("usd_per_hour = 8", 'usd_per_hour = "8"', r"usd_per_hour = '8': not a finite number > 0"),
    "date": ('date = "2026-05"', 'date = "May 2026"', r"date = 'May 2026': not a date; write"),
    "kind": ('kind = "on_demand"', 'kind = "on-demand"', r"kind = 'on-demand'.*did you mean 'on_demand'"),
    "device": ('device = "my-card"', 'device = "my-cart"', r"unknown device 'my-cart'"),
    "node": ("per = 4", 'per = 4\nnode = "my-serve"', r"unknown node 'my-serve'; did you mean 'my-server'"),
    "source": ('source = "Invoice of May"', "", r"price\[0\]\.source is missing"),
    "unknown key": ("per = 4", "pro = 4", r"unknown key price\[0\]\.pro; did you mean"),
    "assumed": ("per = 4", 'assumed = "yes"', r"assumed = 'yes': not true or false"),
    "empty": (PRICES, 'provider = "Me"', r"no prices; write at least one"),
    "not a list": (PRICES, 'provider = "Me"\nprice = 5', r"price = 5: not a list of tables; write \[\[price\]\]"),
}


@pytest.mark.parametrize("case", MALFORMED_PRICES)
def test_a_malformed_price_file_gets_file_key_and_reason(case: str, tmp_path: Path) -> None:
    old, new, message = MALFORMED_PRICES[case]
    with pytest.raises(hwdb.InputError, match=message) as caught:
        hwdb.load([folder(tmp_path, prices=PRICES.replace(old, new))]).prices()
    assert "mine.toml" in str(caught.value)


def test_a_missing_folder_a_stray_file_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(hwdb.InputError, match="nowhere' does not exist; give a folder with devices/"):
        hwdb.load([tmp_path / "nowhere"])
    stray = tmp_path / "stray"
    stray.mkdir()
    (stray / "what.toml").write_text("x = 1\n")
    with pytest.raises(hwdb.InputError, match=r"what\.toml: type = None.*device, node, prices"):
        hwdb.load([stray])
    (stray / "what.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(hwdb.InputError, match="not UTF-8 text"):
        hwdb.load((str(stray),))


def test_a_record_refuses_what_is_no_figure() -> None:
    for wrong in (
        {"value": 1.0, "unit": "GB", "kind": "guessed", "source": "a page"},
        {"value": 1.0, "unit": "GB", "kind": "rated", "source": " "},
        {"value": "1-2", "unit": "GB", "kind": "rated", "source": "a page"},
        {"value": math.nan, "unit": "GB", "kind": "rated", "source": "a page"},
        {"value": 1.0, "unit": "gigs", "kind": "rated", "source": "a page"},
    ):
        with pytest.raises(hwdb.InputError):
            hwdb.Record(**wrong)  # type: ignore[arg-type]


def test_a_range_is_printed_as_it_stands_and_used_as_chosen() -> None:
    record = hwdb.Record("350-400", "W", "rated", "the datasheet", chosen=400)
    assert record.si == 400
    assert str(record) == "350-400 W (rated; the datasheet)"


def test_the_documented_example_is_a_valid_device_file(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "hardware.md").read_text()
    blocks = [block.split("\n", 1)[1] for block in page.split("```")[1::2] if block.startswith("toml\n")]
    (tmp_path / "devices").mkdir()
    for number, block in enumerate(blocks):
        part = "prices" if "[[price]]" in block else "nodes" if "count =" in block else "devices"
        (tmp_path / part).mkdir(exist_ok=True)
        name = "my-card" if part == "devices" and "like" not in block else f"example-{number}"
        (tmp_path / part / f"{name}.toml").write_text(block)
    database = hwdb.load([tmp_path])
    assert len(blocks) >= 4
    assert database.device("my-card").bandwidth > 0
    assert len(database.nodes("my-card")) == 1
    assert database.prices("my-card")
    assert len(database.devices()) == len(hwdb.devices()) + 2


def test_every_figure_of_the_table_is_documented() -> None:
    page = (Path(__file__).parent.parent / "docs" / "hardware.md").read_text()
    missing = [table for table, figures in FIGURES.items() if f"`[{table}]`" not in page]
    assert missing == []
