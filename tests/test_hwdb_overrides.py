"""A figure of a device that a user states wins over what was measured at another one, and the answer says so."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import cli
import hwdb
from benchmarks.random_deployments import device_text
from hwdb import Device, Hwdb
from perfmodel import Workload, deployments, engine, estimate, model, predict
from perfmodel.costs.measured_tables import table_validity
from perfmodel.costs.measured_tables.device_remarks import remarks
from perfmodel.costs.measured_tables.lookup import Choice
from perfmodel.profiles import families, store
from perfmodel.profiles.build.tables import write_family
from perfmodel.profiles.families import Variant

SHIPPED = hwdb.built_in()
VLLM = engine("vllm")
SPEC = model("meta-llama/Llama-3.1-8B")
BANDWIDTH = {"memory": {"bandwidth": (6700, "GB/s")}}


def stated(folder: Path, name: str, content: str) -> Device:
    """The device called `name` after a file of that name was written."""
    return Hwdb((*SHIPPED.folders, written(folder, name, content))).device(name)


def written(folder: Path, name: str, content: str) -> Path:
    (folder / "devices").mkdir(parents=True, exist_ok=True)
    (folder / "devices" / f"{name}.toml").write_text(content)
    return folder


def shipped_text(name: str) -> str:
    return (SHIPPED.folders[0] / "devices" / f"{name}.toml").read_text()


def figures(card: Device, isl: float = 256, osl: float = 64, **layout: float) -> dict[str, object]:
    """Columns of a single stream on `card`."""
    load = Workload.from_lengths(isl, osl, arrival="single", concurrency=1)
    columns = estimate(SPEC, load, deployments([card], **layout), engine=VLLM).columns()
    return {name: np.asarray(values)[0] for name, values in columns.items()}


def tpot(card: Device, **layout: float) -> float:
    return float(figures(card, **layout)["tpot_ms"])  # type: ignore[arg-type]


def ttft(card: Device) -> float:
    return float(figures(card, 8000, 4)["ttft_ms"])  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------ what is said


def test_every_shipped_table_holds_on_its_device() -> None:
    """Nothing of a shipped device is set aside: constants of tables are the figures of hwdb, to the last bit."""
    for name in store.names():
        profile, device = store.load(name), SHIPPED.device(name)
        assert profile is not None
        for family, frameworks in profile.files.items():
            for framework in frameworks:
                for table in profile.tables(family, framework):
                    now, then = families.reference(device, table.variant), table.reference
                    assert repr(now) == repr(then), (name, family, framework)
                    assert table_validity.holds(device, profile, Choice(table, table.variant, 0), family)


def test_shipped_devices_have_no_base_and_no_remarks() -> None:
    assert [d.name for d in SHIPPED.devices() if d.base is not None] == []
    assert [told for d in SHIPPED.devices() for told in remarks(d)] == []


@pytest.mark.parametrize("name", ["h100-sxm", "h100-2x"])
def test_a_stated_bandwidth_is_told_everywhere(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(written(tmp_path, name, device_text(BANDWIDTH)))
    text = f"{name}: memory.bandwidth is 6700 GB/s, the measured profile"
    asked = ["estimate", "meta-llama/Llama-3.1-8B", "--device", name, "--hwdb", folder, "--json"]
    assert cli.main(asked) == 0
    row = json.loads(capsys.readouterr().out)[0]
    assert text in row["remark"]
    assert "was taken at 3350 GB/s: its tables are rescaled (basis calibrated)" in row["remark"]
    assert row["basis"] == "calibrated"
    assert cli.main(["hw", "show", name, "--hwdb", folder]) == 0
    assert f"{name}: measured.memory_bandwidth is scaled by 2" in " ".join(capsys.readouterr().out.split())
    import pandas as pd

    cases = pd.DataFrame(
        [
            {"model": "meta-llama/Llama-3.1-8B", "device": d, "isl": 256, "osl": 64, "engine": "vllm"}
            for d in (name, "l40s")
        ]
    )
    answer = predict(cases, hwdb=hwdb.load([folder]))
    assert text in answer["device_remark"][0]
    assert answer["device_remark"][1] == ""
    assert "device_remark" not in predict(cases.iloc[1:]).columns


def test_a_plan_tells_of_the_devices_it_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = tmp_path / "chat.toml"
    scenario.write_text(
        'title = "x"\n[model]\nname = "meta-llama/Llama-3.1-8B"\n'
        "[workload]\ninput_tokens = 512\noutput_tokens = 64\nrate_rps = 2\n"
        '[slo]\ntpot_ms = 50\n[hardware]\ndevices = ["h100-sxm"]\nstock = { h100-sxm = 8 }\n[search]\ntp = [1]\n'
    )
    rows = []
    for extra in ([], ["--hwdb", str(written(tmp_path / "own", "h100-sxm", device_text(BANDWIDTH)))]):
        assert cli.main(["plan", str(scenario), "--json", *extra]) == 0
        rows.append(json.loads(capsys.readouterr().out)[0])
    assert "remark" not in rows[0]
    assert "memory.bandwidth is 6700 GB/s" in rows[1]["remark"]
    assert rows[1]["tpot_ms"] < 0.7 * rows[0]["tpot_ms"]


# -------------------------------------------------------------------------------------------------- ceilings in hwdb


@pytest.mark.parametrize("name", ["h100-sxm", "h100-2x"])
def test_a_stated_figure_moves_its_measured_ceiling_only(name: str, tmp_path: Path) -> None:
    base = SHIPPED.device("h100-sxm")
    fast = stated(tmp_path, name, device_text(BANDWIDTH))
    assert fast.measured("memory_bandwidth") == pytest.approx(2 * base.measured("memory_bandwidth"))
    assert fast.records["measured.memory_bandwidth"].kind == "derived"
    assert "6700 GB/s in place of 3350 GB/s" in fast.records["measured.memory_bandwidth"].note
    assert fast.records["measured.gemm.bf16"] == base.records["measured.gemm.bf16"]


def test_a_restated_figure_and_a_stated_ceiling_stay(tmp_path: Path) -> None:
    base = SHIPPED.device("h100-sxm")
    again = stated(tmp_path, "again", device_text({"memory": {"bandwidth": (3.35, "TB/s")}}))
    assert again.records["measured.memory_bandwidth"] == base.records["measured.memory_bandwidth"]
    both = stated(tmp_path, "both", device_text({**BANDWIDTH, "measured": {"memory_bandwidth": (6000, "GB/s")}}))
    assert both.measured("memory_bandwidth") == 6e12


def test_ceilings_follow_through_a_chain_of_files(tmp_path: Path) -> None:
    written(tmp_path, "two", device_text(BANDWIDTH))
    four = stated(tmp_path, "four", device_text({"memory": {"bandwidth": (13400, "GB/s")}}, like="two"))
    same = stated(tmp_path, "same", device_text({"power": {"tdp": (500, "W")}}, like="two"))
    measured = SHIPPED.device("h100-sxm").measured("memory_bandwidth")
    assert four.measured("memory_bandwidth") == pytest.approx(4 * measured)
    assert same.measured("memory_bandwidth") == pytest.approx(2 * measured)
    assert [kin.name for kin in four.lineage] == ["four", "two", "h100-sxm"]


# ---------------------------------------------------------------------------------------------------------- estimates


def test_ways_to_state_twice_the_bandwidth_agree(tmp_path: Path) -> None:
    """A new name, the same name, and a copy of the shipped file with one figure changed."""
    base = tpot(SHIPPED.device("h100-sxm"))
    copy = shipped_text("h100-sxm").replace("bandwidth = { value = 3350,", "bandwidth = { value = 6700,")
    found = [
        tpot(stated(tmp_path / "new", "h100-2x", device_text(BANDWIDTH))),
        tpot(stated(tmp_path / "same", "h100-sxm", device_text(BANDWIDTH))),
        tpot(stated(tmp_path / "copy", "h100-sxm", copy)),
    ]
    assert max(found) < base * 2 / 3
    assert min(found) == pytest.approx(max(found), rel=0.01)
    both = device_text({**BANDWIDTH, "measured": {"memory_bandwidth": (6000, "GB/s")}})
    assert tpot(stated(tmp_path / "new", "h100-2xm", both)) < max(found)


@pytest.mark.parametrize(
    "content", [shipped_text("h100-sxm"), device_text({}), device_text({"memory": {"bandwidth": (3.35, "TB/s")}})]
)
def test_an_unchanged_device_changes_nothing(content: str, tmp_path: Path) -> None:
    base = figures(SHIPPED.device("h100-sxm"))
    for name in ("h100-sxm", "another"):
        card = stated(tmp_path, name, content)
        if name == "h100-sxm" or "like" in content:
            assert repr(figures(card)) == repr(base)
            assert remarks(card) == []


def test_a_stated_link_moves_collectives_and_nothing_else(tmp_path: Path) -> None:
    base = SHIPPED.device("h100-sxm")
    one, four = tpot(base), figures(base, 8000, 4, tp=4)["ttft_ms"]
    for name in ("h100-sxm", "slow-link"):
        card = stated(tmp_path, name, device_text({"link": {"bandwidth": (45, "GB/s")}}))
        assert tpot(card) == one
        assert figures(card, 8000, 4, tp=4)["ttft_ms"] > 1.5 * four  # type: ignore[operator]
        assert "link.bandwidth is 45 GB/s" in remarks(card)[0]


def test_a_stated_measured_ceiling_counts_under_both_names(tmp_path: Path) -> None:
    base = tpot(SHIPPED.device("h100-sxm"))
    slow = device_text({"measured": {"memory_bandwidth": (1346.5, "GB/s")}})
    found = [tpot(stated(tmp_path, name, slow)) for name in ("h100-sxm", "worn")]
    assert found[0] == pytest.approx(found[1], rel=1e-9)
    assert found[0] > 1.5 * base


def test_memory_counts(tmp_path: Path) -> None:
    for name in ("h100-sxm", "small"):
        card = stated(tmp_path, name, device_text({"memory": {"capacity": (12, "GB")}}))
        assert not figures(card)["fits"]


def test_what_a_device_may_not_inherit(tmp_path: Path) -> None:
    """A file that turns a GPU into something else has no measured lineage."""
    card = stated(tmp_path, "other", 'vendor = "Me"\narch = "Mine"\n' + device_text({}))
    assert [kin.name for kin in card.lineage] == ["other"]


def test_a_profile_beside_a_device_holds_until_its_file_changes(tmp_path: Path) -> None:
    """Tables made on a user's own device price it as it was; once its bandwidth is doubled they are rescaled."""
    from perfmodel.profiles.build import runfile
    from perfmodel.profiles.importers.rows import rows_of

    m, n, k = (a.ravel() for a in np.meshgrid([1.0, 16.0, 256.0, 4096.0], [4096.0, 8192.0], [4096.0, 8192.0, 16384.0]))
    mine = device_text({}, like="l40").replace('like = "l40"', 'like = "l40"\ntitle = "mine"')
    before = stated(tmp_path, "mine", mine)
    least = np.maximum(2 * m * n * k / before.peak("bf16"), 2 * (m * k + k * n + m * n) / before.bandwidth)
    made = rows_of(
        len(m),
        device="mine",
        family="gemm",
        time=least / 0.7 + 3e-6,
        m=m,
        n=n,
        k=k,
        weight="bf16",
        act="bf16",
        kernel="own",
        software="own 1",
        source="mine",
        licence="CC0",
    )
    entry = write_family(made, before, "vllm", tmp_path / "profiles" / "mine")
    assert entry
    runfile.update(tmp_path / "profiles" / "mine" / "run.toml", "mine", [entry])
    profile = store.load("mine", store.beside(before))
    assert profile is not None
    choice = Choice(profile.tables("gemm", "vllm")[0], Variant("bf16", "bf16"), 0)
    assert table_validity.holds(before, profile, choice, "gemm")
    assert remarks(before) == []
    rate = before.bandwidth / 1e9
    fast = stated(tmp_path, "mine", mine + device_text({"memory": {"bandwidth": (2 * rate, "GB/s")}}).split("\n", 2)[2])
    assert not table_validity.holds(fast, profile, choice, "gemm")
    assert tpot(fast) < tpot(before) * 2 / 3
    assert "the measured profile was taken at" in remarks(fast)[0]


