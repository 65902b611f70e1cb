"""Users' own hardware files: layering, and what malformed ones are told."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import rooms

import hwdb
from hwdb.devicefile import FIGURES, arch_in
from hwdb.tomlfile import parse_toml
from hwdb.tomllines import line_of

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


# ---------------------------------------------------------------- layering


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


# ---------------------------------------------------------------- malformed files

BANDWIDTH = 'bandwidth = { value = 900, unit = "GB/s", kind = "rated", source = "page" }'


def changed(old: str, new: str) -> tuple[str, str]:
    """The line of the bandwidth, and that line with a part replaced."""
    return BANDWIDTH, BANDWIDTH.replace(old, new)


MALFORMED_DEVICES = {
    "negative": (*changed("900", "-900"), r"line 15, \[memory\.bandwidth\] value: -900 is out of range; .*at least 0"),
    "nan": (*changed("900", "nan"), r"line 15, \[memory\.bandwidth\] value: nan is not finite"),
    "infinite": (*changed("900", "inf"), r"line 15, \[memory\.bandwidth\] value: inf is not finite"),
    "wrong unit": (*changed("GB/s", "GB"), r"line 15, .* unit: 'GB' does not measure bytes/s.*'GB/s'"),
    "unknown unit": (*changed("GB/s", "GBps"), r"unit: 'GBps'.*did you mean 'GB/s'"),
    "no source": (*changed(', source = "page"', ""), r"\[memory\.bandwidth\]: 'source' is missing; add it"),
    "no unit": (*changed('unit = "GB/s", ', ""), r"\[memory\.bandwidth\]: 'unit' is missing; add it"),
    "no value": (*changed("value = 900, ", ""), r"\[memory\.bandwidth\]: 'value' is missing; add it"),
    "unnamed source": (*changed('"page"', '"pagee"'), r"source: 'pagee' is not defined under \[sources\].*'page'"),
    "wrong kind": (*changed("rated", "rate"), r"kind: unknown value 'rate'; did you mean 'rated'\?"),
    "unknown field": (
        BANDWIDTH,
        BANDWIDTH.replace("source =", "sources ="),
        r"unknown key 'sources'; did you mean 'source'",
    ),
    "unknown figure": ("bf16 =", "bf61 =", r"line 11, \[peak\] bf61: unknown key 'bf61'; did you mean 'bf16'"),
    "unknown table": ("[memory]", "[memoria]", r"line 13, memoria: unknown key 'memoria'; did you mean 'memory'"),
    "bare number": (BANDWIDTH, "bandwidth = 900", r"line 15, \[memory\] bandwidth: 900 states no source; write"),
    "text without choice": (*changed("900", '"800-900"'), r"add chosen = <the number to use>"),
    "missing memory": (BANDWIDTH, "", r"line 13, \[memory\] bandwidth: is missing"),
    "missing title": ('title = "My card"', "", r"'title' is missing; add it"),
    "wrong topology": (
        'topology = "pcie"',
        'topology = "pci"',
        r"line 18, .*topology: unknown value 'pci'; did you mean 'pcie'",
    ),
    "peers": ("peers = 8", "peers = 1.5", r"line 19, \[link\] peers: 1.5 is not a whole number"),
    "device kind": ('kind = "gpu"', 'kind = "gpus"', r"line 5, kind: unknown value 'gpus'; did you mean 'gpu'"),
    "not toml": ("[peak]", "[peak", r"not TOML.*line 10"),
    "sparse": (
        'kind = "rated", source = "page" }\n\n[memory]',
        'kind = "rated", source = "page", note = "with sparsity" }\n\n[memory]',
        r"peaks are dense",
    ),
    "year": ('kind = "gpu"', 'kind = "gpu"\nyear = 20222', r"line 6, year: 20222 is out of range"),
    "wrong type": ('kind = "gpu"', 'kind = "gpu"\ntype = "node"', r"type: unknown value 'node'; choose one of device"),
    "like nothing": ('kind = "gpu"', 'kind = "gpu"\nlike = "h100-smx"', r"like: unknown device 'h100-smx'.*'h100-sxm'"),
    "like itself": ('kind = "gpu"', 'kind = "gpu"\nlike = "my-card"', r"like: unknown device 'my-card'.*like itself"),
    "sources": ('page = "Product page of my card"', "page = 5", r"line 7, sources: .*write a table of short name"),
    "notes": ('kind = "gpu"', 'kind = "gpu"\nnotes = [1]', r"line 6, notes: \[1\] is not a list of texts"),
    "alternatives": (*changed(" }", ", alternatives = 5 }"), r"alternatives: 5 is not a list of figures"),
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
    "count": ("count = 4", "count = 0", r"line 4, count: 0 is out of range; it must be at least 1"),
    "unknown key": ("count = 4", "counts = 4", r"'count' is missing; add it; is 'counts' meant"),
    "link without topology": ('topology = "pcie"\n', "", r"line 6, \[link\]: 'topology' is missing"),
    "host": ("count = 4", "count = 4\nhost = 5", r"line 5, host: 5 is not a table"),
}


@pytest.mark.parametrize("case", MALFORMED_NODES)
def test_a_malformed_node_file_gets_file_key_and_reason(case: str, tmp_path: Path) -> None:
    old, new, message = MALFORMED_NODES[case]
    assert old in NODE
    with pytest.raises(hwdb.InputError, match=message) as caught:
        hwdb.load([folder(tmp_path, node=NODE.replace(old, new))]).node("my-server")
    assert "my-server.toml" in str(caught.value)


MALFORMED_PRICES = {
    "negative": ("usd_per_hour = 8", "usd_per_hour = -8", r"line 6, \[price\] #1 usd_per_hour: -8 is too small"),
    "text": ("usd_per_hour = 8", 'usd_per_hour = "8"', r"usd_per_hour: '8' is not a number; .* of US dollars"),
    "date": ('date = "2026-05"', 'date = "May 2026"', r"line 9, .*date: 'May 2026' is not a date; write"),
    "kind": ('kind = "on_demand"', 'kind = "on-demand"', r"kind: unknown value 'on-demand'; did you mean 'on_demand'"),
    "device": ('device = "my-card"', 'device = "my-cart"', r"line 5, \[price\] #1 device: unknown device 'my-cart'"),
    "node": ("per = 4", 'per = 4\nnode = "my-serve"', r"unknown node 'my-serve'; did you mean 'my-server'"),
    "source": ('source = "Invoice of May"', "", r"\[price\] #1: 'source' is missing"),
    "unknown key": ("per = 4", "pro = 4", r"\[price\] #1 pro: unknown key 'pro'; did you mean 'per'"),
    "assumed": ("per = 4", 'assumed = "yes"', r"assumed: 'yes' is not a switch; write true or false"),
    "empty": (PRICES, 'provider = "Me"', r"no prices; write at least one"),
    "not a list": (PRICES, 'provider = "Me"\nprice = 5', r"price: 5 is not a list of tables; .* under \[\[price\]\]"),
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
    with pytest.raises(hwdb.InputError, match=r"what\.toml: 'type' is missing; .*device, node, prices"):
        hwdb.load([stray])
    (stray / "what.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(hwdb.InputError, match="is not UTF-8"):
        hwdb.load((str(stray),))


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


# ---------------------------------------------------------------- the one reader of TOML files

ROOT = Path(__file__).resolve().parents[1]


def test_only_one_module_parses_toml() -> None:
    texts = rooms.modules(ROOT, ("hwdb", "perfmodel", "search"))
    users = {name for name, text in texts.items() if any(i.target == "tomllib" for i in rooms.imports_of(name, text))}
    assert users == {"hwdb.tomlfile"}


def test_lines_are_found_below_quoted_keys_lists_and_inline_tables() -> None:
    text = '["a.b"]\nx = 1\n[[c]]\n[[c]]\ny = { z = 2 }\nlist = [{ w = 3 }]\n'
    assert line_of(text, ("a.b",), "x") == 2
    assert line_of(text, ("c", 1), "y") == line_of(text, ("c", 1, "y"), "z") == 5
    assert line_of(text, ("c", 1, "list", 0), "w") == 6
    assert line_of(text, ("c", 1), "absent") == 4
    assert line_of(text, (), "absent") == line_of("", ("c", 0), "y") == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("x = " + "1" * 5000, "more than 64 bits"),
        ("x = ", "not TOML"),
    ],
)
def test_text_that_is_no_toml(text: str, message: str) -> None:
    with pytest.raises(hwdb.InputError, match=message):
        parse_toml(text, "f.toml")


def test_a_fault_in_the_file_that_another_is_like_names_the_former(tmp_path: Path) -> None:
    folder(tmp_path, device=DEVICE.replace("value = 900", "value = -900"))
    (tmp_path / "devices" / "faster.toml").write_text('like = "my-card"\ntitle = "Faster"\n')
    with pytest.raises(hwdb.InputError, match=r"my-card\.toml, line 15"):
        hwdb.load([tmp_path]).device("faster")


def test_a_power_limit_that_an_idle_device_draws_is_refused(tmp_path: Path) -> None:
    (tmp_path / "devices").mkdir()
    text = (
        'like = "rtx-4090"\n[power]\ntdp = { value = 20, unit = "W", kind = "assumed", source = "our own, policy" }\n'
    )
    (tmp_path / "devices" / "capped.toml").write_text(text, encoding="utf-8")
    with pytest.raises(hwdb.InputError, match=r"\[power\] tdp: 20 W is no power limit: the device draws 25 W idle"):
        hwdb.load(tmp_path).device("capped")


def test_devices_of_a_chip_family_are_those_of_all_with_that_name(tmp_path: Path) -> None:
    """Also where a file takes its architecture from the one that it is like, and before any device is built."""
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "my-h100.toml").write_text('like = "h100-sxm"\ntitle = "My H100"\n')
    (tmp_path / "devices" / "my-card.toml").write_text(DEVICE)
    fresh = hwdb.Hwdb((*hwdb.load().folders, tmp_path))
    found = {make: [d.name for d in fresh.devices(make)] for make in ("Hopper", "Mine", "Nobody's")}
    every = hwdb.load([tmp_path]).devices()
    assert found == {make: [d.name for d in every if d.make == make] for make in found}
    assert "my-h100" in found["Hopper"]
    assert found["Mine"] == ["my-card"]


def test_the_architecture_of_every_shipped_file_is_found_in_its_text() -> None:
    """That of a file that takes it from another is not stated there; no other text is taken for it."""
    for path in sorted((Path(hwdb.__file__).parent / "devices").glob("*.toml")):
        text = path.read_text(encoding="utf-8")
        assert arch_in(text) == tomllib.loads(text).get("arch", ""), path.name


@pytest.mark.parametrize(
    "text",
    [
        '[memory]\narch = "Hopper"\n',
        'notes = """\narch = "Hopper"\n"""\n',
        "notes = '''\narch = \"Hopper\"\n'''\n",
        'arch = "Hop\\u0070er"\n',
        '# arch = "Hopper"\n',
    ],
)
def test_no_other_text_is_taken_for_the_architecture(text: str) -> None:
    assert arch_in(text) == ""
