"""The hardware database: units, provenance after loading, what it must contain, and what malformed files are told."""

from __future__ import annotations

import dataclasses
import math
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hwdb
from hwdb import store
from hwdb.record import KINDS
from hwdb.units import UNITS, dimension, from_si, to_si

#: Devices that published LLM serving measurements name.
WANTED = [
    "a100-pcie-80gb",
    "a100-sxm-40gb",
    "a100-sxm-80gb",
    "a10g",
    "a40",
    "a800-sxm-80gb",
    "arc-pro-b50",
    "arc-pro-b60",
    "arc-pro-b70",
    "ascend-310p3",
    "ascend-910b",
    "ascend-910b2",
    "ascend-910b3",
    "ascend-910c",
    "b200-sxm",
    "b300-sxm",
    "epyc-9355",
    "epyc-9965",
    "gaudi2",
    "gb200",
    "gb300",
    "gh200-144gb",
    "gh200-96gb",
    "h100-nvl",
    "h100-pcie",
    "h100-sxm",
    "h20",
    "h20-3e",
    "h200-nvl",
    "h200-sxm",
    "h800-sxm",
    "inferentia2",
    "jetson-agx-orin-64gb",
    "l4",
    "l40s",
    "m1",
    "m1-max",
    "m2-max-cpu",
    "m2-ultra",
    "m3-max",
    "max-1550",
    "mi100",
    "mi250",
    "mi300x",
    "mi325x",
    "mi350x",
    "mi355x",
    "radeon-ai-pro-r9700",
    "rtx-3070",
    "rtx-3080",
    "rtx-3080-ti",
    "rtx-3090",
    "rtx-3090-ti",
    "rtx-4000-ada",
    "rtx-4070",
    "rtx-4070-ti",
    "rtx-4080",
    "rtx-4090",
    "rtx-4090d",
    "rtx-5000-ada",
    "rtx-5090",
    "rtx-6000-ada",
    "rtx-a6000",
    "rtx-pro-4500",
    "rtx-pro-4500-server",
    "rtx-pro-6000-server",
    "rx-7900-xtx",
    "rx-9070-xt",
    "ryzen-9-7950x",
    "ryzen-ai-max-395",
    "sn40l",
    "t4",
    "tpu-v5e",
    "tpu-v6e",
    "trainium1",
    "v100-pcie-32gb",
    "v100s-pcie-32gb",
    "xeon-6787p",
    "xeon-6980p",
    "xeon-gold-6138",
]

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
    assert {
        "dgx-a100-80gb",
        "dgx-h100",
        "dgx-h200",
        "dgx-b200",
        "gb200-nvl72",
        "mi300x-8way",
        "mi355x-8way",
        "atlas-800-a2",
        "atlas-800-a3",
        "l40s-8way-pcie",
        "rtx-4090-8way-pcie",
        "xeon-6980p-1s",
        "xeon-6980p-2s",
        "desktop-rtx-4090",
    } <= {node.name for node in nodes}
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


def test_one_device_reads_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    original = store.read_hardware_file
    monkeypatch.setattr(store, "read_hardware_file", lambda path: read.append(path) or original(path))
    for _ in range(5):
        store.Hwdb((Path(store.__file__).parent,)).device("h100-sxm")
    assert {path.name for path in read} == {"h100-sxm.toml"}
    assert len(read) == 5


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


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(hwdb.UnknownName, match="unknown device 'h100-smx'; did you mean 'h100-sxm'"):
        hwdb.device("h100-smx")
    with pytest.raises(hwdb.UnknownName, match="unknown node 'dgx-h10'; did you mean 'dgx-h100'"):
        hwdb.node("dgx-h10")


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