# ----------------------------------------------------------------------------------------------------------- property


def cards() -> list[tuple[str, str]]:
    """Twenty accelerators with a profile or a measured ceiling, of those on which this model is bound by memory."""
    known = [
        (d.name, next(t for t in ("bf16", "fp16") if d.peak(t) > 0))
        for d in SHIPPED.devices()
        if d.kind == "gpu"
        and d.memory > 2.4e10
        and d.bandwidth < 5e12
        and (d.peak("bf16") > 0 or d.peak("fp16") > 0)
        and (d.name in store.names() or d.measured("memory_bandwidth") > 0)
    ]
    picked = np.random.default_rng(7).choice(len(known), min(20, len(known)), replace=False)
    return [known[i] for i in sorted(picked)]


@pytest.mark.parametrize(("name", "act"), cards())
def test_twice_the_figure_is_seen_under_either_name(name: str, act: str, tmp_path: Path) -> None:
    base = SHIPPED.device(name)
    before = tpot(base), ttft(base)
    unit = {"memory": ("bandwidth", base.bandwidth / 1e9, "GB/s"), "peak": (act, base.peak(act) / 1e12, "TFLOP/s")}
    found = {}
    for table, (key, value, printed) in unit.items():
        for own in (name, "what-if"):
            card = stated(tmp_path / table / own, own, device_text({table: {key: (2 * value, printed)}}, like=name))
            found[table, own] = tpot(card) if table == "memory" else ttft(card)
    for table, old in zip(unit, before, strict=True):
        assert found[table, name] < old * 2 / 3
        assert found[table, name] == pytest.approx(found[table, "what-if"], rel=0.03)


def test_a_home_folder_that_may_not_be_entered_holds_no_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As of another user whose HOME was kept by `sudo -u`; tests may run as root, who may enter every folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    look = os.stat

    def refused(path: object, *args: object, **named: object) -> os.stat_result:
        if str(path).startswith(str(tmp_path)):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path, *args, **named)  # type: ignore[arg-type,call-overload,no-any-return]

    monkeypatch.setattr(os, "stat", refused)
    assert hwdb.load().device("h100-sxm").name == "h100-sxm"
